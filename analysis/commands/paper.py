"""`nmsim study paper` and `search`: the paper's claims at a scale two cores can run, and the search beyond them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hwmodel.device import load_device
from hwmodel.errors import UserError

from ..drive import default_engine, failures, run_study
from ..estimate import show_estimate
from ..findings import gather
from ..paper import write_paper
from ..report import answer_lines, write
from ..search import search as run_search
from ..search import write_search
from ..study import shipped
from ..terminal import show_lines
from .report import DEFAULT_DEVICES


def paper(
    *,
    tier: Literal["look", "hour", "full"] = "look",
    out: Path = Path("nmsim-paper"),
    workers: int = 0,
    dry_run: bool = False,
    device: tuple[str, ...] = DEFAULT_DEVICES,
) -> int:
    """Run a tier of the study of the paper's claims and answer them one by one; resumes where it stopped.

    The status is 1 where runs failed.

    Args:
        tier: look (minutes), hour, or full (days: see --dry-run); a tier takes over the runs of a smaller one.
        out: Folder of the runs and of the reports paper.md, errata.md, rows.csv and report.html.
        workers: Worker processes; as many as there are cores when 0.
        dry_run: Say what the tier costs in hours, FLOPs and bytes on disk, and stop.
        device: Devices to price the results on.
    """
    study = shipped(tier)
    if dry_run:
        show_estimate(study)
        return 0
    devices = [load_device(name) for name in device]
    rows, store = run_study(study, out, default_engine(workers), f"study paper, {tier}")
    commands = [f"nmsim study paper --tier {tier} --out {out}"]
    findings = gather(study, rows, store, devices)
    page = write(findings, out, commands=commands)
    text = write_paper(findings, store, out, commands=commands)
    show_lines([*answer_lines(findings), f"Report: {text} and {page}"])
    return 1 if failures(study, store) else 0


def search(*, budget: float = 20.0, out: Path = Path("nmsim-search"), workers: int = 0, seed: int = 0) -> None:
    """Search the recipe algebra for one recipe that is best at 1:16 and 1:32 at every length tried, then confirm it.

    Args:
        budget: Minutes of search; the confirmation on unseen seeds and an unseen task comes on top.
        out: Folder of the runs and of search.md.
        workers: Worker processes; as many as there are cores when 0.
        seed: Seed of the sampler.
    """
    if budget <= 0:
        raise UserError(f"--budget {budget:g}: needs minutes above 0")
    found = run_search(shipped("search"), out, default_engine(workers), minutes=budget, seed=seed)
    show_lines([*found.sentences(), f"Report: {write_search(found, out)}"])
