"""Every derived layout holds exactly the kept weights, at their places."""

from __future__ import annotations

import numpy as np
import pytest

from hwmodel.pattern import Pattern
from nmsim import layouts
from nmsim.compressed import compress, decompress
from nmsim.kernels import host
from nmsim.layouts import Tile
from nmsim.masks import topk_mask

TILE = Tile(4, 4, 16)


def matrix(lines, length, pattern, axis, kept=1.0):
    rng = np.random.default_rng(0)
    shape = (lines, length) if axis == 1 else (length, lines)
    w = rng.standard_normal(shape)
    return compress(w, topk_mask(np.abs(w), pattern, axis) & (rng.random(shape) < kept), pattern, axis)


@pytest.fixture(params=[(1, 1.0), (0, 1.0), (1, 0.6), (0, 0.6)], ids=["rows", "columns", "short rows", "short columns"])
def small(request, monkeypatch):
    """A matrix of several blocks and chunks in both directions, as a first cache and a panel of few rows make them."""
    monkeypatch.setattr(host, "first_cache_bytes", lambda: 4096)
    monkeypatch.setattr(layouts, "PANEL_BYTES", 16 * layouts.WIDEST_TILE_BYTES)
    monkeypatch.setattr(layouts, "OUTPUT_BYTES", 8 * TILE.tokens * 8)
    axis, kept = request.param
    return matrix(45, 48, Pattern(2, 4), axis, kept)


def lines_of(c):
    return decompress(c) if c.axis == 1 else decompress(c).T


