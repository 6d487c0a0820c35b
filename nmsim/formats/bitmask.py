"""The two legacy encodings of compressed-tensors (up to 0.14): kept values beside a mask of one bit a weight.

`sparse-24-bitmask` keeps two of every four; `sparse-bitmask` keeps what is not zero, whatever the pattern, and also
stores where each row begins. Restated from its `sparse_24_bitmask.py` and `sparse_bitmask.py`. A zero that fills up a
group of four is chosen as in `sm80`; PyTorch's own choice differs between devices, so compare decoded weights only.
"""

from __future__ import annotations

import numpy as np

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.encoded import Codec, Encoded
from nmsim.formats.packing import Bits, kept_values, mask_of, spread, stored
from nmsim.formats.sm80 import two_of_four


def _encode_24(w: np.ndarray, _: Pattern) -> Encoded:
    if w.shape[1] % 4:
        raise UserError(f"shape {list(w.shape)}: rows are not a multiple of 4 long; pad the layer or leave it dense")
    mask = two_of_four(w)
    shape = np.array(w.shape, np.int64)[:, None]
    return Encoded(
        {"shape": shape, "compressed": kept_values(w, mask).reshape(len(w), w.shape[1] // 2), "bitmask": mask}
    )


def _decode_24(encoded: Encoded) -> np.ndarray:
    rows, cols = _shape_24(encoded)
    values, mask = encoded.parts["compressed"], _checked_mask(encoded, rows, cols)
    if cols % 4 or values.shape != (rows, cols // 2):
        raise UserError(f"compressed is {list(values.shape)}; shape {[rows, cols]} needs {[rows, cols // 2]}")
    halves = np.stack([np.bitwise_count(mask & 15), np.bitwise_count(mask >> 4)], axis=-1).reshape(
        rows, 2 * mask.shape[1]
    )
    wrong = halves[:, : cols // 4] != 2
    if wrong.any():
        row, group = np.argwhere(wrong)[0]
        raise UserError(f"row {row}, group {group}: the bitmask keeps {halves[row, group]} of 4; 2:4 keeps exactly 2")
    return spread(values.reshape(-1), mask, cols)


def _encode_any(w: np.ndarray, _: Pattern) -> Encoded:
    mask = mask_of(w, stored)
    counts = np.bitwise_count(mask).sum(axis=1, dtype=np.int64)
    parts = {
        "shape": np.array(w.shape, np.int64),
        "compressed": kept_values(w, mask),
        "bitmask": mask,
        "row_offsets": np.cumsum(counts) - counts,
    }
    return Encoded(parts)


def _decode_any(encoded: Encoded) -> np.ndarray:
    rows, cols = _shape_any(encoded)
    begins = encoded.part("row_offsets", "int64", (rows,))
    mask = _checked_mask(encoded, rows, cols)
    counts = np.bitwise_count(mask).sum(axis=1, dtype=np.int64)
    wrong = begins != np.cumsum(counts) - counts
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"row {row}: row_offsets says it begins at value {begins[row]}; the bitmask says otherwise")
    values = encoded.parts["compressed"]
    if values.shape != (counts.sum(),):
        raise UserError(f"compressed is {list(values.shape)}; the bitmask keeps {counts.sum()} weights")
    return spread(values, mask, cols)


def _checked_mask(encoded: Encoded, rows: int, cols: int) -> Bits:
    """The bitmask, without a bit beyond the last column (which would be read from outside a row)."""
    mask = encoded.part("bitmask", "uint8", (rows, -(-cols // 8)))
    if cols % 8:
        beyond = mask[:, -1] >> cols % 8 != 0
        if beyond.any():
            raise UserError(f"row {int(np.argmax(beyond))}: the bitmask keeps a column beyond the last one, {cols - 1}")
    return mask


def _shape_24(encoded: Encoded) -> tuple[int, int]:
    rows, cols = encoded.part("shape", "int64", (2, 1))[:, 0]
    return _plausible(int(rows), int(cols), encoded)


def _shape_any(encoded: Encoded) -> tuple[int, int]:
    rows, cols = encoded.part("shape", "int64", (2,))
    return _plausible(int(rows), int(cols), encoded)


def _plausible(rows: int, cols: int, encoded: Encoded) -> tuple[int, int]:
    """The shape, if the bitmask's own shape agrees: nothing larger than eight times the file is ever allocated."""
    if min(rows, cols) < 0:
        raise UserError(f"shape says {[rows, cols]}; sizes are 0 or more")
    encoded.part("bitmask", "uint8", (rows, -(-cols // 8)))
    return rows, cols


BITMASK_24 = Codec(
    name="sparse-24-bitmask",
    suffixes=("shape", "compressed", "bitmask"),
    values="compressed",
    encode=_encode_24,
    decode=_decode_24,
    shape=_shape_24,
    text="2:4 of compressed-tensors (to 0.14): two values of every four, and a bit a weight",
)
BITMASK = Codec(
    name="sparse-bitmask",
    suffixes=("shape", "compressed", "bitmask", "row_offsets"),
    values="compressed",
    encode=_encode_any,
    decode=_decode_any,
    shape=_shape_any,
    text="any sparsity of compressed-tensors (to 0.14): the values that are not zero, and a bit a weight",
)
