"""Safetensors files: a reader by memory map, and a writer that fills tensors in any order.

The library of the same name can't load bfloat16 or fp8 into NumPy, which is why this reader exists.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hwmodel.errors import UserError
from nmsim.formats.beside import replacing
from nmsim.formats.header import begins, file_order, header_bytes, read_header
from nmsim.formats.tensors import Source, TensorSpec

_WIDEST = 8  # bytes of the widest element
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # Linux fetches a block's pages in one go


class Reader(Source):
    """One open file. Tensors, or blocks of their rows, are read-only maps that live as long as their arrays do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        try:
            self.header = read_header(self._file, str(path))
        except BaseException:
            self._file.close()
            raise
        self.specs, self.metadata = self.header.specs, self.header.metadata
        self.files = {path.name: tuple(self.specs)}

    def close(self) -> None:
        """Close the file; tensors already read stay valid."""
        self._file.close()

    def read(self, name: str) -> np.ndarray:
        """The whole tensor, read-only."""
        spec = self.specs[name]
        return self._map(self.header.starts[name], spec.nbytes).view(spec.dtype).reshape(spec.shape)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` along the first axis, read-only."""
        spec = self.specs[name]
        begin, nbytes = self.header.starts[name] + start * spec.row_bytes, (stop - start) * spec.row_bytes
        return self._map(begin, nbytes).view(spec.dtype).reshape(stop - start, *spec.shape[1:])

    def _map(self, begin: int, nbytes: int) -> np.ndarray:
        return mapped(self._file, self.path, begin, nbytes)


def mapped(file: BinaryIO, path: Path, begin: int, nbytes: int) -> np.ndarray:
    """Bytes of an open file as a read-only map, or a copy where they do not begin at a multiple of the widest element.

    Raises `UserError` if the file is shorter by now.
    """
    if nbytes == 0:
        return np.empty(0, np.uint8)
    page = begin % mmap.ALLOCATIONGRANULARITY
    flags = mmap.MAP_SHARED | _POPULATE
    try:
        memory = mmap.mmap(file.fileno(), page + nbytes, flags, mmap.PROT_READ, offset=begin - page)
    except ValueError:
        raise UserError(f"{path}: the file became shorter while it was read") from None
    data = np.frombuffer(memory, np.uint8, nbytes, page)
    if begin % _WIDEST:  # compiled kernels want aligned elements
        data = data.copy()
        data.flags.writeable = False
    return data


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder; name a file, or the .index.json of a folder of shards") from None


class Writer:
    """Fills the tensors of a file whose header is already written."""

    def __init__(self, file: BinaryIO, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> None:
        self._file, self.specs = file, specs
        header = header_bytes(specs, metadata)
        file.write(header)
        self._starts = dict(zip(specs, begins(specs, len(header)), strict=True))
        self._missing = {name: spec.nbytes for name, spec in specs.items()}

    def put(self, name: str, values: np.ndarray, start: int = 0) -> None:
        """Write `values` at row `start` of the tensor `name`."""
        spec = self.specs[name]
        assert values.dtype == spec.dtype, f"{name}: {values.dtype} into {spec.dtype}"  # noqa: S101 - callers made the specs
        self._file.seek(self._starts[name] + start * spec.row_bytes)
        self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        self._missing[name] -= values.nbytes

    def check_complete(self) -> None:
        """Assert that every tensor was given all of its bytes."""
        missing = {name: count for name, count in self._missing.items() if count}
        assert not missing, f"bytes never written: {missing}"  # noqa: S101 - callers write all


@contextmanager
def writing(path: Path, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> Iterator[Writer]:
    """A `Writer` of a new file that takes the place of `path` when the block ends well."""
    ordered = file_order(specs)
    with replacing(path) as file:
        writer = Writer(file, ordered, metadata)
        yield writer
        writer.check_complete()
