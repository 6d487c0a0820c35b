"""Names of the element types of weight files, as NumPy dtypes."""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np

from hwmodel.errors import unknown
from nmsim.kernels import codecs

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32),
    "C64": np.dtype(np.complex64),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
WEIGHTS = ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
_SIGNED_ZERO = frozenset(DTYPES[code] for code in ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"))


def named(name: str) -> np.dtype[Any]:
    """The dtype of weights called `name`, such as "bfloat16". Raises `UserError` for another name."""
    if name not in WEIGHTS:
        raise unknown("dtype", name, WEIGHTS)
    return np.dtype(getattr(ml_dtypes, name, name))


def is_weight(dtype: np.dtype[Any]) -> bool:
    """Whether weights are stored in this dtype: float32, float16, bfloat16 or one of the two common fp8."""
    return dtype.name in WEIGHTS


def bits(values: np.ndarray) -> np.ndarray:
    """The same memory as unsigned integers, so that -0.0 and NaN payloads survive whatever is done to it."""
    return values.view(np.dtype(f"u{values.dtype.itemsize}"))


def sign_bit(dtype: np.dtype[Any]) -> int:
    """The bit whose being set alone means -0.0; 0 for dtypes without one (integers, and fp8 whose 0x80 is NaN)."""
    return 1 << (8 * dtype.itemsize - 1) if dtype in _SIGNED_ZERO else 0


def negative_zeros(values: np.ndarray) -> int:
    """How many of the values are -0.0."""
    sign, pattern = sign_bit(values.dtype), bits(values)
    return int(np.count_nonzero(pattern == pattern.dtype.type(sign))) if sign else 0


def magnitude(values: np.ndarray) -> np.ndarray:
    """|values| as signed integers of the same order, which IEEE floats without their sign bit are."""
    pattern = bits(values)
    unsigned: np.ndarray = pattern & pattern.dtype.type(np.iinfo(pattern.dtype).max >> 1)
    return unsigned.view(np.dtype(f"i{values.dtype.itemsize}"))


def largest(dtype: np.dtype[Any]) -> int:
    """The `magnitude` of the largest finite value; what is above is infinite or NaN."""
    return int(magnitude(np.array([_limits(dtype).max], dtype))[0])


def _limits(dtype: np.dtype[Any]) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]  # the package's stubs leave it out


def place_in_float32(dtype: np.dtype[Any]) -> tuple[int, float]:
    """How far up a narrow float's magnitude moves to float32's place, and by what its number is then too small."""
    narrow, single = _limits(dtype), np.finfo(np.float32)
    return single.nmant - int(narrow.nmant), float(narrow.smallest_normal) / float(single.smallest_normal)


def to_float32(values: np.ndarray) -> np.ndarray:
    """The values as float32, exactly. bfloat16 is its upper half; other narrow types are looked up."""
    if values.dtype == np.float32:
        return values
    if values.dtype == DTYPES["BF16"]:
        return (bits(values).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return look_up(float32_table(values.dtype), bits(values))


@functools.cache
def float32_table(dtype: np.dtype[Any]) -> np.ndarray:
    """What every bit pattern of a type of at most 16 bits stands for, in float32."""
    width = 8 * dtype.itemsize
    with np.errstate(invalid="ignore"):  # signalling NaNs among the bit patterns
        return np.arange(1 << width).astype(f"u{dtype.itemsize}").view(dtype).astype(np.float32)


def look_up(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """`table[codes]`, several times as fast as NumPy's."""
    out = np.empty(codes.shape, table.dtype)
    codecs.look_up(read_only(table), read_only(codes).reshape(-1), out.reshape(-1))
    return out


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that can't be written: one signature, so one compilation, for mapped and for ordinary arrays."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
