"""Trade-offs: quality over seeds against a cost, Pareto fronts, what a budget buys, and quality at equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from hwmodel.errors import UserError

from .statistics import estimate

Better = Literal["higher", "lower"]


def summarise(rows: pd.DataFrame, *, by: Sequence[str], value: str) -> pd.DataFrame:
    """One row a group with the mean of `value` over its seeds: mean, error (standard), low and high (95 %), count."""
    groups = rows.dropna(subset=[value]).groupby(list(by), sort=False)[value]
    cells = [(key if isinstance(key, tuple) else (key,), estimate(values)) for key, values in groups]
    return pd.DataFrame([dict(zip(by, key, strict=True)) | vars(e) for key, e in cells])


def pareto(rows: pd.DataFrame, *, cost: str, value: str, better: Better) -> pd.Series:
    """Whether no other row is at least as good and as cheap, and better in one of the two."""
    worth = rows[value].to_numpy() * (1 if better == "higher" else -1)
    price = rows[cost].to_numpy()
    beaten = [
        bool(np.any((worth >= w) & (price <= p) & ((worth > w) | (price < p))))
        for w, p in zip(worth, price, strict=True)
    ]
    return pd.Series(~np.array(beaten, dtype=bool), index=rows.index, name="front")


def affordable(rows: pd.DataFrame, *, cost: str, value: str, better: Better, budget: float) -> pd.Series:
    """The best row that costs at most `budget`. Raises `UserError` where even the cheapest costs more."""
    within = rows[rows[cost] <= budget]
    if within.empty:
        raise UserError(f"budget {budget:g}: the cheapest condition costs {rows[cost].min():g} ({cost})")
    ordered = within.sort_values(value, ascending=better == "lower", kind="stable")
    return ordered.iloc[0]


def budgets(rows: pd.DataFrame, *, cost: str, value: str, better: Better, shares: Sequence[float]) -> pd.DataFrame:
    """What each share of the dearest row's cost buys: the best row that is no dearer; no row where nothing is."""
    dearest = float(rows[cost].max())
    paid = [(share, share * dearest) for share in shares if share * dearest >= rows[cost].min()]
    bought = [
        affordable(rows, cost=cost, value=value, better=better, budget=budget).to_dict()
        | {"share_percent": 100 * share, "budget": budget}
        for share, budget in paid
    ]
    return pd.DataFrame(bought)


def at_equal_cost(curves: pd.DataFrame, *, by: str, cost: str, value: str, points: Sequence[float]) -> pd.DataFrame:
    """Quality of every curve at the same `points` of cost, by linear interpolation; NaN outside a curve's range."""
    rows = []
    for name, curve in curves.groupby(by, sort=False):
        ordered = curve.sort_values(cost)
        at = np.interp(points, ordered[cost], ordered[value], left=np.nan, right=np.nan)
        rows += [{by: name, cost: point, value: v} for point, v in zip(points, at, strict=True)]
    return pd.DataFrame(rows)
