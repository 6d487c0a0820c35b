"""Masks of m x m blocks that keep at most n in every row and every column."""

import numpy as np

from nmsim.kernels.jit import njit


@njit
def greedy(mask, scores, n, m, lo, hi):
    """Keep each block's scores in falling order where row and column have room, for the rows of blocks lo:hi."""
    for top in range(lo * m, hi * m, m):
        for left in range(0, scores.shape[1], m):
            _greedy_block(mask[top : top + m, left : left + m], scores[top : top + m, left : left + m], n, m)


@njit
def _greedy_block(mask, scores, n, m):
    in_row, in_column = np.zeros(m, np.int64), np.zeros(m, np.int64)
    for k in np.argsort(-scores.copy().ravel(), kind="mergesort"):
        i, j = k // m, k % m
        if in_row[i] < n and in_column[j] < n:
            mask[i, j] = True
            in_row[i] += 1
            in_column[j] += 1
