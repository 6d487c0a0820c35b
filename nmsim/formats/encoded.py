"""What one encoding makes of one matrix, and the register of encodings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern


@dataclass(frozen=True)
class Encoded:
    """The arrays of one encoded matrix by suffix, and what they don't say about themselves (JSON, in the metadata)."""

    parts: dict[str, np.ndarray]
    info: dict[str, Any] = field(default_factory=dict)

    def part(self, suffix: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """A part whose dtype and shape must be these. Raises `UserError` otherwise."""
        array = self.parts[suffix]
        if array.dtype.name != dtype or array.shape != shape:
            found = f"{array.dtype.name} {list(array.shape)}"
            raise UserError(f"{suffix} is {found}; the other parts need {dtype} {list(shape)}")
        return array


@dataclass(frozen=True)
class Codec:
    """One encoding: `encode(w, pattern)` of a matrix [rows, cols] with groups along its rows, and back, bit for bit.

    `encode` raises `UserError` with row and group for a matrix that the format can't hold, `decode` for parts that no
    matrix has.
    """

    name: str
    suffixes: tuple[str, ...]
    values: str  # the suffix that holds the weights, in their dtype
    encode: Callable[[np.ndarray, Pattern], Encoded]
    decode: Callable[[Encoded], np.ndarray]
    shape: Callable[[Encoded], tuple[int, int]]
    text: str
    takes_pattern: bool = False  # whether what is stored depends on the pattern asked for


def too_full(group: int, groups: int, count: int, pattern: Pattern) -> UserError:
    """The error for flat index `group` of a matrix with `groups` a row that holds `count` values, too many."""
    row, inner = divmod(group, groups)
    return UserError(
        f"row {row}, group {inner}: {count} of {pattern.m} weights are not zero; {pattern} keeps {pattern.n}"
    )
