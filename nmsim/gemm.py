"""The three products of a linear layer, dense or compressed by the type of the operand, and the record of what ran."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from jaxtyping import Float

from hwmodel.errors import UserError
from hwmodel.workload import Gemm, Operand, Phase
from nmsim import layouts
from nmsim.compressed import NMMatrix, compress, decompress
from nmsim.kernels import plain, products
from nmsim.kernels.jit import COMPILED
from nmsim.kernels.scratch import aligned, recycled, scratch
from nmsim.kernels.threads import split

Weight = Float[np.ndarray, "d_out d_in"] | NMMatrix

# Positions in a group are bytes in every compressed kernel; wider groups run dense.
WIDEST_GROUP = 255

# At most this many tokens are multiplied window by window; more are packed into panels.
FEW_TOKENS = 16

# Multiply-adds that take as long as reading or writing one element.
MOVED = 8

_recordings: ContextVar[tuple[list[Gemm], ...]] = ContextVar("recordings", default=())


@contextmanager
def record() -> Iterator[list[Gemm]]:
    """Collect every product that runs inside, from the arrays really passed; recordings nest.

    A thread started inside has its own context and is not seen, unless it runs in a copy of this one.
    """
    ops: list[Gemm] = []
    token = _recordings.set((*_recordings.get(), ops))
    try:
        yield ops
    finally:
        _recordings.reset(token)


def joined(operands: Sequence[Float[np.ndarray, "_ _"] | NMMatrix]) -> Float[np.ndarray, "rows d_in"] | None:
    """Matrices of one width as one, where they lie end to end in memory, as parameters do that follow each other."""
    arrays = [w for w in operands if isinstance(w, np.ndarray) and w.flags.c_contiguous and w.base is not None]
    if len(arrays) < len(operands):
        return None
    first, end = arrays[0], arrays[0].ctypes.data
    for a in arrays:
        if a.base is not first.base or a.ctypes.data != end or a.shape[1] != first.shape[1]:
            return None
        end += a.nbytes
    rows = sum(len(a) for a in arrays)
    whole: np.ndarray = np.lib.stride_tricks.as_strided(first, (rows, first.shape[1]))
    return whole


def _note(site: str, phase: Phase, operands: Callable[[], tuple[Operand, Operand, Operand]], repeat: int = 1) -> None:
    """Record a product if anybody listens; its operands are described only then, which costs more than the rest."""
    recordings = _recordings.get()
    if recordings:
        op = Gemm(site, phase, *operands(), repeat)
        for ops in recordings:
            ops.append(op)


def _operand(w: Weight) -> Operand:
    rows, cols = w.shape
    if isinstance(w, NMMatrix):
        return Operand(rows, cols, bits=w.dtype.itemsize * 8, structure=w.pattern, axis=w.axis)
    return Operand(rows, cols, bits=w.dtype.itemsize * 8)


def _runnable(w: Weight) -> Weight:
    """The operand that really runs: groups wider than an index byte are decompressed."""
    return decompress(w) if isinstance(w, NMMatrix) and w.pattern.m > WIDEST_GROUP else w


def fprop(
    x: Float[np.ndarray, "t d_in"], w: Weight, *, site: str = "", bias: Float[np.ndarray, " d_out"] | None = None
) -> Float[np.ndarray, "t d_out"]:
    """Forward product of a linear layer, y = x @ w.T + bias."""
    w = _runnable(w)
    _check_inner(site, "x", x.shape[1], "d_in", w.shape[1])
    if bias is not None:
        _check_inner(site, "bias", bias.size, "d_out", w.shape[0])
    if isinstance(w, NMMatrix):
        y = _compressed(x, w, bias, reduced=1)
    else:
        y = _product(x, w.T)
        if bias is not None:
            y += bias
    _note(site, "fprop", lambda: (_operand(x), _operand(w).transposed(), _operand(y)))
    return y


def dgrad(dy: Float[np.ndarray, "t d_out"], w: Weight, *, site: str = "") -> Float[np.ndarray, "t d_in"]:
    """Gradient of a linear layer's loss with respect to its input, dx = dy @ w."""
    w = _runnable(w)
    _check_inner(site, "dy", dy.shape[1], "d_out", w.shape[0])
    dx = _product(dy, w) if isinstance(w, np.ndarray) else _compressed(dy, w, None, reduced=0)
    _note(site, "dgrad", lambda: (_operand(dy), _operand(w), _operand(dx)))
    return dx


def wgrad(
    dy: Float[np.ndarray, "t d_out"],
    x: Float[np.ndarray, "t d_in"],
    *,
    like: NMMatrix | None = None,
    site: str = "",
    out: Float[np.ndarray, "d_out d_in"] | None = None,
) -> Weight:
    """Gradient of a linear layer's loss with respect to its weight, dw = dy.T @ x; a dense one into `out`, if given.

    With `like`, only at its kept positions, as an `NMMatrix` with the same indices.
    """
    _check_inner(site, "dy", dy.shape[0], "tokens of x", x.shape[0])
    if like is not None:
        _check_inner(site, "dy", dy.shape[1], "d_out", like.shape[0])
        _check_inner(site, "x", x.shape[1], "d_in", like.shape[1])
    dw: Weight
    if like is None:
        dw = _product(dy.T, x, out)
    elif like.pattern.m > WIDEST_GROUP:
        dense = dy.T @ x
        _note(site, "wgrad", lambda: (_operand(dy).transposed(), _operand(x), _operand(dense)))
        return compress(dense, like.mask, like.pattern, like.axis)
    else:
        dw = _kept_gradient(dy, x, like)
    _note(site, "wgrad", lambda: (_operand(dy).transposed(), _operand(x), _operand(dw)))
    return dw


