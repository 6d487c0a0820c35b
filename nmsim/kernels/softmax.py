"""Softmax of attention scores and the cross-entropy of logits, row by row in place."""

import numpy as np

from nmsim.kernels.jit import njit
from nmsim.kernels.pointwise import exp


@njit
def _highest(row, count):
    """Largest of the first `count` values: four chains, because one waits for itself at every value."""
    a = b = c = d = row[0]
    whole = count - count % 4
    for j in range(0, whole, 4):
        a = a if a > row[j] else row[j]
        b = b if b > row[j + 1] else row[j + 1]
        c = c if c > row[j + 2] else row[j + 2]
        d = d if d > row[j + 3] else row[j + 3]
    for j in range(whole, count):
        a = a if a > row[j] else row[j]
    a = a if a > b else b
    c = c if c > d else d
    return a if a > c else c


@njit
def softmax(scores, limits, heads, scale, causal):
    """Turn rows of scores [batch * heads, queries, keys] into the softmax of scale * row over the keys they may see.

    Sequence b sees its first limits[b] keys, and a query i of a causal product only keys 0 to i; the others get 0.
    """
    keys = scores.shape[2]
    for g in range(scores.shape[0]):
        for i in range(scores.shape[1]):
            row = scores[g, i]
            seen = limits[g // heads]
            if causal and i + 1 < seen:
                seen = i + 1
            top = _highest(row, seen)
            total = top - top
            for j in range(seen):
                row[j] = exp((row[j] - top) * scale)
                total += row[j]
            share = scores.dtype.type(1) / total
            for j in range(seen):
                row[j] *= share
            for j in range(seen, keys):
                row[j] = 0


@njit
def softmax_gradient(p, dp, scale):
    """dp = scale * p * (dp - sum(dp * p)) by rows: the gradient of the scores, in place of that of their softmax."""
    for g in range(p.shape[0]):
        for i in range(p.shape[1]):
            along = scale - scale
            for j in range(p.shape[2]):
                along += dp[g, i, j] * p[g, i, j]
            for j in range(p.shape[2]):
                dp[g, i, j] = scale * p[g, i, j] * (dp[g, i, j] - along)


@njit
def cross_entropy(logits, labels, others, share, smoothing, scale):
    """Sum of scale * cross-entropy over rows, and how many rows are right; logits become their gradient.

    The target of row i is (1 - smoothing) * (share * [labels[i]] + (1 - share) * [others[i]]) + smoothing / classes.
    A row whose label is negative counts for nothing.
    """
    classes = logits.shape[1]
    even = smoothing / classes
    loss, right = 0.0, 0
    for i in range(logits.shape[0]):
        row = logits[i]
        if labels[i] < 0:
            row[:] = 0
            continue
        top = _highest(row, classes)
        right += row[labels[i]] == top
        held = (1 - smoothing) * (share * row[labels[i]] + (1 - share) * row[others[i]])
        total, plain = top - top, top - top
        for j in range(classes):
            plain += row[j]
            row[j] = exp(row[j] - top)
            total += row[j]
        loss += np.log(total) + top - held - even * plain
        factor, less = logits.dtype.type(scale / total), logits.dtype.type(scale * even)
        for j in range(classes):
            row[j] = row[j] * factor - less
        row[labels[i]] -= logits.dtype.type(scale * (1 - smoothing) * share)
        row[others[i]] -= logits.dtype.type(scale * (1 - smoothing) * (1 - share))
    return loss * scale, right
