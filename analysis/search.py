"""A budgeted search over the axes of the recipe algebra for one recipe that is best at every pattern and length tried.

A candidate is a point of the algebra: hard or fading mask, the target at once or step by step, the pull of SR-STE,
the shares of the dense and the binary phase, and whether masks are frozen at the end. It is scored by its worst
improvement over the best baseline of each cell (a pattern at a length), so that it must be best everywhere. The winner
is then run, with the baselines, on seeds and on a task that the search never saw.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from hwmodel.errors import UserError

from . import markdown
from .answers import comparisons
from .drive import run_study
from .page import Column
from .statistics import Comparison
from .store import write_safely
from .study import Study, Task
from .sweep import Engine

SEARCHED = "search"
TRIALS_AT_ONCE = 4
"""Candidates that are run together, so that every worker is busy."""


@dataclass(frozen=True)
class Trial:
    """A candidate recipe with its score: the worst of its improvements over the best baseline, cell by cell."""

    recipe: dict[str, Any]
    score: float


@dataclass(frozen=True)
class Confirmation:
    """How the winner fared in one task that the search never saw, against every baseline at every pattern."""

    task: Task
    compared: list[Comparison]

    def gain(self, comparison: Comparison, winner: str) -> float:
        """The winner's improvement in one comparison."""
        first = str(comparison.first).startswith(f"{winner} ")
        return comparison.difference * (1 if first == (self.task.better == "higher") else -1)

    def sentence(self, winner: str) -> str:
        """How often it was better and worse."""
        calls = [self.gain(c, winner) > 0 for c in self.compared if c.distinguished]
        return (
            f"{self.task.title}: better in {calls.count(True)} of {len(self.compared)} comparisons with a baseline, "
            f"worse in {calls.count(False)}, not distinguished in {len(self.compared) - len(calls)}."
        )


@dataclass(frozen=True)
class Found:
    """The best candidate, every trial, and how the best fared on what the search never saw."""

    best: Trial
    trials: tuple[Trial, ...]
    rows: pd.DataFrame
    confirmations: tuple[Confirmation, ...]

    def sentences(self) -> list[str]:
        """What was found, also if it is nothing."""
        winner = self.best.recipe["label"]
        options = ", ".join(f"{key} {value:.3g}" for key, value in self.best.recipe.items() if isinstance(value, float))
        best = (
            f"{len(self.trials)} candidates. The best is {self.best.recipe['name']} with {options}; where the search "
            f"looked, its least improvement over the best baseline of a cell was {self.best.score:+.4f}."
        )
        return [best, *(confirmation.sentence(winner) for confirmation in self.confirmations)]


def search(study: Study, out: Path, engine: Engine, *, minutes: float, seed: int) -> Found:
    """Search on the study's tasks whose names begin with "search" for `minutes`, then confirm on the others."""
    optuna = _optuna()
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    optimiser = optuna.create_study(direction="maximize", sampler=sampler)
    searched, held_out = (_part(study, seen=seen) for seen in (True, False))
    trials: list[Trial] = []
    end = time.monotonic() + 60 * minutes
    while not trials or time.monotonic() < end:
        asked = [optimiser.ask() for _ in range(TRIALS_AT_ONCE)]
        recipes = [candidate(trial, f"candidate {trial.number}") for trial in asked]
        rows, _ = run_study(with_recipes(searched, recipes), out / SEARCHED, engine, "search")
        for trial, recipe in zip(asked, recipes, strict=True):
            score = worst_improvement(searched, rows, recipe["label"])
            optimiser.tell(trial, score)
            trials.append(Trial(recipe, score))
    best = max(trials, key=lambda trial: trial.score)
    rows, _ = run_study(with_recipes(held_out, [best.recipe]), out / "confirm", engine, "confirmation")
    confirmations = (Confirmation(task, _against(task, rows, best.recipe["label"])) for task in held_out.task)
    return Found(best, tuple(trials), rows, tuple(confirmations))


