"""Statistics over seeds: intervals, paired differences, Holm's correction, the smallest detectable difference.

Seeds are the unit of replication. Two recipes run with the same seed share initial weights and batches, so their
difference is taken seed by seed. Student's t needs differences that are roughly normal, not many seeds; the bootstrap
is refused below `BOOTSTRAP_SEEDS`, where its intervals are too short.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
from scipy import optimize, stats

from hwmodel.errors import UserError

BOOTSTRAP_SEEDS = 20
LEVEL = 0.05

Name = TypeVar("Name", bound=Hashable)
Verdict = Literal["supported", "contradicted", "not decided"]


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` seeds with its standard error and the Student-t interval of confidence 1 - level."""

    mean: float
    error: float
    low: float
    high: float
    count: int


def estimate(values: Iterable[float], level: float = LEVEL) -> Estimate:
    """The mean of `values`, s / sqrt(n) and mean ± t(1 - level/2, n - 1) s / sqrt(n); one value has no error (NaN)."""
    x = np.asarray(list(values), dtype=float)
    if x.size == 0:
        raise UserError("a mean needs at least one run; none finished")
    if x.size == 1:
        return Estimate(float(x[0]), math.nan, math.nan, math.nan, 1)
    mean, error = float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size))
    half = float(stats.t.ppf(1 - level / 2, x.size - 1)) * error
    return Estimate(mean, error, mean - half, mean + half, x.size)


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two conditions over the seeds they share, against a null difference of `margin`.

    `p` is two-sided, `p_holm` is corrected over the family, and [low, high] is the interval at the corrected level:
    it excludes `margin` exactly when p_holm < level. `detectable` is the smallest true distance from the margin that
    this many seeds with this spread would find with probability 0.8 at the family's strictest level.
    """

    first: Hashable
    second: Hashable
    difference: float
    error: float
    count: int
    margin: float
    p: float
    p_holm: float
    low: float
    high: float
    detectable: float

    @property
    def distinguished(self) -> bool:
        """Whether the corrected interval excludes the margin."""
        return not self.low <= self.margin <= self.high

    @property
    def verdict(self) -> Verdict:
        """Of the claim that the difference exceeds the margin."""
        if not self.distinguished:
            return "not decided"
        return "supported" if self.low > self.margin else "contradicted"


def compare(
    rows: pd.DataFrame, pairs: Sequence[tuple[Hashable, Hashable]], *, value: str, by: str, level: float = LEVEL
) -> list[Comparison]:
    """First minus second of `value` for every pair of conditions in column `by`, Holm-corrected over all `pairs`.

    Rows are matched by the column `seed`; a pair with fewer than two shared seeds raises `UserError`.
    """
    table = rows.pivot_table(index="seed", columns=by, values=value)
    return correct([paired(table, first, second) for first, second in pairs], level)


def paired(table: pd.DataFrame, first: Hashable, second: Hashable, margin: float = 0.0) -> Comparison:
    """Column `first` minus column `second` of a table with a row a seed, tested alone against `margin`."""
    for name in (first, second):
        if name not in table.columns:
            raise UserError(f"{first} against {second}: no finished run of {name}")
    d = (table[first] - table[second]).dropna().to_numpy(dtype=float)
    if d.size < 2:
        raise UserError(f"{first} against {second}: {d.size} shared seeds; a paired test needs 2 or more")
    mean, error = float(d.mean()), float(d.std(ddof=1) / math.sqrt(d.size))
    p = _p_value(mean - margin, error, d.size)
    alone = Comparison(first, second, mean, error, d.size, margin, p, p, mean, mean, 0.0)
    return _corrected(alone, p, LEVEL, 1)


def correct(comparisons: Sequence[Comparison], level: float = LEVEL) -> list[Comparison]:
    """The same comparisons as one family: Holm's p-values, and intervals and detectable differences to match."""
    adjusted = holm([c.p for c in comparisons])
    return [_corrected(c, p, level, len(comparisons)) for c, p in zip(comparisons, adjusted, strict=True)]


def all_pairs(names: Iterable[Name]) -> list[tuple[Name, Name]]:
    """Every unordered pair of `names`, in their order."""
    return list(combinations(names, 2))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down p-values: the i-th smallest of k becomes max over j <= i of min(1, (k - j) p_(j)), j from 0."""
    order = np.argsort(np.asarray(p), kind="stable")
    scaled = np.minimum(1.0, (len(p) - np.arange(len(p))) * np.asarray(p, dtype=float)[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(scaled)
    return [float(a) for a in adjusted]


def smallest_detectable(spread: float, count: int, level: float = LEVEL, power: float = 0.8) -> float:
    """The smallest true difference that a paired t-test over `count` seeds finds with probability `power`.

    `spread` is the standard deviation of the differences.
    """
    return _noncentrality(count - 1, level, power) * spread / math.sqrt(count)


@cache
def _noncentrality(freedom: int, level: float, power: float) -> float:
    """The d with P(|Z + d| > t(1 - level/2) S) = power; Z normal, S = chi / sqrt(freedom) averaged over its quantiles.

    This is the noncentral t, whose tails scipy loses at the large critical values of a corrected family.
    """
    critical = stats.t.ppf(1 - level / 2, freedom)
    bar = critical * stats.chi.ppf((np.arange(1000) + 0.5) / 1000, freedom) / math.sqrt(freedom)
    found = optimize.brentq(
        lambda d: float(np.mean(stats.norm.sf(bar - d) + stats.norm.cdf(-bar - d))) - power, 0, 10 * critical
    )
    return float(found)


def bootstrap_interval(values: Sequence[float], rng: np.random.Generator, level: float = LEVEL) -> tuple[float, float]:
    """The BCa bootstrap interval of the mean (Efron 1987). Raises `UserError` below `BOOTSTRAP_SEEDS` values."""
    if len(values) < BOOTSTRAP_SEEDS:
        raise UserError(
            f"bootstrap over {len(values)} seeds: needs at least {BOOTSTRAP_SEEDS}; use the Student-t interval"
        )
    result = stats.bootstrap((np.asarray(values),), np.mean, confidence_level=1 - level, rng=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _p_value(distance: float, error: float, count: int) -> float:
    """Two-sided p of the one-sample t-test; differences that do not vary decide by equality alone."""
    if error == 0:
        return float(distance == 0)
    return float(2 * stats.t.sf(abs(distance) / error, count - 1))


def _corrected(c: Comparison, p_holm: float, level: float, family: int) -> Comparison:
    """`c` with the interval at confidence 1 - level p / p_holm, which excludes the margin exactly if p_holm < level."""
    local = level * (c.p / p_holm if p_holm > 0 else 1 / family)
    half = float(stats.t.ppf(1 - local / 2, c.count - 1)) * c.error
    detectable = smallest_detectable(c.error * math.sqrt(c.count), c.count, level / family)
    return replace(c, p_holm=p_holm, low=c.difference - half, high=c.difference + half, detectable=detectable)
