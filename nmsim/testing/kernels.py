"""The contract of a kernel and of a mask function, checked over drawn problems: for ours and for a user's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import HealthCheck, given, settings

from hwmodel.pattern import Pattern
from nmsim.compressed import NMMatrix, decompress
from nmsim.testing import strategies
from nmsim.testing.strategies import Problem

Kernel = Callable[[np.ndarray, NMMatrix], np.ndarray]
Mask = Callable[[np.ndarray, Pattern], np.ndarray]
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def check_kernel(kernel: Kernel, *, axes: tuple[int, ...] = (1,)) -> None:
    """Check that kernel(x, w) is x @ w.T for every `NMMatrix` w with groups along one of `axes`.

    Finite results obey |error| <= 2 gamma_k (|x| @ |w|.T) with k the terms really summed (Higham 2002, eq. 3.5), plus
    what underflow may lose; with infinities and NaN the result is that of multiplying exactly the stored weights.
    Raises `AssertionError`, which names the law and the problem.
    """

    @SETTINGS
    @given(problem=strategies.problems(axes=axes))
    def finite(problem: Problem) -> None:
        check_bound(kernel, problem)

    @SETTINGS
    @given(problem=strategies.problems(axes=axes, special=True))
    def special(problem: Problem) -> None:
        check_special(kernel, problem)

    finite()
    special()


def check_bound(kernel: Kernel, problem: Problem) -> None:
    """Check type, shape and error bound of one finite product."""
    x, w = problem.x, problem.w
    y = kernel(x, w)
    _require(y.dtype == w.dtype, f"{problem}: result is {y.dtype}")
    _require(y.shape == (x.shape[0], w.shape[0]), f"{problem}: result is {y.shape}")
    exact, wide = (a.astype(np.longdouble) for a in (x, decompress(w)))
    error = np.abs(y - exact @ wide.T)
    excess = error - 2 * gamma(w) * (np.abs(exact) @ np.abs(wide.T)) - w.shape[1] * np.finfo(w.dtype).smallest_subnormal
    _require(
        bool((excess <= 0).all()),
        f"{problem}: error {error.max(initial=0):.3g} breaks the bound by {excess.max(initial=0):.3g}",
    )


def _require(holds: bool, law: str) -> None:  # noqa: FBT001 - what is required
    if not holds:
        raise AssertionError(law)


def gamma(w: NMMatrix) -> np.ndarray:
    """gamma_k = k u / (1 - k u) of each output, k its kept weights and u the unit roundoff."""
    unit = np.finfo(w.dtype).eps / 2
    terms = w.mask.sum(axis=1) * unit
    bound: np.ndarray = terms / (1 - terms)
    return bound


def check_special(kernel: Kernel, problem: Problem) -> None:
    """Check one product with non-finite numbers against the sum over exactly the stored weights."""
    y, expected = kernel(problem.x, problem.w), stored_products(problem.x, problem.w)
    for name, same in (("NaN", np.isnan), ("+infinity", np.isposinf), ("-infinity", np.isneginf)):
        _require(bool((same(y) == same(expected)).all()), f"{problem}: {name} is not where the stored weights put it")


@np.errstate(invalid="ignore", over="ignore")
def stored_products(x: np.ndarray, w: NMMatrix) -> np.ndarray:
    """The product x @ w.T as a sum over stored weights alone, so that a pruned infinity or NaN has no part in it."""
    y = np.zeros((x.shape[0], w.shape[0]), w.dtype)
    m = w.pattern.m
    for line, group, slot in np.argwhere(w.kept):
        place = group * m + int(w.indices[line, group, slot])
        o, i = (line, place) if w.axis == 1 else (place, line)
        y[:, o] += x[:, i] * w.values[line, group, slot]
    return y


def check_mask(choose: Mask) -> None:
    """Check that choose(scores, pattern) keeps the n highest of every m scores of a row, ties to the lower index.

    Raises `AssertionError`, which names the law and the pattern.
    """

    @SETTINGS
    @given(case=strategies.patterns().flatmap(lambda p: strategies.scores(p).map(lambda s: (s, p))))
    def laws(case: tuple[np.ndarray, Pattern]) -> None:
        check_mask_laws(choose, *case)

    laws()


def check_mask_laws(choose: Mask, scores: np.ndarray, pattern: Pattern) -> None:
    """Check one mask: type, shape, n of each group, the highest ones, ties to the lower index, scores untouched."""
    before = scores.copy()
    mask = choose(scores, pattern)
    _require(mask.dtype == bool, f"{pattern}: the mask is {mask.dtype}, not bool")
    _require(mask.shape == scores.shape, f"{pattern}: the mask is {mask.shape}, the scores are {scores.shape}")
    np.testing.assert_array_equal(scores, before, err_msg=f"{pattern}: the scores were changed")
    for group, kept in zip(before.reshape(-1, pattern.m), mask.reshape(-1, pattern.m), strict=True):
        ranked = sorted(range(pattern.m), key=lambda j: (-group[j], j))
        best = sorted(ranked[: pattern.n])
        found = np.flatnonzero(kept).tolist()
        _require(found == best, f"{pattern}: of {group.tolist()} the mask keeps {found}, not {best}")
