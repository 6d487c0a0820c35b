"""Tensors of a weight file by name: what a header says of them, and where they can be read from."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np

BLOCK_BYTES = 1 << 20  # what is made of a block stays in the caches


@dataclass(frozen=True)
class TensorSpec:
    """What a header says of one tensor."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one step along the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class Source(AbstractContextManager["Source"]):
    """Weights to read from, tensor by tensor, in one file or several; to be used in a `with` block."""

    specs: Mapping[str, TensorSpec]
    metadata: Mapping[str, str]
    files: Mapping[str, tuple[str, ...]]  # the tensors of each file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(spec.nbytes for spec in self.specs.values())

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""

    def reduction_axis(self, name: str) -> int | None:  # noqa: ARG002 - a graph knows better
        """The axis that the product with this weight sums over: d_in of [d_out, d_in], unless a graph differs."""
        return 1

    def stored(self, name: str) -> tuple[str, int]:
        """The format and the bytes in which a tensor is kept."""
        return "dense", self.specs[name].nbytes

    @abstractmethod
    def read(self, name: str) -> np.ndarray:
        """The whole tensor, read-only."""

    @abstractmethod
    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` along the first axis, read-only."""


@runtime_checkable
class Sink(Protocol):
    """Where the tensors of a new file go, in any order of rows."""

    def put(self, name: str, values: np.ndarray, start: int = 0) -> None:
        """Write `values` at row `start` of the tensor `name`."""


def blocks(spec: TensorSpec, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Ranges of rows that cover a tensor in about `BLOCK_BYTES` each, in multiples of `multiple` rows."""
    step = max(1, BLOCK_BYTES // max(1, spec.row_bytes * multiple)) * multiple
    for start in range(0, spec.shape[0] if spec.nbytes else 0, step):
        yield start, min(spec.shape[0], start + step)


def is_text(value: Any) -> bool:
    """Whether a value is a string that can be written to a file; JSON can spell halves of characters that can't."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
