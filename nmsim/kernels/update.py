"""Passes over flat arrays of parameters: gradient sums and norms, and the optimisers' steps."""

import numpy as np

from nmsim.kernels.jit import njit

BLOCK = 4096
"""Length of the pieces whose squared norms are summed first, so that the sum does not depend on who computes them."""


@njit
def squared_norms(grad, norms, lo, hi):
    """norms[b] = sum of grad ** 2 over block b, for the blocks lo:hi."""
    for b in range(lo, hi):
        total = grad[0] - grad[0]
        for i in range(b * BLOCK, min((b + 1) * BLOCK, grad.size)):
            total += grad[i] * grad[i]
        norms[b] = total


@njit
def add(total, part, lo, hi):
    """total += part in lo:hi."""
    for i in range(lo, hi):
        total[i] += part[i]


@njit
def sgd(value, grad, velocity, rates, lo, hi):
    """velocity = momentum * velocity + clip * grad + decay * value; value -= lr * velocity, in lo:hi.

    rates = (lr, momentum, decay, clip), an array of the type of `value`.
    """
    lr, momentum, decay, clip = rates
    for i in range(lo, hi):
        velocity[i] = momentum * velocity[i] + clip * grad[i] + decay * value[i]
        value[i] -= lr * velocity[i]


@njit
def adam(value, grad, mean, square, rates, lo, hi):
    """Adam (arXiv 1412.6980, algorithm 1), decay added to the gradient or (AdamW, arXiv 1711.05101) to the step.

    g = clip * grad + coupled * value; mean = b1 * mean + (1 - b1) * g; square = b2 * square + (1 - b2) * g ** 2;
    value -= lr * decay * value + size * mean / (sqrt(square) * root + eps), in lo:hi. A `b2` of 1 keeps `square`.
    rates = (shrink, size, root, b1, b2, eps, clip, coupled), of the type of `value`, where shrink = 1 - lr * decay.
    """
    shrink, size, root, b1, b2, eps, clip, coupled = rates
    new1, new2 = value.dtype.type(1) - b1, value.dtype.type(1) - b2
    for i in range(lo, hi):
        g = clip * grad[i] + coupled * value[i]
        mean[i] = b1 * mean[i] + new1 * g
        square[i] = b2 * square[i] + new2 * g * g
        value[i] = shrink * value[i] - size * mean[i] / (np.sqrt(square[i]) * root + eps)


@njit
def blend(average, value, rate, lo, hi):
    """average += rate * (value - average) in lo:hi."""
    for i in range(lo, hi):
        average[i] += rate * (value[i] - average[i])
