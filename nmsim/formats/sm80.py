"""The 2:4 encoding of NVIDIA's sparse tensor cores as PyTorch and CUTLASS lay it out for sm80.

Values are the two kept weights of every four, row by row. A nibble i0 | i1 << 2 holds their positions, four nibbles a
16-bit word (eight a 32-bit word for 8-bit weights), the first group lowest. 32-bit weights keep one of every two; their
nibble is that of the two 16-bit halves. The words are then reordered for the tensor cores' loads.
Restated from PyTorch's `torch/sparse/_semi_structured_conversions.py` and CUTLASS's `host_reorder.h`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt, UInt8

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.encoded import Codec, Encoded, too_full
from nmsim.formats.packing import Bits, Weights, first_that_fits, kept_values, pack, spread

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
    rows, cols = words.shape
    near = words.reshape(-1, _APART[words.itemsize], 8, cols).transpose(0, 2, 1, 3)
    return near.reshape(rows // 2, 2, cols // 2, 2).transpose(2, 0, 3, 1).reshape(rows, cols)


def restore(words: Words) -> Words:
    """The inverse of `reorder`."""
    rows, cols = words.shape
    near = words.reshape(cols // 2, rows // 2, 2, 2).transpose(1, 3, 0, 2)
    return near.reshape(-1, 8, _APART[words.itemsize], cols).transpose(0, 2, 1, 3).reshape(rows, cols)


def two_of_four(w: Weights) -> Bits:
    """The mask of exactly two of every four weights, PyTorch's way. Raises `UserError` where three are not zero."""
    kept: np.ndarray = _TABLES[Pattern(2, 4)].kept[_fitting(w, Pattern(2, 4))]
    return kept


def _fitting(w: Weights, pattern: Pattern) -> Bits:
    """The mask of the weights to store, checked to be within `pattern`."""

    def checked(stored: np.ndarray) -> Bits:
        mask = pack(stored)
        if not _TABLES[pattern].fits[mask].all():
            counts = stored.reshape(-1, pattern.m).sum(axis=1)
            bad = int(np.argmax(counts > pattern.n))
            raise too_full(bad, stored.shape[1] // pattern.m, int(counts[bad]), pattern)
        return mask

    return first_that_fits(w, checked)


def encode(w: Weights) -> tuple[Values, Words]:
    """Kept values [rows, cols / 2] and reordered metadata words of a matrix that obeys the hardware's pattern.

    Raises `UserError` for a shape the hardware does not take and for a group with too many non-zero weights.
    """
    check_shape(w.shape, w.dtype.itemsize)
    tables = _TABLES[hardware_pattern(w.dtype.itemsize)]
    mask = _fitting(w, hardware_pattern(w.dtype.itemsize))
    values = kept_values(w, tables.kept[mask]).reshape(len(w), -1)
    words = tables.nibbles[mask].view(f"u{_WORD[w.dtype.itemsize]}")
    return values, reorder(words)


def decode(values: Values, meta: Words) -> Weights:
    """The inverse of `encode`. Raises `UserError` for a nibble that names no legal pair, with its row and group."""
    pattern = hardware_pattern(values.dtype.itemsize)
    pairs = restore(meta).view(np.uint8)
    _check_legal(pairs, pattern)
    mask = _TABLES[pattern].mask[pairs]
    if pattern.m == 2:
        mask = mask[:, 0::2] | mask[:, 1::2] << 4
    return spread(values.reshape(-1), mask, 2 * values.shape[1])


def _check_legal(pairs: UInt8[np.ndarray, "rows pairs"], pattern: Pattern) -> None:
    legal = _TABLES[pattern].legal[pairs]
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


def _encode_torch(w: np.ndarray, _: Pattern) -> Encoded:
    values, meta = encode(w)
    return Encoded({"packed": values, "meta": meta.view(f"i{meta.itemsize}")})


def _decode_torch(encoded: Encoded) -> np.ndarray:
    values = encoded.parts["packed"]
    word = _WORD[values.dtype.itemsize]
    meta = encoded.part("meta", f"int{8 * word}", _meta_shape(values))
    return decode(values, meta.view(f"u{word}"))


def _encode_cutlass(w: np.ndarray, _: Pattern) -> Encoded:
    values, meta = encode(w)
    return Encoded({"a": values, "e": meta.reshape(-1)})


def _decode_cutlass(encoded: Encoded) -> np.ndarray:
    values = encoded.parts["a"]
    rows, words = _meta_shape(values)
    meta = encoded.part("e", f"uint{8 * _WORD[values.dtype.itemsize]}", (rows * words,))
    return decode(values, meta.reshape(rows, words))


TORCH = Codec(
    name="torch-semi-structured",
    suffixes=("packed", "meta"),
    values="packed",
    encode=_encode_torch,
    decode=_decode_torch,
    shape=lambda encoded: _shape(encoded.parts["packed"]),
    text="2:4 as PyTorch's SparseSemiStructuredTensorCUTLASS takes it: packed values, signed metadata in sm80 order",
)
CUTLASS = Codec(
    name="cutlass-sm80",
    suffixes=("a", "e"),
    values="a",
    encode=_encode_cutlass,
    decode=_decode_cutlass,
    shape=lambda encoded: _shape(encoded.parts["a"]),
    text="the same 2:4 bytes as CUTLASS names them: operand A, and flat unsigned metadata E in sm80 order",
)
