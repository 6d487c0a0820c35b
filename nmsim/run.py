"""A run as data: everything that its result depends on, read from a TOML file."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hwmodel import toml
from hwmodel.errors import UserError, unknown
from hwmodel.networks import DecoderConfig, EncoderDecoderConfig, MLPConfig, NetworkConfig, ViTConfig
from hwmodel.pattern import DENSE, Pattern
from nmsim import recipes
from nmsim.data.dataset import DataSet, Examples, Pairs, Text, sha256_of
from nmsim.data.places import own_files, read_bytes
from nmsim.data.registry import checked, load
from nmsim.formats.initial import content_hash
from nmsim.optim import OptimizerConfig
from nmsim.recipes import Recipe
from nmsim.rules.moments import UPDATE
from nmsim.sparsifier import Execution, Remainder

MODELS: dict[str, type[MLPConfig | ViTConfig | DecoderConfig | EncoderDecoderConfig]] = {
    "mlp": MLPConfig,
    "vit": ViTConfig,
    "decoder": DecoderConfig,
    "encoder_decoder": EncoderDecoderConfig,
}
FITTING = {
    "mlp": ("sequence", "image"),
    "vit": ("sequence", "image"),
    "decoder": ("text",),
    "encoder_decoder": ("pairs",),
}


@dataclass(frozen=True)
class Sparsity:
    """Which sites follow which recipe towards which pattern; `sites` is a shell pattern such as `*.mlp.*`."""

    recipe: str
    sites: str = "*"
    pattern: Pattern = DENSE
    options: dict[str, Any] = field(default_factory=dict)

    def made(self, steps: int) -> Recipe:
        """The recipe for a run of `steps` steps."""
        return recipes.find(self.recipe)(self.pattern, steps=steps, **self.options)


@dataclass(frozen=True)
class Run:
    """One training run. Equal runs on one machine with one lock file give equal bits.

    Attributes:
        data: `name`, and the options of that loader.
        model: `kind`, and fields of its config; what the data decides, such as the number of classes, may be left out.
        batch: Examples a step.
        threads: Threads at work; they change the time, not the bits.
        shards: Parts of a batch that are computed on their own, and so the most threads that help; they change bits.
        execution: "compressed" multiplies N:M operands in compressed form wherever a step has them.
        remainder: What happens where groups of a pattern do not fill a weight's lines: "refuse", "pad" or "exclude".
        evaluate_every, statistics_every, checkpoint_every: Intervals in steps; 0 is never.
        label_smoothing: Share of the target that is spread over all classes.
        mixup: Parameter of the beta distribution of mixed images (arXiv 1710.09412); 0 mixes none.
        average: Decay of an exponential moving average of the weights, which is what is evaluated; 0 keeps none.
        init: A weight file to start from, instead of random weights; weights that are zero in it begin pruned.
        init_sha256: Hash of that file's content, by which the run knows it; taken from the file if it is not given.
        own_sha256: The same of the user's own files of recipes and data; modules that they import are not in it.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    steps: int
    seed: int = 0
    batch: int = 64
    threads: int = 1
    shards: int = 1
    dtype: Literal["float32", "float64"] = "float32"
    execution: Execution = "dense"
    remainder: Remainder = "refuse"
    evaluate_every: int = 0
    statistics_every: int = 25
    checkpoint_every: int = 0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    average: float = 0.0
    init: str = ""
    init_sha256: str = ""
    own_sha256: str = ""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    sparsity: tuple[Sparsity, ...] = ()

    def __post_init__(self) -> None:
        _check_numbers(self)
        for table, key, known in (("data", "name", None), ("model", "kind", MODELS)):
            given = getattr(self, table).get(key)
            if given is None:
                raise UserError(f"{table}: missing key {key}")
            if not isinstance(given, str):
                raise UserError(f"{table}: {key}: {given!r} is {type(given).__name__}; needs str")
            if known is not None and given not in known:
                raise UserError(f"{table}: {unknown(key, given, known)}")
        checked(self.data["name"], {key: value for key, value in self.data.items() if key != "name"})
        if self.mixup and self.kind not in ("mlp", "vit"):
            raise UserError(f"mixup = {self.mixup:g} mixes images; leave it out for a {self.kind}")
        frozen = [recipe.name for recipe in self.recipes().values() if recipe.moments != UPDATE]
        if frozen and self.optimizer.kind == "sgd":
            raise UserError(f"optimizer: kind = sgd has no second moment, which {frozen[0]} freezes; use adamw or adam")
        if self.init and not self.init_sha256:
            object.__setattr__(self, "init_sha256", content_hash(Path(self.init)))
        if not self.own_sha256:
            object.__setattr__(self, "own_sha256", self.own_hash())

    @property
    def kind(self) -> str:
        """The kind of the model."""
        return str(self.model["kind"])

    @property
    def scalar(self) -> type[np.floating]:
        """The type of all weights and activations."""
        return np.float32 if self.dtype == "float32" else np.float64

    def recipes(self) -> dict[str, Recipe]:
        """The recipe of every shell pattern of sites, in the order of the file.

        Raises:
            UserError: for a recipe that can't be made, and for two entries with one shell pattern.
        """
        given = [entry.sites for entry in self.sparsity]
        twice = next((sites for sites in given if given.count(sites) > 1), None)
        if twice is not None:
            raise UserError(f'sparsity: sites = "{twice}" is given twice; leave one of the entries out')
        return {entry.sites: entry.made(self.steps) for entry in self.sparsity}

    def own_files(self) -> list[Path]:
        """The user's own files that hold data or recipes of this run, each once."""
        name, options = self.data["name"], self.data
        made = (recipes.own_file(entry.recipe) for entry in self.sparsity)
        return list(dict.fromkeys([*own_files(name, options), *(path for path in made if path is not None)]))

    def own_hash(self) -> str:
        """Hash of the content that `own_files` have now; "" without any."""
        stamps = [(path, path.stat().st_mtime_ns if path.exists() else 0) for path in self.own_files()]
        return sha256_of("".join(_content_hash(*stamp) for stamp in stamps).encode()) if stamps else ""

    def dataset(self) -> DataSet:
        """The data set, loaded."""
        return load(**self.data)

    def network(self, data: DataSet) -> NetworkConfig:
        """The model's config, completed by what the data decides.

        Raises:
            UserError: where model and data do not fit.
        """
        if data.kind not in FITTING[self.kind]:
            fitting = [kind for kind, kinds in FITTING.items() if data.kind in kinds]
            raise UserError(f"model: kind = {self.kind} does not fit {data.kind} data; use {' or '.join(fitting)}")
        given = {key: value for key, value in self.model.items() if key != "kind"}
        config = toml.build(MODELS[self.kind], _decided(self.kind, data) | given, "model")
        for name, value in _decided(self.kind, data).items():
            _check_decided(name, getattr(config, name), value)
        return config


