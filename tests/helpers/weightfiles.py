"""Matrices with awkward bits, and files made of them."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from hwmodel.pattern import Pattern
from nmsim.formats.safetensors import writing
from nmsim.formats.tensors import TensorSpec

DTYPES = [
    np.dtype(t)
    for t in (np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.int8)
]
PATTERNS = [
    Pattern(n, m)
    for n, m in ((1, 1), (1, 2), (2, 4), (1, 4), (3, 5), (2, 8), (3, 8), (4, 8), (1, 16), (2, 17), (5, 32), (1, 70))
]


def sparse(rng: np.random.Generator, shape: tuple[int, int], pattern: Pattern, dtype: np.dtype) -> np.ndarray:
    """Random bits (NaN payloads, infinities and -0.0 among them) with at most n of every m not +0.0, often fewer."""
    rows, cols = shape
    groups = -(-cols // pattern.m)
    ranks = rng.random((rows, groups, pattern.m)).argsort(axis=-1)
    kept = (ranks < rng.integers(0, pattern.n + 1, (rows, groups, 1))).reshape(rows, -1)[:, :cols]
    width = 8 * dtype.itemsize
    random = (
        rng.integers(0, 1 << width, shape, dtype=np.uint64, endpoint=False)
        if width < 64
        else rng.integers(0, 1 << 63, shape, dtype=np.uint64)
    )
    random = np.where(rng.random(shape) < 0.1, 1 << (width - 1), random)  # -0.0
    return np.where(kept, random, 0).astype(f"u{dtype.itemsize}").view(dtype)


@st.composite
def matrices(draw):
    """A sparse matrix that obeys a drawn pattern, and the pattern."""
    pattern = draw(st.sampled_from(PATTERNS))
    shape = (draw(st.integers(1, 9)), max(draw(st.integers(1, 40)), pattern.m))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return sparse(rng, shape, pattern, draw(st.sampled_from(DTYPES))), pattern


def save(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
    """A safetensors file of these tensors."""
    specs = {name: TensorSpec(values.dtype, values.shape) for name, values in tensors.items()}
    with writing(path, specs, metadata or {}) as writer:
        for name, values in tensors.items():
            writer.put(name, values)
    return path
