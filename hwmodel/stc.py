"""The sparse tensor cores of the Sparseloop artefact (arXiv 2205.05826), from the shape of a product by its mapping.

One product [m, k] @ [k, n] of 8-bit words runs on 1,024 multiply-adds. The weights A stay in the shared buffer as a
whole, the activations B pass through it in column tiles as wide as fit (128 or fewer). Each level counts its words:

shared buffer   A: kept words once a column tile;  B: every word once each 64 rows of A
registers       one accumulation for 16 multiply-adds, less a read and plus a write for each result
latches         one word of A for each multiply-add, plus the fills
main memory     A, B and the result once

cycles = max(executed multiply-adds / 1024, (A + A's metadata + B + B's metadata) / 42 words)

The energy of each access is that of the artefact's table (45 nm), given here once a level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from hwmodel.errors import unknown

MACS_PER_CYCLE = 1024
BUFFER_WORDS_PER_CYCLE = 42
BUFFER_BYTES = 256 * 1024
ROW_BYTES = 64
COLUMN_TILE, MINIMUM_TILE = 128, 64
ROW_TILE = 64
MACS_PER_ACCUMULATION = 16

LATCH_PJ = 0.072
REGISTER_READ_PJ, REGISTER_WRITE_PJ = 1.65889, 1.67589
METADATA_READ_PJ, METADATA_WRITE_PJ = 25.8695, 19.6486  # a row of 64 bits
MEMORY_PJ_PER_WORD = 64.0


@dataclass(frozen=True)
class Design:
    """One design: the densities that it runs with their metadata bits for a kept weight, and its energies.

    `steps` maps a density to (multiple of k to which it is padded, bits). `mac_pj` is one multiply-add, `row_read_pj`
    and `row_write_pj` one 64-byte row of the shared buffer. `compresses_b` stores the activations with a bitmask.
    """

    name: str
    steps: dict[Fraction, tuple[int, int]]
    mac_pj: float = 0.5608
    row_read_pj: float = 285.71464
    row_write_pj: float = 316.96744
    buffer_bytes: float = BUFFER_BYTES
    compresses_b: bool = False

    def runs(self, density: float) -> Fraction:
        """The smallest density among its steps that holds a weight density; 1 where none does."""
        return min((step for step in self.steps if step >= density - 1e-3), default=Fraction(1))


_TWO_OF_FOUR = {Fraction(1, 2): (16, 2)}
_STC = Design("STC", _TWO_OF_FOUR)
_FLEXIBLE = Design("STC_flexible", _TWO_OF_FOUR | {Fraction(1, 3): (48, 4), Fraction(1, 4): (16, 4)})
_RUNS = replace(
    _FLEXIBLE, name="STC_flexible-RLE", steps=_TWO_OF_FOUR | {Fraction(1, 3): (48, 2), Fraction(1, 4): (16, 4)}
)
DESIGNS = {
    design.name: design
    for design in (
        Design("TC", {}, mac_pj=0.446880, row_read_pj=920.0, row_write_pj=1020.0, buffer_bytes=math.inf),
        _STC,
        _FLEXIBLE,
        _RUNS,
        replace(_RUNS, name="STC_flexible_dualCompress-RLE", compresses_b=True),
    )
}
"""TC's buffer is larger; its row energies are inferred from two published totals, all others are the artefact's."""


class _Rows(NamedTuple):
    """Rows of the shared buffer read and written."""

    read: Any
    written: Any


@dataclass(frozen=True)
class Run:
    """Products on one design: cycles, words read of each operand and energy by level; numbers or arrays of them.

    `mac_cycles` and `buffer_cycles` are those that the multiply-adds and the words of the shared buffer take.
    """

    mac_cycles: Any
    buffer_cycles: Any
    macs: Any
    buffer_a_words: Any
    buffer_b_words: Any
    memory_words: Any
    level_j: dict[str, Any]

    @property
    def cycles(self) -> Any:
        """Cycles of the slower of both."""
        return np.maximum(self.mac_cycles, self.buffer_cycles)

    @property
    def joules(self) -> Any:
        """Energy of all levels."""
        return sum(self.level_j.values())


def run(design: str, m: Any, k: Any, n: Any, weight_density: float, activation_density: float = 1.0) -> Run:  # noqa: PLR0917 (the columns of the reference table)
    """The product [m, k] @ [k, n] on a design, weights at the sparsest of its steps that holds their density.

    A step pads k to its multiple; where that is slower than all multiply-adds, the weights run dense.
    `activation_density` matters only where the activations are compressed. Sizes are numbers or arrays alike.
    """
    if design not in DESIGNS:
        raise unknown("design", design, DESIGNS)
    core = DESIGNS[design]
    sizes = np.broadcast_arrays(*(np.asarray(size, dtype=float) for size in (m, k, n)))
    flat, shape = [size.ravel() for size in sizes], sizes[0].shape
    step = core.runs(weight_density)
    blocks, cycles = _stepped(core, flat, step, activation_density)
    if step != 1:
        dense, cycles_dense = _stepped(core, flat, Fraction(1), activation_density)
        blocks = _Blocks(*(np.where(cycles <= cycles_dense, *pair) for pair in zip(blocks, dense, strict=True)))
    shaped = (np.broadcast_to(part, flat[0].shape).reshape(shape) for part in blocks)
    return _count(core, _Blocks(*shaped), activation_density)


class _Blocks(NamedTuple):
    """Equal blocks [m, k] of weights, `count` of them, that meet all n columns, at a density with its metadata bits."""

    m: Any
    k: Any
    n: Any
    count: Any
    density: Any
    bits: Any


def _stepped(core: Design, sizes: Sequence[Any], step: Fraction, activation_density: float) -> tuple[_Blocks, Any]:
    """Blocks and cycles of the products with weights at a step, k padded to its multiple.

    A product is halved along m, then along k, until the weights of a block and a column tile fit the buffer, and once
    more where they leave room for a narrow column tile alone and that takes fewer cycles.
    """
    multiple, bits = core.steps.get(step, (1, 0))
    k, n = np.ceil(sizes[1] / multiple) * multiple, sizes[2]
    m, count = _fewer_rows(core, sizes[0], k, float(step))
    best = _Blocks(m.copy(), k.copy(), n, count.copy(), float(step), bits)
    fewest = np.full_like(m, np.inf)
    here, left = best, np.arange(len(m))
    while len(left):
        weights = here.m * here.k * here.density
        too_large = (weights + here.k * MINIMUM_TILE > core.buffer_bytes) & (here.k > COLUMN_TILE)
        needed = _words(core, here, activation_density)
        cycles = np.where(too_large, np.inf, np.maximum(needed.mac_cycles, needed.buffer_cycles))
        better = cycles < fewest[left]
        for kept, new in zip((best.m, best.k, best.count, fewest), (here.m, here.k, here.count, cycles), strict=True):
            kept[left[better]] = new[better]
        again = too_large | (_column_tile(core, weights, here.k) < np.minimum(here.n, COLUMN_TILE))
        left, (m, k, n, count) = left[again], (sizes[again] for sizes in here[:4])
        tall = m > ROW_TILE
        m, k = np.where(tall, np.ceil(m / 2), m), np.where(tall, k, np.ceil(k / 2))
        here = here._replace(m=m, k=k, n=n, count=2 * count)
    return best, fewest


def _fewer_rows(core: Design, m: Any, k: Any, density: float) -> tuple[Any, Any]:
    """The rows and the blocks after as many halvings along m as leave weights too large at all events."""
    room = np.maximum(core.buffer_bytes - MINIMUM_TILE * k, 1.0) / (k * density)
    halvings = np.minimum(_halvings(m / ROW_TILE), _halvings(m / room) - 1)  # less one, which rounding may have added
    count = np.ldexp(1.0, np.where(k > COLUMN_TILE, np.maximum(halvings, 0), 0))
    return np.ceil(m / count), count


def _halvings(times: Any) -> Any:
    """The fewest halvings that make a positive number at most 1; 0 or less where it is."""
    fraction, exponent = np.frexp(times)
    return np.where(fraction == 0.5, exponent - 1, exponent)


class _Words(NamedTuple):
    """Words that one block reads from the shared buffer, and the cycles that all of them take."""

    a: Any
    b: Any
    mac_cycles: Any
    buffer_cycles: Any


def _words(core: Design, blocks: _Blocks, activation_density: float) -> _Words:
    m, k, n, count, density, bits = blocks
    weights = m * k * density
    a = weights * np.maximum(1.0, n / _column_tile(core, weights, k))
    b = k * n * np.maximum(1.0, m / ROW_TILE)
    b_density, b_bits = (activation_density, 1) if core.compresses_b else (1.0, 0)
    words = a * (1 + bits / 8) + b * (b_density + b_bits / 8)
    rates = (weights * n / MACS_PER_CYCLE, words / BUFFER_WORDS_PER_CYCLE)
    return _Words(a, b, *(np.ceil(cycles - 1e-6) * count for cycles in rates))


def _count(core: Design, blocks: _Blocks, activation_density: float) -> Run:
    """Words and energy at every level of all blocks together."""
    m, k, n, count, density, bits = blocks
    a, b, mac_cycles, buffer_cycles = _words(core, blocks, activation_density)
    weights, inputs, macs = m * k * density, k * n, m * k * n * density
    b_density, b_bits = (activation_density, 1) if core.compresses_b else (1.0, 0)
    memory = weights + inputs * b_density + m * n
    metadata = _Rows((a * bits + b * b_bits) / 64, (weights * bits + inputs * b_bits) / 64)
    rows = _Rows((a + b * b_density) / ROW_BYTES, (weights + inputs * b_density) / ROW_BYTES)
    levels = _energy(core, (macs, a, bits, m * n), rows, metadata) | {"memory": memory * MEMORY_PJ_PER_WORD}
    joules = {level: count * pj * 1e-12 for level, pj in levels.items()}
    read = (count * a, count * b * b_density)
    return Run(mac_cycles, buffer_cycles, count * macs, *read, count * memory, joules)


def _column_tile(core: Design, weights: Any, k: Any) -> Any:
    """The widest column tile of B, halved from 128, that fits into the buffer beside the weights; at least 1."""
    room = np.floor(np.maximum(1.0, (core.buffer_bytes - weights) / k))
    return np.minimum(COLUMN_TILE, np.ldexp(0.5, np.frexp(np.minimum(room, COLUMN_TILE))[1]))


def _energy(core: Design, work: tuple[Any, Any, Any, Any], rows: _Rows, metadata: _Rows) -> dict[str, Any]:
    """Energy by level in pJ of (multiply-adds, words of A, metadata bits, results) and rows of the shared buffer."""
    macs, a, bits, results = work
    accumulations = macs / MACS_PER_ACCUMULATION
    reads, writes = accumulations - results, accumulations + results
    return {
        "mac": macs * core.mac_pj,
        "latch": (macs + a) * LATCH_PJ * (1 + bits / 8),
        "register": reads * REGISTER_READ_PJ + writes * REGISTER_WRITE_PJ,
        "buffer": rows.read * core.row_read_pj
        + rows.written * core.row_write_pj
        + metadata.read * METADATA_READ_PJ
        + metadata.written * METADATA_WRITE_PJ,
    }
