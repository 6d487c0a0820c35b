"""What a study will cost, before any of its runs starts: hours and disk on this machine, and FLOPs.

A study of few models and recipes has a few steps of each pair of them timed. A larger one has every recipe timed on the
cheapest model that uses it, for what it adds to a step without sparsity there; on another model it adds as much for
each weight of its sparse sites.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import pandas as pd

from hwmodel.networks import weights
from hwmodel.toml import build
from nmsim.run import Run
from nmsim.train import Trainer

from .drive import check, placed
from .page import Column
from .pricing import Job
from .progress import progress
from .sample import STEPS, Sample, step_seconds, take
from .study import Cell, Study, cells
from .sweep import Outcome
from .terminal import show_lines, show_table
from .work import kernels_of, planned

COLUMNS = (
    Column("task", "task"),
    Column("runs", "runs", "{:d}"),
    Column("core_h", "core-hours", "{:.3g}", "modelled"),
    Column("flops", "FLOPs", "{:.2e}", "modelled"),
    Column("disk_mb", "disk (MB)", "{:.0f}", "modelled"),
)
GROWS = ("steps", "seed", "sparsity", "evaluate_every", "checkpoint_every")
"""Keys of a run whose effect on its cost is known without a sample of their own."""
ALL_TIMED = 32
"""Pairs of a model and a recipe up to which each is timed."""
LOOKS = 100
"""Steps of a run whose plans are looked at to count its FLOPs."""

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """The cost of a study's runs, task by task, and how many hours `workers` processes need for them.

    `timed` of the `pairs` of a model and a recipe were timed; the others are scaled.
    """

    table: pd.DataFrame
    workers: int
    timed: int
    pairs: int

    @property
    def hours(self) -> float:
        """Of wall-clock time, on a machine that does nothing else."""
        return float(self.table["core_h"].sum()) / self.workers


@dataclass(frozen=True)
class _Pair:
    """A model with a recipe on some of its sites: a run of it, the FLOPs of its step and its sparse weights."""

    run: dict[str, Any]
    kind: str
    recipes: str
    flops: float
    elements: int


def estimate(study: Study, workers: int) -> Estimate:
    """Price every run of `study` by short runs of its models and a few steps of its recipes, on this machine."""
    check(study)
    grid = cells(study)
    _ready(grid)
    pairs, flops = _counted(grid)
    samples = _told("models", {pair.kind: pair.run for pair in reversed(pairs.values())}, take)
    if len(pairs) <= ALL_TIMED:
        step_s = _told("recipes", {key: pair.run for key, pair in pairs.items()}, step_seconds)
        timed = len(pairs)
    else:
        step_s, timed = _scaled(pairs)
    rows = [_row(cell, samples, step_s, flops) for cell in grid]
    table = pd.DataFrame(rows).groupby("task", sort=False).sum().reset_index()
    return Estimate(table, workers, timed, len(pairs))


def show_estimate(study: Study) -> None:
    """Print what the study would cost on all cores of this machine."""
    found = estimate(study, len(os.sched_getaffinity(0)))
    show_table(found.table, COLUMNS, study.question)
    lines = [
        f"About {_span(found.hours)} on {found.workers} cores that do nothing else.",
        f"Timed here just now, {STEPS} steps or fewer each: {found.timed} of {found.pairs} pairs of model and recipe.",
    ]
    if found.timed < found.pairs:
        lines.append(
            f"Scaled: the other {found.pairs - found.timed}. A step of their model without sparsity was timed; what "
            "the recipe adds was timed on the cheapest model that uses it, and taken in proportion to sparse weights."
        )
    show_lines([*lines, "No run of the study was started."])


def _span(hours: float) -> str:
    """A time in the unit that suits it."""
    for unit, seconds in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if 3600 * hours >= 2 * seconds:
            return f"{3600 * hours / seconds:.2g} {unit}"
    return f"{3600 * hours:.2g} seconds"


def _ready(grid: Sequence[Cell]) -> None:
    """Refuse what can't run: one run of each kind is made ready."""
    for cell in {kernels_of(cell.run): cell for cell in grid}.values():
        with placed(f"study, task {cell.task}"):
            Trainer(build(Run, cell.run, "run")).close()


