"""Masks of m x m blocks that keep at most n in every row and every column: maximum-weight b-matchings.

Greedy at first, then alternating cycles of positive gain are cancelled until none is left. Nodes of the residual graph
are the rows 0..m-1, the columns m..2m-1 and the outside 2m: an edge row -> column adds a score, column -> row removes
one; the outside gives a row with room, and a column that may lose one, a way in, and takes the reverse.
"""

import numpy as np

from nmsim.kernels.jit import njit


@njit
def choose(mask, scores, n, m, reach, lo, hi):
    """Fill the rows of blocks lo:hi of `mask`, all False at first; cycles of up to `reach` edges are cancelled."""
    gain, parent = np.zeros(2 * m + 1), np.zeros(2 * m + 1, np.int64)
    for top in range(lo * m, hi * m, m):
        for left in range(0, scores.shape[1], m):
            block, kept = scores[top : top + m, left : left + m], mask[top : top + m, left : left + m]
            order = np.argsort(-block.copy().ravel(), kind="mergesort")
            in_row, in_column = np.zeros(m, np.int64), np.zeros(m, np.int64)
            add_greedily(kept, order, in_row, in_column, n)
            node = find_cycle(kept, block, in_row, in_column, n, reach, gain, parent)
            while node >= 0:
                cancel_cycle(kept, in_row, in_column, parent, node)
                node = find_cycle(kept, block, in_row, in_column, n, reach, gain, parent)
            add_greedily(kept, order, in_row, in_column, n)


@njit
def add_greedily(kept, order, in_row, in_column, n):
    """Keep what has room in its row and column, in falling order of score."""
    m = kept.shape[0]
    for k in order:
        i, j = k // m, k % m
        if not kept[i, j] and in_row[i] < n and in_column[j] < n:
            kept[i, j] = True
            in_row[i] += 1
            in_column[j] += 1


@njit
def find_cycle(kept, scores, in_row, in_column, n, reach, gain, parent):
    """Bellman-Ford rounds from every node: a node on a cycle of positive gain, to be walked by `parent`, or -1."""
    m = kept.shape[0]
    outside = 2 * m
    gain[:] = 0
    parent[:] = -1
    for _ in range(reach):
        changed = -1
        for i in range(m):
            for j in range(m):
                if kept[i, j]:
                    changed = relax(gain, parent, m + j, i, -scores[i, j], changed)
                else:
                    changed = relax(gain, parent, i, m + j, scores[i, j], changed)
        for k in range(m):
            if in_row[k] < n:
                changed = relax(gain, parent, outside, k, 0, changed)
            if in_row[k] > 0:
                changed = relax(gain, parent, k, outside, 0, changed)
            if in_column[k] < n:
                changed = relax(gain, parent, m + k, outside, 0, changed)
            if in_column[k] > 0:
                changed = relax(gain, parent, outside, m + k, 0, changed)
        if changed < 0:
            return -1
        node = on_cycle(parent, changed)
        if node >= 0:
            return node
    return -1


@njit
def relax(gain, parent, a, b, score, changed):
    """Reach b through a if that gains more, beyond rounding; returns the node that changed last."""
    found = gain[a] + score
    if found > gain[b] + 1e-9 * (abs(found) + abs(score)):
        gain[b], parent[b] = found, a
        return b
    return changed


@njit
def on_cycle(parent, node):
    """A node on the cycle that the parents of `node` lead into, or -1 where they end."""
    for _ in range(parent.size):
        node = parent[node]
        if node < 0:
            return -1
    return node


@njit
def cancel_cycle(kept, in_row, in_column, parent, start):
    """Exchange what the edges of the cycle through `start` add and remove."""
    m = kept.shape[0]
    node, more = start, True
    while more:
        before = parent[node]
        if before < m <= node < 2 * m:
            kept[before, node - m] = True
            in_row[before] += 1
            in_column[node - m] += 1
        elif node < m <= before < 2 * m:
            kept[node, before - m] = False
            in_row[node] -= 1
            in_column[before - m] -= 1
        node = before
        more = node != start
