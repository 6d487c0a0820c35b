"""The scaling law of sparsely connected models: loss against sparsity, non-zero parameters and data (arXiv 2309.08520).

The two published data sets ship as tables (`published_points`), the published coefficients as laws (`PUBLISHED`), and
`fit` serves them and a user's own runs alike. The published T5 fit stopped early: its Huber loss is 56 % above the
minimum, which `fit` finds from almost every start. The ViT fit is reproduced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import optimize

from hwmodel.errors import UserError, unknown

Values = float | Float[np.ndarray, " points"]
COLUMNS = ("sparsity", "parameters", "data", "loss")
LEVELS = (0.25, 0.5, 0.75, 0.875, 0.9375)
"""Sparsities whose contours are drawn."""
AVERAGE_SPARSITY = 0.625
"""Mean over a run of gradual pruning from 25 % to 75 % of it with a cubic, as a share of the final sparsity."""


@dataclass(frozen=True)
class Law:
    """L(S, N, D) = (a_s (1 - S)^b_s + c_s) N^-b_n + (a_d / D)^b_d + c, arXiv 2309.08520 equation 2.

    S is the sparsity, N the number of non-zero parameters, D the amount of data (examples or tokens).
    """

    a_s: float
    b_s: float
    c_s: float
    b_n: float
    a_d: float
    b_d: float
    c: float

    def loss(self, sparsity: Values, parameters: Values, data: Values) -> Values:
        """The predicted loss."""
        size = (self.a_s * (1 - sparsity) ** self.b_s + self.c_s) * parameters**-self.b_n
        return size + (self.a_d / data) ** self.b_d + self.c

    def capacity(self, sparsity: Values) -> Values:
        """How many times larger a dense model of equal loss is than the non-zeros of this one.

        m(S) = ((a_s + c_s) / (a_s (1 - S)^b_s + c_s))^(1 / b_n); it stays finite as S approaches 1.
        """
        return ((self.a_s + self.c_s) / (self.a_s * (1 - sparsity) ** self.b_s + self.c_s)) ** (1 / self.b_n)

    def optimal_sparsity(self, parameters: float, data: float) -> float:
        """The sparsity of least loss at fixed non-zeros for the training compute of a dense model on `data`.

        Equal compute 6 N D c_mul(S) leaves a sparser model with data / c_mul(S).
        """
        found = optimize.minimize_scalar(
            lambda s: float(self.loss(s, parameters, data / cost_multiplier(s))),
            bounds=(0.0, 1 - 1e-9),
            method="bounded",
        )
        return float(found.x) if found.fun < self.loss(0.0, parameters, data) else 0.0

    def contour(self, sparsity: Values, parameters: Values) -> Values:
        """Data, dense-equivalent, at which `sparsity` is optimal: where the derivative of the loss over S is 0.

        D^b_d = b_d a_d^b_d c_mul^(b_d - 1) c_mul' N^b_n / (a_s b_s (1 - S)^(b_s - 1)), c_mul' = 0.375 / (1 - S)^2.
        """
        slope = (1 - AVERAGE_SPARSITY) / (1 - sparsity) ** 2
        data_side = self.b_d * self.a_d**self.b_d * cost_multiplier(sparsity) ** (self.b_d - 1) * slope
        size_side = self.a_s * self.b_s * (1 - sparsity) ** (self.b_s - 1) * parameters**-self.b_n
        best: Values = (data_side / size_side) ** (1 / self.b_d)
        return best


def contours(law: Law, points: pd.DataFrame) -> pd.DataFrame:
    """Where each of `LEVELS` is optimal, over the sizes of `points`: columns sparsity, parameters, data."""
    sizes = np.geomspace(points["parameters"].min(), points["parameters"].max(), 30)
    lines = [{"sparsity": s, "parameters": sizes, "data": law.contour(s, sizes)} for s in LEVELS]
    return pd.concat([pd.DataFrame(line) for line in lines], ignore_index=True)


def cost_multiplier(sparsity: Values) -> Values:
    """Training cost of gradual pruning over that of a dense model of equal non-zeros: (1 - 0.625 S) / (1 - S)."""
    return (1 - AVERAGE_SPARSITY * sparsity) / (1 - sparsity)


@dataclass(frozen=True)
class Objective:
    """The mean Huber loss, with this threshold, of residuals taken as `difference` or as difference of logarithms."""

    threshold: float
    residual: Literal["difference", "logarithm"] = "logarithm"

    def residuals(self, law: Law, points: pd.DataFrame) -> Float[np.ndarray, " points"]:
        """Predicted minus measured loss of every point."""
        predicted = law.loss(*(points[name].to_numpy(dtype=float) for name in COLUMNS[:3]))
        measured = points["loss"].to_numpy(dtype=float)
        if self.residual == "logarithm":
            return np.asarray(np.log(predicted) - np.log(measured))
        return np.asarray(predicted - measured)

    def of(self, law: Law, points: pd.DataFrame) -> float:
        """The mean over the points of r^2 / 2 where |r| <= threshold, else threshold (|r| - threshold / 2)."""
        r = np.abs(self.residuals(law, points))
        return float(np.mean(np.where(r <= self.threshold, r**2 / 2, self.threshold * (r - self.threshold / 2))))


OBJECTIVES = {"vit": Objective(0.01, "difference"), "t5": Objective(0.001)}
PUBLISHED = {
    "vit": Law(2.94e2, 0.821, 4.68e2, 0.392, 2.37e8, 0.890, 4.517),
    "t5": Law(1.68e1, 0.722, 4.50e1, 0.245, 6.90e8, 0.203, 0.651),
}
NOTEBOOK = {
    "vit": Law(294.39, 0.82101, 468.16, 0.39223, 2.3741e8, 0.88979, 4.51669),
    "t5": Law(16.787, 0.72161, 45.018, 0.24513, 6.900e8, 0.20271, 0.65074),
}
"""The coefficients printed by the notebook beside the data, in the units of `Law`; the published ones round them."""
HELD_OUT_T5 = pd.DataFrame(
    {"sparsity": [0.75], "parameters": [48 * 12 * 1024**2], "data": [500_000 * 65_536], "loss": [1.48278]}
)
"""The notebook's held-out run: T5 of 604.0 M non-zeros, 500,000 steps of 65,536 tokens."""


