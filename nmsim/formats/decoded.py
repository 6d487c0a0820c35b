"""Encoded checkpoints as the dense weights they stand for.

An encoded matrix `layer.weight` is stored as `layer.<suffix>` for each of its codec's parts. What the parts don't say
(the full name, an axis other than d_in of [d_out, d_in], a pattern) is JSON under the metadata key "nmsim"; files of
other tools have no such key and need none.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwmodel.errors import UserError, shown
from nmsim.formats.codecs import CODECS, decode
from nmsim.formats.encoded import Codec, Encoded
from nmsim.formats.shards import open_weights
from nmsim.formats.tensors import Source, TensorSpec, is_text

METADATA_KEY = "nmsim"
VERSION = 1
WEIGHT = ".weight"


class Decoded(Source):
    """Another source's tensors, its encoded `matrices` decoded when they are read; one is held at a time.

    Raises `UserError`, also when it is read, for an encoding that no matrix has, with tensor, row and group.
    """

    def __init__(self, source: Source) -> None:
        infos = _infos(source.metadata)
        found = [
            EncodedMatrix(source, prefix, codec, infos.get(prefix, {}))
            for prefix, codec in _encodings(source.specs).items()
        ]
        first = {matrix.parts[0]: matrix.name for matrix in found}
        others = {part for matrix in found for part in matrix.parts[1:]}
        self._source = source
        self._held: dict[str, np.ndarray] = {}
        self.files = {
            file: tuple(first.get(name, name) for name in names if name not in others)
            for file, names in source.files.items()
        }
        names = [name for inside in self.files.values() for name in inside]
        check_distinct(names)
        self.matrices = {matrix.name: matrix for matrix in found}
        self.specs = {n: self.matrices[n].spec() if n in self.matrices else source.specs[n] for n in names}
        self.metadata = {key: value for key, value in source.metadata.items() if key != METADATA_KEY}

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def reduction_axis(self, name: str) -> int | None:
        """That of the source."""
        return self._source.reduction_axis(name)

    def read(self, name: str) -> np.ndarray:
        """The whole tensor."""
        if name not in self.matrices:
            return self._source.read(name)
        if name not in self._held:
            self._held.clear()  # first, so that two are never in memory
            self._held[name] = self.matrices[name].dense()
        return self._held[name]

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` along the first axis; of an encoded matrix, all are decoded and held."""
        return self.read(name)[start:stop] if name in self.matrices else self._source.rows(name, start, stop)

    def stored(self, name: str) -> tuple[str, int]:
        """The encoding of a tensor and its bytes in the source."""
        if name not in self.matrices:
            return self._source.stored(name)
        matrix = self.matrices[name]
        return matrix.format, sum(self._source.specs[part].nbytes for part in matrix.parts)


def open_dense(path: Path) -> Source:
    """The checkpoint at `path`, its encoded matrices dense. Raises `UserError` for a damaged one."""
    source = open_weights(path)
    try:
        dense = Decoded(source)
    except UserError:
        source.close()
        raise
    return dense if dense.matrices or METADATA_KEY in source.metadata else source


def check_distinct(names: Iterable[str]) -> None:
    """Raise `UserError` for a name that occurs twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{shown(min(twice))}: two tensors would have this name; exclude one of them")


class EncodedMatrix:
    """One encoded matrix of a file; errors name it."""

    def __init__(self, source: Source, prefix: str, codec: Codec, info: Mapping[str, Any]) -> None:
        self._source, self._codec, self._prefix, self.format = source, codec, prefix, codec.name
        self.name, self._axis = info.get("name", prefix + WEIGHT), info.get("axis", 1)
        self._info = {key: value for key, value in info.items() if key not in ("name", "axis")}
        if not is_text(self.name) or self._axis not in (0, 1):
            raise UserError(f"{shown(prefix)}: its metadata needs a name and an axis of 0 or 1")
        self.parts = [f"{prefix}.{suffix}" for suffix in codec.suffixes]

    def spec(self) -> TensorSpec:
        """What the dense matrix will be."""
        try:
            shape = self._codec.shape(self._encoded())
        except UserError as error:
            raise UserError(f"{shown(self.name)}: {error}") from None
        dtype = self._source.specs[f"{self._prefix}.{self._codec.values}"].dtype
        return TensorSpec(dtype, shape[::-1] if self._axis == 0 else shape)

    def dense(self) -> np.ndarray:
        """The matrix."""
        try:
            w = decode(self._encoded(), self._codec)
        except UserError as error:
            raise UserError(f"{shown(self.name)}: {error}") from None
        return w.T if self._axis == 0 else w

    def _encoded(self) -> Encoded:
        return Encoded(
            {suffix: self._source.read(part) for suffix, part in zip(self._codec.suffixes, self.parts, strict=True)},
            self._info,
        )


def _encodings(names: Mapping[str, TensorSpec]) -> dict[str, Codec]:
    """The codec of every prefix that has all parts of one; the codec with the most parts is tried first."""
    found: dict[str, Codec] = {}
    for codec in sorted(CODECS.values(), key=lambda codec: -len(codec.suffixes)):
        ending = f".{codec.suffixes[0]}"
        for prefix in (name.removesuffix(ending) for name in names if name.endswith(ending)):
            if prefix not in found and all(f"{prefix}.{suffix}" in names for suffix in codec.suffixes):
                found[prefix] = codec
    return found


def _infos(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What an exported file says of its matrices. Raises `UserError` for metadata that this version can't read."""
    try:
        table = json.loads(metadata.get(METADATA_KEY, '{"version": 1, "tensors": {}}'))
    except (ValueError, RecursionError):
        raise UserError(f'metadata "{METADATA_KEY}" is not JSON; the file is damaged') from None
    if not isinstance(table, dict) or table.get("version") != VERSION:
        raise UserError(f'metadata "{METADATA_KEY}" is not of version {VERSION}; read it with the nmsim that wrote it')
    tensors = table.get("tensors")
    if not isinstance(tensors, dict) or not all(isinstance(info, dict) for info in tensors.values()):
        raise UserError(f'metadata "{METADATA_KEY}" has no table of tensors; the file is damaged')
    return tensors
