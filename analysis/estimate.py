"""What a study will cost, before any of its runs starts: hours and disk on this machine, and FLOPs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .page import Column
from .sample import STEPS, Sample, step_seconds, take
from .study import Study, cells
from .terminal import show_lines, show_table
from .work import load_kernels, planned

COLUMNS = (
    Column("task", "task"),
    Column("runs", "runs", "{:d}"),
    Column("core_h", "core-hours", "{:.2f}", "modelled"),
    Column("flops", "FLOPs", "{:.2e}", "modelled"),
    Column("disk_mb", "disk (MB)", "{:.0f}", "modelled"),
)
GROWS = ("steps", "seed", "sparsity", "evaluate_every", "checkpoint_every")
"""Keys of a run whose effect on its cost is known without a sample of their own."""


@dataclass(frozen=True)
class Estimate:
    """The cost of a study's runs, task by task, and how many hours `workers` processes need for them."""

    table: pd.DataFrame
    workers: int

    @property
    def hours(self) -> float:
        """Of wall-clock time, on a machine that does nothing else."""
        return float(self.table["core_h"].sum()) / self.workers


def estimate(study: Study, workers: int) -> Estimate:
    """Price every run of `study` by short runs of its model, and a few steps of each recipe, on this machine."""
    grid = cells(study)
    for cell in grid:
        load_kernels(cell.run)
    samples: dict[str, Sample] = {}
    step_s: dict[str, float] = {}
    flops: dict[str, float] = {}
    rows = []
    for cell in grid:
        run = cell.run
        kind = str({key: value for key, value in run.items() if key not in GROWS})
        method, seedless = f"{kind} {_recipes(run)}", str(run | {"seed": 0})
        if kind not in samples:
            samples[kind] = take(run)
        if method not in step_s:
            step_s[method] = step_seconds(run)
        if seedless not in flops:
            flops[seedless] = sum(gemm.flops for gemm in planned(run).training().gemms)
        sample = samples[kind]
        row = {"task": cell.task, "runs": 1, "core_h": sample.seconds(run, step_s[method]) / 3600}
        rows.append(row | {"flops": flops[seedless], "disk_mb": sample.bytes(run) / 1e6})
    return Estimate(pd.DataFrame(rows).groupby("task", sort=False).sum().reset_index(), workers)


def show_estimate(study: Study) -> None:
    """Print what the study would cost on all cores of this machine."""
    found = estimate(study, len(os.sched_getaffinity(0)))
    show_table(found.table, COLUMNS, study.question)
    basis = f"from {STEPS} steps of each model and recipe, trained here just now"
    hours = f"About {found.hours:.2f} hours on {found.workers} cores that do nothing else, {basis}."
    show_lines([hours, "No run of the study was started."])


def _recipes(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which recipe each part of the model follows."""
    return [(entry["sites"], entry["recipe"]) for entry in run.get("sparsity", [])]
