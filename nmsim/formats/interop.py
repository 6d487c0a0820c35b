"""Compressed sparse rows, as SciPy keeps them: values, 32-bit column indices and row pointers."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.dtypes import bits, read_only
from nmsim.formats.encoded import Codec, Encoded
from nmsim.formats.packing import kept_values, mask_of, stored
from nmsim.kernels import codecs

_LIMIT = np.iinfo(np.int32).max


def to_scipy(encoded: Encoded) -> sp.csr_array:
    """The encoded matrix for SciPy, on the same memory. Types that SciPy lacks (bfloat16, fp8) become float32."""
    shape = _checked(encoded)
    data = encoded.parts["data"]
    if data.dtype.kind not in "fiu" or data.dtype == np.float16:
        data = data.astype(np.float32)
    return sp.csr_array((data, encoded.parts["indices"], encoded.parts["indptr"]), shape=shape)


def from_scipy(matrix: sp.csr_array) -> Encoded:
    """The parts of a CSR matrix, its columns sorted and its duplicates added."""
    matrix = matrix.copy()
    matrix.sum_duplicates()
    return Encoded(_parts(matrix.data, matrix.indices, matrix.indptr, matrix.shape))


def _parts(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {
        "data": data,
        "indices": indices.astype(np.int32),
        "indptr": indptr.astype(np.int32),
        "csr_shape": np.array(shape, np.int64),
    }


def _encode(w: np.ndarray, _: Pattern) -> Encoded:
    mask = mask_of(w, stored)
    indptr = np.concatenate([[0], np.cumsum(np.bitwise_count(mask).sum(axis=1, dtype=np.int64))])
    if max(indptr[-1], w.shape[1]) > _LIMIT:
        raise UserError(f"{indptr[-1]} weights that are not zero; 32-bit indices hold {_LIMIT}; use another format")
    indices = np.empty(indptr[-1], np.int32)
    codecs.columns(read_only(mask), indices)
    return Encoded(_parts(kept_values(w, mask), indices, indptr, w.shape))


def _decode(encoded: Encoded) -> np.ndarray:
    shape, data = _checked(encoded), encoded.parts["data"]
    w = np.zeros(shape, bits(data).dtype)
    codecs.place(read_only(bits(data)), read_only(encoded.parts["indices"]), read_only(encoded.parts["indptr"]), w)
    return w.view(data.dtype)


def _shape(encoded: Encoded) -> tuple[int, int]:
    rows, cols = (int(size) for size in encoded.part("csr_shape", "int64", (2,)))
    if min(rows, cols) < 0:
        raise UserError(f"csr_shape says {[rows, cols]}; sizes are 0 or more")
    return rows, cols


def _checked(encoded: Encoded) -> tuple[int, int]:
    """The shape of a matrix whose pointers and columns all lie inside it. Raises `UserError` with the row otherwise."""
    rows, cols = _shape(encoded)
    indptr = encoded.part("indptr", "int32", (rows + 1,))
    data = encoded.parts["data"]
    indices = encoded.part("indices", "int32", data.shape)
    falls = np.diff(indptr) < 0
    if indptr[0] != 0 or indptr[-1] != data.size or falls.any():
        row = int(np.argmax(falls)) if falls.any() else rows
        raise UserError(f"row {row}: row pointers must rise from 0 to the {data.size} stored weights")
    place = codecs.stray_column(read_only(indices), read_only(indptr), cols)
    if place >= 0:
        row, column = int(np.searchsorted(indptr, place, side="right")) - 1, indices[place]
        if 0 <= column < cols:
            raise UserError(f"row {row}: columns do not rise; sort them and add duplicates first")
        raise UserError(f"row {row}: column {column} is outside the matrix of {cols} columns")
    return rows, cols


CSR = Codec(
    name="scipy",
    suffixes=("data", "indices", "indptr", "csr_shape"),
    values="data",
    encode=_encode,
    decode=_decode,
    shape=_shape,
    text="compressed sparse rows for scipy.sparse.csr_array; of a 2:4 float32 matrix larger than dense",
)
