"""Sums over the weights of one site, for statistics, in one pass."""

from nmsim.kernels.jit import njit


@njit
def gradient_sums(raw, seen, mask, sums):
    """Sums of raw, |raw|, raw ** 2, raw ** 2 where kept, seen ** 2, seen ** 2 where kept, in double precision."""
    plain = size = square = square_kept = seen_square = seen_kept = 0.0
    for i in range(raw.size):
        g, s, kept = float(raw[i]), float(seen[i]), (1.0 if mask[i] else 0.0)
        plain += g
        size += abs(g)
        square += g * g
        square_kept += g * g * kept
        seen_square += s * s
        seen_kept += s * s * kept
    sums[0], sums[1], sums[2] = plain, size, square
    sums[3], sums[4], sums[5] = square_kept, seen_square, seen_kept
