"""`nmsim export`: the matrices of a checkpoint in the encoding that another tool reads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from hwmodel.errors import UserError, shown, unknown
from hwmodel.pattern import DENSE, Pattern
from nmsim.formats.codecs import CODECS
from nmsim.formats.converted import Converted
from nmsim.formats.detect import look
from nmsim.formats.dtypes import WEIGHTS, is_weight, named
from nmsim.formats.encoded import Codec
from nmsim.formats.exchange import Encode, Exported, copy_file, encode_file
from nmsim.formats.onnx_data import data_path
from nmsim.formats.rewrite import check_target
from nmsim.formats.shards import INDEX_SUFFIX, ONNX_SUFFIX
from nmsim.formats.tensors import Source

from ..terminal import show_lines
from ..trained import open_run_or_file
from ..transfer import NO_PRODUCT, Axis, axis_of, counted, matrices, print_json, progress, show

DENSE_FORMATS = {
    "dense": "every tensor with its zeros, which every runtime reads",
    "onnx": "the same as initialisers of one Gemm each; TensorRT finds 2:4 in them by itself",
}
COLUMNS = {
    "tensor": lambda row: row.name,
    "dense bytes": lambda row: f"{row.dense_bytes:,}",
    "encoded bytes": lambda row: f"{row.encoded_bytes:,}",
    "left dense because": lambda row: row.reason,
}


def export(
    file: Path,
    /,
    *,
    out: Annotated[Path, Parameter(alias="-o")],
    format_name: Annotated[str, Parameter(name="--format")],
    dtype: str = "as-is",
    pattern: str = "found",
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
    axis: Axis = "auto",
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Write a checkpoint in another format; matrices that the format can't hold stay dense, with the reason.

    Args:
        file: A safetensors file, the .index.json of shards, an ONNX model, or the folder of a run.
        out: The file to write; never the one that is read.
        format_name: dense, onnx, torch-semi-structured, cutlass-sm80, sparse-24-bitmask, sparse-bitmask, nm,
            nm-bitmask or scipy.
        dtype: Round floating-point weights to float32, float16, bfloat16, float8_e4m3fn or float8_e5m2.
        pattern: n:m that nm and nm-bitmask store; "found" takes the sparsest that each matrix obeys.
        include: Globs of tensor names to encode.
        exclude: Globs of tensor names to leave dense.
        axis: The axis that groups run along: 1 for weights [d_out, d_in], 0 for [d_in, d_out].
        as_json: Print JSON.
    """
    if format_name not in CODECS.keys() | DENSE_FORMATS.keys():
        raise unknown("format", format_name, CODECS.keys() | DENSE_FORMATS.keys())
    check_target(file, out)
    _check_ending(format_name, out)
    with ExitStack() as stack:
        source = stack.enter_context(open_run_or_file(file))
        weights = source if dtype == "as-is" else Converted(source, named(dtype))
        report: Sequence[Exported] = ()
        if format_name in DENSE_FORMATS:
            copy_file(weights, out, stack.enter_context(progress("copying", weights.nbytes)))
        else:
            codec = CODECS[format_name]
            choices, left = _choices(weights, codec, pattern, matrices(weights, include, exclude), axis)
            advance = stack.enter_context(progress("encoding", 2 * weights.nbytes))
            report = [*encode_file(weights, out, codec, choices, advance), *left]
        files = [out, *(out.with_name(name) for name in source.files if out.name.endswith(INDEX_SUFFIX))]
        dense = weights.nbytes
        if format_name == "onnx" and out.stat().st_size < dense:  # the weights are beside it
            files.append(data_path(out))
    size = sum(path.stat().st_size for path in files)
    head = {"file": str(file), "out": str(out), "format": format_name, "bytes": size, "dense_bytes": dense}
    _tell(head, report, as_json)


def _check_ending(format_name: str, out: Path) -> None:
    if (format_name == "onnx") != (out.suffix == ONNX_SUFFIX):
        ending = ONNX_SUFFIX if format_name == "onnx" else ".safetensors"
        raise UserError(f"{out}: format {format_name} writes a file that ends in {ending}")


def _choices(
    source: Source, codec: Codec, pattern: str, names: Sequence[str], axis: Axis
) -> tuple[dict[str, Encode], list[Exported]]:
    """The matrices to encode, with their axis and pattern, and those that are not weights of a product."""
    choices, left = {}, []
    for name in names:
        spec, along = source.specs[name], axis_of(source, name, axis)
        if along is None:
            left.append(Exported(name, spec.nbytes, spec.nbytes, NO_PRODUCT))
        elif not is_weight(spec.dtype):
            reason = f"{spec.dtype.name}; only weights of {', '.join(WEIGHTS)} are encoded"
            left.append(Exported(name, spec.nbytes, spec.nbytes, reason))
        else:
            choices[name] = Encode(along, _pattern(source, codec, name, along, pattern))
    return choices, left


def _pattern(source: Source, codec: Codec, name: str, axis: int, pattern: str) -> Pattern:
    if not codec.takes_pattern:
        return DENSE
    return look(source, name, axis).pattern if pattern == "found" else Pattern.parse(pattern)


def _tell(head: dict[str, Any], report: Sequence[Exported], as_json: bool) -> None:  # noqa: FBT001 - the user's choice
    written = f"{head['out']}: {head['bytes']:,} bytes for {head['dense_bytes']:,} of dense tensors"
    if as_json:
        print_json({**head, "tensors": [asdict(row) for row in report]})
    elif not report:
        show_lines([f"{written}, every tensor dense"])
    else:
        left = sum(bool(row.reason) for row in report)
        show(report, COLUMNS, f"{written}, {counted(len(report) - left)} encoded, {left} left dense")
        lost = [row for row in report if row.lost_signs]
        show_lines(
            [f"{shown(row.name)}: {row.lost_signs:,} weights of -0.0 had no room and come back as +0.0" for row in lost]
        )
