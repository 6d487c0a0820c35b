"""Weights that an ONNX graph keeps in a file beside it, which may be of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hwmodel.errors import UserError, shown
from nmsim.formats.beside import replacing
from nmsim.formats.tensors import TensorSpec

EXTERNAL = 1  # TensorProto.DataLocation
_ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """Where the bytes of a tensor begin."""

    file: Path
    begin: int


def place_of(tensor: Any, spec: TensorSpec, path: Path) -> Place | None:
    """Where the graph at `path` keeps a tensor; None for the graph itself.

    Raises `UserError` for a file outside the graph's folder, and for one that does not hold the tensor.
    """
    if tensor.data_location != EXTERNAL:
        return None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = path.parent / location
    if not location or "\0" in location or not file.resolve().is_relative_to(path.parent.resolve()):
        raise UserError(f"{path}: tensor {shown(tensor.name)} is in {location!r}; data lies in the graph's own folder")
    if not file.is_file():
        raise UserError(f"{path}: tensor {shown(tensor.name)} is in {location!r}, which is no file here; put it beside")
    numbers = entries.get("offset", "0"), entries.get("length", str(spec.nbytes))
    begin, length = (int(number) if number.isdecimal() else -1 for number in numbers)
    if begin < 0 or length != spec.nbytes or begin + length > file.stat().st_size:
        place = f"offset {numbers[0]} and length {numbers[1]} of {location!r}"
        raise UserError(f"{path}: tensor {shown(tensor.name)}: {place} do not hold its {spec.nbytes} bytes")
    return Place(file, begin)


def data_path(path: Path) -> Path:
    """The file beside a graph that holds its weights."""
    return path.with_name(f"{path.name}.data")


class Writer:
    """Writes initialisers into one file, each at its place, and tells the graph where they are."""

    def __init__(self, file: BinaryIO, specs: Mapping[str, TensorSpec]) -> None:
        self._file, self.specs = file, specs
        self._begins: dict[str, int] = {}
        end = 0
        for name, spec in specs.items():
            self._begins[name] = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = self._begins[name] + spec.nbytes
        file.truncate(end)

    def put(self, name: str, values: np.ndarray, start: int = 0) -> None:
        """Write `values` at row `start` of the tensor `name`."""
        self._file.seek(self._begins[name] + start * self.specs[name].row_bytes)
        self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def point(self, tensors: Mapping[str, Any], location: str) -> None:
        """Make `tensors` say where their bytes are."""
        for name, begin in self._begins.items():
            tensor, fresh = tensors[name], type(tensors[name])()
            fresh.name, fresh.data_type, fresh.data_location = name, tensor.data_type, EXTERNAL
            fresh.dims.extend(tensor.dims)
            entries = {"location": location, "offset": begin, "length": self.specs[name].nbytes}
            for key, value in entries.items():
                entry = fresh.external_data.add()
                entry.key, entry.value = key, str(value)
            tensor.CopyFrom(fresh)


@contextmanager
def writing(path: Path, model: Any, specs: Mapping[str, TensorSpec]) -> Iterator[Writer]:
    """A writer of the initialisers `specs` into `path`.data; when the block ends well, the graph follows as `path`.

    Raises `UserError` where one of both exists, since two files can't be replaced at once.
    """
    data = data_path(path)
    for taken in (path, data):
        if taken.exists():
            raise UserError(f"{taken}: exists, and a graph with its data can't be replaced at once; name a new file")
    with replacing(data) as file:
        writer = Writer(file, specs)
        yield writer
        writer.point({tensor.name: tensor for tensor in model.graph.initializer}, data.name)
    with replacing(path) as file:
        file.write(model.SerializeToString())
