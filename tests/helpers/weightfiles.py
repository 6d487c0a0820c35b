"""Matrices with awkward bits, and files made of them."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from hwmodel.pattern import Pattern
from nmsim.formats.exchange import Encode
from nmsim.formats.safetensors import writing
from nmsim.formats.shards import open_weights
from nmsim.formats.tensors import TensorSpec

BF16, P24 = np.dtype(ml_dtypes.bfloat16), Pattern(2, 4)

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


def nothing(nbytes: int) -> None:
    """Progress that nobody watches."""


def checkpoint() -> dict[str, np.ndarray]:
    """Tensors of a small checkpoint: matrices at 2:4 along either axis, a dense one, a vector and a number."""
    rng = np.random.default_rng(0)
    return {
        "block0.mlp.up.weight": sparse(rng, (64, 128), P24, BF16),
        "block0.mlp.down": np.ascontiguousarray(sparse(rng, (64, 128), P24, BF16).T),
        "dense.weight": rng.standard_normal((32, 64)).astype(np.float16),
        "norm.weight": np.ones(7, np.float32),
        "steps": np.array(3, np.int64),
    }


CHOICES = {"block0.mlp.up.weight": Encode(1, P24), "block0.mlp.down": Encode(0, P24), "dense.weight": Encode(1, P24)}
"""How the matrices of `checkpoint` are exported."""


def same(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Assert that a file holds just these tensors, bit for bit."""
    with open_weights(path) as source:
        assert source.specs.keys() == tensors.keys()
        for name, values in tensors.items():
            assert source.specs[name].dtype == values.dtype
            assert source.read(name).shape == values.shape
            assert source.read(name).tobytes() == values.tobytes()
