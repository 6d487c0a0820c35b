"""The three compressed products without a compiler: what runs when Numba's JIT is off.

`values` and `indices` are [lines, groups, n] as in `NMMatrix`; index m marks a padding slot, which is skipped.
"""

from collections.abc import Iterator

import numpy as np


def _slots(indices: np.ndarray, m: int) -> Iterator[tuple[int, int, int, int]]:
    """(line, group, slot, position) of every kept weight, in order."""
    for line, group, slot in np.argwhere(indices < m):
        yield line, group, slot, group * m + int(indices[line, group, slot])


def gather(x: np.ndarray, values: np.ndarray, indices: np.ndarray, m: int, out: np.ndarray) -> None:
    """out[t, r] += sum over the kept k of line r of x[t, k] * w[r, k]."""
    for r, g, s, k in _slots(indices, m):
        out[:, r] += x[:, k] * values[r, g, s]


def scatter(x: np.ndarray, values: np.ndarray, indices: np.ndarray, m: int, out: np.ndarray) -> None:
    """out[t, k] += x[t, r] * w[r, k] over the kept k of every line r."""
    for r, g, s, k in _slots(indices, m):
        out[:, k] += x[:, r] * values[r, g, s]


def kept_products(a: np.ndarray, b: np.ndarray, indices: np.ndarray, m: int, out: np.ndarray) -> None:
    """out[r, g, s] = sum over t of a[t, r] * b[t, k] at the kept k of each line; padding slots are left."""
    for r, g, s, k in _slots(indices, m):
        out[r, g, s] = a[:, r] @ b[:, k]
