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
from nmsim.kernels.scratch import aligned, recycled
from nmsim.kernels.threads import split

# Bytes of a panel's reduction chunk: two thirds of the 2 MiB of scratch that a thread may use at the widest tile.
PANEL_BYTES = 3 << 19
WIDEST_TILE_BYTES = 512
OUTPUT_BYTES = 1 << 18
FEW_OUTPUT_BYTES = 1 << 16
AVX2 = 32
# So few tokens need no wider vectors, and a panel of half the size leaves room for longer lists.
FEWEST_LANES = 8
# More lists together need more addresses than a processor has registers.
MOST_LISTS = 8
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
    """Lists of equal length, one for each of `lines`; block b of chunk c has slots cuts[c, b] to cuts[c, b + 1] of it.

    The lists of a block follow each other in sets that run together (`layout.slot_of`), so that a product reads one
    stream.
    """

    blocks: Blocks
    places: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    cuts: np.ndarray
    lines: int


class DotLists(NamedTuple):
    """The places of a matrix by line, `stride` in each; blocks as in `EvenLists`, each of `block` rows of the panel."""

    blocks: Blocks
    places: np.ndarray
    cuts: np.ndarray
    stride: int
    block: int


class UnevenLists(NamedTuple):
    """Lists by column, in sets (first slot, length, place in `targets`, lists) between `bounds`."""

    blocks: Blocks
    places: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    bounds: np.ndarray
    sets: np.ndarray


