"""Checkpoints in several safetensors files under an index, and the way to open a checkpoint of any kind."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from hwmodel.errors import UserError, shown
from nmsim.formats.safetensors import Reader
from nmsim.formats.tensors import Source

INDEX_SUFFIX = ".index.json"
ONNX_SUFFIX = ".onnx"
_MAX_INDEX_BYTES = 100_000_000


def open_weights(path: Path) -> Source:
    """The checkpoint at `path`, by its ending. Raises `UserError` for a file that is damaged or of another kind."""
    if path.suffix == ONNX_SUFFIX:
        from nmsim.formats.onnx_io import OnnxSource  # noqa: PLC0415 - onnx is an extra

        return OnnxSource(path)
    if path.name.endswith(INDEX_SUFFIX):
        return Shards(path)
    return Reader(path)


class Shards(Source):
    """A folder of safetensors files under an index that says which holds each tensor."""

    def __init__(self, path: Path) -> None:
        weight_map = read_index(path)
        self.files = {
            file: tuple(name for name in weight_map if weight_map[name] == file)
            for file in sorted({*weight_map.values()})
        }
        with ExitStack() as stack:
            self._readers = {file: stack.enter_context(Reader(path.parent / file)) for file in self.files}
            self._by_name = {name: self._readers[file] for name, file in weight_map.items()}
            self._check(path)
            self._close = stack.pop_all()
        self.specs = {name: reader.specs[name] for name, reader in self._by_name.items()}
        self.metadata = next(iter(self._readers.values())).metadata if self._readers else {}

    def _check(self, path: Path) -> None:
        for file, names in self.files.items():
            differing = set(names) ^ self._readers[file].specs.keys()
            if differing:
                raise UserError(f"{path}: {file} and the index differ on tensor {shown(min(differing))}")

    def close(self) -> None:
        """Close all shards; tensors already read stay valid."""
        self._close.close()

    def read(self, name: str) -> np.ndarray:
        """The whole tensor, read-only."""
        return self._by_name[name].read(name)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` along the first axis, read-only."""
        return self._by_name[name].rows(name, start, stop)


def read_index(path: Path) -> dict[str, str]:
    """The map from tensor to file of an index. Raises `UserError` for one that names files outside its folder."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise UserError(f"{path}: longer than the {_MAX_INDEX_BYTES} bytes that an index can need")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not a JSON index of shards") from None
    weight_map = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(weight_map, dict) or not all(map(_is_file_name, weight_map.values())):
        raise UserError(f"{path}: needs a weight_map from tensor names to names of files in the same folder")
    return weight_map


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and value == Path(value).name and value not in ("", "..") and value.isprintable()
