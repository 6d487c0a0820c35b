"""Choosing the highest scores of every group, and compression by lines: rows, or columns through a transposed view."""

from functools import cache

import numpy as np

from nmsim.kernels.jit import njit

# Groups ranked side by side: a few vectors, and a tile of m = 32 fits the first-level cache.
LANES = 64


@cache
def ranker(unrolled):
    """The kernel that keeps the n highest of each group of `unrolled` scores, or of any number where that is 0.

    mask[g m + j] = whether fewer than n scores of group g rank before score j: higher, or equal at lower j. `tile` and
    `rank` [m, LANES] are scratch: that many groups are ranked side by side, one comparison at a time, which the
    compiler turns into vector instructions; `rank` has integers as wide as the scores.
    """

    @njit
    def keep_highest(mask, scores, n, tile, rank, lo, hi):
        m = unrolled or tile.shape[0]
        for start in range(lo, hi, LANES):
            width = min(LANES, hi - start)
            for g in range(width):
                for j in range(m):
                    tile[j, g] = scores[(start + g) * m + j]
            rank[:] = 0
            for j in range(m):
                for k in range(j + 1, m):
                    for g in range(width):
                        first = tile[j, g] >= tile[k, g]
                        rank[j, g] += 1 - first
                        rank[k, g] += first
            for g in range(width):
                for j in range(m):
                    mask[(start + g) * m + j] = rank[j, g] < n

    return keep_highest


@njit
def compress(values, indices, w, mask, m, lo, hi):
    """Fill lines lo:hi of `values` and `indices`; returns the first group that keeps too many, line by line, or -1.

    Every weight of a group is written to the next free place, and only kept ones take it: no branch to guess wrong.
    """
    groups, n = values.shape[1], values.shape[2]
    held, places = np.empty(m, w.dtype), np.empty(m, indices.dtype)
    for line in range(lo, hi):
        for g in range(groups):
            first, s = g * m, 0
            for k in range(min(m, w.shape[1] - first)):
                held[s], places[s] = w[line, first + k], k
                s += mask[line, first + k]
            if s > n:
                return line * groups + g
            for i in range(n):
                values[line, g, i] = held[i] if i < s else 0
                indices[line, g, i] = places[i] if i < s else m
    return -1


@njit
def decompress(out, values, indices, m, lo, hi):
    """Write the kept weights of lines lo:hi into `out`, which is zero at first."""
    for line in range(lo, hi):
        for g in range(values.shape[1]):
            for s in range(values.shape[2]):
                if indices[line, g, s] < m:
                    out[line, g * m + int(indices[line, g, s])] = values[line, g, s]
