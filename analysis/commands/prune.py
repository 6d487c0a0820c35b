"""`nmsim prune`: a checkpoint pruned to N:M, beside the old one, with what every tensor lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from hwmodel.toml import build, read_toml
from nmsim.formats.decoded import open_dense
from nmsim.formats.dtypes import is_weight
from nmsim.formats.pruning import Choice, Method, Pruned, by_magnitude, misfit, prune_file
from nmsim.formats.rewrite import check_target, chosen, matches
from nmsim.formats.tensors import Source

from ..calibrated import Calibration
from ..transfer import NO_PRODUCT, Axis, axis_of, counted, grouped, print_json, progress, show

MethodName = Literal["magnitude", "wanda", "sparsegpt"]
COLUMNS: dict[str, Callable[[Pruned], str]] = {
    "tensor": lambda row: row.name,
    "pattern": lambda row: str(row.pattern),
    "kept magnitude": lambda row: f"{100 * row.kept_magnitude:.1f} %",
    "reconstruction error": lambda row: f"{100 * row.relative_error:.1f} %",
}
WITH_INPUTS: dict[str, Callable[[Pruned], str]] = {
    "output error": lambda row: "" if row.output_error is None else f"{100 * row.output_error:.1f} %",
}


@dataclass(frozen=True)
class Rule:
    """How the tensors that match a glob are pruned; pattern "dense" leaves them alone."""

    tensors: str
    pattern: Pattern
    method: MethodName = "magnitude"
    axis: Literal[Axis, 0, 1] = "auto"


@dataclass(frozen=True)
class PrunePlan:
    """A plan file: tables `[[prune]]`; of those that match a tensor the first counts."""

    prune: tuple[Rule, ...]


def prune(
    file: Path,
    /,
    *,
    out: Annotated[Path, Parameter(alias="-o")],
    pattern: str = "",
    plan: Path | None = None,
    method: MethodName = "magnitude",
    calibration: Path | None = None,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
    axis: Axis = "auto",
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Prune the matrices of a checkpoint to n of every m and write a new file; everything else is copied.

    Args:
        file: A safetensors file, the .index.json of shards, or an ONNX model.
        out: The file to write; never the one that is read.
        pattern: n:m, n kept of every m consecutive weights along the axis.
        plan: A TOML file of tables [[prune]] with tensors (a glob), pattern, method and axis, instead of --pattern.
        method: How weights are chosen; wanda and sparsegpt need --calibration.
        calibration: A safetensors file with inputs [t, d_in] of each layer, under the layer's name.
        include: Globs of tensor names to prune.
        exclude: Globs of tensor names to leave alone.
        axis: The axis that groups run along: 1 for weights [d_out, d_in], 0 for [d_in, d_out].
        as_json: Print JSON.
    """
    check_target(file, out)
    rules = _rules(pattern, plan, method, axis)
    with ExitStack() as stack:
        source = stack.enter_context(open_dense(file))
        names = chosen(list(source.specs), include, exclude)
        inputs = stack.enter_context(closing(Calibration(calibration))) if calibration else None
        choices, left = _choose(source, _asked(source, rules, names), inputs)
        report = prune_file(source, out, choices, stack.enter_context(progress("pruning", source.nbytes)))
    _tell(file, out, report, left, as_json)


def _rules(pattern: str, plan: Path | None, method: MethodName, axis: Axis) -> tuple[Rule, ...]:
    if (plan is None) == (not pattern):
        raise UserError("give either --pattern n:m or --plan FILE.toml")
    if plan is None:
        return (Rule("*", Pattern.parse(pattern), method, axis),)
    return build(PrunePlan, read_toml(plan), str(plan)).prune


def _asked(source: Source, rules: Sequence[Rule], names: set[str]) -> dict[str, Rule]:
    """The rule of every tensor that one asks to prune. Raises `UserError` for a rule that matches no tensor."""
    for rule in rules:
        chosen(list(source.specs), (rule.tensors,), ())
    first = {
        name: next((rule for rule in rules if matches(name, rule.tensors)), None)
        for name in source.specs
        if name in names
    }
    return {name: rule for name, rule in first.items() if rule is not None and not rule.pattern.is_dense}


def _choose(
    source: Source, asked: Mapping[str, Rule], inputs: Calibration | None
) -> tuple[dict[str, Choice], dict[str, str]]:
    """What is pruned and how, and what is left dense and why. Raises `UserError` if nothing is left to prune."""
    weights = (name for name, spec in source.specs.items() if len(spec.shape) == 2 and is_weight(spec.dtype))
    choices, left = {}, {name: "not asked for" for name in weights if name not in asked}
    for name, rule in asked.items():
        along = axis_of(source, name, rule.axis)
        if along is None:
            left[name] = NO_PRODUCT
        elif reason := misfit(source.specs[name], rule.pattern, along):
            left[name] = reason
        else:
            choices[name] = _choice(rule, name, along, source.specs[name].shape[along], inputs)
    if not choices:
        reasons = "; ".join(grouped(left))
        raise UserError(f"no tensor can be pruned ({reasons}); choose other tensors or another pattern")
    return choices, left


def _choice(rule: Rule, name: str, axis: int, d_in: int, inputs: Calibration | None) -> Choice:
    if inputs is None or (rule.method == "magnitude" and not inputs.has(name)):
        if rule.method != "magnitude":
            raise UserError(f"{rule.method} needs --calibration FILE.safetensors with the inputs of the layers")
        return Choice(rule.pattern, axis, by_magnitude)
    inputs.check(name, d_in)
    methods: dict[str, Method] = {"wanda": inputs.wanda, "sparsegpt": inputs.sparsegpt, "magnitude": by_magnitude}
    return Choice(rule.pattern, axis, methods[rule.method], inputs.energy)


def _tell(file: Path, out: Path, report: Sequence[Pruned], left: Mapping[str, str], as_json: bool) -> None:  # noqa: FBT001 - the user's choice
    if as_json:
        rows = [asdict(row) | {"pattern": str(row.pattern)} for row in report]
        print_json({"file": str(file), "out": str(out), "pruned": rows, "left_dense": dict(left)})
        return
    columns = COLUMNS | (WITH_INPUTS if any(row.output_error is not None for row in report) else {})
    done = f"{out}: {counted(len(report))} pruned"
    show(
        report,
        columns,
        *grouped(left),
        done,
        "the zeros are stored, as every runtime reads them; nmsim export leaves them out",
    )
