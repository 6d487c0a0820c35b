"""A study: tasks, a grid of runs for each, and the hypotheses that are registered before anything runs.

In a study file, `[task.run]` is a run file and `[task.grid]` maps axes to their values. The axes `recipe`, `pattern`
and `sites` make the run's `[[sparsity]]` tables; any other axis is a dotted key of the run, such as "optimizer.lr". A
recipe is a name, or a table with its `name`, hyper-parameters, and optionally a `label`. Dense runs have no pattern, so
a grid holds each of them once.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from hwmodel import toml
from hwmodel.errors import UserError, unknown
from nmsim.run import pinned

from .store import Store, config_hash
from .tradeoff import Better

MAX_HYPOTHESES = 8
MIN_SEEDS = 8
SPARSITY_AXES = {"recipe", "pattern", "sites"}


@dataclass(frozen=True)
class Task:
    """A grid of runs that share a data set, a model and a metric. Only a `ranked` task compares recipes."""

    name: str
    title: str
    metric: str
    unit: str
    better: Better
    run: dict[str, Any]
    grid: dict[str, Any]
    ranked: bool = True

    @property
    def quality(self) -> str:
        """The metric with its unit, for people: "accuracy (%)"."""
        return f"{self.metric.removesuffix('_percent').removesuffix('_nats')} ({self.unit})"

    @property
    def difference_unit(self) -> str:
        """The unit of a difference of two values of the metric: points where the metric is a percentage."""
        return "points" if self.unit == "%" else self.unit


@dataclass(frozen=True)
class Hypothesis:
    """A registered claim: in `task`, `first` beats `second` by more than `margin` in the task's metric.

    `first` and `second` name one condition each by the values of the grid's axes (`recipe` by its label). `seen` is how
    many of their runs had finished when it was first written down, which `nmsim sweep` finds out.
    """

    claim: str
    task: str
    first: dict[str, Any]
    second: dict[str, Any]
    margin: float = 0.0
    seen: int = 0


@dataclass(frozen=True)
class Study:
    """A question, the tasks that may answer it, and at most eight registered hypotheses."""

    question: str
    task: tuple[Task, ...]
    hypothesis: tuple[Hypothesis, ...] = ()

    def __post_init__(self) -> None:
        if len(self.hypothesis) > MAX_HYPOTHESES:
            raise UserError(
                f"hypothesis: {len(self.hypothesis)} registered; a study registers at most {MAX_HYPOTHESES}"
            )
        names = [task.name for task in self.task]
        for hypothesis in self.hypothesis:
            if hypothesis.task not in names:
                raise unknown("task", hypothesis.task, names)


@dataclass(frozen=True)
class Cell:
    """One run of a study: the values of its axes, and its run table."""

    task: str
    labels: dict[str, Any]
    run: dict[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        """The run's name in the store."""
        return config_hash(self.run)


def read_study(path: str | Path) -> Study:
    """The study in a TOML file; mistakes name the file and the key."""
    study = toml.build(Study, toml.read_toml(path), str(path))
    try:
        _check(study)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return study


def shipped(name: str) -> Study:
    """A study that comes with the package, such as "demo"."""
    with resources.as_file(resources.files(__package__) / "studies" / f"{name}.toml") as path:
        return read_study(path)


def cells(study: Study) -> list[Cell]:
    """Every run of the study, each once, task by task."""
    return [cell for task in study.task for cell in _task_cells(task)]


def registered(study: Study, earlier: Study | None, finished: Collection[str]) -> Study:
    """The study, where a hypothesis that `earlier` had not says how many of its runs are among `finished`."""
    known = {(h.task, str(h.first), str(h.second), h.margin): h.seen for h in earlier.hypothesis} if earlier else {}
    grid = cells(study)
    made = []
    for h in study.hypothesis:
        mine = pd.DataFrame([cell.labels | {"run": cell.name} for cell in grid if cell.task == h.task])
        runs = {run for side in (h.first, h.second) for run in select(mine, side)["run"]}
        seen = known.get((h.task, str(h.first), str(h.second), h.margin), len(runs.intersection(finished)))
        made.append(replace(h, seen=seen))
    return replace(study, hypothesis=tuple(made))


def study_rows(study: Study, store: Store) -> pd.DataFrame:
    """One row a finished run of the study: task, axes and result. Raises `UserError` where there is none."""
    labels = [{"run": cell.name, "task": cell.task} | cell.labels for cell in cells(study)]
    done = {record.name: record.result for record in store.records() if record.state == "done"}
    rows = pd.DataFrame([done[label["run"]] | label for label in labels if label["run"] in done])
    if rows.empty:
        raise UserError(f"{store.root}: no run of the study has finished")
    return rows


