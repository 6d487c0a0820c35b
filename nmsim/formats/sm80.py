"""The 2:4 encoding of NVIDIA's sparse tensor cores as PyTorch and CUTLASS lay it out for sm80.

Values are the two kept weights of every four, row by row. A nibble i0 | i1 << 2 holds their positions, four nibbles a
16-bit word (eight a 32-bit word for 8-bit weights), the first group lowest. 32-bit weights keep one of every two; their
nibble is that of the two 16-bit halves. The words are then reordered for the tensor cores' loads.
Restated from PyTorch's `torch/sparse/_semi_structured_conversions.py` and CUTLASS's `host_reorder.h`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt, UInt8

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.dtypes import look_up
from nmsim.formats.encoded import Codec, Encoded, too_full
from nmsim.formats.packing import Bits, Weights, first_that_fits, kept_pairs, kept_values, spread, spread_pairs, unpack

# Nibble for each set of non-zero weights in a group (bit j: weight j is not zero). Where fewer weights than the
# hardware keeps are not zero, the zero that is kept beside them is PyTorch's choice.
_NIBBLES = {
    Pattern(2, 4): {0: 14, 1: 8, 2: 9, 3: 4, 4: 14, 5: 8, 6: 9, 8: 14, 9: 12, 10: 13, 12: 14},
    Pattern(1, 2): {0: 14, 1: 4, 2: 14},
}
# The positions a nibble keeps; of 32-bit weights, those that either 16-bit half belongs to.
_KEPT = {
    Pattern(2, 4): {4: 0b0011, 8: 0b0101, 9: 0b0110, 12: 0b1001, 13: 0b1010, 14: 0b1100},
    Pattern(1, 2): {4: 0b01, 14: 0b10},
}
_MULTIPLES = {1: (16, 128), 2: (32, 64), 4: (32, 32)}  # of rows and columns, by bytes of a weight (PyTorch 2.15)
_WORD = {1: 4, 2: 2, 4: 2}  # bytes of a metadata word, by bytes of a weight
_APART = {2: 4, 4: 2}  # how many rows, 8 apart, are brought together, by bytes of a metadata word

Words = UInt[np.ndarray, "rows words"]
Values = Shaped[np.ndarray, "rows half"]


class _Tables(NamedTuple):
    """Look-ups by a byte: of a mask (nibbles, kept, fits) or of metadata (mask, legal)."""

    nibbles: np.ndarray
    kept: np.ndarray
    fits: np.ndarray
    mask: np.ndarray
    legal: np.ndarray


def _tables(pattern: Pattern) -> _Tables:
    m, nibble_of, kept_of = pattern.m, _NIBBLES[pattern], _KEPT[pattern]
    by_mask = [[byte >> m * g & (1 << m) - 1 for g in range(8 // m)] for byte in range(256)]
    by_meta = [[byte & 15, byte >> 4] for byte in range(256)]
    nibbles = [[nibble_of.get(group, 14) for group in groups] for groups in by_mask]
    return _Tables(
        nibbles=np.array([_join(row, 4) for row in nibbles]).astype(f"u{4 // m}"),
        kept=np.array([_join([kept_of[nibble] for nibble in row], m) for row in nibbles], np.uint8),
        fits=np.array([all(group in nibble_of for group in groups) for groups in by_mask]),
        mask=np.array([_join([kept_of.get(nibble, 0) for nibble in row], m) for row in by_meta], np.uint8),
        legal=np.array([all(nibble in kept_of for nibble in row) for row in by_meta]),
    )


def _join(fields: list[int], width: int) -> int:
    return sum(field << width * place for place, field in enumerate(fields))


_TABLES = {pattern: _tables(pattern) for pattern in _NIBBLES}


def hardware_pattern(itemsize: int) -> Pattern:
    """What sm80 tensor cores hold: 1:2 for weights of 4 bytes, 2:4 for narrower ones."""
    return Pattern(1, 2) if itemsize == 4 else Pattern(2, 4)


def check_shape(shape: tuple[int, ...], itemsize: int) -> None:
    """Raise `UserError` for a matrix whose shape or width of weights sm80 tensor cores do not take."""
    if itemsize not in _MULTIPLES:
        raise UserError(f"{8 * itemsize}-bit weights; sparse tensor cores take 8, 16 or 32 bits, so convert them")
    rows, cols = _MULTIPLES[itemsize]
    if shape[0] % rows or shape[1] % cols:
        raise UserError(
            f"shape {list(shape)}; {8 * itemsize}-bit weights need multiples of {rows} rows and {cols} columns; "
            "pad the layer or leave it dense"
        )


def reorder(words: Words) -> Words:
    """Metadata words [rows, cols] as CUTLASS lays them out for sm80, in an array of the same shape.

    Rows 8 apart come together in groups of 32 (16 for words of 4 bytes), 2 x 2 blocks are transposed, and strips of two
    columns follow each other.
    """
    (rows, cols), pairs = words.shape, _APART[words.itemsize] // 2
    strips = words.reshape(rows // (16 * pairs), pairs, 2, 8, cols // 2, 2)
    return strips.transpose(4, 0, 3, 1, 5, 2).reshape(rows, cols)


def restore(words: Words) -> Words:
    """The inverse of `reorder`."""
    (rows, cols), pairs = words.shape, _APART[words.itemsize] // 2
    strips = words.reshape(cols // 2, rows // (16 * pairs), 8, pairs, 2, 2)
    return strips.transpose(1, 3, 5, 2, 0, 4).reshape(rows, cols)


def two_of_four(w: Weights) -> Bits:
    """The mask of exactly two of every four weights, PyTorch's way. Raises `UserError` where three are not zero."""
    mask = look_up(_TABLES[Pattern(2, 4)].kept, _fitting(w, Pattern(2, 4)))
    if w.shape[1] % 8:
        mask[:, -1] &= 0b1111  # the row ends within the byte, and the empty group behind it keeps nothing
    return mask


