"""The IDX format of MNIST and its kin: two zero bytes, a type, a rank, the sizes, then the numbers, big-endian."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hwmodel.errors import UserError
from nmsim.data.places import read_bytes

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, plain or .gz. Raises `UserError` for anything but a whole, well-formed file."""
    content = read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in DTYPES or not content[3]:
        raise UserError(f"{path}: starts with {content[:4].hex(' ')}, which is not an IDX header; give an IDX file")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4", count=min(content[3], len(content[4:start]) // 4)).tolist())
    dtype = np.dtype(DTYPES[content[2]])
    needed = start + math.prod(shape) * dtype.itemsize
    if len(shape) != content[3] or len(content) != needed:
        raise UserError(f"{path}: {len(content)} bytes where sizes {shape} need {needed}; bring the file again")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
