"""Compressed N:M matrices: the kept weights and their positions, and the way there and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern


@dataclass(frozen=True, eq=False)
class NMMatrix:
    """A matrix of `shape` that keeps at most n of every m consecutive weights along `axis` (1: in rows, 0: in columns).

    `values[r, g, s]` is the weight in slot s of group g of line r (a row when axis is 1, a column when it is 0), at
    position g * m + `indices[r, g, s]` of that line. Positions ascend; index m marks a padding slot, of a group that
    keeps fewer than n, so that padding and a live zero differ. The last group of a line may be shorter than m.
    Arrays are made read-only. Raises `UserError` for arrays that do not describe such a matrix.
    """

    values: Float[np.ndarray, "lines groups n"]
    indices: UInt[np.ndarray, "lines groups n"]
    pattern: Pattern
    shape: tuple[int, int]
    axis: int = 1
    index_layouts: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    value_layouts: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axis", self.axis % 2)
        _check(self)
        for name in ("values", "indices"):
            frozen = np.array(getattr(self, name), order="C")
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of values and indices."""
        return self.values.nbytes + self.indices.nbytes

    @cached_property
    def is_full(self) -> bool:
        """Whether no slot is padding."""
        return bool((self.indices < self.pattern.m).all())

    @property
    def kept(self) -> Bool[np.ndarray, "lines groups n"]:
        """Which slots hold a weight; the others are padding."""
        return self.indices < self.pattern.m

    @property
    def mask(self) -> Bool[np.ndarray, "rows cols"]:
        """The kept positions of the whole matrix."""
        return (
            decompress(NMMatrix(self.kept.astype(np.float32), self.indices, self.pattern, self.shape, self.axis)) != 0
        )


def compress(
    w: Float[np.ndarray, "rows cols"], mask: Bool[np.ndarray, "rows cols"], pattern: Pattern, axis: int = -1
) -> NMMatrix:
    """The weights of `w` where `mask` keeps them. `decompress` gives back np.where(mask, w, 0) bit for bit.

    Raises `UserError` where a group keeps more than n.
    """
    lines, kept = (np.moveaxis(np.asarray(a), axis, -1) for a in (w, mask))
    if lines.shape != kept.shape:
        raise UserError(f"weight {np.shape(w)} and mask {np.shape(mask)} differ in shape; give one mask value a weight")
    pad = -lines.shape[1] % pattern.m
    grouped = np.pad(kept, ((0, 0), (0, pad))).reshape(lines.shape[0], -1, pattern.m)
    _check_counts(grouped.sum(axis=-1), pattern)
    order = np.argsort(~grouped, axis=-1, kind="stable")[..., : pattern.n]
    live = np.take_along_axis(grouped, order, axis=-1)
    values = np.take_along_axis(np.pad(lines, ((0, 0), (0, pad))).reshape(grouped.shape), order, axis=-1)
    indices = np.where(live, order, pattern.m).astype(np.min_scalar_type(pattern.m))
    return NMMatrix(np.where(live, values, 0).astype(w.dtype), indices, pattern, (w.shape[0], w.shape[1]), axis % 2)


def decompress(c: NMMatrix) -> Float[np.ndarray, "rows cols"]:
    """The matrix with zeros where nothing is kept."""
    m, length = c.pattern.m, c.shape[c.axis]
    lines, groups, _ = c.values.shape
    wide = np.zeros((lines, groups, m + 1), c.dtype)
    np.put_along_axis(wide, c.indices.astype(np.intp), c.values, axis=-1)
    dense = wide[..., :m].reshape(lines, groups * m)[:, :length]
    return np.ascontiguousarray(np.moveaxis(dense, -1, c.axis))


def _check_counts(counts: np.ndarray, pattern: Pattern) -> None:
    if (counts > pattern.n).any():
        row, group = (int(i) for i in np.argwhere(counts > pattern.n)[0])
        raise UserError(
            f"row {row}, group {group} keeps {counts[row, group]} of {pattern.m}; the pattern {pattern} keeps at most {pattern.n}"
        )


def _check(c: NMMatrix) -> None:
    """Refuse arrays that are no N:M matrix, naming the row and group, so that no kernel can read outside later."""
    m, n = c.pattern.m, c.pattern.n
    expected = (c.shape[1 - c.axis], -(-c.shape[c.axis] // m), n)
    if c.values.shape != expected or c.indices.shape != expected:
        raise UserError(
            f"values {c.values.shape} and indices {c.indices.shape}; a {c.pattern} matrix {c.shape} with groups along axis {c.axis} needs {expected}"
        )
    if c.values.dtype not in (np.float32, np.float64):
        raise UserError(f"values are {c.values.dtype}; give float32 or float64")
    if c.indices.dtype != np.min_scalar_type(m):
        raise UserError(
            f"indices are {c.indices.dtype}; {c.pattern} needs {np.min_scalar_type(m)}, the smallest that holds m"
        )
    _check_indices(c)


def _check_indices(c: NMMatrix) -> None:
    m, length = c.pattern.m, c.shape[c.axis]
    kept = c.indices < m
    limit = np.minimum(m, length - m * np.arange(c.indices.shape[1]))[:, None]
    bad = (c.indices > m) | (kept & (c.indices >= limit))
    bad[..., 1:] |= (c.indices[..., 1:] <= c.indices[..., :-1]) & ~(c.indices[..., 1:] == m)
    if bad.any():
        row, group, slot = (int(i) for i in np.argwhere(bad)[0])
        raise UserError(
            f"row {row}, group {group}: index {c.indices[row, group, slot]} in slot {slot} is out of range or not ascending; "
            f"positions of {c.pattern} ascend below {m}, and {m} marks padding at the end"
        )
