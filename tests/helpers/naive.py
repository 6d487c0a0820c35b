"""Twins of the kernels as loops over one number at a time, after their definitions."""

from __future__ import annotations

import numpy as np


def kept_positions(c):
    """(row, column, weight) of every stored weight of a compressed matrix."""
    lines, groups, n = c.values.shape
    for line in range(lines):
        for group in range(groups):
            for slot in range(n):
                if c.indices[line, group, slot] < c.pattern.m:
                    place = group * c.pattern.m + int(c.indices[line, group, slot])
                    row, col = (line, place) if c.axis == 1 else (place, line)
                    yield row, col, c.values[line, group, slot]


def decompress(c):
    """The dense matrix."""
    dense = np.zeros(c.shape, c.dtype)
    for row, col, weight in kept_positions(c):
        dense[row, col] = weight
    return dense


def fprop(x, c):
    """x @ w.T, counting multiply-adds."""
    y, count = np.zeros((x.shape[0], c.shape[0]), c.dtype), 0
    for row, col, weight in kept_positions(c):
        for t in range(x.shape[0]):
            y[t, row] += x[t, col] * weight
            count += 1
    return y, count


def dgrad(dy, c):
    """dy @ w."""
    dx = np.zeros((dy.shape[0], c.shape[1]), c.dtype)
    for row, col, weight in kept_positions(c):
        for t in range(dy.shape[0]):
            dx[t, col] += dy[t, row] * weight
    return dx


def wgrad(dy, x, c):
    """dy.T @ x at the kept positions of c, 0 elsewhere."""
    dw = np.zeros(c.shape, c.dtype)
    for row, col, _ in kept_positions(c):
        for t in range(x.shape[0]):
            dw[row, col] += dy[t, row] * x[t, col]
    return dw


def topk_mask(scores, n, m):
    """The n highest of every m scores of each row, ties to the lower index."""
    mask = np.zeros(scores.shape, bool)
    for row in range(scores.shape[0]):
        for first in range(0, scores.shape[1], m):
            ranked = sorted(range(first, first + m), key=lambda k: (-scores[row, k], k))
            for k in ranked[:n]:
                mask[row, k] = True
    return mask
