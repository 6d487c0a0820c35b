"""Headers of safetensors files, checked claim by claim on the way in, and the same bytes for the same tensors out.

A file is a little-endian 64-bit header length, that many bytes of JSON, and the tensors' bytes end to end.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from hwmodel.errors import UserError, shown, unknown
from nmsim.formats.dtypes import CODES, DTYPES
from nmsim.formats.tensors import TensorSpec, is_text

METADATA = "__metadata__"
MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
_MAX_DIMENSIONS = 64  # NumPy's
_MAX_ELEMENTS = 1 << 59  # NumPy's for elements of 8 bytes, sizes of 0 left out


@dataclass(frozen=True)
class Header:
    """A checked header: the tensors in file order, where each begins in the file, and the string metadata."""

    specs: dict[str, TensorSpec]
    starts: dict[str, int]
    metadata: dict[str, str]


def read_header(file: BinaryIO, where: str) -> Header:
    """The header of an open file, with every claim in it checked against the file's size before it is believed.

    Raises `UserError` with `where`, the tensor and what is wrong.
    """
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > size - 8:
        raise UserError(f"{where}: not a safetensors file: its header is longer than the file ({size} bytes)")
    if length > MAX_HEADER_BYTES:
        raise UserError(f"{where}: header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
    table = _parse_json(file.read(length), where)
    metadata = _metadata(table.pop(METADATA, {}), where)
    if not all(map(is_text, table)):
        raise UserError(f"{where}: a tensor's name is not Unicode text; the file is damaged")
    spans = {name: _span(entry, size - 8 - length, f"{where}: tensor {shown(name)}") for name, entry in table.items()}
    order = sorted(spans, key=lambda name: spans[name][1:])
    _check_cover({name: spans[name] for name in order}, size - 8 - length, where)
    specs = {name: spans[name][0] for name in order}
    return Header(specs, {name: spans[name][1] + 8 + length for name in order}, metadata)


def _parse_json(raw: bytes, where: str) -> dict[str, Any]:
    try:
        table = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not a safetensors file: its header is not JSON ({_brief(error)})") from None
    if not isinstance(table, dict):
        raise UserError(f"{where}: not a safetensors file: its header is not a JSON object")
    return table


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _metadata(entry: Any, where: str) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(map(is_text, (*entry, *entry.values()))):
        raise UserError(f"{where}: {METADATA} must map names to strings")
    return entry


def _span(entry: Any, available: int, where: str) -> tuple[TensorSpec, int, int]:
    """One tensor's spec, begin and end in the data, checked alone."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise UserError(f"{where}: needs exactly dtype, shape and data_offsets")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        error = unknown("dtype", shown(str(entry["dtype"])[:40]), DTYPES)
        raise UserError(f"{where}: {error}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise UserError(f"{where}: shape must be a list of at most {_MAX_DIMENSIONS} sizes of 0 or more")
    if math.prod(max(1, size) for size in shape) > _MAX_ELEMENTS:
        raise UserError(f"{where}: shape {shape} is beyond what can be addressed")
    if not _sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= available:
        raise UserError(f"{where}: data_offsets must be begin <= end within the file's {available} bytes of data")
    spec = TensorSpec(DTYPES[entry["dtype"]], tuple(shape))
    if spec.nbytes != offsets[1] - offsets[0]:
        raise UserError(
            f"{where}: shape and dtype need a different number of bytes than the {offsets[1] - offsets[0]} it has"
        )
    return spec, offsets[0], offsets[1]


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(size) is int and size.bit_length() <= 63 and size >= 0 for size in value
    )


def _check_cover(spans: Mapping[str, tuple[TensorSpec, int, int]], available: int, where: str) -> None:
    """Tensors must follow each other without hole or overlap, and end where the file ends."""
    position = 0
    for name, (_, begin, end) in spans.items():
        if begin != position:
            fault = "overlaps the tensor before it" if begin < position else "leaves a hole before it"
            raise UserError(f"{where}: tensor {shown(name)}: {fault} (begins at {begin}, expected {position})")
        position = end
    if position != available:
        raise UserError(
            f"{where}: {available - position} bytes after the last tensor; the file is damaged or not safetensors"
        )


def file_order(specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Tensors by falling element size, then by name: aligned, and the same bytes for the same tensors."""
    return dict(sorted(specs.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))


def header_bytes(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """The file's beginning up to the first tensor: length and JSON, padded with spaces to a multiple of 8."""
    table: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    for (name, spec), begin in zip(specs.items(), begins(specs, 0), strict=True):
        offsets = [begin, begin + spec.nbytes]
        table[name] = {"dtype": CODES[spec.dtype], "shape": list(spec.shape), "data_offsets": offsets}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def begins(specs: Mapping[str, TensorSpec], first: int) -> Iterator[int]:
    """Where each tensor begins when the first begins at byte `first`."""
    for spec in specs.values():
        yield first
        first += spec.nbytes
