"""The three compressed products as plain loops: any pattern, any shape, the order of sums of the definition.

`values` and `indices` are [rows, groups, n]; the weight of slot s of group g of row r stands at position
g * m + index of its row; index m marks a padding slot, which is skipped. `lo:hi` is the share of the result to fill.
"""

from nmsim.kernels.jit import njit


@njit
def gather(out, x, values, indices, m, lo, hi):
    """out[t, r] += sum over the kept k of row r of x[t, k] * w[r, k], for tokens lo:hi."""
    rows, groups, n = values.shape
    for t in range(lo, hi):
        for r in range(rows):
            total = out[t, r]
            for g in range(groups):
                for s in range(n):
                    if indices[r, g, s] < m:
                        total += x[t, g * m + indices[r, g, s]] * values[r, g, s]
            out[t, r] = total


@njit
def scatter(out, dy, values, indices, m, lo, hi):
    """out[t, k] += dy[t, r] * w[r, k] over the kept k of every row r, for tokens lo:hi."""
    rows, groups, n = values.shape
    for t in range(lo, hi):
        for r in range(rows):
            for g in range(groups):
                for s in range(n):
                    if indices[r, g, s] < m:
                        out[t, g * m + indices[r, g, s]] += dy[t, r] * values[r, g, s]


@njit
def kept_products(out, a, b, indices, m, lo, hi):
    """out[r, g, s] = sum over t of a[t, r] * b[t, k] at the kept k of each row, for rows lo:hi; padding gets 0."""
    _, groups, n = indices.shape
    for t in range(a.shape[0]):
        for r in range(lo, hi):
            for g in range(groups):
                for s in range(n):
                    if indices[r, g, s] < m:
                        out[r, g, s] += a[t, r] * b[t, g * m + indices[r, g, s]]
