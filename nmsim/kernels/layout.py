"""Derived index layouts of compressed matrices; `nmsim.layouts` says what they are for."""

import numpy as np

from nmsim.kernels.jit import njit

SLOTS = 64


@njit
def group_starts(groups, n, m):
    """The first position of each slot's group, for `groups` groups of n slots and m positions."""
    starts = np.empty(groups * n, np.int32)
    for slot in range(groups * n):
        starts[slot] = slot // n * m
    return starts


@njit
def panel_rows(index, indices, m, depth, lo, hi):
    """index[r, g n + s]: the panel row of each slot, its position less its chunk's first; padding is row `depth`."""
    lines, groups, n = indices.shape
    slots, none = indices.reshape(lines, groups * n), index.dtype.type(depth)
    starts = (group_starts(groups, n, m) % depth).astype(index.dtype)
    for r in range(lo, hi):
        for slot in range(groups * n):
            place = slots[r, slot]
            index[r, slot] = starts[slot] + place if place < m else none


@njit
def put_list(out, at, r, rows, slots):
    """Write list r of a set of `rows` lists at `at`: by fours in turn with the others, what is left by ones."""
    count = slots.size
    whole = count // 4 * 4
    for s in range(0, whole, 4):
        to = at + s * rows + 4 * r
        four = slots[s], slots[s + 1], slots[s + 2], slots[s + 3]  # read before any is written: one vector
        out[to], out[to + 1], out[to + 2], out[to + 3] = four
    for s in range(whole, count):
        out[at + s * rows + r] = slots[s]


@njit
def set_of(r, lines, rows, height):
    """The first line and the lines of the set of line r: `rows` from each multiple of `height` on, the rest alone."""
    start = r // height * height
    first = start + (r - start) // rows * rows
    return (first, rows) if first + rows <= min(start + height, lines) else (r, 1)


@njit
def block_lists(out, slots, cuts, rows, height, lo, hi):
    """Put slots cuts[b]:cuts[b + 1] of all lines together, block after block, in sets; for lines lo:hi of `slots`."""
    lines = slots.shape[0]
    for block in range(cuts.size - 1):
        first, last = cuts[block], cuts[block + 1]
        for r in range(lo, hi):
            start, size = set_of(r, lines, rows, height)
            at = first * lines + start * (last - first)
            put_list(out, at, r - start, size, slots[r, first:last])


@njit
def count_lists(counts, slots, starts, m, r0, r1, s0, s1):
    """counts[c]: the kept weights of column c of the groups of slots s0:s1, in lines r0:r1."""
    counts[:] = 0
    for r in range(r0, r1):
        for s in range(s0, s1):
            place = slots[r, s]
            if place < m:
                counts[starts[s - s0] + place] += 1


@njit
def sort_columns(order, ends, counts):
    """order: columns by falling count, ties in order. `ends` is scratch of at least max(counts) + 2 elements."""
    ends[:] = 0
    for c in range(counts.size):
        ends[counts[c]] += 1
    total = 0
    for count in range(ends.size - 1, -1, -1):
        ends[count], total = total, total + ends[count]
    for c in range(counts.size):
        order[ends[counts[c]]] = c
        ends[counts[c]] += 1


@njit
def place_sets(sets, j, targets, at, order, counts, rows, first):
    """Cut sorted columns into sets of `rows` (the rest alone), each as long as its longest list; returns (j, first)."""
    c = 0
    while c < order.size and counts[order[c]] > 0:
        size = rows if c + rows <= order.size else 1
        sets[j, 0], sets[j, 1], sets[j, 2], sets[j, 3] = first, counts[order[c]], at + c, size
        first += size * counts[order[c]]
        c += size
        j += 1
    targets[at : at + order.size] = order
    return j, first


@njit
def place_lists(bounds, sets, targets, indices, m, rows, lines, depth, height, scratch):
    """Cut the columns of a matrix compressed by line into sets of lists, block after block; returns the slots used."""
    counts, ends, order = scratch
    total, groups, n = indices.shape
    slots, starts = indices.reshape(total, groups * n), group_starts(groups, n, m)
    j, at, first = 0, 0, 0
    for high in range(bounds.shape[0]):
        for chunk in range(bounds.shape[1]):
            for block in range(bounds.shape[2] - 1):
                r0, r1, g0, g1 = cell(indices, m, lines, depth, height, high, chunk, block)
                columns = (g1 - g0) * m
                bounds[high, chunk, block] = j
                count_lists(counts[:columns], slots, starts, m, r0, r1, g0 * n, g1 * n)
                sort_columns(order[:columns], ends, counts[:columns])
                j, first = place_sets(sets, j, targets, at, order[:columns], counts, rows, first)
                at += columns
            bounds[high, chunk, bounds.shape[2] - 1] = j
    return first


