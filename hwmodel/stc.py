"""The sparse tensor cores of the Sparseloop artefact (arXiv 2205.05826): cycles as the slowest of levels."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwmodel.pattern import Pattern

PATTERNS = (Pattern(2, 4), Pattern(2, 6), Pattern(2, 8))
MACS_PER_CYCLE = 1024
WORDS_PER_CYCLE = 42
A_REUSE = 128
B_REUSE = 64


def core_words(shape: tuple[Any, Any, Any, Any], density: Any) -> Any:
    """Words read from the shared buffer: kept weights with their metadata, and activations."""
    rows, inner, cols, repeat = shape
    macs = rows * inner * cols * repeat
    return macs * density / A_REUSE * 1.25 + macs / B_REUSE


def core_cycles(shape: tuple[Any, Any, Any, Any], density: Any) -> Any:
    """Cycles of `repeat` products, the larger of multiply-adds and buffer words over their rates."""
    rows, inner, cols, repeat = shape
    compute = rows * inner * cols * repeat * density / MACS_PER_CYCLE
    return np.maximum(compute, core_words(shape, density) / WORDS_PER_CYCLE)
