"""From rows to answers: the table of conditions, which recipes are distinguished, and verdicts on registered claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from hwmodel.errors import UserError, unknown

from .statistics import Comparison, all_pairs, correct, paired
from .study import Hypothesis, Study, Task, select
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


def axes(task: Task) -> list[str]:
    """The axes that tell the conditions of a task apart: recipe, pattern, and others of more than one value."""
    varied = [axis for axis, values in task.grid.items() if isinstance(values, list) and len(values) > 1]
    return ["recipe", "pattern", *(axis for axis in varied if axis not in ("recipe", "pattern", "seed"))]


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
    named = usable.assign(condition=usable["recipe"] + " " + usable["pattern"])
    table = named.pivot_table(index="seed", columns="condition", values=task.metric)
    pattern = dict(zip(named["condition"], named["pattern"], strict=True))
    pairs = [(a, b) for a, b in all_pairs(pattern) if pattern[a] == pattern[b] or "dense" in (pattern[a], pattern[b])]
    return correct([paired(table, first, second) for first, second in pairs])


def leaders(task: Task, table: pd.DataFrame, compared: Sequence[Comparison]) -> list[str]:
    """For each pattern, a sentence: the recipe of the best mean, and which others it is distinguished from."""
    sentences = []
    for pattern in [p for p in table["pattern"].unique() if p != "dense"]:
        cell = table[table["pattern"] == pattern].sort_values("mean", ascending=task.better == "lower")
        best = cell.iloc[0]
        others = [r for r in cell["recipe"] if r != best["recipe"]]
        apart = [r for r in others if _distinguished(compared, f"{best['recipe']} {pattern}", f"{r} {pattern}")]
        same = [r for r in others if r not in apart]
        sentences.append(
            f"At {pattern}, {best['recipe']} has the best mean {task.quality}: "
            f"{best['mean']:.2f} ± {best['error']:.2f}. "
            + (f"It is better than {', '.join(apart)}. " if apart else "")
            + (f"It is not distinguished from {', '.join(same)}." if same else "")
        )
    return sentences


def verdicts(study: Study, rows: pd.DataFrame) -> list[Answer]:
    """The registered hypotheses, each tested on its task's rows, Holm-corrected as one family."""
    answers = [_answer(study, hypothesis, rows) for hypothesis in study.hypothesis]
    corrected = iter(correct([a.comparison for a in answers if a.comparison]))
    return [replace(a, comparison=next(corrected)) if a.comparison else a for a in answers]


def _answer(study: Study, hypothesis: Hypothesis, rows: pd.DataFrame) -> Answer:
    task = next(task for task in study.task if task.name == hypothesis.task)
    sign = 1.0 if task.better == "higher" else -1.0
    mine = rows[rows["task"] == task.name]
    sides = {
        name: sign * select(mine, condition).groupby("seed")[task.metric].mean()
        for name, condition in (("first", hypothesis.first), ("second", hypothesis.second))
    }
    try:
        return Answer(hypothesis, paired(pd.DataFrame(sides), "first", "second", hypothesis.margin))
    except UserError as error:
        return Answer(hypothesis, None, str(error))


def _distinguished(compared: Sequence[Comparison], first: str, second: str) -> bool:
    return any(c.distinguished for c in compared if {c.first, c.second} == {first, second})
