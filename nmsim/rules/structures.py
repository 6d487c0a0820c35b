"""Masks of a given structure: the best by score, and whether a mask obeys it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Num, Shaped

from hwmodel.pattern import FanIn, Pattern, Structure, Unstructured
from nmsim.masks import topk_mask
from nmsim.rules.site import Mask

Scores = Num[np.ndarray, "d_out d_in"]
Matrix = Shaped[np.ndarray, "d_out d_in"]
Lines = Shaped[np.ndarray, "lines length"]


def fan_in(structure: FanIn, rows: int, cols: int) -> int:
    """Inputs that each of `rows` outputs keeps: floor(floor(rows * cols * density) / rows), at least 1."""
    return max(1, int(rows * cols * structure.density) // rows)


def kept_count(structure: Unstructured, size: int) -> int:
    """Weights that an unstructured mask of `size` weights keeps, at least 1."""
    return max(1, round(size * structure.density))


def as_pattern(structure: Structure, shape: tuple[int, int], axis: int) -> tuple[Pattern, tuple[int, int]]:
    """The N:M pattern over lines that says the same as `structure`, and the shape [lines, length] of those lines.

    A fan-in is n of a whole row; an unstructured mask is n of the whole matrix.
    """
    lines, length = shape[1 - axis], shape[axis]
    if isinstance(structure, Pattern):
        return structure, (lines, length)
    if isinstance(structure, FanIn):
        return Pattern(fan_in(structure, lines, length), length), (lines, length)
    return Pattern(kept_count(structure, lines * length), lines * length), (1, lines * length)


def to_lines(array: Matrix, axis: int, shape: tuple[int, int]) -> Lines:
    """A weight's array with groups along the last axis, as lines of the given shape."""
    return np.moveaxis(array, axis, -1).reshape(shape)


def from_lines(lines: Lines, axis: int, shape: tuple[int, int]) -> Matrix:
    """The inverse of `to_lines` for a weight of `shape`."""
    moved = (shape[1 - axis], shape[axis])
    return np.ascontiguousarray(np.moveaxis(lines.reshape(moved), -1, axis))


def best_mask(scores: Scores, structure: Structure, axis: int) -> Mask:
    """The mask of `structure` with the highest scores; ties keep the lower index.

    A last group shorter than m keeps its best n, or all of it.
    """
    if structure.density == 1:
        return np.ones(scores.shape, bool)
    pattern, shape = as_pattern(structure, (scores.shape[0], scores.shape[1]), axis)
    lines = to_lines(scores, axis, shape)
    pad = -shape[1] % pattern.m
    if pad:
        lines = np.pad(lines, ((0, 0), (0, pad)), constant_values=-np.inf)
    return from_lines(topk_mask(lines, pattern)[:, : shape[1]], axis, (scores.shape[0], scores.shape[1]))


def obeys(mask: Mask, structure: Structure, axis: int) -> bool:
    """Whether `mask` keeps no more than `structure` allows; a fan-in also wants equal counts in all rows that live."""
    counts = mask.sum(axis=axis)
    if isinstance(structure, FanIn):
        live = counts[counts > 0]
        return bool(np.unique(live).size == 1 and counts.sum() <= max(len(counts), mask.size * structure.density))
    pattern, shape = as_pattern(structure, (mask.shape[0], mask.shape[1]), axis)
    lines = np.pad(to_lines(mask, axis, shape), ((0, 0), (0, -shape[1] % pattern.m)))
    return bool((lines.reshape(shape[0], -1, pattern.m).sum(axis=-1) <= pattern.n).all())
