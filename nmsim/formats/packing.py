"""Masks of one bit an element, and the kept values beside them: the step that all encodings share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from hwmodel.errors import UserError
from nmsim.formats.dtypes import bits, sign_bit
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


def first_that_fits(w: np.ndarray, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`choose` applied to all stored weights, or, where -0.0 makes a group too full, to those that differ from zero.

    So -0.0 comes back bit for bit wherever there is room for it, and as +0.0 in a matrix where there is not.
    """
    try:
        return choose(stored(w))
    except UserError:
        return choose(valued(w))


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


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that can't be written: one signature, so one compilation, for mapped and for ordinary arrays."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
