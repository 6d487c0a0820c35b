"""Which N:M pattern weights already obey."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hwmodel.pattern import DENSE, Pattern
from nmsim.formats.dtypes import look_up
from nmsim.formats.packing import Bits, pack, valued
from nmsim.formats.tensors import BLOCK_BYTES, Source, blocks
from nmsim.kernels import codecs

_NEARLY = 0.95
_NARROWEST = 64  # columns that are taken out of a row-major block together
_PASS_BYTES = 1 << 26  # of rows that hold whole groups of several sizes
LARGEST_M = 64  # a group is looked at as one machine word
# The most bits in any group of a byte, by m and byte; wider groups of a power of two are counted as machine words.
_FULLEST = {
    m: np.array(
        [max((byte >> start & (1 << m) - 1).bit_count() for start in range(0, 8, m)) for byte in range(256)], np.uint8
    )
    for m in (2, 4, 8, 16, 32, 64)
}


@dataclass(frozen=True)
class Found:
    """What a look at one matrix found: its weights that are not zero, and the fullest group of each size.

    `length` is that of the axis along which groups run.
    """

    elements: int
    nonzero: int
    most: dict[int, int]
    length: int

    @property
    def pattern(self) -> Pattern:
        """The sparsest pattern that the matrix obeys with whole groups; of equally sparse ones the smallest m."""
        patterns = [Pattern(max(1, n), m) for m, n in self.most.items() if n < m and self.length % m == 0]
        return min(patterns, key=lambda p: (p.density, p.m), default=DENSE)

    def obeys(self, pattern: Pattern) -> bool:
        """Whether no group holds more than the pattern allows."""
        return pattern.is_dense or self.most.get(pattern.m, pattern.m) <= pattern.n

    def accounts_for(self, asked: Pattern) -> bool:
        """Whether groups along this axis explain the zeros: `asked` holds, or there are too few for it to hold.

        If `asked` is dense, whether nearly every place that the pattern found leaves free is taken.
        """
        if asked.is_dense:
            return self.nonzero >= _NEARLY * self.pattern.density * self.elements
        return self.obeys(asked) or self.nonzero > asked.density * self.elements


def look(source: Source, name: str, axis: int, asked_m: int = 1) -> Found:
    """The fullest groups along `axis` of a matrix, in blocks: of every m up to 64 that divides it, and of `asked_m`.

    Where `asked_m` does not divide the axis, the last group is short. Down the columns, a matrix is read again where a
    block of whole groups of every size would be large.
    """
    spec = source.specs[name]
    sizes = [m for m in range(2, LARGEST_M + 1) if spec.shape[axis] % m == 0 or m == asked_m]
    most: dict[int, int] = {}
    passes = _passes(sizes, spec.row_bytes) if axis == 0 else [sizes]
    nonzero = max(_look_once(source, name, axis, together, most) for together in passes)
    if asked_m > LARGEST_M:
        most[asked_m] = _look_wide(source, name, axis, min(asked_m, spec.shape[axis]))
    return Found(math.prod(spec.shape), nonzero, most, spec.shape[axis])


def _passes(sizes: list[int], row_bytes: int) -> list[list[int]]:
    """Sizes of groups to look at together: rows that hold whole groups of all of them are few bytes."""
    passes: list[list[int]] = [[]]
    for m in sizes:
        if math.lcm(m, *passes[-1]) * row_bytes > _PASS_BYTES and passes[-1]:
            passes.append([])
        passes[-1].append(m)
    return passes


def _look_once(source: Source, name: str, axis: int, sizes: list[int], most: dict[int, int]) -> int:
    """Put the fullest groups of some sizes into `most`; how many weights are not zero, of those that were looked at.

    The first look, while `most` is empty, is at all of them; a later one ends when a group of each size is full.
    """
    alive, fullest, nonzero = np.zeros(LARGEST_M + 1, np.bool_), np.zeros(LARGEST_M + 1, np.int64), 0
    alive[sizes] = True
    for start, stop in blocks(source.specs[name], multiple=math.lcm(*sizes) if axis == 0 else 1):
        if most and not alive.any():
            break
        for strip in _strips(source.rows(name, start, stop), axis):
            kept = valued(strip)
            nonzero += int(np.count_nonzero(kept))
            if alive.any():
                _raise_most(np.ascontiguousarray(kept.T) if axis == 0 else kept, alive, fullest)
    most.update({m: int(fullest[m]) for m in sizes})
    return nonzero


def _look_wide(source: Source, name: str, axis: int, m: int) -> int:
    """The fullest group of a size that no machine word holds."""
    most = 0
    for start, stop in blocks(source.specs[name], multiple=m if axis == 0 else 1):
        for strip in _strips(source.rows(name, start, stop), axis):
            begins = np.arange(0, strip.shape[axis], m)
            most = max(most, int(np.add.reduceat(valued(strip), begins, axis=axis, dtype=np.int64).max(initial=0)))
    return most


def _strips(w: np.ndarray, axis: int) -> Iterator[np.ndarray]:
    """Parts of a block whose whole groups run along `axis`; a block of many rows in a few columns at a time."""
    width = w.shape[1] if axis == 1 else max(_NARROWEST, BLOCK_BYTES // max(1, w.itemsize * w.shape[0]))
    for start in range(0, w.shape[1], width):
        yield w[:, start : start + width]


def _raise_most(kept: np.ndarray, alive: np.ndarray, most: np.ndarray) -> None:
    """Raise most[m] to the fullest group of any line of `kept`, for every m `alive`; full ones are taken out."""
    mask, length, slow = pack(kept), kept.shape[1], alive.copy()
    for m in _FULLEST if length % 8 == 0 else ():
        if alive[m] and length % m == 0:
            most[m] = max(most[m], _fullest(mask, m))
            alive[m], slow[m] = most[m] < m, False
    if slow.any():
        fast = alive & ~slow
        codecs.densest_groups(_words(mask), length, slow, most)
        alive[:] = fast | slow


def _fullest(mask: Bits, m: int) -> int:
    """The most bits in any group of a power of two of bits."""
    counts = look_up(_FULLEST[m], mask) if m <= 8 else np.bitwise_count(mask.view(f"<u{m // 8}"))
    return int(counts.max(initial=0))


def _words(mask: Bits) -> np.ndarray:
    """The rows of a mask as 64-bit words with one word of zeros behind."""
    wide = np.zeros((len(mask), mask.shape[1] // 8 * 8 + 16), np.uint8)
    wide[:, : mask.shape[1]] = mask
    return wide.view("<u8")
