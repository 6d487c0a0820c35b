"""Weights that are in memory already, as a source."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nmsim.formats.tensors import Source, TensorSpec


class Memory(Source):
    """Arrays by name."""

    def __init__(self, arrays: Mapping[str, np.ndarray], file: str) -> None:
        self._arrays = arrays
        self.specs = {name: TensorSpec(values.dtype, values.shape) for name, values in arrays.items()}
        self.metadata: dict[str, str] = {}
        self.files = {file: tuple(arrays)}

    def close(self) -> None:
        """Nothing is open."""

    def read(self, name: str) -> np.ndarray:
        """The whole tensor."""
        return self._arrays[name]

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` along the first axis."""
        return self._arrays[name][start:stop]
