"""`nmsim sweep`: a grid of runs from a study file."""

from __future__ import annotations

from pathlib import Path

from hwmodel.device import load_device

from .. import engines
from ..drive import default_engine, failures, register, run_study
from ..estimate import show_estimate
from ..study import read_study
from .report import DEFAULT_DEVICES, publish


def sweep(
    study: Path,
    /,
    *,
    out: Path = Path("nmsim-study"),
    workers: int = 0,
    cluster: str = "",
    slurm: bool = False,
    slurm_minutes: int = 60,
    dry_run: bool = False,
    device: tuple[str, ...] = DEFAULT_DEVICES,
) -> int:
    """Run a grid of training runs; started again, it goes on where it stopped. The status is 1 where runs failed.

    A hypothesis that is added when runs of its conditions have finished gets no verdict.

    Args:
        study: A TOML file with tasks, grids and hypotheses.
        out: Folder of the runs and the report.
        workers: Worker processes on this machine; as many as there are cores when 0.
        cluster: Address or scheduler file of a dask cluster that shares this file system.
        slurm: Run as Slurm jobs of one core each.
        slurm_minutes: Time limit of a Slurm job; one that reaches it is queued again and goes on.
        dry_run: Say what the study costs in hours, FLOPs and bytes on disk, and stop.
        device: Devices to price the results on.
    """
    read = read_study(study)
    if dry_run:
        show_estimate(read)
        return 0
    devices = [load_device(name) for name in device]
    if cluster:
        engine = engines.dask(cluster)
    elif slurm:
        engine = engines.slurm(out / "slurm", slurm_minutes)
    else:
        engine = default_engine(workers)
    read = register(read, out)
    rows, store = run_study(read, out, engine, "runs")
    publish(read, rows, store, out, devices=devices, commands=[f"nmsim sweep {study} --out {out}"])
    return 1 if failures(read, store) else 0
