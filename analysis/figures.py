"""The figures of a task's findings, each with the rows behind it and a caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from . import plots
from .findings import Finding
from .plots import Figure
from .store import Store
from .tradeoff import pareto


@dataclass(frozen=True)
class Drawn:
    """A figure, the stem of its files, its rows and its caption."""

    figure: Figure
    stem: str
    rows: pd.DataFrame
    caption: str


def figures(finding: Finding, store: Store) -> Iterator[Drawn]:
    """Quality by seed, quality over the steps, quality against both costs, and the devices."""
    yield _quality(finding)
    yield from _curves(finding, store)
    for cost, divisor, label in (
        ("train_flops", 1e9, "training (GFLOP)"),
        ("inference_flops", 1e6, "one inference (MFLOP)"),
    ):
        yield _tradeoff(finding, cost, divisor, label)
    yield _devices(finding, "training", 1e3, "one training run (ms)")
    yield _devices(finding, "inference", 1e6, "one inference (µs)")


def _quality(f: Finding) -> Drawn:
    picture = plots.quality(f.rows, value=f.task.metric, axis_label=f.task.quality)
    return Drawn(
        picture, f"{f.task.name}-quality", f.rows, "Every seed, its mean and 95 % interval. The line is dense."
    )


def _curves(f: Finding, store: Store) -> Iterator[Drawn]:
    value = f"validation_{f.task.metric}"
    for pattern in [p for p in f.rows["pattern"].unique() if p != "dense"]:
        cell = f.rows[f.rows["pattern"].isin([pattern, "dense"])]
        parts = [
            store.run(row["run"]).metrics().assign(recipe=row["recipe"], seed=row["seed"])
            for row in cell.to_dict("records")
        ]
        rows = pd.concat(parts, ignore_index=True)
        if value in rows:
            rows = rows.dropna(subset=[value])[["recipe", "seed", "step", value]]
            labels = {"step": "training step", value: f"validation {f.task.quality}"}
            picture = plots.curves(rows, x="step", y=value, by="recipe", labels=labels)
            stem = f"{f.task.name}-curves-{pattern.replace(':', '-')}"
            yield Drawn(picture, stem, rows, f"Validation quality over training at {pattern}: mean ± standard error.")


def _tradeoff(f: Finding, cost: str, divisor: float, label: str) -> Drawn:
    front = pareto(f.table, cost=cost, value="mean", better=f.task.better)
    points = f.table.assign(front=front, **{cost: f.table[cost] / divisor})
    labels = {cost: label, f.task.metric: f.task.quality}
    picture = plots.tradeoff(points, cost=cost, value=f.task.metric, labels=labels, source="modelled")
    return Drawn(picture, f"{f.task.name}-{cost}", points, f"{f.task.quality} against {label}, with the Pareto front.")


def _devices(f: Finding, what: str, factor: float, label: str) -> Drawn:
    times = f.costs[f.costs["what"] == what]
    times = times.assign(condition=f.names(times), time=times["time_s"] * factor)
    if what == "inference":  # the final pattern alone decides
        times = times.drop_duplicates(["device", "pattern"]).assign(condition=lambda rows: rows["pattern"])
    picture = plots.bars(times, value="time", axis_label=label, source="modelled")
    return Drawn(picture, f"{f.task.name}-devices-{what}", times, f"Modelled time of {label} on each device.")
