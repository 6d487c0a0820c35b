"""Token-major matrices to panels and back: a panel holds `tile` tokens side by side, one row for each column."""

from nmsim.kernels import simd
from nmsim.kernels.jit import njit


def packing(width, tile):
    """The pair (pack, unpack) for panels of `tile` tokens, a multiple of the vector `width`."""

    @njit
    def pack(panel, x, t0, t1, k0, k1):
        """panel[k - k0, t - t0] = x[t, k] for tokens t0:t1 and columns k0:k1; the panel's other tokens become 0."""
        squares_t = (t1 - t0) // width * width
        squares_k = (k1 - k0) // width * width
        stride = x.shape[1]
        flat = x.ravel()
        for k in range(0, squares_k, width):
            for t in range(0, squares_t, width):
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
    def unpack(out, panel, bias, t0, t1, k0, k1):
        """out[t, k] = panel[k - k0, t - t0] + bias[k] for tokens t0:t1 and columns k0:k1."""
        squares_t = (t1 - t0) // width * width
        squares_k = (k1 - k0) // width * width
        stride = out.shape[1]
        flat = out.ravel()
        for t in range(0, squares_t, width):
            for k in range(0, squares_k, width):
                to = (t0 + t) * stride + k0 + k
                simd.transpose_out(flat, to, stride, panel, k * tile + t, tile, bias, k0 + k, width)
        for k in range(k1 - k0):
            for t in range(squares_t if k < squares_k else 0, t1 - t0):
                out[t0 + t, k0 + k] = panel[k * tile + t] + bias[k0 + k]

    return pack, unpack
