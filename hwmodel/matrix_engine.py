"""Cycles of a matrix engine that skips zeros: flexible N:M (VEGETA) or unstructured with load imbalance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def engine_cycles(
    shape: tuple[Any, Any, Any, Any], density: Any, tile: tuple[int, int], macs_per_cycle: Any, imbalance: Any
) -> Any:
    """Cycles of `repeat` products that execute a share `density` of each output tile's reduction.

    Tiles at the edges run full, and every lane of a tile waits for the fullest one, `imbalance` times the mean (at
    least 1, and never beyond the dense product).
    """
    rows, inner, cols, repeat = shape
    tile_rows, tile_cols = tile
    tiles = np.ceil(rows / tile_rows) * np.ceil(cols / tile_cols) * repeat
    kept = np.minimum(density * imbalance, 1.0)
    return tiles * (tile_rows * tile_cols) * np.ceil(inner * kept) / macs_per_cycle


def expected_imbalance(length: Any, density: float, lanes: int) -> Any:
    """Fullest over mean number of kept weights among `lanes` independent rows of `length` positions.

    The number kept is binomial; its expected maximum is taken as mean + sqrt(2 ln lanes) deviations.
    """
    if lanes <= 1 or density >= 1:
        return 1.0
    deviation = np.sqrt(length * density * (1 - density))
    return 1 + math.sqrt(2 * math.log(lanes)) * deviation / (length * density)
