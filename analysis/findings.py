"""What the runs of a study found: tidy tables of runs, conditions and modelled costs, comparisons and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hwmodel.device import Device

from .answers import Answer, comparisons, condition_table, verdicts
from .pricing import device_rows, layer_rows
from .statistics import Comparison
from .store import Record, Store
from .study import Study, Task, axes
from .transferred import transferred
from .work import job_of, run_of

COSTS = ("train_flops", "inference_flops", "stored_bytes", "cpu_s")
ACCOUNTS = ("train_flops_forward_sparse", "train_flops_forward_and_dgrad_sparse", "train_flops_half")


@dataclass(frozen=True)
class Finding:
    """One task's results: a row a run, a row a condition, modelled costs, comparisons of a ranked task, and layers.

    `transferred` has the costs of a ranked task's conditions at the shapes of published models.
    """

    task: Task
    rows: pd.DataFrame
    table: pd.DataFrame
    costs: pd.DataFrame
    transferred: pd.DataFrame
    compared: list[Comparison]
    layers: pd.DataFrame

    @property
    def by(self) -> list[str]:
        """The columns that name a condition."""
        return axes(self.task)

    @property
    def layers_of(self) -> str:
        """The condition whose layers are listed: the last of the table."""
        return self.names(self.table)[-1]

    def names(self, rows: pd.DataFrame) -> list[str]:
        """A readable name for the condition of each row, such as "ste 1:4"."""
        return [" ".join(dict.fromkeys(map(str, key))) for key in rows[self.by].to_numpy()]


@dataclass(frozen=True)
class Findings:
    """Everything a report shows."""

    study: Study
    tasks: list[Finding]
    answers: list[Answer]
    records: list[Record]


def gather(study: Study, rows: pd.DataFrame, store: Store, devices: Sequence[Device]) -> Findings:
    """The findings of a study from a row for each of its finished runs, priced on `devices`."""
    parts = [(task, rows[rows["task"] == task.name]) for task in study.task]
    found = [_finding(task, part, store, devices) for task, part in parts if len(part)]
    return Findings(study, found, verdicts(study, rows), store.records())


def _finding(task: Task, rows: pd.DataFrame, store: Store, devices: Sequence[Device]) -> Finding:
    by = axes(task)
    firsts = rows.drop_duplicates(by).to_dict("records")
    folders = [store.run(row["run"]) for row in firsts]
    jobs = [job_of(folder) for folder in folders]
    runs = {tuple(row[a] for a in by): run_of(folder) for row, folder in zip(firsts, folders, strict=True)}
    costs = pd.concat(
        [device_rows(job, devices).assign(**{a: row[a] for a in by}) for job, row in zip(jobs, firsts, strict=True)],
        ignore_index=True,
    )
    named = costs.assign(column=costs["what"] + " " + costs["device"])
    wide = named.pivot_table(index=by, columns="column", values="time_s", sort=False).reset_index()
    table = condition_table(task, rows, [*COSTS, *ACCOUNTS]).merge(wide, on=by)
    compared = comparisons(task, rows) if task.ranked else []
    elsewhere = transferred(runs if task.ranked else {}, by, devices)
    return Finding(task, rows, table, costs, elsewhere, compared, layer_rows(jobs[-1]))