def _counted(grid: Sequence[Cell]) -> tuple[dict[str, _Pair], dict[str, float]]:
    """Every pair of a model and recipes, and the FLOPs of every run but for its seed."""
    pairs: dict[str, _Pair] = {}
    flops: dict[str, float] = {}
    with progress("FLOPs", len({_seedless(cell.run) for cell in grid})) as notify:
        for cell in grid:
            run = cell.run
            if _seedless(run) in flops:
                continue
            start = time.monotonic()
            job = planned(run, every=max(1, run["steps"] // LOOKS))
            found = flops[_seedless(run)] = sum(gemm.flops for gemm in job.training().gemms)
            pair = _Pair(run, _kind(run), _recipes(run), found / run["steps"], _sparse_weights(job))
            pairs.setdefault(_pair(run), pair)
            notify(Outcome(cell.name, "done", time.monotonic() - start))
    return pairs, flops


def _scaled(pairs: Mapping[str, _Pair]) -> tuple[dict[str, float], int]:
    """CPU seconds of a step of each pair by few samples, and how many pairs were timed."""
    cheap: dict[str, str] = {}
    for key, pair in sorted(pairs.items(), key=lambda item: item[1].flops):
        cheap.setdefault(pair.recipes, key)
    plain = _told("models without sparsity", {p.kind: p.run | {"sparsity": []} for p in pairs.values()}, step_seconds)
    timed = {key: plain[pair.kind] for key, pair in pairs.items() if not pair.recipes}
    timed |= _told("recipes", {key: pairs[key].run for key in cheap.values() if key not in timed}, step_seconds)

    def scaled(pair: _Pair) -> float:
        like = pairs[cheap[pair.recipes]]
        added = max(0.0, timed[cheap[pair.recipes]] - plain[like.kind]) / max(1, like.elements)
        return plain[pair.kind] + added * pair.elements

    return {key: timed[key] if key in timed else scaled(pair) for key, pair in pairs.items()}, len(timed)


def _told(title: str, runs: Mapping[str, dict[str, Any]], action: Callable[[dict[str, Any]], T]) -> dict[str, T]:
    """What `action` finds for each of `runs`, with progress."""
    found = {}
    with progress(title, len(runs)) as notify:
        for key, run in runs.items():
            start = time.monotonic()
            found[key] = action(run)
            name = f"{run['data']['name']}, {run['model']['kind']}, {_recipes(run) or 'dense'}"
            notify(Outcome(name, "done", time.monotonic() - start))
    return found


def _row(
    cell: Cell, samples: Mapping[str, Sample], step_s: Mapping[str, float], flops: Mapping[str, float]
) -> dict[str, Any]:
    run, sample = cell.run, samples[_kind(cell.run)]
    core_h = sample.seconds(run, step_s[_pair(run)]) / 3600
    disk_mb = sample.bytes(run) / 1e6
    return {"task": cell.task, "runs": 1, "core_h": core_h, "flops": flops[_seedless(run)], "disk_mb": disk_mb}


def _sparse_weights(job: Job) -> int:
    shapes = weights(job.network)
    return sum(prod(shapes[site]) for site in job.final.sites)


def _recipes(run: Mapping[str, Any]) -> str:
    return " ".join(sorted({entry["recipe"] for entry in run.get("sparsity", [])}))


def _kind(run: Mapping[str, Any]) -> str:
    """Equal for runs of one model on one data set."""
    return str({key: value for key, value in run.items() if key not in GROWS})


def _pair(run: Mapping[str, Any]) -> str:
    """Equal for runs of one model with the same recipes at the same sites."""
    return f"{_kind(run)} {[(entry['sites'], entry['recipe']) for entry in run.get('sparsity', [])]}"


def _seedless(run: Mapping[str, Any]) -> str:
    return str({**run, "seed": 0})
