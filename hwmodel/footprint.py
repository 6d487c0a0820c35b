"""Bytes of a matrix by storage layout.

With E positions in groups of m along an axis, n kept of each, b value bits and i = ceil(log2 m):

dense       E b
index       s (b + i), s the n slots of each group, the last one padded
code        s b + groups ceil(log2 C(m, n)), one number for a group's set of positions
bitmask     kept b + E
csr         kept (b + index_bits) + 32 (lines + 1), a line being a row (or a column where groups run down columns)
ellpack     s (b + index_bits), every line as wide as the widest
vnm         s (b + 2) + 4 i for each V x m block: 2 of 4 selected columns (VENOM, arXiv 2310.02065)
cusparselt  the hardware's 2:4 (1:2 for 32-bit values): 2 (4) bits beside each slot, for any pattern contained in it
units       index as sparse units read it: 4 bits of position for 1:2 of 32-bit values, fewer in a line shorter than m,
            and dense where that is smaller
skipping    the smallest of dense, bitmask and csr: an engine that skips any zero isn't bound to one of them
host        s values and s unsigned integers that can hold m, as `nmsim.compressed.NMMatrix` keeps them in memory
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwmodel.errors import UserError, unknown
from hwmodel.pattern import FanIn, Pattern, Structure, Unstructured
from hwmodel.workload import Operand

POINTER_BITS = 32
SELECTED_COLUMNS = 4  # of m, in V:N:M
HARDWARE_METADATA_BITS = 2  # beside each kept value of 2:4; 1:2 of 32-bit values takes twice as many


@dataclass(frozen=True)
class _Stored:
    """A matrix as `lines` of `length` positions along the grouped axis."""

    lines: Any
    length: Any
    pattern: Structure
    bits: int
    index_bits: int
    v: int

    @property
    def elements(self) -> Any:
        return self.lines * self.length

    @property
    def nm(self) -> Pattern:
        """The structure as N:M: a constant fan-in is one group a line. Raises `UserError` for unstructured masks."""
        if isinstance(self.pattern, FanIn):
            return Pattern(max(1, round(self.pattern.density * self.length)), self.length)
        if isinstance(self.pattern, Unstructured):
            raise UserError(f"{self.pattern}: this layout needs n:m groups; use csr or bitmask")
        return self.pattern

    @property
    def groups(self) -> Any:
        return self.lines * -(-self.length // self.nm.m)

    @property
    def slots(self) -> Any:
        return self.groups * self.nm.n

    @property
    def kept(self) -> Any:
        """Weights that a mask without slack keeps; the last group of a line may be short."""
        if isinstance(self.pattern, Unstructured):
            return np.rint(self.pattern.density * self.elements).astype(np.int64)
        full, rest = divmod(self.length, self.nm.m)
        return self.lines * (full * self.nm.n + np.minimum(self.nm.n, rest))


def matrix_bytes(
    rows: int,
    cols: int,
    pattern: Structure,
    bits: int,
    layout: str,
    *,
    index_bits: int = 32,
    v: int = 1,
    axis: int = -1,
) -> int:
    """Bytes of a matrix [rows, cols] of `bits`-bit values with groups of `pattern` along `axis`, in a `layout`.

    `index_bits` is the width of a position in csr and ellpack, `v` the rows that share columns in vnm. A pattern that
    keeps everything is stored dense by the layouts made for N:M (index, code, vnm, cusparselt).
    Raises `UserError` for an unknown layout, a size below 1, or a pattern that the layout can't hold.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    for name, value in (("rows", rows), ("cols", cols), ("bits", bits), ("index_bits", index_bits), ("v", v)):
        if value < 1:
            raise UserError(f"{name} = {value}: needs at least 1")
    if axis not in (-2, -1, 0, 1):
        raise UserError(f"axis = {axis}: a matrix has axes 0 and 1")
    lines, length = (rows, cols) if axis in (-1, 1) else (cols, rows)
    return int(-(-LAYOUTS[layout](_Stored(lines, length, pattern, bits, index_bits, v)) // 8))


def lines_bytes(lines: Any, length: Any, pattern: Structure, bits: int, layout: str) -> Any:
    """Bytes of `lines` lines of `length` positions in a layout, for plain integers or arrays of them."""
    return -(-LAYOUTS[layout](_Stored(lines, length, pattern, bits, POINTER_BITS, 1)) // 8)


def operand_bytes(operand: Operand) -> int:
    """Bytes that a product reads of an operand: values with positions (index, or csr for unstructured ones)."""
    layout = "csr" if isinstance(operand.structure, Unstructured) else "index"
    return matrix_bytes(operand.rows, operand.cols, operand.structure, operand.bits, layout, axis=operand.axis)


def _dense(m: _Stored) -> Any:
    return m.elements * m.bits


def _index(m: _Stored) -> Any:
    return _dense(m) if m.nm.is_dense else m.slots * (m.bits + m.nm.index_bits)


def _code(m: _Stored) -> Any:
    return _dense(m) if m.nm.is_dense else m.slots * m.bits + m.groups * m.nm.code_bits


def _bitmask(m: _Stored) -> Any:
    return m.kept * m.bits + m.elements


def _csr(m: _Stored) -> Any:
    return m.kept * (m.bits + m.index_bits) + POINTER_BITS * (m.lines + 1)


def _ellpack(m: _Stored) -> Any:
    return m.slots * (m.bits + m.index_bits)


def _vnm(m: _Stored) -> Any:
    if m.nm.is_dense:
        return _dense(m)
    if m.nm.n != 2 or m.nm.m < SELECTED_COLUMNS:
        raise UserError(f"layout vnm: {m.nm} has n = {m.nm.n}; V:N:M keeps 2 of 4 selected columns of every m >= 4")
    blocks = -(-m.lines // m.v) * -(-m.length // m.nm.m)
    return m.slots * (m.bits + HARDWARE_METADATA_BITS) + blocks * SELECTED_COLUMNS * m.nm.index_bits


def _cusparselt(m: _Stored) -> Any:
    if m.nm.is_dense:
        return _dense(m)
    hardware, metadata = (Pattern(1, 2), 4) if m.bits == 32 else (Pattern(2, 4), HARDWARE_METADATA_BITS)
    if not hardware.contains(m.nm):
        raise UserError(f"layout cusparselt: {m.nm} is not contained in the hardware's {hardware}; use index or csr")
    return m.lines * -(-m.length // hardware.m) * hardware.n * (m.bits + metadata)


def _host(m: _Stored) -> Any:
    index = next(width for width in (8, 16, 32, 64) if m.nm.m < 2**width)
    return m.slots * (m.bits + index)


def _units(m: _Stored) -> Any:
    if m.nm.is_dense:
        return _dense(m)
    wide = m.bits == 32 and m.nm == Pattern(1, 2)
    bits = np.array([(places - 1).bit_length() for places in range(1, m.nm.m + 1)])  # by positions in a group
    position = bits[np.minimum(m.length, m.nm.m) - 1] * (2 * HARDWARE_METADATA_BITS if wide else 1)
    return np.minimum(_dense(m), m.slots * (m.bits + position))


def _skipping(m: _Stored) -> Any:
    return np.minimum(np.minimum(_dense(m), _bitmask(m)), _csr(m))


LAYOUTS: dict[str, Callable[[_Stored], Any]] = {
    "dense": _dense,
    "index": _index,
    "code": _code,
    "bitmask": _bitmask,
    "csr": _csr,
    "ellpack": _ellpack,
    "vnm": _vnm,
    "cusparselt": _cusparselt,
    "units": _units,
    "skipping": _skipping,
    "host": _host,
}
