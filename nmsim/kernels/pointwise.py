"""Passes over single values: exp, the activations with their derivative in the same pass, and sums of columns."""

import math

import numba
import numpy as np
from numba.extending import overload

from nmsim.kernels.jit import FASTMATH, njit

_LOWEST, _HIGHEST = -87.0, 88.0  # exp stays a normal float32 between them


def exp(x):
    """e ** x; float32 within 3e-7 relative, by a polynomial that vectorises, with x held to [-87, 88]."""
    return type(x)(math.exp(min(max(x, _LOWEST), _HIGHEST)))


@overload(exp, jit_options={"fastmath": FASTMATH, "error_model": "numpy"})
def _exp(x):
    return _exp32 if x == numba.types.float32 else _exp64


def _exp64(x):
    return math.exp(x)


def _exp32(x):
    """2 ** k * e ** r with k the nearest integer to x / ln 2 and r what is left; comparisons let NaN through."""
    x = np.float32(_LOWEST) if x < np.float32(_LOWEST) else x
    x = np.float32(_HIGHEST) if x > np.float32(_HIGHEST) else x
    k = np.rint(x * np.float32(1 / math.log(2)))
    r = x - k * np.float32(math.log(2))
    p = np.float32(1 / 5040) * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1)
    p = p * r + np.float32(1)
    return p * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit
def gelu(a, bias, y):
    """Put the GELU of a + bias into y and the derivative there into a, for a [t, d].

    gelu(x) = x * sigmoid(2 u) with u = sqrt(2 / pi) * (x + 0.044715 x ** 3), arXiv 1606.08415, section 2.
    """
    one = a.dtype.type(1)
    c1 = a.dtype.type(2 * math.sqrt(2 / math.pi))
    c3 = a.dtype.type(2 * math.sqrt(2 / math.pi) * 0.044715)
    slope3 = a.dtype.type(6 * math.sqrt(2 / math.pi) * 0.044715)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            x = a[i, j] + bias[j]
            gate = one / (one + exp(-x * (c1 + c3 * x * x)))
            y[i, j] = x * gate
            a[i, j] = gate + x * gate * (one - gate) * (c1 + slope3 * x * x)


@njit
def relu(a, bias, y):
    """y = max(a + bias, 0) and a = the derivative there, for a [t, d]; a NaN stays one."""
    zero, one = a.dtype.type(0), a.dtype.type(1)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            x = a[i, j] + bias[j]
            y[i, j] = zero if x < zero else x
            a[i, j] = one if x > zero else zero


@njit
def chain(dy, derivative, dbias):
    """dy *= derivative in place, and dbias += its sum over rows, for dy [t, d]."""
    for i in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            dy[i, j] *= derivative[i, j]
            dbias[j] += dy[i, j]


@njit
def add_columns(dy, total):
    """total += the sum of dy [t, d] over rows."""
    for i in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            total[j] += dy[i, j]
