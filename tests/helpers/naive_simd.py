"""What each vector intrinsic of `nmsim.kernels.simd` computes, one element at a time."""

from __future__ import annotations


def add_lists(acc, targets, target, panel, values, index, first, count, fresh, rows, vectors, width):
    tile = vectors * width
    for r in range(rows):
        out = int(targets[target + r]) * tile
        if fresh:
            acc[out : out + tile] = 0
        for s in range(count):
            fours = s < count // 4 * 4
            at = first + (s // 4 * 4 * rows + 4 * r + s % 4 if fours else s * rows + r)
            row = int(index[at]) * tile
            acc[out : out + tile] += values[at] * panel[row : row + tile]


def transpose_in(panel, to, tile, x, start, stride, width):
    for i in range(width):
        for j in range(width):
            panel[to + i * tile + j] = x[start + j * stride + i]


def transpose_out(out, to, stride, panel, start, tile, bias, at, streamed, width):
    for i in range(width):
        for j in range(width):
            out[to + j * stride + i] = panel[start + i * tile + j] + bias[at + i]


def add_dots(out, to, a, row, b, index, first, turns, slots, vectors, width):
    tile = vectors * width
    for s in range(turns * slots):
        place = int(index[first + s]) * tile
        out[to + s] += a[row * tile : (row + 1) * tile] @ b[place : place + tile]


def window_products(out, x, start, stride, values, index, first, windows, slots, tables, tokens, width):
    out[: tokens * width] = 0
    for window in range(windows):
        for s in range(slots):
            at = first + (window * slots + s) * width
            for lane in range(width):
                column = start + window * tables * width + int(index[at + lane])
                for i in range(tokens):
                    out[i * width + lane] += values[at + lane] * x[column + i * stride]


def address(x):
    return x.ctypes.data


def fetch(x, at):
    pass


TWINS = (address, fetch, add_lists, transpose_in, transpose_out, add_dots, window_products)
