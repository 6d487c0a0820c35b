"""Token-major matrices to panels and back: a panel holds `tile` tokens side by side, one row for each column."""

from nmsim.kernels import simd
from nmsim.kernels.jit import njit

# Squares of a row that are read one after the other: long enough for the processor to read ahead.
RUN = 64

# A result of this many bytes is out of the caches before anybody reads it, so its lines are not read to be written.
STREAMED = 1 << 24

# Smaller results are asked for this many squares ahead, which lie a line of the result apart.
FAR = 4


def packing(width, tile):
    """The pair (pack, unpack) for panels of `tile` tokens, a multiple of the vector `width`."""

    @njit
    def pack(panel, x, t0, t1, k0, k1):
        """panel[k - k0, t - t0] = x[t, k] for tokens t0:t1 and columns k0:k1; the panel's other tokens become 0."""
        squares_t = (t1 - t0) // width * width
        squares_k = (k1 - k0) // width * width
        stride = x.shape[1]
        flat = x.ravel()
        for first in range(0, squares_k, RUN * width):
            for t in range(0, squares_t, width):
                for k in range(first, min(first + RUN * width, squares_k), width):
                    simd.transpose_in(panel, k * tile + t, tile, flat, (t0 + t) * stride + k0 + k, stride, width)
        for k in range(squares_k, k1 - k0):
            for t in range(squares_t):
                panel[k * tile + t] = x[t0 + t, k0 + k]
        if squares_t < tile:
            for k in range(k1 - k0):
                for t in range(squares_t, t1 - t0):
                    panel[k * tile + t] = x[t0 + t, k0 + k]
                for t in range(t1 - t0, tile):
                    panel[k * tile + t] = 0

    @njit
    def unpack(out, panel, bias, t0, t1, k0, k1, last):
        """out[t, k] = panel[k - k0, t - t0] + bias[k] for tokens t0:t1 and columns k0:k1; not read again if `last`."""
        squares_t = (t1 - t0) // width * width
        squares_k = (k1 - k0) // width * width
        stride = out.shape[1]
        flat = out.ravel()
        aligned = stride % width == 0 and (simd.address(flat) // flat.itemsize + k0) % width == 0
        for t in range(0, squares_t, width):
            for k in range(0, squares_k, width):
                to = (t0 + t) * stride + k0 + k
                if last and aligned and flat.nbytes >= STREAMED:
                    simd.transpose_out(flat, to, stride, panel, k * tile + t, tile, bias, k0 + k, 1, width)
                else:
                    for j in range(width):
                        simd.fetch(flat, to + j * stride + FAR * width)
                    simd.transpose_out(flat, to, stride, panel, k * tile + t, tile, bias, k0 + k, 0, width)
        for k in range(k1 - k0):
            for t in range(squares_t if k < squares_k else 0, t1 - t0):
                out[t0 + t, k0 + k] = panel[k * tile + t] + bias[k0 + k]

    return pack, unpack
