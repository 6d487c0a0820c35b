"""Compressed N:M matrices: the kept weights and their positions, and the way there and back."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.kernels import select
from nmsim.kernels.scratch import recycled
from nmsim.kernels.threads import split


@dataclass(frozen=True, eq=False)
class NMMatrix:
    """A matrix of `shape` that keeps at most n of every m consecutive weights along `axis` (1: in rows, 0: in columns).

    `values[r, g, s]` is the weight in slot s of group g of line r (a row when axis is 1, a column when it is 0), at
    position g * m + `indices[r, g, s]` of that line. Positions ascend; index m marks a padding slot, of a group that
    keeps fewer than n, so that padding and a live zero differ; its value is made 0. The last group of a line may be
    shorter than m. Both arrays are copied and made read-only. Layouts that products derive are kept with the matrix.
    Raises `UserError`, with the row and group, for arrays that do not describe such a matrix.
    """

    values: Float[np.ndarray, "lines groups n"]
    indices: UInt[np.ndarray, "lines groups n"]
    pattern: Pattern
    shape: tuple[int, int]
    axis: int = 1
    index_layouts: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    value_layouts: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axis", _axis(self.axis))
        _check(self)
        values, indices = np.array(self.values, order="C"), np.array(self.indices, order="C")
        values[indices == self.pattern.m] = 0
        for name, array in (("values", values), ("indices", indices)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of values and indices, without derived layouts."""
        return self.values.nbytes + self.indices.nbytes

    @property
    def layout_bytes(self) -> int:
        """Bytes of the layouts that products have derived so far."""
        layouts = [*self.index_layouts.values(), *self.value_layouts.values()]
        return sum(a.nbytes for kept in layouts for a in (kept if isinstance(kept, tuple) else (kept,)) if _is_array(a))

    @property
    def kept(self) -> Bool[np.ndarray, "lines groups n"]:
        """Which slots hold a weight; the others are padding."""
        kept: np.ndarray = self.indices < self.pattern.m
        return kept

    @cached_property
    def is_full(self) -> bool:
        """Whether no slot is padding, which comes last in its group."""
        return bool((self.indices[..., -1:] < self.pattern.m).all())

    @property
    def mask(self) -> Bool[np.ndarray, "rows cols"]:
        """The kept positions of the whole matrix."""
        mask: np.ndarray = decompress(self.with_values(self.kept.astype(self.dtype))) != 0
        return mask

    def with_values(self, values: Float[np.ndarray, "lines groups n"]) -> NMMatrix:
        """The same kept positions with other values, sharing the layouts of positions; padding must be 0."""
        same = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "value_layouts"}
        return _matrix(**{**same, "values": values})


def _is_array(a: object) -> bool:
    return isinstance(a, np.ndarray)


def _axis(axis: int) -> int:
    if axis not in (-2, -1, 0, 1):
        raise UserError(f"axis {axis} of a matrix; give 0 (groups in columns) or 1 (groups in rows)")
    return axis % 2


def _matrix(**parts: Any) -> NMMatrix:
    """An `NMMatrix` of arrays that are right by construction, neither checked nor copied."""
    c = object.__new__(NMMatrix)
    for name in ("values", "indices"):
        parts[name].flags.writeable = False
    for name, value in {"index_layouts": {}, "value_layouts": {}, **parts}.items():
        object.__setattr__(c, name, value)
    return c


def compress(
    w: Float[np.ndarray, "rows cols"], mask: Bool[np.ndarray, "rows cols"], pattern: Pattern, axis: int = -1
) -> NMMatrix:
    """The weights of `w` where `mask` keeps them. `decompress` gives back np.where(mask, w, 0) bit for bit.

    Raises `UserError` for a group that keeps more than n, a type other than float32 and float64, or shapes that differ.
    """
    w, mask, axis = np.asarray(w), np.asarray(mask), _axis(axis)
    if w.ndim != 2 or w.shape != mask.shape:
        raise UserError(f"weight {w.shape} and mask {mask.shape}; give two matrices of one shape")
    _check_type(w.dtype)
    lines, kept = (w, mask.astype(bool, copy=False)) if axis == 1 else (w.T, mask.T)
    groups = -(-lines.shape[1] // pattern.m)
    values: np.ndarray = recycled((lines.shape[0], groups, pattern.n), w.dtype)
    indices: np.ndarray = recycled(values.shape, np.min_scalar_type(pattern.m))
    crowded = split(lambda lo, hi: select.compress(values, indices, lines, kept, pattern.m, lo, hi), lines.shape[0], 16)
    for place in crowded:
        if place >= 0:
            _refuse_crowded(kept, pattern, *divmod(place, groups))
    return _matrix(values=values, indices=indices, pattern=pattern, shape=(w.shape[0], w.shape[1]), axis=axis)


def decompress(c: NMMatrix) -> Float[np.ndarray, "rows cols"]:
    """The matrix with zeros where nothing is kept."""
    out = np.zeros(c.shape, c.dtype)
    lines = out if c.axis == 1 else out.T
    split(lambda lo, hi: select.decompress(lines, c.values, c.indices, c.pattern.m, lo, hi), lines.shape[0], 16)
    return out


def _refuse_crowded(kept: np.ndarray, pattern: Pattern, row: int, group: int) -> None:
    count = int(kept[row, group * pattern.m : (group + 1) * pattern.m].sum())
    place = f"row {row}, group {group} keeps {count} of {pattern.m}"
    raise UserError(f"{place}; the pattern {pattern} keeps at most {pattern.n}: choose the mask with it")


def _check_type(dtype: np.dtype[Any]) -> None:
    if dtype not in (np.float32, np.float64):
        raise UserError(f"values are {dtype}; give float32 or float64")


def _check(c: NMMatrix) -> None:
    """Refuse arrays that are no N:M matrix, naming the row and group, so that no kernel can read outside later."""
    m = c.pattern.m
    expected = (c.shape[1 - c.axis], -(-c.shape[c.axis] // m), c.pattern.n)
    if c.values.shape != expected or c.indices.shape != expected:
        place = f"values {c.values.shape} and indices {c.indices.shape}"
        raise UserError(f"{place}; a {c.pattern} matrix {c.shape} with groups along axis {c.axis} needs {expected}")
    _check_type(c.values.dtype)
    if c.indices.dtype != np.min_scalar_type(m):
        raise UserError(f"indices are {c.indices.dtype}; {c.pattern} needs {np.min_scalar_type(m)}, which holds m")
    _check_indices(c)


def _check_indices(c: NMMatrix) -> None:
    m, indices = c.pattern.m, c.indices
    room = np.minimum(m, c.shape[c.axis] - m * np.arange(indices.shape[1]))[:, None]
    bad = (indices > m) | ((indices < m) & (indices >= room))
    bad[..., 1:] |= (indices[..., 1:] <= indices[..., :-1]) & (indices[..., 1:] != m)
    if bad.any():
        row, group, slot = (int(i) for i in np.argwhere(bad)[0])
        place = f"row {row}, group {group}: index {indices[row, group, slot]} in slot {slot}"
        raise UserError(f"{place} is out of range or not ascending; give positions that rise, then {m} as padding")
