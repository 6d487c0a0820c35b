"""This project's own encoding of any N:M: kept values, and their positions as packed indices or as a mask.

Every group stores exactly n values; where fewer are not +0.0, the lowest free positions fill it. The last group of a
row may be short. Parts of `layer.weight`:

  layer.nm_values   [slots] for the index layout, a slot for each of n in every group; [kept] for the bitmask layout
  layer.nm_index    bytes of a little-endian stream of ceil(log2 m)-bit positions, group after group, row after row
  layer.nm_bitmask  bytes of one bit a weight, row after row without padding, low bits first

Their bytes are `hwmodel.footprint.matrix_bytes` with the layout "index" or "bitmask".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from hwmodel.toml import build
from nmsim.formats.dtypes import bits, look_up, read_only
from nmsim.formats.encoded import Codec, Encoded, too_full
from nmsim.formats.packing import Bits, Weights, first_that_fits, kept_values, pack, spread, unpack
from nmsim.kernels import codecs

_MAX_M = 1 << 16
_WIDEST_CODE = 12  # bits of the positions in a byte of a mask; a table of all codes stays in the first-level cache


@dataclass(frozen=True)
class _Info:
    """What the parts don't say: the pattern and the dense shape."""

    n: int
    m: int
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if not min(self.shape) >= 0:
            raise UserError(f"shape {list(self.shape)}: sizes are 0 or more")
        if not self.m <= min(max(1, self.shape[1]), _MAX_M):
            raise UserError(f"m={self.m}: needs at most the row length {self.shape[1]}, and at most {_MAX_M}")
        Pattern(self.n, self.m)

    @property
    def pattern(self) -> Pattern:
        return Pattern(self.n, self.m)

    @property
    def groups(self) -> int:
        return -(-self.shape[1] // self.m)

    @property
    def tables(self) -> _Tables | None:
        """Look-ups by whole bytes of the mask, where n:m and the length of the rows fit them."""
        fitting = self.m in (2, 4, 8) and self.shape[1] % 8 == 0
        width = 8 // self.m * self.n * self.pattern.index_bits
        return _tables(self.pattern) if fitting and self.n < self.m and width <= _WIDEST_CODE else None

    @property
    def kept(self) -> int:
        """Weights a row keeps; a short last group keeps all it has if that is fewer than n."""
        full, rest = divmod(self.shape[1], self.m)
        return full * self.n + min(rest, self.n)


class _Tables(NamedTuple):
    """Look-ups where a byte of the mask holds whole groups; 0 marks what the pattern does not allow."""

    filled: UInt8[np.ndarray, "256"]  # a mask byte with its groups filled up to n by their lowest free positions
    codes: UInt16[np.ndarray, "256"]  # the positions of a filled byte, end to end
    masks: UInt8[np.ndarray, " codes"]  # the byte of such a code
    width: int  # bits of a code


@functools.cache
def _tables(pattern: Pattern) -> _Tables:
    n, m, bits_each = pattern.n, pattern.m, pattern.index_bits
    groups, width = 8 // m, 8 // m * n * bits_each
    filled, codes, masks = np.zeros(256, np.uint8), np.zeros(256, np.uint16), np.zeros(1 << width, np.uint8)
    for byte in range(256):
        kept = [[j for j in range(m) if byte >> m * g + j & 1] for g in range(groups)]
        if any(len(group) > n for group in kept):
            continue
        full = [sorted(group + [j for j in range(m) if j not in group][: n - len(group)]) for group in kept]
        filled[byte] = sum(1 << m * g + j for g, group in enumerate(full) for j in group)
        places = [j for group in full for j in group]
        codes[filled[byte]] = code = sum(j << bits_each * slot for slot, j in enumerate(places))
        masks[code] = filled[byte]
    return _Tables(filled, codes, masks, width)


def _described(w: np.ndarray, pattern: Pattern) -> _Info:
    return _Info(pattern.n, pattern.m, (w.shape[0], w.shape[1]))


def _read_info(encoded: Encoded) -> _Info:
    return build(_Info, encoded.info, "metadata")


def _filled(w: Weights, info: _Info) -> UInt8[np.ndarray, "rows padded"]:
    """Which positions are stored: n of every m, in rows padded to whole groups."""

    def completed(stored: Bits) -> UInt8[np.ndarray, "rows padded"]:
        if info.tables is not None:
            mask = look_up(info.tables.filled, stored)
            if mask.all():
                return mask
        kept = _widened(unpack(stored, w.shape[1]), info.groups * info.m)
        groups = kept.view(np.uint8).reshape(-1, info.m)
        bad = codecs.complete(groups, info.n)
        if bad >= 0:
            raise too_full(bad, info.groups, int(groups[bad].sum()), info.pattern)
        return pack(kept)

    return first_that_fits(w, completed)


def _widened(a: Shaped[np.ndarray, "rows cols"], cols: int) -> Shaped[np.ndarray, "rows wider"]:
    """The rows of `a` followed by zeros up to `cols`."""
    if a.shape[1] == cols:
        return a
    wide = np.zeros((len(a), cols), a.dtype)
    wide[:, : a.shape[1]] = a
    return wide


def _encode_index(w: np.ndarray, pattern: Pattern) -> Encoded:
    info = _described(w, pattern)
    mask = _filled(w, info)
    values = kept_values(_widened(w, info.groups * info.m), mask)
    words = np.zeros(-(-_stream_bytes(info) // 8), "<u8")
    if info.tables is not None:
        codecs.pack_codes(read_only(mask).reshape(-1), read_only(info.tables.codes), info.tables.width, words)
    else:
        codecs.pack_positions(mask, info.n, info.m, pattern.index_bits, words)
    return Encoded({"nm_values": values, "nm_index": words.view(np.uint8)[: _stream_bytes(info)]}, asdict(info))


def _decode_index(encoded: Encoded) -> np.ndarray:
    info = _read_info(encoded)
    rows, cols = info.shape
    values = _values(encoded, rows * info.groups * info.n)
    stream = encoded.part("nm_index", "uint8", (_stream_bytes(info),))
    mask = _unpacked(stream, info)
    padded = spread(values, mask, info.groups * info.m)
    outside = bits(padded[:, cols:])
    if outside.any():
        row = int(np.argwhere(outside)[0][0])
        raise UserError(f"row {row}, group {info.groups - 1}: a weight stands beyond the last column, {cols - 1}")
    return np.ascontiguousarray(padded[:, :cols])


def _unpacked(stream: UInt8[np.ndarray, " length"], info: _Info) -> Bits:
    """The mask of a stream of positions. Raises `UserError`, with row and group, for positions that do not rise."""
    mask = np.zeros((info.shape[0], -(-info.groups * info.m // 8)), np.uint8)
    if info.tables is not None:
        codecs.unpack_codes(read_only(stream), read_only(info.tables.masks), info.tables.width, mask.reshape(-1))
        if mask.all():
            return mask
        mask[:] = 0
    bad = codecs.unpack_positions(read_only(stream), info.n, info.m, info.pattern.index_bits, info.groups, mask)
    if bad >= 0:
        row, group = divmod(bad, info.groups)
        raise UserError(f"row {row}, group {group}: positions do not rise below m={info.m}; the file is damaged")
    return mask


def _stream_bytes(info: _Info) -> int:
    return -(-info.shape[0] * info.groups * info.n * info.pattern.index_bits // 8)


def _encode_bitmask(w: np.ndarray, pattern: Pattern) -> Encoded:
    info = _described(w, pattern)
    mask = _filled(w, info)
    if info.tables is None:  # rows may end within a byte, of the mask and of the stream
        kept = unpack(mask, w.shape[1])
        mask, stream = pack(kept), np.packbits(kept, bitorder="little")
    else:
        stream = mask.reshape(-1)
    return Encoded({"nm_values": kept_values(w, mask), "nm_bitmask": stream}, asdict(info))


def _decode_bitmask(encoded: Encoded) -> np.ndarray:
    info = _read_info(encoded)
    rows, cols = info.shape
    values = _values(encoded, rows * info.kept)
    stream = encoded.part("nm_bitmask", "uint8", (-(-rows * cols // 8),))
    if info.tables is not None:
        mask = stream.reshape(rows, cols // 8)
        if np.array_equal(look_up(info.tables.filled, mask), mask):
            return spread(values, mask, cols)
    kept = np.unpackbits(stream, count=rows * cols, bitorder="little").reshape(rows, cols)
    _check_counts(_widened(kept, info.groups * info.m), info, values.size)
    return spread(values, pack(kept.view(np.bool_)), cols)


def _check_counts(kept: UInt8[np.ndarray, "rows padded"], info: _Info, total: int) -> None:
    """Every group must store n weights, a short last one fewer: none has more, and all together have `total`."""
    groups = kept.reshape(-1, info.m)
    found = np.count_nonzero(groups)
    bad = codecs.complete(groups.copy(), info.n)
    if bad < 0 and found < total:
        wanted = np.minimum(info.n, info.shape[1] - info.m * np.arange(info.groups))
        bad = int(np.argmax(groups.sum(axis=1).reshape(-1, info.groups) < wanted))
    if bad >= 0:
        row, group = divmod(bad, info.groups)
        count = int(groups[bad].sum())
        raise UserError(
            f"row {row}, group {group}: the bitmask keeps {count} of {info.m}, not the {info.n} of the pattern"
        )


def _values(encoded: Encoded, count: int) -> Shaped[np.ndarray, " slots"]:
    values = encoded.parts["nm_values"]
    if values.shape != (count,):
        raise UserError(f"nm_values is {list(values.shape)}; the pattern and shape in the metadata need [{count}]")
    return values


def _shape(encoded: Encoded) -> tuple[int, int]:
    return _read_info(encoded).shape


def _codec(
    name: str,
    positions: str,
    encode: Callable[[np.ndarray, Pattern], Encoded],
    decode: Callable[[Encoded], np.ndarray],
    text: str,
) -> Codec:
    return Codec(name, ("nm_values", positions), "nm_values", encode, decode, _shape, text, takes_pattern=True)


INDEX = _codec(
    "nm", "nm_index", _encode_index, _decode_index, "any N:M, this project's own: kept values and bit-packed positions"
)
BITMASK = _codec(
    "nm-bitmask",
    "nm_bitmask",
    _encode_bitmask,
    _decode_bitmask,
    "any N:M, this project's own: kept values and a bit a weight (smaller where n log2 m > m)",
)
