"""Products of a sparse matrix with many tokens: lists of kept weights against panels of tokens.

A list holds the kept weights of one output, and their rows in the panel, within one block of the reduction that the
first cache holds. Lists run a few at a time, so that their sums stay in registers. `nmsim.layouts` says what the fields
of `lists` are; the scratch memory `panel` and `acc` is aligned to a vector.
"""

from functools import cache

from nmsim.kernels import simd
from nmsim.kernels.jit import njit
from nmsim.kernels.panels import packing

# A sparse result is asked for this many lines ahead: its pieces lie too far apart for the processor to foresee.
AHEAD = 4


@cache
def even_lists(rows, vectors, width):
    """Add the lists of outputs o0:o1 in one block, all of one length (groups along the reduction).

    The first block begins the sums, so nothing has to be cleared.
    """

    def adder(fresh):
        @njit
        def add(acc, panel, lists, o0, o1, chunk, block):
            _, index, values, targets, cuts, lines = lists
            first, count = cuts[chunk, block], cuts[chunk, block + 1] - cuts[chunk, block]
            paired = o0 + (o1 - o0) // rows * rows
            for o in range(o0, paired, rows):
                at = first * lines + o * count
                simd.add_lists(acc, targets, o - o0, panel, values, index, at, count, fresh, rows, vectors, width)
            for o in range(paired, o1):
                at = first * lines + o * count
                simd.add_lists(acc, targets, o - o0, panel, values, index, at, count, fresh, 1, vectors, width)

        return add

    begin, add_to = adder(1), adder(0)

    @njit
    def add(acc, panel, lists, o0, o1, high, chunk, block):
        if chunk == 0 and block == 0:
            begin(acc, panel, lists, o0, o1, chunk, block)
        else:
            add_to(acc, panel, lists, o0, o1, chunk, block)

    return add


@cache
def uneven_lists(rows, vectors, width):
    """Add the lists of one block of outputs in one block of the reduction, in sets of equal length."""
    tile = vectors * width

    @njit
    def add(acc, panel, lists, o0, o1, high, chunk, block):
        _, index, values, targets, bounds, sets = lists
        if chunk == 0 and block == 0:
            acc[: (o1 - o0) * tile] = 0
        for j in range(bounds[high, chunk, block], bounds[high, chunk, block + 1]):
            first, count, target = sets[j, 0], sets[j, 1], sets[j, 2]
            if sets[j, 3] == rows:
                simd.add_lists(acc, targets, target, panel, values, index, first, count, 0, rows, vectors, width)
            else:
                simd.add_lists(acc, targets, target, panel, values, index, first, count, 0, 1, vectors, width)

    return add


@cache
def multiplier(add_block, vectors, width):
    """The kernel out[t, o] = sum over the lists of o of value * x[t, index] + bias[o], for tokens lo:hi, outputs a:b.

    `add_block` begins the sums of a block of outputs in the first block of the first chunk.
    """
    tile = vectors * width
    pack, unpack = packing(width, tile)

    @njit
    def multiply(out, x, bias, nothing, lists, blocks, panel, acc, lo, hi, a, b):
        chunks, chunk_blocks, depth, height = blocks
        inner = x.shape[1]
        panel[depth * tile : (depth + 1) * tile] = 0
        for t0 in range(lo, hi, tile):
            t1 = min(t0 + tile, hi)
            for chunk in range(chunks):
                pack(panel, x, t0, t1, chunk * depth, min((chunk + 1) * depth, inner))
                shift = bias if chunk == chunks - 1 else nothing
                for o0 in range(a, b, height):
                    o1 = min(o0 + height, b)
                    if chunk > 0:
                        pack(acc, out, t0, t1, o0, o1)
                    for block in range(chunk_blocks):
                        add_block(acc, panel, lists, o0, o1, o0 // height, chunk, block)
                    unpack(out, acc, shift, t0, t1, o0, o1, chunk == chunks - 1)

    return multiply


@cache
def dotter(vectors, width):
    """The kernel out[r, s] += sum over t of a[t, r] * b[t, index[r, s]], for lines lo:hi of the sparse result.

    Of each chunk of `b`, only the blocks first:last, of `rows` columns each, are packed and multiplied.
    """
    tile = vectors * width
    few = max(1, width // 4)
    pack, _ = packing(width, tile)

    @njit
    def add_block(out, a, b, index, r0, r1, stride, cut, length):
        most, some, rest = length // width, length % width // few, length % few
        for r in range(r0, r1):
            first = r * stride + cut
            far = first + AHEAD * stride
            for s in range(far, far + length, simd.LINE_BYTES // out.itemsize):
                simd.fetch(out, s)
            for s in range(far, far + length, simd.LINE_BYTES // index.itemsize):
                simd.fetch(index, s)
            simd.add_dots(out, first, a, r - r0, b, index, first, most, width, vectors, width)
            first += most * width
            simd.add_dots(out, first, a, r - r0, b, index, first, some, few, vectors, width)
            first += some * few
            simd.add_dots(out, first, a, r - r0, b, index, first, rest, 1, vectors, width)

    @njit
    def multiply(out, a, b, index, cuts, stride, blocks, rows, panel, acc, lo, hi, first, last):
        chunks, _, depth, height = blocks
        inner = b.shape[1]
        panel[depth * tile : (depth + 1) * tile] = 0
        for t0 in range(0, a.shape[0], tile):
            t1 = min(t0 + tile, a.shape[0])
            for chunk in range(chunks):
                here, end = chunk * depth + first * rows, min(chunk * depth + min(last * rows, depth), inner)
                pack(panel[first * rows * tile :], b, t0, t1, here, max(here, end))
                for r0 in range(lo, hi, height):
                    r1 = min(r0 + height, hi)
                    pack(acc, a, t0, t1, r0, r1)
                    for block in range(first, last):
                        cut = cuts[chunk, block]
                        add_block(out, acc, panel, index, r0, r1, stride, cut, cuts[chunk, block + 1] - cut)

    return multiply


@cache
def windower(slots, tables, tokens, width):
    """The kernel out[t, o] = sum over windows and slots of value * x[t, window + index] + bias[o], outputs in blocks.

    `tokens` tokens run together; x is padded with zeros to whole windows and a multiple of `tokens` rows, and aligned.
    """

    @njit
    def multiply(out, x, bias, values, index, sums, lo, hi):
        windows, inner = values.shape[1], x.shape[1]
        flat_x, flat_values, flat_index = x.ravel(), values.ravel(), index.ravel()
        for t0 in range(0, out.shape[0], tokens):
            for block in range(lo, hi):
                first, from_x = block * windows * slots * width, t0 * inner
                simd.window_products(
                    sums, flat_x, from_x, inner, flat_values, flat_index, first, windows, slots, tables, tokens, width
                )
                for t in range(t0, min(t0 + tokens, out.shape[0])):
                    for o in range(block * width, min((block + 1) * width, out.shape[1])):
                        out[t, o] = sums[(t - t0) * width + o - block * width] + bias[o]

    return multiply
