"""Passes over flat arrays of parameters: gradient sums and norms, and the optimisers' steps.

Each takes the stretch lo:hi as slices and counts from 0, because an index that could be negative does not vectorise.
"""

import numpy as np

from nmsim.kernels.jit import njit

BLOCK = 4096
"""Length of the pieces whose squared norms are summed first, so that the sum does not depend on who computes them."""


@njit
def squared_norms(grad, norms, lo, hi):
    """norms[b] = sum of grad ** 2 over block b, for the blocks lo:hi."""
    for b in range(lo, hi):
        block = grad[b * BLOCK : (b + 1) * BLOCK]
        total = grad[0] - grad[0]
        for i in range(block.size):
            total += block[i] * block[i]
        norms[b] = total


@njit
def add(total, part, lo, hi):
    """total += part in lo:hi."""
    t, p = total[lo:hi], part[lo:hi]
    for i in range(t.size):
        t[i] += p[i]


@njit
def blend(average, value, rate, lo, hi):
    """average += rate * (value - average) in lo:hi."""
    a, w = average[lo:hi], value[lo:hi]
    for i in range(a.size):
        a[i] += rate * (w[i] - a[i])


@njit
def sgd(value, grad, velocity, rates, lo, hi):
    """velocity = momentum * velocity + clip * grad + decay * value; value -= lr * velocity, in lo:hi.

    rates = (lr, momentum, decay, clip), an array of the type of `value`.
    """
    lr, momentum, decay, clip = rates
    w, g, v = value[lo:hi], grad[lo:hi], velocity[lo:hi]
    for i in range(w.size):
        new = momentum * v[i] + clip * g[i] + decay * w[i]
        v[i] = new
        w[i] -= lr * new


@njit
def adam(value, grad, mean, square, rates, lo, hi):
    """Adam (arXiv 1412.6980, algorithm 1), decay added to the gradient or (AdamW, arXiv 1711.05101) to the step.

    g = clip * grad + coupled * value; mean = b1 * mean + (1 - b1) * g; square = b2 * square + (1 - b2) * g ** 2;
    value = shrink * value - size * mean / (sqrt(square) * root + eps), in lo:hi. A `b2` of 1 keeps `square`.
    rates = (shrink, size, root, b1, 1 - b1, b2, 1 - b2, eps, clip, coupled), of the type of `value`, where shrink is
    1 - lr * decay. The complements are given, because 1 - b2 here would let the compiler rewrite the mean of a kept
    square so that it rounds.
    """
    shrink, size, root, b1, new1, b2, new2, eps, clip, coupled = rates
    w, g, m, v = value[lo:hi], grad[lo:hi], mean[lo:hi], square[lo:hi]
    for i in range(w.size):
        slope = clip * g[i] + coupled * w[i]
        m[i] = b1 * m[i] + new1 * slope
        v[i] = b2 * v[i] + new2 * slope * slope
        w[i] = shrink * w[i] - size * m[i] / (np.sqrt(v[i]) * root + eps)