@cache
def published_points(name: str) -> pd.DataFrame:
    """The measured losses behind the published fit: "vit" (112 runs, data in examples) or "t5" (48, in tokens).

    Source: google-research/jaxpruner at commit f133ee5, jaxpruner/projects/bigsparse, Apache-2.0.
    """
    if name not in OBJECTIVES:
        raise unknown("scaling data", name, OBJECTIVES)
    with resources.files(__package__).joinpath("data", f"scaling_{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


@dataclass(frozen=True)
class FittedLaw:
    """A fitted law, its objective, and how many of the starts ended within 0.01 % of the least value found."""

    law: Law
    objective: float
    agreeing: int
    starts: int


def fit(points: pd.DataFrame, objective: Objective, rng: np.random.Generator, *, starts: int = 10) -> FittedLaw:
    """The law of least mean Huber loss over `points`, the best of `starts` random starts.

    Coefficients are fitted as logarithms in units of the points' geometric mean sizes by a trust-region method whose
    every step is scaled by the Jacobian, so the small thresholds do not stop it early. Raises `UserError` for points
    that can't determine seven coefficients.
    """
    _check(points)
    scale = {name: float(np.exp(np.log(points[name]).mean())) for name in ("parameters", "data")}
    unit = points.assign(**{name: points[name] / size for name, size in scale.items()})
    found = sorted((_descend(unit, objective, rng) for _ in range(starts)), key=lambda pair: pair[0])
    best, law = found[0]
    agreeing = sum(value <= best * 1.0001 for value, _ in found)
    return FittedLaw(_rescaled(law, scale["parameters"], scale["data"]), best, agreeing, starts)


def _descend(points: pd.DataFrame, objective: Objective, rng: np.random.Generator) -> tuple[float, Law]:
    def residuals(x: Float[np.ndarray, " coefficients"]) -> Float[np.ndarray, " points"]:
        return objective.residuals(Law(*np.exp(x)), points)

    spread = float(points["loss"].max() - points["loss"].min())
    typical = np.array([spread / 2, 1.0, spread, 0.3, 0.1, 0.5, float(points["loss"].min()) / 2])
    found = optimize.least_squares(
        residuals,
        np.log(typical) + 0.5 * rng.standard_normal(7),
        bounds=(-20, 20),
        loss="huber",
        f_scale=objective.threshold,
        x_scale="jac",
        ftol=1e-13,
        xtol=1e-13,
        gtol=1e-13,
        max_nfev=1000,
    )
    return float(found.cost) / len(points), Law(*(float(v) for v in np.exp(found.x)))


def _rescaled(law: Law, parameters: float, data: float) -> Law:
    """A law of N / parameters and D / data as a law of N and D."""
    size = parameters**law.b_n
    return Law(law.a_s * size, law.b_s, law.c_s * size, law.b_n, law.a_d * data, law.b_d, law.c)


def _check(points: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in points.columns]
    if missing:
        raise UserError(f"scaling points: no column {missing[0]} (needs {', '.join(COLUMNS)})")
    for name in COLUMNS[:3]:
        if points[name].nunique() < 3:
            raise UserError(f"scaling points: {points[name].nunique()} values of {name}; the law needs 3 or more")
    if len(points) < 8:
        raise UserError(f"scaling points: {len(points)} runs; seven coefficients need 8 or more")
    valid = points["sparsity"].between(0, 1, inclusive="left") & (points[list(COLUMNS[1:])] > 0).all(axis=1)
    if not valid.all():
        raise UserError("scaling points: needs 0 <= sparsity < 1 and positive parameters, data and loss")