def axes(task: Task) -> list[str]:
    """The axes that tell the conditions of a task apart: recipe, pattern, and others of more than one value."""
    varied = [axis for axis, values in task.grid.items() if isinstance(values, list) and len(values) > 1]
    return ["recipe", "pattern", *(axis for axis in varied if axis not in ("recipe", "pattern", "seed"))]


def select(rows: pd.DataFrame, condition: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of one condition, given by the values of some axes."""
    for axis, value in condition.items():
        if axis not in rows:
            raise unknown("axis", axis, map(str, rows.columns))
        rows = rows[rows[axis] == value]
    return rows


def _check(study: Study) -> None:
    grid = cells(study)
    for task in study.task:
        others = [axis for axis in axes(task) if axis not in ("recipe", "pattern")]
        if task.ranked and others:
            raise UserError(
                f"task {task.name}: a ranked task compares recipes at equal pattern over seeds, and this grid varies "
                f"{others[0]} too; make a task of each value, or set ranked = false"
            )
    for hypothesis in study.hypothesis:
        mine = pd.DataFrame([cell.labels for cell in grid if cell.task == hypothesis.task])
        for side in (hypothesis.first, hypothesis.second):
            try:
                _check_condition(mine, side)
            except UserError as error:
                raise UserError(f'hypothesis "{hypothesis.claim}": {error}') from None


def _check_condition(labels: pd.DataFrame, side: Mapping[str, Any]) -> None:
    """Refuse what is not one condition of the grid with enough seeds."""
    for axis, value in side.items():
        if axis in labels and value not in list(labels[axis]):
            raise unknown(axis, str(value), labels[axis].map(str).unique())
    found = select(labels, side)
    varied = [str(axis) for axis in found.columns.drop("seed") if len(found[axis].map(str).unique()) > 1]
    if varied:
        raise UserError(f"{dict(side)} leaves {varied[0]} open; give its value")
    seeds = found["seed"].nunique()
    if seeds < MIN_SEEDS:
        raise UserError(f"{dict(side)} has {seeds} seeds in the grid; needs {MIN_SEEDS}")


def _task_cells(task: Task) -> Iterator[Cell]:
    axes = {axis: values if isinstance(values, list) else [values] for axis, values in task.grid.items()}
    missing = [axis for axis in ("recipe", "pattern", "sites", "seed") if axis not in axes]
    if missing:
        raise UserError(f"task {task.name}: grid needs the axis {missing[0]}")
    empty = [axis for axis, values in axes.items() if not values]
    if empty:
        raise UserError(f"task {task.name}: grid: {empty[0]} has no value; give one or more")
    seen = set()
    for values in itertools.product(*axes.values()):
        try:
            cell = _cell(task, dict(zip(axes, values, strict=True)))
        except UserError as error:
            raise UserError(f"task {task.name}: grid: {error}") from None
        if cell.name not in seen:
            seen.add(cell.name)
            yield cell


def _cell(task: Task, point: dict[str, Any]) -> Cell:
    run = copy.deepcopy(task.run)
    for axis in point.keys() - SPARSITY_AXES:
        _set(run, axis, point[axis])
    recipe = point["recipe"] if isinstance(point["recipe"], dict) else {"name": point["recipe"]}
    if not isinstance(recipe.get("name"), str):
        raise UserError(f'recipe: {point["recipe"]!r} has no name; write "ste", or {{ name = "ste", ... }}')
    options = {key: value for key, value in recipe.items() if key not in ("name", "label")}
    sites = point["sites"] if isinstance(point["sites"], list) else [point["sites"]]
    if not all(isinstance(site, str) for site in sites):
        raise UserError(f'sites: {point["sites"]!r} is no shell pattern; write "*.mlp.*", or a list of such')
    dense = recipe["name"] == "dense"
    if not dense:
        table = {"recipe": recipe["name"], "pattern": point["pattern"], "options": options}
        run["sparsity"] = [{"sites": site} | table for site in sites]
    labels = point | {
        "recipe": recipe.get("label", " ".join([recipe["name"], *(f"{k}={v}" for k, v in options.items())])),
        "pattern": "dense" if dense else point["pattern"],
        "sites": "" if dense else " ".join(sites),
    }
    return Cell(task.name, labels, pinned(run))


def _set(table: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for key in parents:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise UserError(f"{dotted}: {key} is a value of the run, not a table; name one of its keys")
    table[last] = value
