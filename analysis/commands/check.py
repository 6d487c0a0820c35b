"""`nmsim check`: a line a tensor: the pattern it obeys, whether a device takes it and by which rule, bytes, gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hwmodel.device import Device, load_device
from hwmodel.errors import UserError, unknown
from hwmodel.models import MODELS
from hwmodel.networks import weights
from hwmodel.pattern import DENSE, Pattern
from nmsim.formats.detect import Found, look
from nmsim.formats.dtypes import WEIGHTS, is_weight
from nmsim.formats.rewrite import chosen
from nmsim.formats.tensors import Source

from ..eligible import DTYPES, LAYOUTS, Matrix, Row, judge_all, sparse_library, totals
from ..pricing import fits_for
from ..trained import open_run_or_file
from ..transfer import NO_PRODUCT, Axis, axis_of, grouped, matrices, print_json, progress, show


def _bytes(layout: str, row: Row) -> str:
    return f"{row.bytes[layout]:,}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "tensor": lambda row: row.matrix.name,
    "shape": lambda row: " x ".join(map(str, row.matrix.shape)),
    "dtype": lambda row: row.matrix.dtype,
    "axis": lambda row: str(row.matrix.axis),
    "stored as": lambda row: row.matrix.stored,
    "obeys": lambda row: row.matrix.found,
    "nonzero": lambda row: f"{100 * row.matrix.nonzero:.1f} %" if row.matrix.found else "",
    "pattern": lambda row: str(row.matrix.pattern),
    "eligible": lambda row: "yes" if row.verdict.eligible else "no",
    "padded to": lambda row: " x ".join(map(str, row.verdict.padded)) if row.is_padded else "",
    **{f"{layout}\nbytes": partial(_bytes, layout) for layout in LAYOUTS},
    "gain\n(modelled)": lambda row: f"{row.gain:.2f}",
    "pays from\ntokens": lambda row: str(row.pays_from.get("batch") or ""),
}


def check(
    target: str,
    /,
    *,
    pattern: str = "",
    device: str = "a100",
    tokens: int = 2048,
    dtype: str = "bfloat16",
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
    axis: Axis = "auto",
    fits: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Tell, matrix by matrix, which n:m the weights obey and what it would gain on a device.

    Args:
        target: A safetensors file, the .index.json of shards, an ONNX model, the folder of a run, or a model's name.
        pattern: n:m to judge by, whether or not the weights obey it yet; else the sparsest that each matrix obeys.
        device: A device's name or file, as nmsim devices lists them.
        tokens: Inputs of each product.
        dtype: Element type of a named model's weights; a file knows its own.
        include: Globs of tensor names to judge.
        exclude: Globs of tensor names to leave out.
        axis: The axis that groups run along: 1 for weights [d_out, d_in], 0 for [d_in, d_out].
        fits: Constants that nmsim calibrate wrote; they go before the shipped ones.
        as_json: Print JSON.
    """
    priced = load_device(device)
    known = fits_for(fits, priced)
    if tokens < 1:
        raise UserError(f"--tokens {tokens}: needs at least 1")
    found, others = _matrices(target, pattern, dtype, (include, exclude), axis)
    rows = judge_all(found, priced, tokens, known)
    total = totals(rows)
    if as_json:
        head = {"target": target, "device": priced.name, "tokens": tokens}
        print_json({**head, "tensors": [row.as_dict() for row in rows], "others": others, "total": total})
        return
    number = {rule: place for place, rule in enumerate(dict.fromkeys(row.why for row in rows), 1)}
    counts = Counter(row.why for row in rows)
    rules = [f"rule {place} ({counts[rule]} of {len(rows)}): {rule}" for rule, place in number.items()]
    columns = COLUMNS | {"rule": lambda row: str(number[row.why])}
    show(rows, columns, *rules, *grouped(others), *_summary(rows, priced, tokens))


