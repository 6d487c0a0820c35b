"""Checkpoints into encodings and back, tensor by tensor; `decoded` says how encoded matrices are named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.decoded import METADATA_KEY, VERSION, WEIGHT, Decoded, check_distinct
from nmsim.formats.dtypes import negative_zeros
from nmsim.formats.encoded import Codec, Encoded
from nmsim.formats.rewrite import copy_tensor, rewrite
from nmsim.formats.tensors import Sink, Source, TensorSpec

Specs = Mapping[str, Mapping[str, TensorSpec]]


@dataclass(frozen=True)
class Encode:
    """How one matrix is exported: the axis its groups run along, and their pattern."""

    axis: int
    pattern: Pattern


@dataclass(frozen=True)
class Exported:
    """What became of one chosen tensor: its bytes before and after, and why it was left dense ("" if it was not).

    `lost_signs` are weights of -0.0 for which their groups had no room, so that they come back as +0.0.
    """

    name: str
    dense_bytes: int
    encoded_bytes: int
    reason: str
    lost_signs: int = 0


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
            w, encoded = _encode(source, name, codec, choices[name])
        except UserError as error:
            report.append(Exported(name, spec.nbytes, spec.nbytes, str(error)))
            continue
        specs[name] = {_part(name, suffix): TensorSpec(a.dtype, a.shape) for suffix, a in encoded.parts.items()}
        infos[_prefix(name)] = {"name": name, "axis": choices[name].axis} | encoded.info
        lost = negative_zeros(w) - negative_zeros(encoded.parts[codec.values])
        report.append(Exported(name, spec.nbytes, sum(part.nbytes for part in specs[name].values()), "", lost))
        advance(spec.nbytes)
    check_distinct(part for parts in specs.values() for part in parts)

    def write(name: str, writer: Sink) -> None:
        if name in specs[name]:
            copy_tensor(source, name, writer)
        else:
            for suffix, part in _encode(source, name, codec, choices[name])[1].parts.items():
                writer.put(_part(name, suffix), part)
        advance(source.specs[name].nbytes)

    note = {METADATA_KEY: json.dumps({"version": VERSION, "format": codec.name, "tensors": infos})}
    rewrite(source, target, specs, {**source.metadata, **note}, write)
    return report


def _encode(source: Source, name: str, codec: Codec, choice: Encode) -> tuple[np.ndarray, Encoded]:
    """The matrix and its encoding."""
    w = source.read(name)
    if w.ndim != 2:
        raise UserError(f"{w.ndim}-D; only matrices are encoded")
    if not w.size:
        raise UserError("it has no weights")
    if codec.takes_pattern and choice.pattern.is_dense:
        raise UserError("it obeys no n:m; prune it first")
    return w, codec.encode(np.ascontiguousarray(w.T) if choice.axis == 0 else w, choice.pattern)


def _prefix(name: str) -> str:
    return name.removesuffix(WEIGHT)


def _part(name: str, suffix: str) -> str:
    return f"{_prefix(name)}.{suffix}"


def decode_file(source: Source, target: Path, advance: Callable[[int], None]) -> list[str]:
    """Write `target` with every encoded matrix of `source` dense, and return their names.

    Raises `UserError` with tensor, row and group for a damaged encoding; then nothing is written.
    """
    dense = Decoded(source)
    copy_file(dense, target, advance)
    return list(dense.matrices)
