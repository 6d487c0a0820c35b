"""Attention head by head, reading queries, keys and values in place: scores, their softmax, and all gradients.

Arrays of a kernel are float32 [batch, heads, tokens, d_head] with any strides but the last, which is 1; d_head is a
multiple of the vector width. Scores are [batch, heads, queries, room], `room` at least the keys filled up to whole
vectors. A causal product leaves out the blocks above the diagonal; what stands there is not written and not read.
"""

from functools import cache

from nmsim.kernels import simd, simd_rows
from nmsim.kernels.jit import njit

# Rows of a block: with two vectors each, 12 sums stay in 16 registers.
ROWS = 6
# Rows of a softmax at a time.
TOGETHER = 3
BYTES = 4


def room(keys, width):
    """Length of a row of scores: whole vectors, of an odd number.

    Columns of scores are read too. At a power of two of bytes from each other, their elements would share a few sets of
    the first cache and push each other out.
    """
    return (-(-keys // width) | 1) * width


@cache
def _blocks(width):
    """The kernel c = a @ b for at most ROWS rows of c, whose columns are whole vectors."""

    def strips(rows):
        @njit
        def strip(c, pitch, a, row, step, b, stride, count, cols):
            vector = width * BYTES
            for j in range(cols // (2 * width)):
                here = 2 * j * vector
                simd_rows.block_product(c + here, pitch, a, row, step, b + here, stride, count, rows, 2, width)
            if cols // width % 2:
                here = (cols - width) * BYTES
                simd_rows.block_product(c + here, pitch, a, row, step, b + here, stride, count, rows, 1, width)

        return strip

    whole, four, two, one = strips(ROWS), strips(4), strips(2), strips(1)

    @njit
    def block(c, pitch, a, row, step, b, stride, count, rows, cols):
        """c[r pitch + j] = sum of a[r row + s step] * b[s stride + j] over s in range(count), at addresses."""
        if rows == ROWS:
            whole(c, pitch, a, row, step, b, stride, count, cols)
            return
        if rows & 4:
            four(c, pitch, a, row, step, b, stride, count, cols)
            c, a = c + 4 * BYTES * pitch, a + 4 * BYTES * row
        if rows & 2:
            two(c, pitch, a, row, step, b, stride, count, cols)
            c, a = c + 2 * BYTES * pitch, a + 2 * BYTES * row
        if rows & 1:
            one(c, pitch, a, row, step, b, stride, count, cols)

    return block


@cache
def _turner(width):
    """The kernel that packs the transpose of a head."""

    @njit
    def turn(panel, room, x, stride, tokens, d):
        """panel[j room + i] = x[i stride + j] for the `tokens` rows i of x; the rest of `room` is left as it is."""
        squares = tokens // width * width
        for i in range(0, squares, width):
            for j in range(0, d, width):
                simd_rows.turn_square(panel + (j * room + i) * BYTES, room, x + (i * stride + j) * BYTES, stride, width)
        for i in range(squares, tokens):
            for j in range(d):
                simd_rows.copy_element(panel + (j * room + i) * BYTES, x + (i * stride + j) * BYTES)

    return turn


@cache
def _softeners(width):
    """The kernels of `softmax_rows` and of its gradient, for any number of rows."""

    @njit
    def soften(p, pitch, seen, more, limit, vectors, scale, rows):
        done = 0
        while done + TOGETHER <= rows:
            simd_rows.softmax_rows(p, pitch, seen, more, limit, vectors, scale, TOGETHER, width)
            p, seen, done = p + TOGETHER * pitch * BYTES, seen + TOGETHER * more, done + TOGETHER
        while done < rows:
            simd_rows.softmax_rows(p, pitch, seen, more, limit, vectors, scale, 1, width)
            p, seen, done = p + pitch * BYTES, seen + more, done + 1

    @njit
    def soften_gradient(dp, pitch, p, vectors, scale, rows):
        done = 0
        while done + TOGETHER <= rows:
            simd_rows.softmax_gradient_rows(dp, pitch, p, vectors, scale, TOGETHER, width)
            p, dp, done = p + TOGETHER * pitch * BYTES, dp + TOGETHER * pitch * BYTES, done + TOGETHER
        while done < rows:
            simd_rows.softmax_gradient_rows(dp, pitch, p, vectors, scale, 1, width)
            p, dp, done = p + pitch * BYTES, dp + pitch * BYTES, done + 1

    return soften, soften_gradient


@njit
def _head(x, b, h):
    """The address of head h of sequence b, and the distance between its tokens in elements."""
    return simd.address(x) + b * x.strides[0] + h * x.strides[1], x.strides[2] // BYTES


@cache
def forward(width):
    """The kernel out = softmax(scale * q @ k.T) @ v, with the softmax in `p`."""
    block, turn, (soften, _) = _blocks(width), _turner(width), _softeners(width)

    @njit
    def attend(q, k, v, limits, scale, causal, p, out, scratch):
        """Sequence b sees its first limits[b] keys, a causal query none after its own place.

        `scratch` has d_head * room elements.
        """
        batch, heads, queries, d = q.shape
        keys, room = k.shape[2], p.shape[3]
        scratch[:] = 0
        panel = simd.address(scratch)
        for b in range(batch):
            limit = limits[b]
            for h in range(heads):
                (q_at, q_row), (k_at, k_row), (v_at, v_row) = _head(q, b, h), _head(k, b, h), _head(v, b, h)
                (p_at, _), (o_at, o_row) = _head(p, b, h), _head(out, b, h)
                turn(panel, room, k_at, k_row, keys, d)
                for i in range(0, queries, ROWS):
                    rows = min(ROWS, queries - i)
                    last = min(i + rows, keys) if causal else keys
                    vectors = -(-last // width)
                    here = p_at + i * room * BYTES
                    block(here, room, q_at + i * q_row * BYTES, q_row, 1, panel, room, d, rows, vectors * width)
                    seen, more = (i + 1, 1) if causal else (limit, 0)
                    soften(here, room, seen, more, limit, vectors, scale, rows)
                    block(o_at + i * o_row * BYTES, o_row, here, room, 1, v_at, v_row, last, rows, d)

    return attend


@cache
def backward(width):
    """The kernel of the gradients of queries, keys and values."""
    block, turn, (_, soften_gradient) = _blocks(width), _turner(width), _softeners(width)

    @njit
    def attend_backward(dout, q, k, v, p, scale, causal, dq, dk, dv, scratch):
        """dv = p.T @ dout, dq = ds @ k and dk = ds.T @ q, with ds the gradient of the scores.

        `scratch` has (d_head + queries) * room elements.
        """
        batch, heads, queries, d = q.shape
        keys, room = k.shape[2], p.shape[3]
        scratch[:] = 0
        panel = simd.address(scratch)
        ds = panel + d * room * BYTES
        for b in range(batch):
            for h in range(heads):
                (q_at, q_row), (k_at, k_row), (v_at, v_row) = _head(q, b, h), _head(k, b, h), _head(v, b, h)
                (p_at, _), (do_at, do_row) = _head(p, b, h), _head(dout, b, h)
                (dq_at, dq_row), (dk_at, dk_row), (dv_at, dv_row) = _head(dq, b, h), _head(dk, b, h), _head(dv, b, h)
                turn(panel, room, v_at, v_row, keys, d)
                for i in range(0, queries, ROWS):
                    rows = min(ROWS, queries - i)
                    last = min(i + rows, keys) if causal else keys
                    vectors = -(-last // width)
                    here = i * room * BYTES
                    block(ds + here, room, do_at + i * do_row * BYTES, do_row, 1, panel, room, d, rows, vectors * width)
                    soften_gradient(ds + here, room, p_at + here, vectors, scale, rows)
                    block(dq_at + i * dq_row * BYTES, dq_row, ds + here, room, 1, k_at, k_row, last, rows, d)
                for j in range(0, keys, ROWS):
                    rows = min(ROWS, keys - j)
                    i = min(j, queries - 1) if causal else 0
                    here, count = (i * room + j) * BYTES, queries - i
                    to_k, to_v = dk_at + j * dk_row * BYTES, dv_at + j * dv_row * BYTES
                    block(to_v, dv_row, p_at + here, 1, room, do_at + i * do_row * BYTES, do_row, count, rows, d)
                    block(to_k, dk_row, ds + here, 1, room, q_at + i * q_row * BYTES, q_row, count, rows, d)

    return attend_backward