def slots_of(r, rows, count):
    """Where the slots of list r stand in a set of `rows` lists of `count` slots: by fours in turn, the rest by ones."""
    order = [(r, s) for four in range(count // 4) for r in range(rows) for s in range(4 * four, 4 * four + 4)]
    order += [(r, s) for s in range(count // 4 * 4, count) for r in range(rows)]
    return np.array([order.index((r, s)) for s in range(count)], int)


def set_of(line, lines, rows, height):
    """The lines that run together with `line`: `rows` of them from each multiple of `height` on, the rest alone."""
    start = line // height * height
    end = min(start + height, lines)
    first = start + (line - start) // rows * rows
    return range(first, first + rows) if first + rows <= end else [line]


def test_even_lists_hold_the_kept_weights_by_line(small):
    lists = layouts.even_lists(small, TILE)
    assert lists.blocks.chunks > 1
    found = np.zeros_like(lines_of(small))
    for line in range(found.shape[0]):
        for chunk, block in np.ndindex(lists.blocks.chunks, lists.blocks.chunk_blocks):
            first, last = lists.cuts[chunk, block], lists.cuts[chunk, block + 1]
            together = set_of(line, lists.lines, TILE.rows, lists.blocks.height)
            start = first * lists.lines + together[0] * (last - first)
            slots = start + slots_of(line - together[0], len(together), last - first)
            live = slots[lists.places[slots] < lists.blocks.depth]
            found[line, chunk * lists.blocks.depth + lists.places[live].astype(int)] = lists.values[live]
    np.testing.assert_array_equal(found, lines_of(small))


def test_dot_lists_hold_the_places_of_all_slots_by_line(small):
    lists = layouts.dot_lists(small, TILE)
    assert lists.blocks.chunks > 1
    found = np.zeros(lines_of(small).shape, bool)
    for line in range(found.shape[0]):
        for chunk, block in np.ndindex(lists.blocks.chunks, lists.blocks.chunk_blocks):
            first, last = (line * lists.stride + lists.cuts[chunk, block + i] for i in (0, 1))
            places = lists.places[first:last][lists.places[first:last] < lists.blocks.depth]
            found[line, chunk * lists.blocks.depth + places.astype(int)] = True
    np.testing.assert_array_equal(found, small.mask if small.axis == 1 else small.mask.T)


@pytest.mark.parametrize("axis", [0, 1])
def test_an_empty_matrix_has_empty_lists(axis):
    c = matrix(0, 16, Pattern(2, 4), axis)
    assert layouts.even_lists(c, TILE).places.size == 0
    assert layouts.uneven_lists(c, TILE).places.size == 0


def test_uneven_lists_hold_the_kept_weights_by_column(small):
    lists = layouts.uneven_lists(small, TILE)
    blocks = lists.blocks
    found = np.zeros_like(lines_of(small))
    for high, chunk, block in np.ndindex(*lists.bounds.shape[:2], blocks.chunk_blocks):
        for first, count, target, size in lists.sets[
            lists.bounds[high, chunk, block] : lists.bounds[high, chunk, block + 1]
        ]:
            assert size in (1, TILE.rows)
            for i in range(size):
                slots = first + slots_of(i, size, count)
                live = slots[lists.places[slots] < blocks.depth]
                rows = chunk * blocks.depth + lists.places[live].astype(int)
                found[rows, high * blocks.height + lists.targets[target + i]] += lists.values[live]
    np.testing.assert_array_equal(found, lines_of(small))


def test_a_wide_matrix_has_room_for_all_its_sets():
    lists = layouts.uneven_lists(matrix(9, 400, Pattern(2, 4), 1), TILE)
    assert len(lists.sets) >= 400 // TILE.rows


def test_padding_of_uneven_lists_is_nothing(small):
    lists = layouts.uneven_lists(small, TILE)
    padding = lists.places == lists.blocks.depth
    assert (lists.values[padding] == 0).all()
    assert (~padding).sum() == small.kept.sum()


@pytest.mark.parametrize(("pattern", "tables"), [(Pattern(2, 4), 1), (Pattern(1, 16), 2), (Pattern(1, 3), 0)])
def test_windows_hold_whole_groups_of_a_full_matrix(monkeypatch, pattern, tables):
    monkeypatch.setattr(host, "vector_bytes", lambda: 64)
    c = matrix(11, 5 * pattern.m, pattern, 1)
    assert layouts.window_tables(c) == tables
    if tables:
        found = np.zeros_like(decompress(c))
        values, places, _ = layouts.windows(c)
        for block, window, slot, lane in np.ndindex(*values.shape):
            row, column = block * 8 + lane, window * tables * 8 + int(places[block, window, slot, lane])
            if row < 11 and column < found.shape[1]:
                found[row, column] += values[block, window, slot, lane]
        np.testing.assert_array_equal(found, decompress(c))


def test_a_matrix_with_padding_has_no_windows(monkeypatch):
    monkeypatch.setattr(host, "vector_bytes", lambda: 64)
    assert layouts.window_tables(matrix(8, 32, Pattern(2, 4), 1, kept=0.5)) == 0


def test_layouts_are_derived_once_and_positions_are_shared(small):
    other = small.with_values(2 * small.values)
    one, two = layouts.uneven_lists(small, TILE), layouts.uneven_lists(other, TILE)
    assert layouts.uneven_lists(small, TILE).values is one.values
    assert two.sets is one.sets
    np.testing.assert_array_equal(two.values, 2 * one.values)


def test_windows_of_every_width_are_kept_beside_each_other(monkeypatch):
    c = matrix(16, 32, Pattern(2, 4), 1).with_values(np.ones((16, 8, 2), np.float32))
    widths = []
    for width in (64, 32, 64):
        monkeypatch.setattr(host, "vector_bytes", lambda width=width: width)
        widths.append(layouts.windows(c).values)
    assert [values.shape[-1] for values in widths] == [16, 8, 16]
    assert widths[0] is widths[2]


def test_tiles_and_blocks_follow_the_width_of_a_vector(monkeypatch):
    found, cases = {}, [(1000, 0.5), (1000, 0.125), (1000, 0.03), (8, 0.5)]
    for width in (64, 32):
        monkeypatch.setattr(host, "vector_bytes", lambda width=width: width)
        tiles = [layouts.tile_for(t, layouts.widest_tile(d), 4) for t, d in cases]
        found[width] = [(*tile[:2], layouts._cache_share(d, tile)) for tile, (_, d) in zip(tiles, cases, strict=True)]
    assert found == {
        64: [(2, 8, 0.75), (3, 4, 1.0), (6, 2, 1.0), (8, 1, 0.4)],
        32: [(1, 8, 0.75), (2, 4, 0.75), (4, 2, 1.5), (8, 1, 0.4)],
    }