def tile_for(tokens: int, widest: int, itemsize: int) -> Tile:
    """The tile for a number of tokens: at most `widest` vectors, in number and lanes no wider than the tokens fill."""
    width = host.vector_bytes() // itemsize
    if tokens <= FEWEST_LANES:
        width = min(width, FEWEST_LANES)
    vectors = max(v for v in (1, 2, 4, 8) if v == 1 or (v <= widest and (v - 1) * width < tokens))
    return Tile(min(max(host.least_lists(), host.accumulators() // vectors), MOST_LISTS), vectors, width)


def widest_tile(density: float) -> int:
    """Vectors of a full tile: fewer for short lists, which grow longer when a block has more rows.

    docs/kernels.md has the measurements behind this table and the next two.
    """
    wide, narrow = (0.2, 0.1) if host.vector_bytes() == AVX2 else (0.3, 0.05)
    return 8 if density > wide else 4 if density > narrow else 2


def _cache_share(density: float, tile: Tile) -> float:
    """Share of the first cache that a block of lists takes: the sparser, the more rows it takes to make lists long.

    Rows beyond the cache come from the second one. With one vector, weights stream through the cache as fast as the
    panel is read, and need room there.
    """
    if tile.vectors == 1:
        return 0.4
    if host.vector_bytes() == AVX2:
        return 0.75 if density > 0.1 else 1.5
    return 0.75 if density > 0.2 else 1.0


def widest_dots(density: float) -> int:
    """Vectors of a full tile of dots."""
    return 8 if density > (0.1 if host.vector_bytes() == AVX2 else 0.2) else 4


def _dots_cache_share(density: float) -> float:
    """The same as `_cache_share` for a block of dots, which is then cut to whole turns."""
    return 1.0 if density > 0.2 else 1.5 if density > 0.1 else 4.0


def _output_bytes(tile: Tile) -> int:
    """Bytes of a block of sums: in the second cache, and of few tokens small enough for some blocks a thread."""
    return OUTPUT_BYTES if tile.vectors > 1 else FEW_OUTPUT_BYTES


def _blocks(c: NMMatrix, inner: int, tile: Tile, block: int, output_bytes: int) -> Blocks:
    m = c.pattern.m
    depth = PANEL_BYTES // WIDEST_TILE_BYTES // m * m
    height = max(m, output_bytes // (tile.tokens * c.dtype.itemsize) // m * m)
    chunks = max(1, -(-inner // depth))
    return Blocks(chunks, max(1, -(-min(depth, inner) // block)), depth, height)


def _block_rows(c: NMMatrix, share: float, tile: Tile, m: int) -> int:
    return max(m, int(host.first_cache_bytes() * share) // (tile.tokens * c.dtype.itemsize) // m * m)


def even_lists(c: NMMatrix, tile: Tile) -> EvenLists:
    """Lists by line of `c`, to be summed along its groups."""
    block, lines = _block_rows(c, _cache_share(c.pattern.density, tile), tile, c.pattern.m), c.values.shape[0]
    blocks = _blocks(c, c.shape[c.axis], tile, block, _output_bytes(tile))
    cuts = _cuts(c, blocks, block)
    ends = np.append(cuts[:, :-1].ravel(), cuts[-1, -1])
    key, sizes = ("blocks", block, blocks.depth, tile.rows, blocks.height), (ends, tile.rows, blocks.height)
    places = _once(c.index_layouts, key, lambda: _in_sets(_panel_rows(c, blocks.depth), *sizes))
    values = _once(c.value_layouts, key, lambda: _in_sets(_by_line(c.values), *sizes))
    return EvenLists(blocks, places, values, np.arange(blocks.height, dtype=np.int32), cuts, lines)


def dot_lists(c: NMMatrix, tile: Tile) -> DotLists:
    """Lists by line of `c`, of places to be computed; long enough that their sums over lanes are shared."""
    m, n = c.pattern.m, c.pattern.n
    turn = m * -(-tile.width // n)
    block = _block_rows(c, _dots_cache_share(c.pattern.density), tile, turn)
    blocks = _blocks(c, c.shape[c.axis], tile, block, OUTPUT_BYTES // 4)
    places = _panel_rows(c, blocks.depth).reshape(-1)
    return DotLists(blocks, places, _cuts(c, blocks, block), c.values.shape[1] * n, block)


def _cuts(c: NMMatrix, blocks: Blocks, block: int) -> np.ndarray:
    """The first slot of each block of a line, and behind it the end of the last, by chunks."""
    m, n = c.pattern.m, c.pattern.n
    firsts = np.arange(blocks.chunks)[:, None] * blocks.depth
    ends = np.minimum(firsts + np.arange(blocks.chunk_blocks + 1) * block, firsts + blocks.depth)
    cuts: np.ndarray = np.minimum(-(-ends // m), c.values.shape[1]) * n
    return cuts


def _panel_rows(c: NMMatrix, depth: int) -> np.ndarray:
    def build() -> np.ndarray:
        lines, groups, n = c.values.shape
        index = recycled((lines, groups * n), np.uint16)
        split(lambda lo, hi: layout.panel_rows(index, c.indices, c.pattern.m, depth, lo, hi), lines, 16)
        return _frozen(index)

    rows: np.ndarray = _once(c.index_layouts, ("rows", depth), build)
    return rows


def _by_line(slots: np.ndarray) -> np.ndarray:
    """The slots of a line side by side, whatever groups they are in."""
    lines, groups, n = slots.shape
    return slots.reshape(lines, groups * n)


def _in_sets(slots: np.ndarray, ends: np.ndarray, rows: int, height: int) -> np.ndarray:
    """The slots of all lines, [lines, slots], block by block and set by set."""
    out: np.ndarray = recycled((slots.size,), slots.dtype)
    split(lambda lo, hi: layout.block_lists(out, slots, ends, rows, height, lo, hi), len(slots), 16)
    return _frozen(out)


def uneven_lists(c: NMMatrix, tile: Tile) -> UnevenLists:
    """Lists by column of `c`, to be summed along its lines."""
    block = _block_rows(c, _cache_share(c.pattern.density, tile), tile, 1)
    blocks = _blocks(c, c.shape[1 - c.axis], tile, block, _output_bytes(tile))
    key = "lists", tile.rows, block, blocks
    cut = _once(c.index_layouts, key, lambda: _cut_sets(c, tile.rows, block, blocks))
    values, places = _once(c.value_layouts, key, lambda: _fill_lists(c, block, blocks, cut))
    return UnevenLists(blocks, places, values, *cut)


def _cut_sets(c: NMMatrix, rows: int, lines: int, blocks: Blocks) -> tuple[np.ndarray, ...]:
    groups, m = c.values.shape[1], c.pattern.m
    highs = max(1, -(-groups * m // blocks.height))
    cells = blocks.chunks * blocks.chunk_blocks
    bounds = np.zeros((highs, blocks.chunks, blocks.chunk_blocks + 1), np.int64)
    targets = np.zeros(cells * groups * m, np.int32)
    sets = np.zeros((cells * (groups * m // rows + highs * rows), 4), np.int32)
    scratch = tuple(np.empty(size, np.int64) for size in (blocks.height, lines + 2, blocks.height))
    layout.place_lists(bounds, sets, targets, c.indices, m, rows, lines, blocks.depth, blocks.height, scratch)
    return tuple(_frozen(part) for part in (targets, bounds, sets[: bounds.max(initial=0)].copy()))


def _fill_lists(c: NMMatrix, lines: int, blocks: Blocks, cut: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The weights and the panel rows of all lists, in one pass: finding a weight's place is what takes the time."""
    targets, bounds, sets = cut
    size = int(sets[-1, 0] + sets[-1, 1] * sets[-1, 3]) if sets.size else 0
    values, places = recycled((size,), c.dtype), recycled((size,), np.uint16)
    given = bounds, sets, targets, c.values, c.indices, c.pattern.m, lines, blocks.depth, blocks.height
    split(lambda lo, hi: layout.fill_lists(values, places, *given, lo, hi), bounds[..., 1:].size, 1)
    return _frozen(values), _frozen(places)


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
    width, tables = host.vector_bytes() // c.dtype.itemsize, window_tables(c)
    built: Windows = _once(c.value_layouts, ("windows", width, tables), lambda: _build_windows(c, width, tables))
    return built


def _build_windows(c: NMMatrix, width: int, tables: int) -> Windows:
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