def write_search(found: Found, out: Path) -> Path:
    """Write `search.md` and the rows of the confirmation into `out`; the path of the first."""
    write_safely(out / "confirmation.csv", found.rows.to_csv(index=False).encode())
    trials = pd.DataFrame([trial.recipe | {"score": trial.score} for trial in found.trials])
    shown = [Column(str(key), str(key), "{}" if key in ("name", "label") else "{:.4g}") for key in trials.columns]
    parts = ["# A search for one recipe that is best everywhere", "\n".join(f"- {line}" for line in found.sentences())]
    parts += [f"## {c.task.title}\n\n{_confirmation_table(c)}" for c in found.confirmations]
    parts += ["## Every candidate", markdown.table(trials.sort_values("score", ascending=False), shown)]
    write_safely(out / "search.md", ("\n\n".join(parts) + "\n").encode())
    return out / "search.md"


def _confirmation_table(confirmation: Confirmation) -> str:
    rows = pd.DataFrame([vars(c) for c in confirmation.compared])
    columns = [
        Column("first", "recipe"),
        Column("second", "against"),
        Column("difference", f"difference ({confirmation.task.unit})", "{:+.4f}", "measured"),
        Column("low", "from", "{:+.4f}"),
        Column("high", "to", "{:+.4f}"),
        Column("p_holm", "p (Holm)", "{:.3g}"),
        Column("count", "seeds", "{:d}"),
    ]
    return markdown.table(rows, columns)


def candidate(trial: Any, label: str) -> dict[str, Any]:
    """A point of the algebra, as the table of a recipe in a study's grid, from an optuna trial."""
    stepwise = trial.suggest_categorical("structure", ["target", "stepwise"]) == "stepwise"
    fading = trial.suggest_categorical("weight", ["hard", "fading"]) == "fading"
    options: dict[str, Any] = {"dense": trial.suggest_float("dense", 0.0, 0.5)}
    if stepwise or fading:
        options["fine_tune"] = trial.suggest_float("fine_tune", 0.1, 0.5)
    if not stepwise:
        options["lam"] = trial.suggest_float("lam", 1e-6, 1e-2, log=True)
    if trial.suggest_categorical("frozen", [False, True]):
        options["freeze"] = trial.suggest_float("freeze", 0.5, 1.0)
    names = {
        (False, False): "sr_ste",
        (False, True): "mdgf_sr_ste",
        (True, False): "sdgf_stepwise",
        (True, True): "sdgf_mdgf",
    }
    return {"name": names[stepwise, fading], "label": label} | options


def with_recipes(study: Study, recipes: Sequence[Mapping[str, Any]]) -> Study:
    """The study with more recipes in every grid."""
    tasks = (replace(task, grid=task.grid | {"recipe": [*task.grid["recipe"], *recipes]}) for task in study.task)
    return replace(study, task=tuple(tasks))


def worst_improvement(study: Study, rows: pd.DataFrame, label: str) -> float:
    """The least improvement of recipe `label` over the best other recipe of the study's own grids, over all cells."""
    return min(_least(task, rows[rows["task"] == task.name], label) for task in study.task)


def _least(task: Task, rows: pd.DataFrame, label: str) -> float:
    sign = 1.0 if task.better == "higher" else -1.0
    means = sign * rows.pivot_table(index="pattern", columns="recipe", values=task.metric)
    if label not in means:
        raise UserError(f"{task.name}: no finished run of {label}; see the failures above")
    baselines = [recipe["label"] for recipe in task.grid["recipe"]]
    return float((means[label] - means[baselines].max(axis=1)).min())


def _against(task: Task, rows: pd.DataFrame, label: str) -> list[Comparison]:
    """The comparisons with the winner in them, from the Holm-corrected table of all."""
    compared = comparisons(task, rows[rows["task"] == task.name])
    return [c for c in compared if any(str(name).startswith(f"{label} ") for name in (c.first, c.second))]


def _part(study: Study, *, seen: bool) -> Study:
    tasks = tuple(task for task in study.task if task.name.startswith(SEARCHED) is seen)
    if not tasks:
        raise UserError(f'study: no task whose name {"begins" if seen else "does not begin"} with "{SEARCHED}"')
    return replace(study, task=tasks)


def _optuna() -> Any:
    try:
        import optuna  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError("nmsim study search needs optuna: pip install 'nmsim[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
