"""The one table of a study for the terminal and for Markdown: every condition with its quality and all its costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from .findings import Finding
from .page import Column


def overview(findings: Sequence[Finding]) -> tuple[pd.DataFrame, list[Column]]:
    """One row a condition of every task, and the columns with their units and sources."""
    parts = [_rows(finding) for finding in findings]
    devices = list(dict.fromkeys(device for f in findings for device in f.costs["device"]))
    columns = [
        Column("task", "task"),
        Column("condition", "recipe"),
        Column("pattern", "pattern"),
        Column("quality", "quality", source="measured"),
        Column("train_gflop", "training\nGFLOP", "{:.1f}", "modelled"),
        Column("inference_mflop", "inference\nMFLOP", "{:.2f}", "modelled"),
        Column("stored_kb", "stored\nkB", "{:.0f}", "modelled"),
        Column("cpu_s", "CPU\ns", "{:.2f}", "measured"),
        *(Column(device, f"{device}\nms / µs", source="modelled") for device in devices),
    ]
    return pd.concat(parts, ignore_index=True), columns


def _rows(finding: Finding) -> pd.DataFrame:
    table, task = finding.table, finding.task
    others = [axis for axis in finding.by if axis not in ("recipe", "pattern")]
    devices = list(dict.fromkeys(finding.costs["device"]))
    rows = pd.DataFrame(
        {
            "task": task.name,
            "condition": [" ".join(map(str, key)) for key in table[["recipe", *others]].to_numpy()],
            "pattern": table["pattern"],
            "quality": [_quality(m, e, task.unit) for m, e in zip(table["mean"], table["error"], strict=True)],
            "train_gflop": table["train_flops"] / 1e9,
            "inference_mflop": table["inference_flops"] / 1e6,
            "stored_kb": table["stored_bytes"] / 1e3,
            "cpu_s": table["cpu_s"],
        }
    )
    for device in devices:
        times = zip(table[f"training {device}"], table[f"inference {device}"], strict=True)
        rows[device] = [f"{1e3 * training:.4g} / {1e6 * inference:.3g}" for training, inference in times]
    return rows


def _quality(mean: float, error: float, unit: str) -> str:
    """Mean ± standard error; one seed has none."""
    return f"{mean:.3g} {unit}" if math.isnan(error) else f"{mean:.3g} ± {error:.2g} {unit}"
