"""Sums over the weights of one site, for statistics, in one pass."""

from nmsim.kernels.jit import njit


@njit
def gradient_sums(gradient, mask, sums):
    """Sums of g, |g|, g ** 2, and g ** 2 where kept, in double precision."""
    plain = size = square = square_kept = 0.0
    for i in range(gradient.size):
        g, kept = float(gradient[i]), (1.0 if mask[i] else 0.0)
        plain += g
        size += abs(g)
        square += g * g
        square_kept += g * g * kept
    sums[0], sums[1], sums[2], sums[3] = plain, size, square, square_kept
