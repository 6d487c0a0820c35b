"""What the histories of a study's runs show: gradient statistics, falls at changes of pattern, equal-FLOP curves."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hwmodel.toml import build
from nmsim.run import Run

from .findings import Finding, Findings
from .inside import inside
from .statistics import Estimate, estimate
from .store import Store
from .tradeoff import at_equal_cost, summarise
from .trends import falls, thirds

LENGTHS = "language-lengths"
BOUNDARIES = "-boundaries"
ACCOUNT_NAMES = {
    "train_flops": "the operands that ran",
    "train_flops_forward_sparse": "both backward products dense",
    "train_flops_forward_and_dgrad_sparse": "the input gradient as sparse as the forward pass",
    "train_flops_half": "half of a dense step and half of one scaled by the inference ratio (Figure 4b)",
}


@dataclass(frozen=True)
class Evidence:
    """The study's tasks by name, and tables of what happened inside its runs."""

    tasks: dict[str, Finding]
    falls: pd.DataFrame
    gradients: pd.DataFrame
    equal_flops: pd.DataFrame

    @property
    def priced(self) -> pd.DataFrame:
        """The mean quality of every recipe and length of the sweep of lengths, priced by each account."""
        if self.equal_flops.empty:
            return pd.DataFrame()
        finding = self.tasks[LENGTHS]
        table = finding.table[["recipe", "steps", "mean", "low", "high"]]
        parts = [table.assign(account=text, flops=finding.table[account]) for account, text in ACCOUNT_NAMES.items()]
        return pd.concat(parts, ignore_index=True)

    def gain(self, task: str, first: str, second: str, pattern: str) -> Estimate | None:
        """The mean improvement of recipe `first` over `second`, paired over the seeds that both ran, if two or more."""
        finding = self.tasks[task]
        rows = finding.rows[finding.rows["pattern"].isin([pattern, "dense"])]
        seeds = rows.pivot_table(index="seed", columns="recipe", values=finding.task.metric)
        if not {first, second} <= set(seeds.columns):
            return None
        differences = (seeds[first] - seeds[second]).dropna() * (1 if finding.task.better == "higher" else -1)
        return estimate(differences) if len(differences) >= 2 else None

    def gains(self, task: str, first: str, second: str) -> str:
        """The improvement at every pattern of a task, as text; "" where nothing ran."""
        if task not in self.tasks:
            return ""
        patterns = [p for p in self.tasks[task].table["pattern"].unique() if p != "dense"]
        found = [(p, self.gain(task, first, second, p)) for p in patterns]
        parts = [f"{p} {shown(e)}" for p, e in found if e]
        return f"{task}: {', '.join(parts)} {self.tasks[task].task.unit}" if parts else ""


def shown(e: Estimate) -> str:
    """An estimate with its interval."""
    return f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}]"


def gather_evidence(findings: Findings, store: Store) -> Evidence:
    """The tasks by name, and what the histories of their runs show."""
    tasks = {f.task.name: f for f in findings.tasks}
    fallen = [row for name, f in tasks.items() if name.endswith(BOUNDARIES) for row in _falls(f, store)]
    ranked = [f for name, f in tasks.items() if not name.endswith(BOUNDARIES)]
    inside = pd.concat([_gradients(f, store) for f in ranked], ignore_index=True) if ranked else pd.DataFrame()
    equal = equal_flops(tasks[LENGTHS]) if LENGTHS in tasks else pd.DataFrame()
    return Evidence(tasks, pd.DataFrame(fallen), inside, equal)


def _falls(finding: Finding, store: Store) -> Iterator[dict[Hashable, Any]]:
    """One row a change of pattern of every run of the task: validation quality before and after it."""
    sign = 1.0 if finding.task.better == "higher" else -1.0
    for row in finding.rows.to_dict("records"):
        folder = store.run(row["run"])
        changes = _changes(build(Run, folder.record().config, str(folder.path)))
        history = folder.metrics().dropna(subset=[f"validation_{finding.task.metric}"])
        found = falls(history, value=f"validation_{finding.task.metric}", boundaries=list(changes), sign=sign)
        here = {"task": finding.task.name, "seed": row["seed"]}
        yield from found.assign(**here, reached=found["boundary"].map(changes)).to_dict("records")


def _changes(run: Run) -> dict[int, str]:
    """The first step of every structure of the run's first recipe but the one it begins with, and that structure."""
    structure = next(iter(run.recipes().values())).structure
    held = [str(structure(step)) for step in range(run.steps)]
    return {step: held[step] for step in range(1, run.steps) if held[step] != held[step - 1]}


def _gradients(finding: Finding, store: Store) -> pd.DataFrame:
    """One row a condition of the task: the mean of each statistic over its runs, by thirds of training."""
    rows = [
        {axis: row[axis] for axis in ("task", "pattern", "recipe")} | _inside(store, row["run"])
        for row in finding.rows.to_dict("records")
    ]
    means = pd.DataFrame(rows).groupby(["task", "pattern", "recipe"], sort=False).mean()
    return means.dropna(how="all").reset_index()


def _inside(store: Store, run: str) -> dict[str, float]:
    """The means over the FF sites of a run's statistics, by thirds of training."""
    recorded = inside(store, run)
    return thirds(recorded, list(recorded.columns[1:]))


def equal_flops(finding: Finding) -> pd.DataFrame:
    """Quality of every recipe at the training FLOPs of the shortest, the middle and the longest dense run.

    Each account of the backward pass prices the runs in its own way; between lengths quality is interpolated linearly.
    Empty until dense and another recipe have run at two lengths.
    """
    rows = finding.rows[finding.rows.groupby("recipe")["steps"].transform("nunique") >= 2]
    if not {"dense"} < set(rows["recipe"]):
        return pd.DataFrame()
    tables = []
    for account in ACCOUNT_NAMES:
        means = summarise(rows, by=["recipe", "steps"], value=finding.task.metric)
        costs = rows.groupby(["recipe", "steps"], sort=False)[account].mean().reset_index()
        curves = means.merge(costs, on=["recipe", "steps"])
        points = sorted(curves[curves["recipe"] == "dense"][account])
        at = at_equal_cost(curves, by="recipe", cost=account, value="mean", points=points)
        wide = at.pivot_table(index=account, columns="recipe", values="mean").reset_index()
        tables.append(wide.rename(columns={account: "flops"}).assign(account=account))
    table = pd.concat(tables, ignore_index=True)
    return table[["account", "flops", *(c for c in table.columns if c not in ("account", "flops"))]]