@njit
def cell(indices, m, lines, depth, height, high, chunk, block):
    """The lines and groups (r0, r1, g0, g1) of one block of columns in one block of the reduction."""
    total_lines, groups = indices.shape[0], indices.shape[1]
    r0 = min(chunk * depth + block * lines, total_lines)
    r1 = min(r0 + lines, (chunk + 1) * depth, total_lines)
    return r0, r1, high * height // m, min((high + 1) * height // m, groups)


@njit
def largest_cell(bounds, sets):
    """The slots of the cell that has most."""
    most, (highs, chunks, ends) = 0, bounds.shape
    for high in range(highs):
        for chunk in range(chunks):
            for block in range(ends - 1):
                mine = sets[bounds[high, chunk, block] : bounds[high, chunk, block + 1]]
                if len(mine) > 0:
                    most = max(most, mine[-1, 0] + mine[-1, 1] * mine[-1, 3] - mine[0, 0])
    return most


@njit
def fill_lists(values, places, bounds, sets, targets, kept, indices, m, lines, depth, height, lo, hi):
    """Write the lists of cells lo:hi: the weights `kept`, and their rows in the panel; padding is 0 and row `depth`."""
    (total, groups, n), (_, chunks, ends) = indices.shape, bounds.shape
    by_line = total, groups * n
    slots, given, starts = indices.reshape(by_line), kept.reshape(by_line), group_starts(groups, n, m)
    room = largest_cell(bounds, sets)
    cursor, weights, rows = np.empty(height, np.int32), np.empty(room, kept.dtype), np.empty(room, places.dtype)
    for number in range(lo, hi):
        high, chunk, block = number // (ends - 1) // chunks, number // (ends - 1) % chunks, number % (ends - 1)
        r0, r1, g0, g1 = cell(indices, m, lines, depth, height, high, chunk, block)
        mine = sets[bounds[high, chunk, block] : bounds[high, chunk, block + 1]]
        for j in range(len(mine)):
            for i in range(mine[j, 3]):
                cursor[targets[mine[j, 2] + i]] = mine[j, 0] - mine[0, 0] + i * mine[j, 1]
        for r in range(r0, r1):
            for s in range(g0 * n, g1 * n):
                place = slots[r, s]
                if place < m:
                    column = starts[s - g0 * n] + place
                    to = cursor[column]
                    weights[to], rows[to] = given[r, s], block * lines + r - r0
                    cursor[column] = to + 1
        for j in range(len(mine)):
            for i in range(mine[j, 3]):
                first = mine[j, 0] - mine[0, 0] + i * mine[j, 1]
                end, last = cursor[targets[mine[j, 2] + i]], first + mine[j, 1]
                weights[end:last], rows[end:last] = 0, depth
                put_list(values, mine[j, 0], i, mine[j, 3], weights[first:last])
                put_list(places, mine[j, 0], i, mine[j, 3], rows[first:last])


@njit
def window_slots(values, index, kept, indices, m, per, width, lo, hi):
    """Weights and positions by blocks of `width` lines, windows of `per` groups and slots: each a vector of lines.

    For the blocks lo:hi of a matrix without padding; lanes beyond its last line and slots beyond its last group get 0.
    A few slots of all lines at a time, so that the lines of the cache that they are scattered to stay there.
    """
    lines, groups, n = indices.shape
    blocks, windows, slots, _ = values.shape
    total, live = windows * slots, groups * n
    to_values, to_index = values.reshape(blocks, total, width), index.reshape(blocks, total, width)
    from_values, from_index = kept.reshape(lines, live), indices.reshape(lines, live)
    group = np.empty(total, np.uint8)
    for s in range(total):
        group[s] = s % slots // n * m
    for block in range(lo, hi):
        for first in range(0, total, SLOTS):
            last = min(first + SLOTS, total)
            for lane in range(width):
                line = block * width + lane
                end = max(first, min(last, live)) if line < lines else first
                for s in range(first, end):
                    to_values[block, s, lane] = from_values[line, s]
                    to_index[block, s, lane] = group[s] + from_index[line, s]
                for s in range(end, last):
                    to_values[block, s, lane] = 0
                    to_index[block, s, lane] = group[s]
