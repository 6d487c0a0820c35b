"""Checkpoints into encodings and back, tensor by tensor.

An encoded matrix `layer.weight` is stored as `layer.<suffix>` for each of its codec's parts. What the parts don't say
(the full name, an axis other than d_in of [d_out, d_in], a pattern) is JSON under the metadata key "nmsim"; files of
other tools have no such key and need none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.codecs import CODECS, decode
from nmsim.formats.encoded import Codec, Encoded
from nmsim.formats.rewrite import copy_tensor, rewrite
from nmsim.formats.tensors import Sink, Source, TensorSpec, shown

METADATA_KEY = "nmsim"
VERSION = 1
_WEIGHT = ".weight"
Specs = Mapping[str, Mapping[str, TensorSpec]]


@dataclass(frozen=True)
class Encode:
    """How one matrix is exported: the axis its groups run along, and their pattern."""

    axis: int
    pattern: Pattern


@dataclass(frozen=True)
class Exported:
    """What became of one chosen tensor: its bytes before and after, and why it was left dense ("" if it was not)."""

    name: str
    dense_bytes: int
    encoded_bytes: int
    reason: str


def copy_file(source: Source, target: Path, advance: Callable[[int], None]) -> None:
    """Write `target` with every tensor as `source` gives it."""

    def write(name: str, writer: Sink) -> None:
        copy_tensor(source, name, writer)
        advance(source.specs[name].nbytes)

    specs = {name: {name: spec} for name, spec in source.specs.items()}
    rewrite(source, target, specs, source.metadata, write)


def encode_file(
    source: Source, target: Path, codec: Codec, choices: Mapping[str, Encode], advance: Callable[[int], None]
) -> list[Exported]:
    """Write `target` with the matrices of `choices` encoded and everything else as it is.

    A matrix that the format can't hold stays dense, with the reason in the report. Each is encoded twice: first to
    learn the sizes that the header needs before anything is written.
    """
    report, specs, infos = [], {}, {}
    for name, spec in source.specs.items():
        specs[name] = {name: spec}
        if name not in choices:
            continue
        try:
            encoded = _encode(source, name, codec, choices[name])
        except UserError as error:
            report.append(Exported(name, spec.nbytes, spec.nbytes, str(error)))
            continue
        specs[name] = {_part(name, suffix): TensorSpec(a.dtype, a.shape) for suffix, a in encoded.parts.items()}
        infos[_prefix(name)] = {"name": name, "axis": choices[name].axis} | encoded.info
        report.append(Exported(name, spec.nbytes, sum(part.nbytes for part in specs[name].values()), ""))
        advance(spec.nbytes)
    _check_distinct(specs)

    def write(name: str, writer: Sink) -> None:
        if name in specs[name]:
            copy_tensor(source, name, writer)
        else:
            for suffix, part in _encode(source, name, codec, choices[name]).parts.items():
                writer.put(_part(name, suffix), part)
        advance(source.specs[name].nbytes)

    note = {METADATA_KEY: json.dumps({"version": VERSION, "format": codec.name, "tensors": infos})}
    rewrite(source, target, specs, {**source.metadata, **note}, write)
    return report


def _encode(source: Source, name: str, codec: Codec, choice: Encode) -> Encoded:
    w = source.read(name)
    if w.ndim != 2:
        raise UserError(f"{w.ndim}-D; only matrices are encoded")
    if codec.takes_pattern and choice.pattern.is_dense:
        raise UserError("it obeys no n:m; prune it first")
    return codec.encode(np.ascontiguousarray(w.T) if choice.axis == 0 else w, choice.pattern)


def _prefix(name: str) -> str:
    return name.removesuffix(_WEIGHT)


def _part(name: str, suffix: str) -> str:
    return f"{_prefix(name)}.{suffix}"


def _check_distinct(specs: Specs) -> None:
    seen: set[str] = set()
    for parts in specs.values():
        twice = seen & parts.keys()
        if twice:
            raise UserError(f"{shown(min(twice))}: two tensors would have this name; exclude one of them")
        seen |= parts.keys()


def decode_file(source: Source, target: Path, advance: Callable[[int], None]) -> list[str]:
    """Write `target` with every encoded matrix of `source` dense, and return their names.

    Raises `UserError` with tensor, row and group for a damaged encoding; then nothing is written.
    """
    found = _encodings(source.specs)
    infos = _infos(source.metadata)
    matrices = {prefix: _Matrix(source, prefix, codec, infos.get(prefix, {})) for prefix, codec in found.items()}
    specs: dict[str, Mapping[str, TensorSpec]] = {name: {name: spec} for name, spec in source.specs.items()}
    first = {}
    for prefix, matrix in matrices.items():
        specs |= {part: {} for part in matrix.parts}
        specs[matrix.parts[0]] = {matrix.name: matrix.spec()}
        first[matrix.parts[0]] = prefix
    _check_distinct(specs)

    def write(name: str, writer: Sink) -> None:
        if name in first:
            writer.put(matrices[first[name]].name, matrices[first[name]].dense())
        elif specs[name]:
            copy_tensor(source, name, writer)
        advance(source.specs[name].nbytes)

    rewrite(source, target, specs, {k: v for k, v in source.metadata.items() if k != METADATA_KEY}, write)
    return [matrix.name for matrix in matrices.values()]


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


class _Matrix:
    """One encoded matrix of a file; errors name it."""

    def __init__(self, source: Source, prefix: str, codec: Codec, info: Mapping[str, Any]) -> None:
        self._source, self._codec, self._prefix = source, codec, prefix
        self.name, self._axis = info.get("name", prefix + _WEIGHT), info.get("axis", 1)
        self._info = {key: value for key, value in info.items() if key not in ("name", "axis")}
        if not isinstance(self.name, str) or self._axis not in (0, 1):
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