def fprop_joined(
    x: Float[np.ndarray, "t d_in"], w: Float[np.ndarray, "d_outs d_in"], sites: Sequence[str]
) -> Float[np.ndarray, "t d_outs"]:
    """`fprop` of layers of one size and one input as one product: weights end to end in `w`, outputs side by side."""
    y = _product(x, w.T)
    part = _part(w, sites)
    for site in sites:
        _note(site, "fprop", lambda: (_operand(x), _operand(part).transposed(), _operand(y[:, : len(part)])))
    return y


def dgrad_joined(
    dy: Float[np.ndarray, "t d_outs"], w: Float[np.ndarray, "d_outs d_in"], sites: Sequence[str]
) -> Float[np.ndarray, "t d_in"]:
    """The sum of the input gradients of the layers of `fprop_joined`."""
    dx = _product(dy, w)
    part = _part(w, sites)
    for site in sites:
        _note(site, "dgrad", lambda: (_operand(dy[:, : len(part)]), _operand(part), _operand(dx)))
    return dx


def wgrad_joined(
    dy: Float[np.ndarray, "t d_outs"],
    x: Float[np.ndarray, "t d_in"],
    sites: Sequence[str],
    *,
    out: Float[np.ndarray, "d_outs d_in"] | None = None,
) -> Float[np.ndarray, "d_outs d_in"]:
    """The weight gradients of the layers of `fprop_joined`, end to end; into `out`, if given."""
    dw = _product(dy.T, x, out)
    part = _part(dw, sites)
    for site in sites:
        _note(site, "wgrad", lambda: (_operand(dy[:, : len(part)]).transposed(), _operand(x), _operand(part)))
    return dw