def _fitting(w: Weights, pattern: Pattern) -> Bits:
    """The mask of the weights to store, checked to be within `pattern`."""

    def checked(stored: Bits) -> Bits:
        if not look_up(_TABLES[pattern].fits, stored).all():
            counts = unpack(stored, w.shape[1]).reshape(-1, pattern.m).sum(axis=1)
            bad = int(np.argmax(counts > pattern.n))
            raise too_full(bad, w.shape[1] // pattern.m, int(counts[bad]), pattern)
        return stored

    return first_that_fits(w, checked)


def encode(w: Weights) -> tuple[Values, Words]:
    """Kept values [rows, cols / 2] and reordered metadata words of a matrix that obeys the hardware's pattern.

    Raises `UserError` for a shape the hardware does not take and for a group with too many non-zero weights.
    """
    check_shape(w.shape, w.dtype.itemsize)
    pattern, tables = hardware_pattern(w.dtype.itemsize), _TABLES[hardware_pattern(w.dtype.itemsize)]
    mask = _fitting(w, pattern)
    nibbles = look_up(tables.nibbles, mask)
    if pattern.m == 4:
        values = kept_pairs(w, nibbles)
    else:
        values = kept_values(w, look_up(tables.kept, mask)).reshape(w.shape[0], w.shape[1] // 2)
    return values, reorder(nibbles.view(f"u{_WORD[w.dtype.itemsize]}"))


def decode(values: Values, meta: Words) -> Weights:
    """The inverse of `encode`. Raises `UserError` for a nibble that names no legal pair, with its row and group."""
    pattern = hardware_pattern(values.dtype.itemsize)
    pairs = restore(meta).view(np.uint8)
    _check_legal(pairs, pattern)
    if pattern.m == 4:
        return spread_pairs(values, pairs)
    mask = look_up(_TABLES[pattern].mask, pairs)
    mask = mask[:, 0::2] | mask[:, 1::2] << 4
    return spread(values.reshape(-1), mask, 2 * values.shape[1])


def _check_legal(pairs: UInt8[np.ndarray, "rows pairs"], pattern: Pattern) -> None:
    legal = look_up(_TABLES[pattern].legal, pairs)
    if legal.all():
        return
    row, byte = np.unravel_index(int(np.argmin(legal)), legal.shape)
    nibbles = [int(pairs[row, byte]) & 15, int(pairs[row, byte]) >> 4]
    high = nibbles[0] in _KEPT[pattern]
    legal_names = " ".join(f"{nibble:X}" for nibble in _KEPT[pattern])
    raise UserError(
        f"row {row}, group {2 * byte + high}: metadata nibble {nibbles[high]:X} is not one of {legal_names}; "
        "the file is damaged or its metadata is in another order"
    )


def _shape(values: np.ndarray) -> tuple[int, int]:
    """The dense shape behind kept values. Raises `UserError` for values that are no matrix of a legal shape."""
    if values.ndim != 2:
        raise UserError(f"values are {values.ndim}-D; they must be a matrix")
    shape = (values.shape[0], 2 * values.shape[1])
    check_shape(shape, values.dtype.itemsize)
    return shape


def _meta_shape(values: np.ndarray) -> tuple[int, int]:
    rows, cols = _shape(values)
    return rows, cols * 4 // hardware_pattern(values.dtype.itemsize).m // (8 * _WORD[values.dtype.itemsize])


def _codec(name: str, values: str, meta: str, kind: str, *, flat: bool, text: str) -> Codec:
    """The same bytes under other names: metadata words as integers of a `kind` ("i" or "u"), as a matrix or flat."""

    def encode_parts(w: np.ndarray, _: Pattern) -> Encoded:
        kept, words = encode(w)
        return Encoded({values: kept, meta: (words.reshape(-1) if flat else words).view(f"{kind}{words.itemsize}")})

    def decode_parts(encoded: Encoded) -> np.ndarray:
        kept = encoded.parts[values]
        shape = _meta_shape(kept)
        dtype = np.dtype(f"{kind}{_WORD[kept.dtype.itemsize]}")
        words = encoded.part(meta, dtype.name, (math.prod(shape),) if flat else shape)
        return decode(kept, words.view(f"u{dtype.itemsize}").reshape(shape))

    return Codec(
        name=name,
        suffixes=(values, meta),
        values=values,
        encode=encode_parts,
        decode=decode_parts,
        shape=lambda encoded: _shape(encoded.parts[values]),
        text=text,
    )


TORCH = _codec(
    "torch-semi-structured",
    "packed",
    "meta",
    "i",
    flat=False,
    text="2:4 as PyTorch's SparseSemiStructuredTensorCUTLASS takes it: packed values, signed metadata in sm80 order",
)
CUTLASS = _codec(
    "cutlass-sm80",
    "a",
    "e",
    "u",
    flat=True,
    text="the same 2:4 bytes as CUTLASS names them: operand A, and flat unsigned metadata E in sm80 order",
)
