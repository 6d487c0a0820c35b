"""Pruning of a checkpoint, block by block of rows, so that no tensor is ever in memory whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwmodel.errors import UserError, shown
from hwmodel.pattern import Pattern
from nmsim.formats.dtypes import WEIGHTS, bits, is_weight, largest, magnitude, place_in_float32, read_only, to_float32
from nmsim.formats.packing import Weights
from nmsim.formats.rewrite import copy_tensor, rewrite
from nmsim.formats.tensors import Sink, Source, TensorSpec, blocks
from nmsim.kernels import codecs
from nmsim.masks import topk_mask

Method = Callable[[str, Weights, Pattern], Weights]  # (tensor name, rows with groups along them, pattern) -> pruned
Energy = Callable[[str, Weights], float]  # (tensor name, rows w) -> ||w x||^2 over the inputs x that are known


@dataclass(frozen=True)
class Choice:
    """How one tensor is pruned: its pattern, along which axis, by which method; `energy` where inputs are known."""

    pattern: Pattern
    axis: int
    method: Method
    energy: Energy | None = None


@dataclass(frozen=True)
class Pruned:
    """What pruning did to one tensor: the share of |w| that is kept, and ||w - pruned|| / ||w||.

    `output_error` is ||(w - pruned) x|| / ||w x|| over the inputs x, where they are known.
    """

    name: str
    pattern: Pattern
    kept_magnitude: float
    relative_error: float
    output_error: float | None


def by_magnitude(name: str, w: Weights, pattern: Pattern) -> Weights:  # noqa: ARG001 - other methods look up the name
    """Keep the n largest |w| of every m, bit for bit; equal ones keep the lower index."""
    codes = read_only(bits(w)).reshape(-1)
    pruned, width = np.empty_like(codes), 8 * codes.itemsize
    word = np.dtype(f"u{pattern.m * codes.itemsize}") if pattern.m * codes.itemsize in (2, 4, 8) else None
    if word is not None and pattern.m == 4:
        codecs.keep_of_four(codes.view(word), width, pattern.n, pruned.view(word))
    elif word is not None and pattern == Pattern(1, 2):
        codecs.keep_of_two(codes.view(word), width, pruned.view(word))
    else:
        codecs.keep(pruned, codes, topk_mask(magnitude(w), pattern).reshape(-1))
    return pruned.view(w.dtype).reshape(w.shape)


def misfit(spec: TensorSpec, pattern: Pattern, axis: int) -> str:
    """Why a tensor can't take a pattern, or "" if it can."""
    if len(spec.shape) != 2:
        return f"{len(spec.shape)}-D; only matrices are pruned"
    if not spec.nbytes:
        return "it has no weights"
    if not is_weight(spec.dtype):
        return f"{spec.dtype.name}; only weights of {', '.join(WEIGHTS)} are pruned"
    if spec.shape[axis] % pattern.m:
        return f"d_in={spec.shape[axis]} is not a multiple of m={pattern.m}"
    return ""


def prune_file(
    source: Source, target: Path, choices: Mapping[str, Choice], advance: Callable[[int], None]
) -> list[Pruned]:
    """Write `target` with the tensors of `choices` pruned and all others copied; `advance(bytes)` tells progress.

    Raises `UserError` for a weight that is not finite, with tensor, row and group; then nothing is written.
    """
    report: list[Pruned] = []

    def write(name: str, writer: Sink) -> None:
        if name in choices:
            report.append(_prune_tensor(source, name, choices[name], writer, advance))
        else:
            copy_tensor(source, name, writer)
            advance(source.specs[name].nbytes)

    rewrite(source, target, {name: {name: spec} for name, spec in source.specs.items()}, source.metadata, write)
    return report


def _prune_tensor(source: Source, name: str, choice: Choice, writer: Sink, advance: Callable[[int], None]) -> Pruned:
    spec, sums, energies = source.specs[name], np.zeros(4), np.zeros(2)
    for start, stop in blocks(spec, multiple=choice.pattern.m if choice.axis == 0 else 1):
        w = source.rows(name, start, stop)
        lines = np.ascontiguousarray(w.T) if choice.axis == 0 else w
        pruned = choice.method(name, lines, choice.pattern)
        _add_losses(lines, pruned, sums)
        if not math.isfinite(sums[-1]):
            raise _not_finite(w, name, start, choice)
        if choice.energy is not None:
            before, after = to_float32(lines), to_float32(pruned)
            energies += choice.energy(name, before - after), choice.energy(name, before)
        writer.put(name, pruned.T if choice.axis == 0 else pruned, start)
        advance(w.nbytes)
    kept, total, lost, squares = sums
    error, output_error = math.sqrt(_share(lost, squares)), math.sqrt(_share(*energies))
    return Pruned(name, choice.pattern, _share(kept, total), error, None if choice.energy is None else output_error)


def _add_losses(w: np.ndarray, pruned: np.ndarray, sums: np.ndarray) -> None:
    """Add the sums of |pruned|, |w|, (w - pruned)^2 and w^2; the last is not finite where a weight is not."""
    if w.dtype == np.float32:
        codecs.loss_sums(read_only(w).reshape(-1), read_only(pruned).reshape(-1), sums)
        return
    old, new = (read_only(bits(a)).reshape(-1) for a in (w, pruned))
    (shift, factor), found = place_in_float32(w.dtype), np.zeros(4)
    low, most = np.uint32(np.iinfo(old.dtype).max >> 1), np.uint32(largest(w.dtype))
    codecs.coded_loss_sums(old, new, low, np.uint32(shift), most, found)
    sums += found * np.array([factor, factor, factor**2, factor**2])


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _not_finite(w: np.ndarray, name: str, start: int, choice: Choice) -> UserError:
    """The error that names the first weight of a block from row `start` on that is not finite."""
    place = np.argwhere(magnitude(w) > largest(w.dtype))[0] + np.array([start, 0])
    line, group = place[1 - choice.axis], place[choice.axis] // choice.pattern.m
    return UserError(
        f"{shown(name)}: row {line}, group {group}: weight {place.tolist()} is not finite; repair the file first"
    )