def _summary(rows: list[Row], device: Device, tokens: int) -> list[str]:
    """What all matrices come to, and what keeps the file from being smaller and faster."""
    total, packable = totals(rows), [row for row in rows if row.is_packable]
    saved = sum(row.matrix.stored_bytes - row.bytes["index"] for row in packable)
    sizes = total["bytes"]
    eligible = f"{total['eligible']} of {len(rows)} matrices eligible on {device.name}"
    lines = [
        f"{eligible}; modelled gain of all products {total['gain']:.2f} at {tokens} tokens",
        f"bytes: {total['stored_bytes'] or sizes['dense']:,} now, {_listed(sizes)}",
    ]
    if packable:
        lines.append(
            f"not smaller yet: {len(packable)} matrices are stored with their zeros; "
            f"nmsim export --format nm would save {saved:,} bytes"
        )
    if total["gain"] > 1:
        lines.append(
            f"not faster by itself: the gain is that of {sparse_library(device)}; "
            "what multiplies the zeros takes as long as before"
        )
    return lines


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{size:,} as {layout}" for layout, size in sizes.items())


def _matrices(
    target: str, pattern: str, dtype: str, globs: tuple[tuple[str, ...], tuple[str, ...]], axis: Axis
) -> tuple[list[Matrix], dict[str, str]]:
    """The matrices to judge, and why each other tensor is none."""
    asked = Pattern.parse(pattern) if pattern else DENSE
    if target in MODELS and not Path(target).exists():
        return _of_model(target, asked, dtype, globs), {}
    if not Path(target).exists() and not Path(target).suffix:
        raise UserError(f"{target}: no such file; {unknown('model', target, MODELS)}")
    with open_run_or_file(Path(target)) as source:
        names = matrices(source, *globs)
        others = {name: _other(source, name, axis) for name in chosen(list(source.specs), *globs)}
        usable = [name for name in names if not others[name]]
        total = sum(source.specs[name].nbytes for name in usable)
        with progress("checking", total) as advance:
            found = list(_looked_at(source, usable, asked, axis, advance))
        return found, {name: reason for name, reason in sorted(others.items()) if reason}


def _other(source: Source, name: str, axis: Axis) -> str:
    """Why a tensor is no candidate, or ""."""
    spec = source.specs[name]
    if len(spec.shape) != 2 or 0 in spec.shape:
        return f"{len(spec.shape)}-D; only matrices are candidates" if spec.nbytes else "it has no weights"
    if not is_weight(spec.dtype):
        return f"{spec.dtype.name}; only weights of {', '.join(WEIGHTS)} are candidates"
    return "" if axis_of(source, name, axis) is not None else NO_PRODUCT


def _looked_at(
    source: Source, names: list[str], asked: Pattern, axis: Axis, advance: Callable[[int], None]
) -> Iterator[Matrix]:
    for name in names:
        spec, along = source.specs[name], axis_of(source, name, axis) or 0
        found, across = _obeyed(source, name, along, asked)
        pattern = found.pattern if asked.is_dense else asked
        share, obeys = found.nonzero / found.elements, found.obeys(pattern)
        described = (name, spec.shape, spec.dtype.name, along, pattern, str(found.pattern), share, obeys, across)
        yield Matrix(*described, *source.stored(name))
        advance(spec.nbytes)


def _obeyed(source: Source, name: str, axis: int, asked: Pattern) -> tuple[Found, bool]:
    """What groups along the reduction hold, or those along the outputs, if these alone account for the zeros."""
    found = look(source, name, axis, asked.m)
    if not found.accounts_for(asked):
        across = look(source, name, 1 - axis, asked.m)
        if across.accounts_for(asked):
            return across, True
    return found, False


def _of_model(name: str, asked: Pattern, dtype: str, globs: tuple[tuple[str, ...], tuple[str, ...]]) -> list[Matrix]:
    if asked.is_dense:
        raise UserError(f"{name}: a model's name says no weights; give --pattern n:m")
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    shapes = weights(MODELS[name])
    kept = chosen(list(shapes), *globs)
    return [
        Matrix(site, shape, dtype, 1, asked, "", 1.0, obeys=False) for site, shape in shapes.items() if site in kept
    ]
