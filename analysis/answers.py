"""From rows to answers: the table of conditions, which recipes are distinguished, and verdicts on registered claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from hwmodel.errors import UserError, unknown

from .statistics import Comparison, all_pairs, correct, paired
from .study import MIN_SEEDS, Hypothesis, Study, Task, axes, select
from .tradeoff import pareto, summarise

NO_AXIS = ("run", "task", "seed")


@dataclass(frozen=True)
class Answer:
    """A registered hypothesis with what the runs say of it; `why` is set where they say nothing."""

    hypothesis: Hypothesis
    comparison: Comparison | None
    why: str = ""

    @property
    def verdict(self) -> str:
        """Of the claim, at this scale."""
        return self.comparison.verdict if self.comparison else "not testable here"


def condition_table(task: Task, rows: pd.DataFrame, costs: Sequence[str]) -> pd.DataFrame:
    """One row a condition: the metric's mean, standard error and interval over seeds, and the mean of each cost."""
    by = axes(task)
    if task.metric not in rows:
        measured = [str(name) for name in rows.select_dtypes("number") if name not in task.grid]
        raise UserError(f"task {task.name}: {unknown('metric', task.metric, measured)}")
    table = summarise(rows, by=by, value=task.metric)
    means = rows.groupby(by, sort=False)[list(costs)].mean().reset_index()
    table = table.merge(means, on=by, how="left")
    return table.assign(front=pareto(table, cost="train_flops", value="mean", better=task.better))


def comparisons(task: Task, rows: pd.DataFrame) -> list[Comparison]:
    """Every pair of recipes at equal pattern, dense with each, paired over seeds; Holm over the whole table.

    A condition with fewer than two finished seeds is left out.
    """
    usable = rows[rows.groupby(["recipe", "pattern"])["seed"].transform("count") >= 2]
    named = usable.assign(condition=[condition(r, p) for r, p in zip(usable["recipe"], usable["pattern"], strict=True)])
    table = named.pivot_table(index="seed", columns="condition", values=task.metric)
    pattern = dict(zip(named["condition"], named["pattern"], strict=True))
    pairs = [(a, b) for a, b in all_pairs(pattern) if pattern[a] == pattern[b] or "dense" in (pattern[a], pattern[b])]
    return correct([paired(table, first, second) for first, second in pairs])


def condition(recipe: str, pattern: str) -> str:
    """A condition's name; dense has no pattern of its own."""
    return recipe if pattern == "dense" else f"{recipe} {pattern}"


def leaders(task: Task, table: pd.DataFrame, compared: Sequence[Comparison]) -> list[str]:
    """For each pattern, which recipe has the best mean and what it is distinguished from; then what could be seen."""
    patterns = [p for p in table["pattern"].unique() if p != "dense"]
    return [*(_leader(task, table, pattern, compared) for pattern in patterns), _resolution(task, compared)]


def leader(task: Task, table: pd.DataFrame, pattern: str) -> pd.Series:
    """The condition of a pattern with the best mean."""
    return table[table["pattern"] == pattern].sort_values("mean", ascending=task.better == "lower").iloc[0]


def _leader(task: Task, table: pd.DataFrame, pattern: str, compared: Sequence[Comparison]) -> str:
    best = leader(task, table, pattern)
    name = condition(best["recipe"], pattern)
    cell = table[table["pattern"] == pattern].sort_values("mean", ascending=task.better == "lower")
    others = ["dense", *(condition(r, pattern) for r in cell["recipe"] if r != best["recipe"])]
    has_dense = any("dense" in (c.first, c.second) for c in compared)
    calls = [f"{_call(task, compared, name, others[0])} dense"] if has_dense else []
    for call in ("better than", "not distinguished from"):
        names = [o.removesuffix(f" {pattern}") for o in others[1:] if _call(task, compared, name, o) == call]
        calls += [f"{call} {', '.join(names)}"] if names else []
    digits = 2 if task.unit == "%" else 3
    error = "(one seed)" if math.isnan(best["error"]) else f"± {best['error']:.{digits}f}"
    said = f"At {pattern}, {best['recipe']} has the best mean {task.quality}: {best['mean']:.{digits}f} {error}."
    return f"{said} It is {'; '.join(calls)}." if compared and calls else said


def _call(task: Task, compared: Sequence[Comparison], first: str, second: str) -> str:
    found = next((c for c in compared if {c.first, c.second} == {first, second}), None)
    if found is None or not found.distinguished:
        return "not distinguished from"
    ahead = (found.difference > 0) == (task.better == "higher")
    return "better than" if ahead == (found.first == first) else "worse than"


def _resolution(task: Task, compared: Sequence[Comparison]) -> str:
    if not compared:
        return "Too few finished runs to compare recipes."
    typical = pd.Series([c.detectable for c in compared]).median()
    seeds = max(c.count for c in compared)
    return (
        f"With {seeds} seeds and {len(compared)} comparisons, differences below about {typical:.2g} "
        f"{task.difference_unit} can't be told from chance (median of the smallest detectable ones)."
    )


def verdicts(study: Study, rows: pd.DataFrame) -> list[Answer]:
    """The registered hypotheses, each tested on its task's rows, Holm-corrected as one family."""
    answers = [_answer(study, hypothesis, rows) for hypothesis in study.hypothesis]
    corrected = iter(correct([a.comparison for a in answers if a.comparison]))
    return [replace(a, comparison=next(corrected)) if a.comparison else a for a in answers]


def _answer(study: Study, hypothesis: Hypothesis, rows: pd.DataFrame) -> Answer:
    if hypothesis.seen:
        told = f"{hypothesis.seen} of its runs had finished before it was registered; register it before its runs"
        return Answer(hypothesis, None, told)
    task = next(task for task in study.task if task.name == hypothesis.task)
    sign = 1.0 if task.better == "higher" else -1.0
    mine = rows[rows["task"] == task.name]
    sides = {
        name: sign * select(mine, condition).groupby("seed")[task.metric].mean()
        for name, condition in (("first", hypothesis.first), ("second", hypothesis.second))
    }
    table = pd.DataFrame(sides)
    shared = len(table.dropna())
    if shared < MIN_SEEDS:
        return Answer(hypothesis, None, f"{shared} seeds of both have finished; needs {MIN_SEEDS}")
    return Answer(hypothesis, paired(table, "first", "second", hypothesis.margin))
