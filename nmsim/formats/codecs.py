"""The register of encodings by name, and the growth limit on what is decoded."""

from __future__ import annotations

import numpy as np

from hwmodel.errors import UserError, unknown
from nmsim.formats import bitmask, container, interop, sm80
from nmsim.formats.encoded import Codec, Encoded

CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        sm80.TORCH,
        sm80.CUTLASS,
        bitmask.BITMASK_24,
        bitmask.BITMASK,
        container.INDEX,
        container.BITMASK,
        interop.CSR,
    )
}
_MAX_GROWTH = 4096  # positions of a matrix for each byte that encodes it; 1:4096 in fp8 is beyond any use
_SMALL = 64  # bytes that an empty matrix may lack


def codec(name: str) -> Codec:
    """The encoding called `name`. Raises `UserError` for another name."""
    if name not in CODECS:
        raise unknown("format", name, CODECS)
    return CODECS[name]


def decode(encoded: Encoded, by: Codec) -> np.ndarray:
    """The matrix, if it is not absurdly larger than its encoding (a few bytes must not fill the memory)."""
    rows, cols = by.shape(encoded)
    given = sum(part.nbytes for part in encoded.parts.values())
    if max(1, rows) * max(1, cols) > _MAX_GROWTH * (given + _SMALL):
        raise UserError(f"shape {[rows, cols]} from {given} bytes; the shape is damaged")
    return by.decode(encoded)
