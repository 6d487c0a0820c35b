"""`nmsim demo`: the whole project in two minutes."""

from __future__ import annotations

import json as jsons
import sys
from dataclasses import replace
from pathlib import Path

from hwmodel.device import load_device

from .. import markdown
from ..drive import default_engine, run_study
from ..findings import gather
from ..overview import overview
from ..probe import probe
from ..report import answer_lines, write
from ..store import write_safely
from ..study import Study, Task, shipped
from ..terminal import show_lines, show_table

DEVICES = ("v100", "a100", "vegeta")
QUICK_STEPS = 20


def demo(*, out: Path = Path("nmsim-demo"), quick: bool = False, workers: int = 0, json: bool = False) -> None:
    """Train, compare and price seven recipes on this machine, and write a report.

    Args:
        out: Folder of the report, its figures and the runs; runs that are there already are not run again.
        quick: A few short runs instead, to see that everything works; their ranking means nothing.
        workers: Worker processes; as many as there are cores when 0.
        json: Print the table as JSON.
    """
    study = quickened(shipped("demo")) if quick else shipped("demo")
    devices = [*map(load_device, DEVICES), probe()]
    rows, store = run_study(study, out, default_engine(workers), "training")
    findings = gather(study, rows, store, devices)
    page = write(findings, out, commands=[f"nmsim demo --out {out}" + (" --quick" if quick else "")])
    rows, columns = overview(findings.tasks)
    write_safely(out / "table.md", markdown.table(rows, columns).encode())
    if json:
        tables = {f.task.name: f.table.to_dict("records") for f in findings.tasks}
        sys.stdout.write(jsons.dumps(tables) + "\n")
        return
    show_table(rows, columns, study.question)
    show_lines([*answer_lines(findings), f"Report: {page}"])


def quickened(study: Study) -> Study:
    """The study with two seeds, its last pattern and 20 steps."""
    return replace(study, task=tuple(_quickened(task) for task in study.task))


def _quickened(task: Task) -> Task:
    short = {"steps": QUICK_STEPS, "evaluate_every": QUICK_STEPS}
    return replace(task, run=task.run | short, grid=task.grid | {"seed": [0, 1], "pattern": task.grid["pattern"][-1:]})
