"""Layouts derived from a compressed matrix for the kernels, and the tables by which their sizes are chosen.

A product runs over tiles of `vectors` vectors of tokens. The reduction is cut into chunks of `depth` rows, which a
panel holds, and these into blocks of `block` rows, which stay in the first cache while `height` outputs are computed;
`rows` outputs at a time keep their sums in registers.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from nmsim.compressed import NMMatrix
from nmsim.kernels import host, layout
from nmsim.kernels.scratch import aligned
from nmsim.kernels.threads import split

# Bytes of a panel's reduction chunk: two thirds of the 2 MiB of scratch that a thread may use at the widest tile.
PANEL_BYTES = 3 << 19
WIDEST_TILE_BYTES = 512
OUTPUT_BYTES = 1 << 17
LOCK = threading.RLock()


class Tile(NamedTuple):
    """The compile-time sizes of a product: `rows` lists together against `vectors` vectors of `width` tokens."""

    rows: int
    vectors: int
    width: int

    @property
    def tokens(self) -> int:
        """Tokens side by side in a panel."""
        return self.vectors * self.width


class Blocks(NamedTuple):
    """How a product is cut: chunks of the reduction, blocks in each, rows of a chunk, outputs of a block."""

    chunks: int
    chunk_blocks: int
    depth: int
    height: int


class EvenLists(NamedTuple):
    """Lists of equal length by line; block b of chunk c holds slots cuts[c, b] to cuts[c, b + 1] of every line."""

    blocks: Blocks
    places: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    cuts: np.ndarray
    stride: int


class UnevenLists(NamedTuple):
    """Lists by column, in sets (first slot, length, place in `targets`, lists) between `bounds`."""

    blocks: Blocks
    places: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    bounds: np.ndarray
    sets: np.ndarray


def tile_for(tokens: int, widest: int, itemsize: int) -> Tile:
    """The tile for a number of tokens: at most `widest` vectors, and no wider than the tokens fill."""
    width = host.vector_bytes() // itemsize
    vectors = max(v for v in (1, 2, 4, 8) if v == 1 or (v <= widest and (v - 1) * width < tokens))
    return Tile(host.accumulators() // vectors, vectors, width)


def widest_tile(density: float, *, even: bool) -> int:
    """Vectors of a full tile: 4, but 2 for short uneven lists, which pad less when a block has more rows."""
    return 4 if even or density > 0.1 else 2


def _cache_share(density: float) -> float:
    """Share of the first cache that a block takes: the sparser, the more rows it takes to make lists long.

    Rows beyond the cache come from the second one; docs/kernels.md has the measurement behind the table.
    """
    return 0.75 if density > 0.2 else 1.5 if density > 0.1 else 2.25


def _blocks(c: NMMatrix, inner: int, tile: Tile, block: int, output_bytes: int) -> Blocks:
    m = c.pattern.m
    depth = PANEL_BYTES // WIDEST_TILE_BYTES // m * m
    height = max(m, output_bytes // (tile.tokens * c.dtype.itemsize) // m * m)
    chunks = max(1, -(-inner // depth))
    return Blocks(chunks, max(1, -(-min(depth, inner) // block)), depth, height)


def _block_rows(c: NMMatrix, tile: Tile, m: int) -> int:
    share = _cache_share(c.pattern.density)
    return max(m, int(host.first_cache_bytes() * share) // (tile.tokens * c.dtype.itemsize) // m * m)


def even_lists(c: NMMatrix, tile: Tile) -> EvenLists:
    """Lists by line of `c`, to be summed along its groups."""
    return _even_lists(c, tile, _block_rows(c, tile, c.pattern.m), OUTPUT_BYTES)


def dot_lists(c: NMMatrix, tile: Tile) -> EvenLists:
    """Lists by line of `c`, of places to be computed; long enough that their sums over lanes are shared."""
    m, n = c.pattern.m, c.pattern.n
    return _even_lists(c, tile, max(_block_rows(c, tile, m), tile.width * m // n // m * m), OUTPUT_BYTES // 2)


def _even_lists(c: NMMatrix, tile: Tile, block: int, output_bytes: int) -> EvenLists:
    m, n = c.pattern.m, c.pattern.n
    blocks = _blocks(c, c.shape[c.axis], tile, block, output_bytes)
    groups = c.values.shape[1]
    firsts = np.arange(blocks.chunks)[:, None] * blocks.depth
    ends = np.minimum(firsts + np.arange(blocks.chunk_blocks + 1) * block, firsts + blocks.depth)
    cuts = np.minimum(-(-ends // m), groups) * n
    targets = np.arange(blocks.height, dtype=np.int32)
    return EvenLists(blocks, _panel_rows(c, blocks.depth), c.values.reshape(-1), targets, cuts, groups * n)


def _panel_rows(c: NMMatrix, depth: int) -> np.ndarray:
    def build() -> np.ndarray:
        lines, groups, n = c.values.shape
        index = np.empty((lines, groups * n), np.uint16)
        split(lambda lo, hi: layout.panel_rows(index, c.indices, c.pattern.m, depth, lo, hi), lines, 16)
        return _frozen(index.reshape(-1))

    rows: np.ndarray = _once(c.index_layouts, ("rows", depth), build)
    return rows


def uneven_lists(c: NMMatrix, tile: Tile) -> UnevenLists:
    """Lists by column of `c`, to be summed along its lines."""
    block = _block_rows(c, tile, 1)
    blocks = _blocks(c, c.shape[1 - c.axis], tile, block, OUTPUT_BYTES)
    parts = _once(
        c.index_layouts, ("lists", tile.rows, block, blocks), lambda: _build_lists(c, tile.rows, block, blocks)
    )
    places, targets, bounds, sets, source = parts
    values = _once(c.value_layouts, ("values", tile.rows, block, blocks), lambda: _gather_values(c, source))
    return UnevenLists(blocks, places, values, targets, bounds, sets)


def _build_lists(c: NMMatrix, rows: int, lines: int, blocks: Blocks) -> tuple[np.ndarray, ...]:
    groups, m = c.values.shape[1], c.pattern.m
    highs = max(1, -(-groups * m // blocks.height))
    cells = blocks.chunks * blocks.chunk_blocks
    bounds = np.zeros((highs, blocks.chunks, blocks.chunk_blocks + 1), np.int64)
    targets = np.zeros(cells * groups * m, np.int32)
    sets = np.zeros((cells * (groups * m // rows + highs * rows), 4), np.int32)
    scratch = tuple(np.empty(size, np.int64) for size in (blocks.height, lines + 2, blocks.height, blocks.height))
    index, source = np.empty(0, np.uint16), np.empty(0, np.int32)
    for _ in range(2):
        size = layout.build_lists(
            bounds, sets, targets, source, index, c.indices, m, rows, lines, blocks.depth, blocks.height, scratch
        )
        if source.size < size:
            index, source = np.full(size, blocks.depth, np.uint16), np.full(size, -1, np.int32)
    return tuple(_frozen(part) for part in (index, targets, bounds, sets[: bounds.max(initial=0)].copy(), source))


def _gather_values(c: NMMatrix, source: np.ndarray) -> np.ndarray:
    values, out = c.values.reshape(-1), np.empty(source.size, c.dtype)
    split(lambda lo, hi: layout.gather_values(out, values, source, lo, hi), source.size, 1 << 14)
    return _frozen(out)


class Windows(NamedTuple):
    """Slots of `width` outputs side by side, window of inputs by window; each picks its inputs from `tables` registers.

    `values` and `places` are [blocks of outputs, windows, slots, width].
    """

    values: np.ndarray
    places: np.ndarray
    tables: int


def window_tables(c: NMMatrix) -> int:
    """Registers that hold a window of whole groups of `c`; 0 where groups do not fit, or where a slot is padding.

    A padding slot would multiply some input by zero, which is not nothing when the input is infinite.
    """
    itemsize, m = c.dtype.itemsize, c.pattern.m
    width = host.vector_bytes() // itemsize
    fitting = [k for k in range(1, host.table_registers(itemsize) + 1) if k * width % m == 0]
    return fitting[0] if fitting and c.is_full else 0


def windows(c: NMMatrix) -> Windows:
    """The layout of `c` for a few tokens; `window_tables(c)` must not be 0."""
    built: Windows = _once(c.value_layouts, "windows", lambda: _build_windows(c, window_tables(c)))
    return built


def _build_windows(c: NMMatrix, tables: int) -> Windows:
    width = host.vector_bytes() // c.dtype.itemsize
    lines, groups, n = c.values.shape
    per = tables * width // c.pattern.m
    shape = -(-lines // width), -(-groups // per), per * n, width
    values, index = aligned(shape, c.dtype), np.empty(shape, np.uint8)

    def run(lo: int, hi: int) -> None:
        layout.window_slots(values, index, c.values, c.indices, c.pattern.m, per, width, lo, hi)

    split(run, shape[0], 1)
    return Windows(_frozen(values), _frozen(index), tables)


def _frozen(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


def _once(layouts: dict[Any, Any], key: Any, build: Any) -> Any:
    """The layout under `key`, built by the first thread that asks for it."""
    if key not in layouts:
        with LOCK:
            if key not in layouts:
                layouts[key] = build()
    return layouts[key]
