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
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

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

    read: float
    written: float


@dataclass(frozen=True)
class Run:
    """One product on one design: cycles, words read of each operand and energy by level."""

    cycles: int
    macs: float
    buffer_a_words: float
    buffer_b_words: float
    memory_words: float
    level_j: dict[str, float]

    @property
    def joules(self) -> float:
        """Energy of all levels."""
        return sum(self.level_j.values())


def run(design: str, m: int, k: int, n: int, weight_density: float, activation_density: float = 1.0) -> Run:  # noqa: PLR0917 (the columns of the reference table)
    """The product [m, k] @ [k, n] on a design, weights at a density that one of its steps holds, else dense.

    `activation_density` matters only where the activations are compressed.
    """
    if design not in DESIGNS:
        raise unknown("design", design, DESIGNS)
    core = DESIGNS[design]
    step = core.runs(weight_density)
    multiple, bits = core.steps.get(step, (1, 0))
    return _blocked(core, (m, -(-k // multiple) * multiple, n), float(step), bits, activation_density)


def _blocked(core: Design, shape: tuple[int, int, int], density: float, bits: int, activation_density: float) -> Run:
    """The product in halves along m, then along k, until the weights of a block and a column tile fit the buffer.

    Weights that leave room for a narrow column tile alone are halved once more where that takes fewer cycles.
    """
    m, k, n = shape
    half = (-(-m // 2), k, n) if m > ROW_TILE else (m, -(-k // 2), n)
    if m * k * density + k * MINIMUM_TILE > core.buffer_bytes and k > COLUMN_TILE:
        return _twice(_blocked(core, half, density, bits, activation_density))
    whole = _count(core, shape, density, bits, activation_density)
    if _column_tile(core, m * k * density, k) >= min(n, COLUMN_TILE):
        return whole
    return min(whole, _twice(_blocked(core, half, density, bits, activation_density)), key=lambda made: made.cycles)


def _twice(made: Run) -> Run:
    levels = {level: 2 * joules for level, joules in made.level_j.items()}
    words = (2 * made.buffer_a_words, 2 * made.buffer_b_words, 2 * made.memory_words)
    return Run(2 * made.cycles, 2 * made.macs, *words, levels)


def _count(core: Design, shape: tuple[int, int, int], density: float, bits: int, activation_density: float) -> Run:
    m, k, n = shape
    weights, inputs = m * k * density, k * n
    tile = _column_tile(core, weights, k)
    a, b = weights * max(1, n / tile), inputs * max(1, m / ROW_TILE)
    b_density, b_bits = (activation_density, 1) if core.compresses_b else (1.0, 0)
    macs = m * k * n * density
    words = a + a * bits / 8 + b * b_density + b * b_bits / 8
    cycles = math.ceil(max(macs / MACS_PER_CYCLE, words / BUFFER_WORDS_PER_CYCLE) - 1e-6)
    memory = weights + inputs * b_density + m * n
    metadata = _Rows((a * bits + b * b_bits) / 64, (weights * bits + inputs * b_bits) / 64)
    rows = _Rows((a + b * b_density) / ROW_BYTES, (weights + inputs * b_density) / ROW_BYTES)
    levels = _energy(core, (macs, a, bits, m * n), rows, metadata) | {"memory": memory * MEMORY_PJ_PER_WORD}
    return Run(cycles, macs, a, b * b_density, memory, {level: pj * 1e-12 for level, pj in levels.items()})


def _column_tile(core: Design, weights: float, k: int) -> int:
    """The widest column tile of B, halved from 128, that fits into the buffer beside the weights."""
    tile = COLUMN_TILE
    while tile > 1 and weights + k * tile > core.buffer_bytes:
        tile //= 2
    return tile


def _energy(core: Design, work: tuple[float, float, int, float], rows: _Rows, metadata: _Rows) -> dict[str, float]:
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
