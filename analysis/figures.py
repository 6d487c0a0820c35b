"""The figures of a task's findings, each with the rows behind it and a caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from . import plots
from .findings import Finding
from .inside import STATISTICS, inside
from .plots import Figure, Source
from .store import Store
from .tradeoff import pareto

SUMMARY = ("mean", "error", "low", "high", "count")


@dataclass(frozen=True)
class Drawn:
    """A figure, the stem of its files, its rows and its caption."""

    figure: Figure
    stem: str
    rows: pd.DataFrame
    caption: str


COSTS: tuple[tuple[str, float, str, Source], ...] = (
    ("train_flops", 1e9, "training (GFLOP)", "modelled"),
    ("inference_flops", 1e6, "one inference (MFLOP)", "modelled"),
    ("stored_bytes", 1e3, "stored weights (kB)", "modelled"),
    ("cpu_s", 1, "CPU time of training (s)", "measured"),
)


def figures(finding: Finding, store: Store) -> Iterator[Drawn]:
    """Quality by seed and over the steps, what happens inside, quality against every cost, and the devices."""
    yield _quality(finding)
    yield from _curves(finding, store)
    if finding.task.ranked:
        yield from _inside(finding, store)
    for cost, divisor, label, source in COSTS:
        if finding.table[cost].notna().all():
            yield _tradeoff(finding, cost, divisor, label, source)
    for column, factor, label in (("time_s", 1e6, "inference (µs)"), ("energy_j", 1e3, "inference (mJ), uncalibrated")):
        yield _on_devices(finding, column, factor, label)
    yield _devices(finding, "training", 1e3, "one training run (ms)")
    yield _devices(finding, "inference", 1e6, "one inference (µs)")


def _quality(f: Finding) -> Drawn:
    picture = plots.quality(f.rows, value=f.task.metric, axis_label=f.task.quality)
    caption = "Every seed, its mean and 95 % interval."
    if "dense" in set(f.rows["recipe"]):
        caption += " The line is dense."
    return Drawn(picture, f"{f.task.name}-quality", f.rows, caption)


def _curves(f: Finding, store: Store) -> Iterator[Drawn]:
    value = f"validation_{f.task.metric}"
    for pattern in [p for p in f.rows["pattern"].unique() if p != "dense"]:
        cell = f.rows[f.rows["pattern"].isin([pattern, "dense"])]
        parts = [
            store.run(row["run"]).metrics().assign(recipe=row["recipe"], seed=row["seed"])
            for row in cell.to_dict("records")
        ]
        rows = pd.concat(parts, ignore_index=True)
        rows = rows.dropna(subset=[value]) if value in rows else rows[:0]
        if len(rows["step"].unique()) > 1:
            rows = rows[["recipe", "seed", "step", value]]
            labels = {"step": "training step", value: f"validation {f.task.quality}"}
            picture = plots.curves(rows, x="step", y=value, by="recipe", labels=labels)
            stem = f"{f.task.name}-curves-{pattern.replace(':', '-')}"
            yield Drawn(picture, stem, rows, f"Validation quality over training at {pattern}: mean ± standard error.")


def _inside(f: Finding, store: Store) -> Iterator[Drawn]:
    """Gradients, second moments and masks over training, at the last pattern of the task."""
    pattern = f.rows["pattern"].iloc[-1]
    cell = f.rows[f.rows["pattern"] == pattern]
    parts = [
        inside(store, row["run"]).assign(recipe=row["recipe"], seed=row["seed"]) for row in cell.to_dict("records")
    ]
    rows = pd.concat(parts, ignore_index=True)
    for statistic, label in STATISTICS.items():
        shown = rows[(rows[statistic] > 0) & (rows["step"] > 0)] if statistic in rows else rows[:0]
        if len(shown["step"].unique()) > 1:
            shown = shown[["recipe", "seed", "step", statistic]]
            labels = {"step": "training step", statistic: label}
            picture = plots.curves(shown, x="step", y=statistic, by="recipe", labels=labels, log="y")
            caption = f"{label[0].upper()}{label[1:]} over training at {pattern}: mean ± standard error over seeds."
            yield Drawn(picture, f"{f.task.name}-{statistic}", shown, caption)


def _tradeoff(f: Finding, cost: str, divisor: float, label: str, source: Source) -> Drawn:
    front = pareto(f.table, cost=cost, value="mean", better=f.task.better)
    points = f.table.assign(front=front, condition=f.names(f.table), **{cost: f.table[cost] / divisor})
    picture = plots.tradeoff(points, cost=cost, axis_label=label, quality_label=f.task.quality, source=source)
    return Drawn(picture, f"{f.task.name}-{cost}", points, f"{f.task.quality} against {label}, with the Pareto front.")


def _on_devices(f: Finding, column: str, factor: float, label: str) -> Drawn:
    """Quality against what one inference takes, a panel a device."""
    costs = f.costs[f.costs["what"] == "inference"][[*f.by, "device", column]]
    points = costs.assign(**{column: costs[column] * factor}).merge(f.table[[*f.by, *SUMMARY]], on=f.by)
    fronts = [
        pareto(part, cost=column, value="mean", better=f.task.better)
        for _, part in points.groupby("device", sort=False)
    ]
    points = points.assign(front=pd.concat(fronts), condition=f.names(points))
    style = {"axis_label": label, "quality_label": f.task.quality, "by": "device"}
    picture = plots.tradeoff(points, cost=column, source="modelled", **style)
    caption = f"{f.task.quality} against one {label} on each device, with the Pareto fronts."
    return Drawn(picture, f"{f.task.name}-inference-{column.partition('_')[0]}", points, caption)


def _devices(f: Finding, what: str, factor: float, label: str) -> Drawn:
    times = f.costs[f.costs["what"] == what]
    times = times.assign(condition=f.names(times), time=times["time_s"] * factor)
    if what == "inference":  # the final pattern alone decides
        times = times.drop_duplicates(["device", "pattern"]).assign(condition=lambda rows: rows["pattern"])
    picture = plots.bars(times, value="time", axis_label=label, source="modelled")
    return Drawn(picture, f"{f.task.name}-devices-{what}", times, f"Modelled time of {label} on each device.")
