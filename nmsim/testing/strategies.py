"""Hypothesis strategies for patterns, masks and products, over the whole domain that the project promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from hwmodel.pattern import Pattern
from nmsim.compressed import NMMatrix, compress

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40])


@dataclass(frozen=True)
class Problem:
    """A product to be checked: activations `x` [t, d_in], and a weight [d_out, d_in] with the mask that prunes it."""

    x: np.ndarray
    weight: np.ndarray
    mask: np.ndarray
    pattern: Pattern
    axis: int

    @cached_property
    def w(self) -> NMMatrix:
        """The compressed weight."""
        return compress(self.weight, self.mask, self.pattern, self.axis)

    def __str__(self) -> str:
        w = self.w
        return f"x {self.x.shape} {self.x.dtype}, w {w.shape} {w.pattern}, groups along axis {w.axis}"


def patterns(widest: int = 32) -> st.SearchStrategy[Pattern]:
    """N:M patterns with m up to `widest`, n = m and m = 1 included."""
    return st.integers(1, widest).flatmap(lambda m: st.builds(Pattern, st.integers(1, m), st.just(m)))


def scores(pattern: Pattern) -> st.SearchStrategy[np.ndarray]:
    """Score matrices whose rows hold whole groups; many scores are equal, some are zero, infinite or denormal."""

    def draw(rows: int, groups: int, seed: int, values: int) -> np.ndarray:
        drawn = np.random.default_rng(seed).integers(-values, values + 1, (rows, groups * pattern.m)).astype(np.float32)
        drawn[drawn == values] = np.inf
        drawn[drawn == -values] = 1e-40
        return drawn

    return st.builds(draw, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32), st.integers(1, 50))


def problems(*, axes: tuple[int, ...] = (1,), special: bool = False) -> st.SearchStrategy[Problem]:
    """Products of any shape, pattern, type and memory order; a share of the groups keeps fewer than n.

    With `special`, weights and activations hold signed zeros, infinities, NaN and denormals.
    """
    return _problems(st.sampled_from(axes), special=special)


@st.composite
def _problems(draw: Callable[..., Any], axes: st.SearchStrategy[int], *, special: bool) -> Problem:
    pattern, axis = draw(patterns()), draw(axes)
    length, lines = draw(st.integers(1, 4)) * pattern.m, draw(st.integers(1, 40))
    t = draw(st.sampled_from((0, 1, 2, 7, 16, 17, 33, 70)))
    dtype = draw(st.sampled_from((np.float32, np.float64)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (lines, length) if axis == 1 else (length, lines)
    w, x = (_numbers(rng, size, dtype, special=special) for size in (shape, (t, shape[1])))
    mask = _drawn_mask(rng, lines, length, pattern) & (rng.random((lines, length)) < draw(st.sampled_from((1, 0.7, 0))))
    return Problem(draw(st.sampled_from(ORDERS))(x), w, mask if axis == 1 else mask.T, pattern, axis)


def _drawn_mask(rng: np.random.Generator, lines: int, length: int, pattern: Pattern) -> np.ndarray:
    """Any n of every m, without our own kernels, which a strategy must not compile."""
    ranks = rng.random((lines, length // pattern.m, pattern.m)).argsort(axis=-1)
    kept: np.ndarray = ranks < pattern.n
    return kept.reshape(lines, length)


def _numbers(rng: np.random.Generator, shape: tuple[int, int], dtype: type, *, special: bool) -> np.ndarray:
    numbers = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)
    if special:
        odd = rng.random(shape) < 0.05
        numbers[odd] = rng.choice(SPECIAL, odd.sum())
    return numbers.astype(dtype)


def _strided(a: np.ndarray) -> np.ndarray:
    wide = np.zeros((a.shape[0], 2 * a.shape[1] + 1), a.dtype)
    wide[:, 1::2] = a
    return wide[:, 1::2]


def _read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


ORDERS = (np.ascontiguousarray, np.asfortranarray, _strided, _read_only)
