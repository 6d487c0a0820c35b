"""Masks of one bit an element, and the kept values beside them: the step that all encodings share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from hwmodel.errors import UserError
from nmsim.formats.dtypes import bits, read_only, sign_bit
from nmsim.formats.tensors import TensorSpec, blocks
from nmsim.kernels import codecs

Weights = Shaped[np.ndarray, "rows cols"]
Bits = UInt8[np.ndarray, "rows bytes"]


def stored(w: np.ndarray) -> np.ndarray:
    """Which weights an encoding must store to return every bit: all but +0.0."""
    kept: np.ndarray = bits(w) != 0
    return kept


def valued(w: np.ndarray) -> np.ndarray:
    """Which weights differ from zero, whatever its sign; NaN does."""
    pattern = bits(w)
    kept: np.ndarray = (pattern & pattern.dtype.type(sign_bit(w.dtype) ^ np.iinfo(pattern.dtype).max)) != 0
    return kept


def first_that_fits(w: Weights, choose: Callable[[Bits], Bits]) -> Bits:
    """`choose` applied to the mask of all stored weights, or, where -0.0 makes a group too full, of those not zero.

    So -0.0 comes back bit for bit wherever there is room for it, and as +0.0 in a matrix where there is not.
    """
    try:
        return choose(mask_of(w, stored))
    except UserError:
        return choose(mask_of(w, valued))


def mask_of(w: Weights, which: Callable[[np.ndarray], np.ndarray]) -> Bits:
    """The mask of the weights that `which` picks, in blocks, so that what it returns stays in the caches."""
    mask = np.empty((w.shape[0], -(-w.shape[1] // 8)), np.uint8)
    for start, stop in blocks(TensorSpec(w.dtype, w.shape)):
        mask[start:stop] = pack(which(w[start:stop]))
    return mask


def pack(kept: Bool[np.ndarray, "rows cols"]) -> Bits:
    """One bit an element, rows padded to whole bytes; column c is bit c % 8 of byte c // 8."""
    return np.packbits(kept, axis=-1, bitorder="little")


def unpack(mask: Bits, cols: int) -> Bool[np.ndarray, "rows cols"]:
    """The inverse of `pack`."""
    return np.unpackbits(mask, axis=-1, count=cols, bitorder="little").view(np.bool_)


def kept_values(w: Weights, mask: Bits) -> Shaped[np.ndarray, " kept"]:
    """The weights that `mask` keeps, row by row."""
    values = np.empty(int(np.bitwise_count(mask).sum(dtype=np.int64)), bits(w).dtype)
    codecs.gather(read_only(bits(w)), read_only(mask), values)
    return values.view(w.dtype)


def spread(values: Shaped[np.ndarray, " kept"], mask: Bits, cols: int) -> Weights:
    """A matrix of `cols` columns with `values` where `mask` keeps and +0.0 elsewhere."""
    w = np.zeros((len(mask), cols), bits(values).dtype)
    codecs.scatter(read_only(bits(values)), read_only(mask), w)
    return w.view(values.dtype)


def kept_pairs(w: Weights, nibbles: UInt8[np.ndarray, "rows eighth"]) -> Shaped[np.ndarray, "rows half"]:
    """The two weights, of 8 or 16 bits, that a nibble i0 | i1 << 2 keeps of every four; two nibbles a byte."""
    values = np.empty((w.shape[0], w.shape[1] // 2), bits(w).dtype)
    width = 8 * w.itemsize
    codecs.gather_pairs(read_only(_words(w, 4)), read_only(nibbles).reshape(-1), width, _words(values, 2))
    return values.view(w.dtype)


def spread_pairs(values: Shaped[np.ndarray, "rows half"], nibbles: UInt8[np.ndarray, "rows eighth"]) -> Weights:
    """The inverse of `kept_pairs`, for nibbles that name two positions."""
    w = np.empty((values.shape[0], values.shape[1] * 2), bits(values).dtype)
    width = 8 * values.itemsize
    codecs.scatter_pairs(read_only(_words(values, 2)), read_only(nibbles).reshape(-1), width, _words(w, 4))
    return w.view(values.dtype)


def _words(w: np.ndarray, together: int) -> np.ndarray:
    """The same memory, flat, with so many weights in each unsigned integer."""
    return np.ascontiguousarray(w).reshape(-1).view(f"u{together * w.itemsize}")
