"""`nmsim report`: the page of a folder of runs, at any time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hwmodel.device import Device, load_device

from ..drive import opened
from ..findings import gather
from ..overview import overview
from ..report import answer_lines, write
from ..store import Store
from ..study import Study
from ..terminal import show_lines, show_table

DEFAULT_DEVICES = ("v100", "a100", "vegeta", "cpu")


def report(runs: Path, /, *, device: tuple[str, ...] = DEFAULT_DEVICES) -> None:
    """Write one self-contained HTML page from a folder of runs, while they run or afterwards.

    Args:
        runs: The folder that `nmsim demo`, `sweep`, `study` or `train` wrote.
        device: Devices to price the results on: names, or files that end in .toml.
    """
    devices = [load_device(name) for name in device]
    study, rows, store = opened(runs)
    publish(study, rows, store, runs, devices=devices, commands=[f"nmsim report {runs}"])


def publish(
    study: Study, rows: pd.DataFrame, store: Store, out: Path, *, devices: Sequence[Device], commands: Sequence[str]
) -> None:
    """Write the page, and show its tables and its answer."""
    findings = gather(study, rows, store, devices)
    page = write(findings, out, commands=commands)
    show_table(*overview(findings.tasks), study.question)
    show_lines([*answer_lines(findings), f"Report: {page}"])
