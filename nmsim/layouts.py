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
from nmsim.kernels.threads import split

# Bytes of a panel's reduction chunk: two thirds of the 2 MiB of scratch that a thread may use at the widest tile.
PANEL_BYTES = 3 << 19
WIDEST_TILE_BYTES = 512
OUTPUT_BYTES = 1 << 16
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
    index: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    cuts: np.ndarray
    stride: int


class UnevenLists(NamedTuple):
    """Lists by column, in sets (first slot, length, place in `targets`, lists) between `bounds`."""

    blocks: Blocks
    index: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    bounds: np.ndarray
    sets: np.ndarray


def tile_for(tokens: int, density: float, itemsize: int, vector_bytes: int) -> Tile:
    """The tile for a number of tokens and a density, from a static table: sparser lists want a narrower panel.

    A narrow tile leaves room for more rows of the reduction in the first cache, so that lists stay long.
    """
    width = vector_bytes // itemsize
    widest = 8 if density > 0.3 else 4 if density > 0.08 else 2
    vectors = max(v for v in (1, 2, 4, 8) if v <= widest and (v == 1 or (v - 1) * width < tokens))
    return Tile(host.accumulators(vector_bytes) // vectors, vectors, width)


def _blocks(inner: int, tile: Tile, itemsize: int, m: int, block: int) -> Blocks:
    depth = PANEL_BYTES // WIDEST_TILE_BYTES // m * m
    height = max(m, OUTPUT_BYTES // (tile.tokens * itemsize) // m * m)
    chunks = max(1, -(-inner // depth))
    return Blocks(chunks, max(1, -(-min(depth, inner) // block)), depth, height)


def _block_rows(tile: Tile, itemsize: int, m: int, slots: float = 1) -> int:
    """Rows of a block: what three quarters of the first cache hold, and at least `slots` kept weights of each list."""
    fitting = host.first_cache_bytes() * 3 // 4 // (tile.tokens * itemsize)
    return max(m, max(fitting, round(slots)) // m * m)


def even_lists(c: NMMatrix, tile: Tile, slots: int = 0) -> EvenLists:
    """Lists by line of `c`, to be summed along its groups; at least `slots` weights a list where the matrix has them."""
    m, n = c.pattern.m, c.pattern.n
    itemsize = c.dtype.itemsize
    block = _block_rows(tile, itemsize, m, slots * m / n)
    blocks = _blocks(c.shape[c.axis], tile, itemsize, m, block)
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

    return _once(c.index_layouts, ("rows", depth), build)


def uneven_lists(c: NMMatrix, tile: Tile) -> UnevenLists:
    """Lists by column of `c`, to be summed along its lines."""
    itemsize = c.dtype.itemsize
    block = _block_rows(tile, itemsize, 1)
    blocks = _blocks(c.shape[1 - c.axis], tile, itemsize, c.pattern.m, block)
    parts = _once(
        c.index_layouts, ("lists", tile.rows, block, blocks), lambda: _build_lists(c, tile.rows, block, blocks)
    )
    index, targets, bounds, sets, source = parts
    values = _once(c.value_layouts, ("values", tile.rows, block, blocks), lambda: _gather_values(c, source))
    return UnevenLists(blocks, index, values, targets, bounds, sets)


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
