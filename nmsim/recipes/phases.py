"""Phases of a run as schedules: dense first, then on the way, then the final structure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwmodel.errors import UserError
from hwmodel.pattern import DENSE, Pattern, Structure, Unstructured
from nmsim.recipes.registry import given, share
from nmsim.schedules import Constant, Piecewise, Schedule, T


def span(steps: int | None, dense: float, fine_tune: float) -> tuple[int, int]:
    """First step after the dense phase and first step of the fine-tune phase; both phases are shares of the steps."""
    if share(dense, "dense") + share(fine_tune, "fine_tune") > 1:
        raise UserError(f"dense={dense:g} and fine_tune={fine_tune:g} are more than the whole run")
    total = given(steps)
    first = round(dense * total)
    return first, max(first, total - round(fine_tune * total))


def sequence(*pieces: tuple[int, Schedule[T]]) -> Schedule[T]:
    """`Piecewise`, without the pieces of no length."""
    starts = [start for start, _ in pieces[1:]]
    lasting = tuple(piece for piece, end in zip(pieces, [*starts, math.inf], strict=True) if piece[0] < end)
    return lasting[0][1] if len(lasting) == 1 else Piecewise(lasting)


def after(first: int, structure: Structure) -> Schedule[Structure]:
    """Dense before step `first`, `structure` from there on."""
    return sequence((0, Constant[Structure](DENSE)), (first, Constant[Structure](structure)))


def sparse_after(steps: int | None, dense: float, structure: Structure) -> Schedule[Structure]:
    """Dense for a share of the steps, then `structure`; without a dense phase the number of steps does not matter."""
    return after(round(share(dense, "dense") * given(steps)) if dense else 0, structure)


@dataclass(frozen=True)
class Thinning:
    """N:M with falling n: the least kept of m whose share is at least density(step), and at least the final n."""

    final: Pattern
    density: Schedule[float]

    def __call__(self, step: int, /) -> Pattern:
        """The pattern max(n, ceil(m * density)) of m."""
        n, m = self.final.n, self.final.m
        return Pattern(max(n, math.ceil(m * self.density(step) - 1e-9)), m)


@dataclass(frozen=True)
class Budget:
    """Unstructured sparsity of a scheduled density."""

    density: Schedule[float]

    def __call__(self, step: int, /) -> Unstructured:
        """The budget at `step`."""
        return Unstructured(self.density(step))