@functools.lru_cache
def _content_hash(path: Path, stamp: int) -> str:  # noqa: ARG001 -- another stamp is another content
    return sha256_of(read_bytes(path))


def pinned(config: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a run with hashes of the user's files that it depends on, so that another content is another run.

    A table that makes no run is left as it is: who builds the run tells of the mistake.
    """
    try:
        run = toml.build(Run, config, "run")
    except UserError:
        return dict(config)
    return {**config, **{name: value for name in ("init_sha256", "own_sha256") if (value := getattr(run, name))}}


def read_run(path: str | Path) -> Run:
    """The run in a TOML file; mistakes name the file and the key."""
    return toml.build(Run, toml.read_toml(path), str(path))


def _check_numbers(run: Run) -> None:
    for name in ("steps", "batch", "threads", "shards"):
        if getattr(run, name) < 1:
            raise UserError(f"{name} = {getattr(run, name)}: needs at least 1")
    for name in ("seed", "evaluate_every", "statistics_every", "checkpoint_every", "mixup"):
        if not 0 <= getattr(run, name) < math.inf:
            raise UserError(f"{name} = {getattr(run, name)}: needs at least 0")
    for name in ("label_smoothing", "average"):
        if not 0 <= getattr(run, name) < 1:
            raise UserError(f"{name} = {getattr(run, name):g}: needs at least 0 and below 1")
    if run.shards > run.batch:
        raise UserError(f"shards = {run.shards}: the batch has only {run.batch} examples")


def _decided(kind: str, data: DataSet) -> dict[str, Any]:
    """The fields of a model's config that the data decides."""
    split = data.train
    if isinstance(split, Text):
        return {"vocab": data.outputs, "context": split.context}
    if isinstance(split, Pairs):
        splits = [part for part in (data.train, data.validation, data.test) if isinstance(part, Pairs)]
        longest = max(side.shape[1] for part in splits for side in (part.source, part.target))
        return {"vocab": max(data.outputs, len(data.source_symbols)), "context": longest}
    assert isinstance(split, Examples)  # noqa: S101 - these are all kinds of splits
    shape = split.inputs.shape[1:]
    image = shape if len(shape) > 1 else (1, *shape)
    own = {"inputs": int(np.prod(shape))} if kind == "mlp" else {"image": list(image), "channels": 1}
    return {"classes": data.outputs, **own}


def _check_decided(name: str, value: Any, needed: Any) -> None:
    """A context may be longer than the data needs; all else must agree with it."""
    needed = tuple(needed) if isinstance(needed, list) else needed
    if value != needed and not (name == "context" and value > needed):
        raise UserError(f"model: {name} = {value}; this data needs {needed}")
