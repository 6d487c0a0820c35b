"""What a study will cost, before anything starts: hours on this machine, FLOPs and disk, from its files alone."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pandas as pd

from hwmodel.cost import price
from hwmodel.device import Device
from hwmodel.networks import parameters

from .page import Column
from .pricing import Job
from .probe import probe
from .study import Study, cells
from .terminal import show_lines, show_table
from .work import planned

CHECKPOINT_COPIES = 3  # the weights and the two moments of AdamW
VALUE_BYTES = 4
SMALL_FILES_BYTES = 40_000  # configuration, environment, history and plan of one run

COLUMNS = (
    Column("task", "task"),
    Column("runs", "runs", "{:d}"),
    Column("core_h", "core-hours", "{:.2f}", "modelled"),
    Column("flops", "FLOPs", "{:.2e}", "modelled"),
    Column("disk_mb", "disk (MB)", "{:.0f}", "modelled"),
)


@dataclass(frozen=True)
class Estimate:
    """The cost of a study's runs, task by task, and how many hours `workers` processes need for them."""

    table: pd.DataFrame
    workers: int

    @property
    def hours(self) -> float:
        """Of wall-clock time."""
        return float(self.table["core_h"].sum()) / self.workers


def estimate(study: Study, device: Device, workers: int) -> Estimate:
    """Price every run of `study` on one core like `device`; runs that differ in their seed alone are priced once."""
    rows = []
    priced: dict[str, tuple[float, float, int]] = {}
    for cell in cells(study):
        kind = str(cell.run | {"seed": 0})
        if kind not in priced:
            priced[kind] = _one(planned(cell.run), device)
        seconds, flops, disk = priced[kind]
        row = {"task": cell.task, "runs": 1, "core_h": seconds / 3600, "flops": flops, "disk_mb": disk / 1e6}
        rows.append(row)
    return Estimate(pd.DataFrame(rows).groupby("task", sort=False).sum().reset_index(), workers)


def show_estimate(study: Study) -> None:
    """Print what the study would cost on all cores of this machine."""
    found = estimate(study, probe(), len(os.sched_getaffinity(0)))
    show_table(found.table, COLUMNS, study.question)
    show_lines([f"About {found.hours:.2f} hours on {found.workers} cores; nothing was started."])


def _one(job: Job, device: Device) -> tuple[float, float, int]:
    """Seconds, FLOPs and bytes on disk of one run."""
    cost = price(job.training(), device)
    return cost.seconds, cost.flops, parameters(job.network) * VALUE_BYTES * CHECKPOINT_COPIES + SMALL_FILES_BYTES
