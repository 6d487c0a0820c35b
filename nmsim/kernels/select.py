"""Choosing the highest scores of every group."""

from nmsim.kernels.jit import njit


@njit
def keep_highest(mask, scores, n, tile, rank):
    """mask[g, j] = whether fewer than n scores of group g rank before score j: higher ones, and equal ones of lower j.

    `tile` and `rank` [m, lanes] are scratch: that many groups are ranked side by side, one comparison at a time, which
    the compiler turns into vector instructions; `rank` has integers as wide as the scores.
    """
    groups, m = scores.shape
    lanes = tile.shape[1]
    for start in range(0, groups, lanes):
        width = min(lanes, groups - start)
        for g in range(width):
            for j in range(m):
                tile[j, g] = scores[start + g, j]
        rank[:] = 0
        for j in range(m):
            for k in range(j + 1, m):
                for g in range(width):
                    first = tile[j, g] >= tile[k, g]
                    rank[j, g] += 1 - first
                    rank[k, g] += first
        for g in range(width):
            for j in range(m):
                mask[start + g, j] = rank[j, g] < n
