"""Cycles of a matrix engine that skips zeros: flexible N:M (VEGETA) or unstructured with load imbalance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def engine_cycles(shape: tuple[Any, Any, Any, Any], share: Any, tile: tuple[int, int], macs_per_cycle: Any) -> Any:
    """Cycles of `repeat` products whose lanes go through a share of each output tile's reduction, at most all of it.

    Tiles at the edges run full.
    """
    rows, inner, cols, repeat = shape
    tile_rows, tile_cols = tile
    tiles = np.ceil(rows / tile_rows) * np.ceil(cols / tile_cols) * repeat
    return tiles * (tile_rows * tile_cols) * np.ceil(inner * np.minimum(share, 1.0)) / macs_per_cycle


def expected_imbalance(length: Any, density: float, lanes: int) -> Any:
    """Fullest over mean number of kept weights among `lanes` independent rows of `length` positions.

    The number kept is binomial; its expected maximum is taken as mean + sqrt(2 ln lanes) deviations.
    """
    if lanes <= 1 or density >= 1:
        return 1.0
    deviation = np.sqrt(length * density * (1 - density))
    return 1 + math.sqrt(2 * math.log(lanes)) * deviation / (length * density)
