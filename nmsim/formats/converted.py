"""Weights read as another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwmodel.errors import UserError, shown
from nmsim.formats.dtypes import is_weight
from nmsim.formats.tensors import Source, TensorSpec


class Converted(Source):
    """Another source's tensors, its floating-point weights rounded to `dtype` when they are read."""

    def __init__(self, source: Source, dtype: np.dtype[Any]) -> None:
        self._source, self._dtype = source, dtype
        self.metadata, self.files = source.metadata, source.files
        self.specs = {
            name: TensorSpec(dtype, spec.shape) if is_weight(spec.dtype) else spec
            for name, spec in source.specs.items()
        }

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def reduction_axis(self, name: str) -> int | None:
        """That of the source."""
        return self._source.reduction_axis(name)

    def stored(self, name: str) -> tuple[str, int]:
        """That of the source."""
        return self._source.stored(name)

    def read(self, name: str) -> np.ndarray:
        """The whole tensor. Raises `UserError` for a finite weight that is too large for the dtype."""
        return self._convert(name, self._source.read(name))

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`. Raises `UserError` for a finite weight that is too large for the dtype."""
        return self._convert(name, self._source.rows(name, start, stop))

    def _convert(self, name: str, values: np.ndarray) -> np.ndarray:
        dtype = self.specs[name].dtype
        return values if values.dtype == dtype else rounded(name, values, dtype)


def rounded(name: str, values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The values of the tensor `name` in `dtype`. Raises `UserError` for a finite one that is too large for it."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = values.astype(np.float32).astype(dtype)
        lost = np.isfinite(values) & ~np.isfinite(narrow.astype(np.float32))
    if lost.any():
        raise UserError(f"{shown(name)}: {values[lost][0]} is too large for {dtype.name}; choose a wider dtype")
    return narrow
