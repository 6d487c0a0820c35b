"""Sparsity patterns: which weights may be non-zero, as numbers; no arrays here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from hwmodel.errors import UserError


@dataclass(frozen=True, order=True)
class Pattern:
    """N:M structured sparsity: `n` kept of every `m` consecutive weights along the reduction axis.

    Raises `UserError` unless 1 <= n <= m. `Pattern(1, 1)`, named `DENSE`, is the pattern that keeps everything.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m:
            raise UserError(f"pattern {self.n}:{self.m}: needs 1 <= n <= m (n kept of every m)")

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read "2:4" (2 kept of every 4) or "dense"."""
        if text.strip() == "dense":
            return DENSE
        match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", text)
        if match is None:
            raise UserError(f'pattern "{text}": write n:m with n kept of every m, for example 2:4, or "dense"')
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def density(self) -> float:
        """Share of weights kept, n/m."""
        return self.n / self.m

    @property
    def is_dense(self) -> bool:
        """Whether every weight is kept (n = m)."""
        return self.n == self.m

    @property
    def index_bits(self) -> int:
        """Bits of one kept weight's position in its group, ceil(log2 m)."""
        return (self.m - 1).bit_length()

    @property
    def code_bits(self) -> int:
        """Bits of one group's set of positions as a number, ceil(log2 C(m, n))."""
        return (math.comb(self.m, self.n) - 1).bit_length()

    def contains(self, other: Pattern) -> bool:
        """Whether every mask that obeys `other` obeys this pattern too: 2:4 contains 1:8, not 4:8.

        The worst window of `self.m` weights is searched over all its alignments against groups of `other.m`.
        """
        if self.is_dense:
            return True
        starts = range(0, other.m, math.gcd(self.m, other.m))
        return all(_most_kept(start, self.m, other) <= self.n for start in starts)


def _most_kept(start: int, length: int, pattern: Pattern) -> int:
    """Most kept weights in a window of `length` that begins `start` weights into a group of `pattern`."""
    end, kept = start + length, 0
    while start < end:
        stop = min(end, (start // pattern.m + 1) * pattern.m)
        kept += min(pattern.n, stop - start)
        start = stop
    return kept


DENSE = Pattern(1, 1)


@dataclass(frozen=True, order=True)
class FanIn:
    """Constant fan-in: every output keeps the same number of inputs, anywhere in its row (SRigL, arXiv 2305.02299)."""

    density: float

    def __post_init__(self) -> None:
        _check_density(self.density)

    def __str__(self) -> str:
        return f"fan-in {self.density:g}"


@dataclass(frozen=True, order=True)
class Unstructured:
    """Unstructured sparsity: a share `density` of the weights, anywhere in the matrix or the model."""

    density: float

    def __post_init__(self) -> None:
        _check_density(self.density)

    def __str__(self) -> str:
        return f"unstructured {self.density:g}"


def _check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise UserError(f"density {density:g}: needs 0 < density <= 1 (the share of weights kept)")


Structure = Pattern | FanIn | Unstructured