def _part(w: np.ndarray, sites: Sequence[str]) -> np.ndarray:
    """The rows of the first of the layers of `w`."""
    part: np.ndarray = w[: len(w) // len(sites)]
    return part


def matmul(
    a: Float[np.ndarray, "*batch rows inner"],
    b: Float[np.ndarray, "*batch inner cols"],
    *,
    site: str = "",
    phase: Phase = "fprop",
    out: Float[np.ndarray, "*batch rows cols"] | None = None,
) -> Float[np.ndarray, "*batch rows cols"]:
    """Dense product of two activations, a @ b, or a stack of them; written to `out` where one is given."""
    _check_inner(site, "a", a.shape[-1], "rows of b", b.shape[-2])
    out = np.matmul(a, b, out=out)
    _note(site, phase, lambda: (_stacked(a), _stacked(b), _stacked(out)), math.prod(out.shape[:-2]))
    return out


def _stacked(array: np.ndarray) -> Operand:
    """One of the matrices of a stack."""
    rows, cols = array.shape[-2:]
    return Operand(rows, cols, bits=array.dtype.itemsize * 8)


def note_stack(site: str, phase: Phase, shape: tuple[int, int, int], repeat: int, dtype: np.dtype) -> None:
    """Record `repeat` dense products of (rows, inner, cols) that ran inside another kernel."""
    (rows, inner, cols), bits = shape, dtype.itemsize * 8

    def operands() -> tuple[Operand, Operand, Operand]:
        return Operand(rows, inner, bits=bits), Operand(inner, cols, bits=bits), Operand(rows, cols, bits=bits)

    _note(site, phase, operands, repeat)


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The dense product a @ b, in recycled memory unless `out` is given."""
    if out is None:
        out = recycled((a.shape[0], b.shape[1]), np.result_type(a, b))
    product: np.ndarray = np.matmul(a, b, out=out)
    return product


def _check_inner(site: str, name: str, got: int, what: str, expected: int) -> None:
    if got != expected:
        raise UserError(f"{site or 'product'}: {name} has {got}, {what} is {expected}; they must agree")


def _compressed(x: np.ndarray, w: NMMatrix, bias: np.ndarray | None, *, reduced: int) -> np.ndarray:
    """The product of x and `w`, summed over axis `reduced` of `w`."""
    x, even = _canonical(x, w.dtype), w.axis == reduced
    if not COMPILED:
        return _plain(x, w, bias, even=even)
    if even and 0 < x.shape[0] <= FEW_TOKENS and layouts.window_tables(w):
        return _few(x, w, bias)
    outputs = w.shape[1 - reduced]
    nothing = np.zeros(outputs, w.dtype)
    bias = nothing if bias is None else _canonical(bias, w.dtype)
    out: np.ndarray = recycled((x.shape[0], outputs), w.dtype)
    tile = _tile(x.shape[0], w)
    lists = _lists(w, tile, even=even)
    add = (products.even_lists if even else products.uneven_lists)(*tile)
    kernel = products.multiplier(add, tile.vectors, tile.width)
    room = (lists.blocks.depth + 1) * tile.tokens

    def run(lo: int, hi: int, a: int = 0, b: int = outputs) -> None:
        held = scratch(room + lists.blocks.height * tile.tokens, w.dtype)
        kernel(out, x, bias, nothing, lists, lists.blocks, held[:room], held[room:], lo, hi, a, b)

    work = _work(len(x), w)
    if x.shape[0] > tile.tokens:
        split(run, x.shape[0], tile.tokens, work=work)
    else:
        split(lambda a, b: run(0, x.shape[0], a, b), outputs, lists.blocks.height, work=work)
    return out


def _work(tokens: int, w: NMMatrix) -> int:
    """Operations of a product of `w`: multiply-adds, and elements read or written, each as long as MOVED of them."""
    return tokens * w.values.size + MOVED * (tokens * sum(w.shape) + w.values.size)


def _tile(tokens: int, w: NMMatrix) -> layouts.Tile:
    return layouts.tile_for(tokens, layouts.widest_tile(w.pattern.density), w.dtype.itemsize)


def _lists(w: NMMatrix, tile: layouts.Tile, *, even: bool) -> layouts.EvenLists | layouts.UnevenLists:
    return layouts.even_lists(w, tile) if even else layouts.uneven_lists(w, tile)


def derive_layouts(w: NMMatrix, tokens: int) -> None:
    """Build what `fprop` and `dgrad` of more than `FEW_TOKENS` tokens would build at their first call."""
    for even in (True, False):
        _lists(w, _tile(tokens, w), even=even)


def _plain(x: np.ndarray, w: NMMatrix, bias: np.ndarray | None, *, even: bool) -> np.ndarray:
    """The same product without a compiler."""
    outputs = w.values.shape[0] if even else w.shape[w.axis]
    out = np.zeros((x.shape[0], outputs), w.dtype)
    (plain.gather if even else plain.scatter)(x, w.values, w.indices, w.pattern.m, out)
    return out if bias is None else out + bias


def _few(x: np.ndarray, w: NMMatrix, bias: np.ndarray | None) -> np.ndarray:
    """The product of at most `FEW_TOKENS` tokens, bound by the bytes of `w`."""
    values, index, tables = layouts.windows(w)
    blocks, count, slots, width = values.shape
    tokens = 1 << (min(x.shape[0], 8) - 1).bit_length()
    kernel = products.windower(slots, tables, tokens, width)
    outputs = w.shape[1 - w.axis]
    bias = np.zeros(outputs, w.dtype) if bias is None else _canonical(bias, w.dtype)
    out = np.empty((x.shape[0], outputs), w.dtype)
    padded = aligned((-(-x.shape[0] // tokens) * tokens, count * tables * width), w.dtype)
    padded[:] = 0
    padded[: x.shape[0], : x.shape[1]] = x

    def run(lo: int, hi: int) -> None:
        kernel(out, padded, bias, values, index, scratch(tokens * width, w.dtype), lo, hi)

    split(run, blocks, 16, work=_work(len(x), w))
    return out


def _kept_gradient(dy: np.ndarray, x: np.ndarray, like: NMMatrix) -> NMMatrix:
    a, b = (_canonical(v, like.dtype) for v in ((dy, x) if like.axis == 1 else (x, dy)))
    out = np.zeros(like.values.size, like.dtype)
    if not COMPILED:
        plain.kept_products(a, b, like.indices, like.pattern.m, out.reshape(like.values.shape))
        return like.with_values(out.reshape(like.values.shape))
    tile = layouts.tile_for(a.shape[0], layouts.widest_dots(like.pattern.density), like.dtype.itemsize)
    lists = layouts.dot_lists(like, tile)
    kernel = products.dotter(tile.vectors, tile.width)
    room = (lists.blocks.depth + 1) * tile.tokens

    lines, blocks = like.values.shape[0], lists.blocks.chunk_blocks

    def run(lo: int = 0, hi: int = lines, first: int = 0, last: int = blocks) -> None:
        held = scratch(room + lists.blocks.height * tile.tokens, like.dtype)
        sizes = lists.cuts, lists.stride, lists.blocks, lists.block
        kernel(out, a, b, lists.places, *sizes, held[:room], held[room:], lo, hi, first, last)

    work = _work(len(a), like)
    if b.shape[1] > lines:  # every part packs what is not cut: let that be the smaller one
        split(lambda first, last: run(first=first, last=last), blocks, 1, work=work, parts=1)
    else:
        split(run, lines, 16, work=work, parts=1)
    if not like.is_full:
        out[~like.kept.reshape(-1)] = 0
    return like.with_values(out.reshape(like.values.shape))


def _canonical(a: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A read-only view (or copy) of one kind, so that every kernel is compiled once a type."""
    view = np.require(a, dtype, ["C", "A"]).view()
    view.flags.writeable = False
    return view
