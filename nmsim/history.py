"""What a run leaves: its course step by step, statistics by site, the plans it followed and its final quality."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from hwmodel.pattern import FanIn, Pattern, Structure, Unstructured
from hwmodel.workload import Plan, SitePlan

STRUCTURES: Mapping[str, type[Structure]] = {kind.__name__: kind for kind in (Pattern, FanIn, Unstructured)}


@dataclass
class History:
    """The course of a run.

    Attributes:
        rows: One a step: losses in nats, learning rate, gradient norm before clipping; and the validation split's
            loss and accuracy where it was evaluated.
        statistics: One a step, site and statistic, in long form.
        plans: What the sparse sites offered their products: (number of steps, plan), in order.
        result: Quality of the final model on the test split, how far compressed products were from masked dense ones
            and the bound for that, and the seconds of training.
        notes: Where a site got something else than its recipe's nominal structure.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    statistics: list[dict[str, Any]] = field(default_factory=list)
    plans: list[tuple[int, Plan]] = field(default_factory=list)
    result: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def follow(self, plan: Plan) -> None:
        """Count one more step of `plan`."""
        if self.plans and self.plans[-1][1] == plan:
            self.plans[-1] = (self.plans[-1][0] + 1, plan)
        else:
            self.plans.append((1, plan))

    def to_frame(self) -> pd.DataFrame:
        """One row a step."""
        return pd.DataFrame(self.rows)

    def statistics_frame(self) -> pd.DataFrame:
        """One row a step, site and statistic."""
        return pd.DataFrame(self.statistics, columns=["step", "site", "statistic", "value"])

    def to_json(self) -> str:
        """The history as text, exact to the bit."""
        plans = [[steps, _plan_table(plan)] for steps, plan in self.plans]
        return json.dumps({**vars(self), "plans": plans})

    @classmethod
    def from_json(cls, text: str) -> History:
        """The inverse of `to_json`."""
        table = json.loads(text)
        plans = [(steps, _plan(plan)) for steps, plan in table.pop("plans")]
        return cls(**table, plans=plans)


def _plan_table(plan: Plan) -> dict[str, Any]:
    sites = {
        name: {key: _structure_table(value) for key, value in vars(site).items()} for name, site in plan.sites.items()
    }
    return {"sites": sites, "refreshed": sorted(plan.refreshed)}


def _plan(table: dict[str, Any]) -> Plan:
    sites = {
        name: SitePlan(**{key: _structure(value) for key, value in site.items()})
        for name, site in table["sites"].items()
    }
    return Plan(sites, frozenset(table["refreshed"]))


def _structure_table(value: Structure | int) -> Any:
    return value if isinstance(value, int) else [type(value).__name__, asdict(value)]


def _structure(value: Any) -> Any:
    return value if isinstance(value, int) else STRUCTURES[value[0]](**value[1])
