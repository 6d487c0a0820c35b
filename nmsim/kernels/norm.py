"""Layer normalisation of the residual stream, fused with the sum that feeds it and with the sums of its gradient."""

import numpy as np

from nmsim.kernels.jit import njit


@njit
def normalise(x, gain, shift, eps, y, mean, inverse):
    """y = (x - mean) * inverse * gain + shift by rows of x [t, d], with inverse = 1 / sqrt(variance + eps)."""
    for i in range(x.shape[0]):
        _row(x[i], gain, shift, eps, y[i], mean[i : i + 1], inverse[i : i + 1])


@njit
def add_normalise(x, branch, bias, gain, shift, eps, total, y, mean, inverse):
    """total = x + branch + bias, and y its normalised rows."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            total[i, j] = x[i, j] + branch[i, j] + bias[j]
        _row(total[i], gain, shift, eps, y[i], mean[i : i + 1], inverse[i : i + 1])


@njit
def _row(x, gain, shift, eps, y, mean, inverse):
    d = x.size
    total = x[0] - x[0]
    for j in range(d):
        total += x[j]
    centre = x.dtype.type(total / d)
    squares = x[0] - x[0]
    for j in range(d):
        squares += (x[j] - centre) * (x[j] - centre)
    scale = x.dtype.type(1 / np.sqrt(squares / d + eps))
    for j in range(d):
        y[j] = (x[j] - centre) * scale * gain[j] + shift[j]
    mean[0] = centre
    inverse[0] = scale


@njit
def normalise_gradient(dy, x, mean, inverse, gain, dx, dgain, dshift, dbias):
    """dx += the gradient of `normalise`; adds the gradients of gain and shift, and dbias += the sum of dx over rows.

    With h = (x - mean) * inverse and g = dy * gain: inverse * (g - mean(g) - h * mean(g * h)).
    """
    d = x.shape[1]
    for i in range(x.shape[0]):
        centre, scale = mean[i], inverse[i]
        total = centre - centre
        along = centre - centre
        for j in range(d):
            h = (x[i, j] - centre) * scale
            g = dy[i, j] * gain[j]
            total += g
            along += g * h
            dgain[j] += dy[i, j] * h
            dshift[j] += dy[i, j]
        total = x.dtype.type(total / d)
        along = x.dtype.type(along / d)
        for j in range(d):
            h = (x[i, j] - centre) * scale
            dx[i, j] += scale * (dy[i, j] * gain[j] - total - h * along)
            dbias[j] += dx[i, j]
