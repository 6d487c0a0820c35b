"""Laws of mask selection."""

from __future__ import annotations

import itertools

import ml_dtypes
import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.kernels.threads import threads
from nmsim.masks import mask_statistics, topk_mask, transposable_mask
from nmsim.testing import check_mask, strategies


def test_topk_keeps_the_contract_of_a_mask():
    check_mask(topk_mask)


def test_check_mask_refuses_a_mask_that_breaks_ties_upwards():
    def upwards(scores, pattern):
        return topk_mask(scores[:, ::-1], pattern)[:, ::-1]

    with pytest.raises(AssertionError, match="the mask keeps"):
        check_mask(upwards)


@given(
    case=strategies.patterns().flatmap(lambda p: st.tuples(st.just(p), strategies.scores(p))),
    dtype=st.sampled_from(["f2", "f4", "f8", "i1", "i8", ml_dtypes.bfloat16]),
)
def test_topk_is_its_naive_twin_for_every_type_of_score(case, dtype):
    pattern, scores = case
    scores = np.clip(scores, -50, 50).astype(dtype)
    twin = naive.topk_mask(scores.astype(np.float64), pattern.n, pattern.m)
    np.testing.assert_array_equal(topk_mask(scores, pattern), twin)


def test_groups_wider_than_any_index_byte_are_chosen_too():
    scores = np.random.default_rng(0).standard_normal((1, 600))
    np.testing.assert_array_equal(topk_mask(scores, Pattern(7, 300)), naive.topk_mask(scores, 7, 300))


def test_groups_as_wide_as_a_row_are_sorted_and_keep_the_lower_of_equals():
    scores = np.random.default_rng(0).integers(0, 50, (3, 600)).astype(float)
    for n in (1, 7, 599, 600):
        np.testing.assert_array_equal(topk_mask(scores, Pattern(n, 600)), naive.topk_mask(scores, n, 600))


@pytest.mark.parametrize("scores", [[1.0, 1 + 1e-12], [2**53, 2**53 + 1]])
def test_scores_are_compared_in_their_own_type(scores):
    assert topk_mask(np.array([scores]), Pattern(1, 2)).tolist() == [[False, True]]
    assert transposable_mask(np.array([scores, scores[::-1]]), Pattern(1, 2)).tolist() == [[False, True], [True, False]]


@given(case=strategies.patterns(8).flatmap(lambda p: st.tuples(st.just(p), strategies.scores(p))))
def test_groups_along_columns_are_groups_along_rows_of_the_transpose(case):
    pattern, scores = case
    np.testing.assert_array_equal(topk_mask(scores.T, pattern, axis=0), topk_mask(scores, pattern).T)


def test_a_stack_of_matrices_is_chosen_along_any_axis():
    scores = np.random.default_rng(0).standard_normal((4, 6, 8))
    for axis, m in ((0, 2), (1, 3), (2, 4), (-2, 3)):
        mask = topk_mask(scores, Pattern(1, m), axis)
        assert mask.shape == scores.shape
        assert (np.moveaxis(mask, axis, -1).reshape(-1, m).sum(axis=-1) == 1).all()


def test_bits_of_a_mask_do_not_depend_on_threads():
    scores = np.random.default_rng(0).standard_normal((64, 64))
    one = topk_mask(scores, Pattern(2, 8))
    with threads(3):
        np.testing.assert_array_equal(topk_mask(scores, Pattern(2, 8)), one)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_bits_of_a_transposable_mask_do_not_depend_on_threads(count):
    scores = np.random.default_rng(0).random((20, 8))
    one = transposable_mask(scores, Pattern(2, 4))
    with threads(count):
        np.testing.assert_array_equal(transposable_mask(scores, Pattern(2, 4)), one)


def test_an_empty_score_matrix_has_an_empty_mask():
    assert topk_mask(np.zeros((0, 8)), Pattern(2, 4)).shape == (0, 8)


@pytest.mark.parametrize("choose", [topk_mask, transposable_mask])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_nan_score_is_refused_with_its_place(choose, dtype):
    scores = np.ones((8, 8), dtype)
    scores[5, 3] = np.nan
    with pytest.raises(UserError, match=r"score \(5, 3\) is NaN"):
        choose(scores, Pattern(2, 4))


@pytest.mark.parametrize("choose", [topk_mask, transposable_mask])
def test_a_length_that_is_no_multiple_of_m_is_refused(choose):
    with pytest.raises(UserError, match="length 770 is not a multiple of m=4"):
        choose(np.ones((4, 770)), Pattern(2, 4))


@given(case=strategies.patterns(8).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, 2**31), st.booleans())))
def test_a_transposable_mask_is_feasible_and_nothing_can_be_added(case):
    pattern, seed, ties = case
    n, m = pattern.n, pattern.m
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (2 * m, m)) if ties else rng.standard_normal((2 * m, m))
    for block in transposable_mask(np.abs(scores), pattern).reshape(2, m, m):
        rows, columns = block.sum(axis=1), block.sum(axis=0)
        assert max(rows.max(), columns.max()) <= n
        assert not any(not block[i, j] and rows[i] < n and columns[j] < n for i in range(m) for j in range(m))


def best_transposable(scores, n):
    """The most that at most n per row and column can keep, over all choices of rows."""
    m = scores.shape[0]
    rows = [r for k in range(n + 1) for r in itertools.combinations(range(m), k)]
    best = 0.0
    for choice in itertools.product(rows, repeat=m):
        counts = np.bincount([j for row in choice for j in row], minlength=m)
        if counts.max() <= n:
            best = max(best, sum(scores[i, j] for i, row in enumerate(choice) for j in row))
    return best


@given(seed=st.integers(0, 2**31), n=st.integers(1, 2))
def test_a_small_transposable_mask_keeps_the_most(seed, n):
    scores = np.random.default_rng(seed).random((3, 3))
    kept = scores[transposable_mask(scores, Pattern(n, 3))].sum()
    assert kept == pytest.approx(best_transposable(scores, n))


def linear_program(scores, n):
    """The largest sum that at most n per row and column can keep."""
    m = scores.shape[0]
    sums = np.vstack([np.kron(np.eye(m), np.ones(m)), np.kron(np.ones(m), np.eye(m))])
    return -linprog(-scores.ravel(), A_ub=sums, b_ub=np.full(2 * m, n), bounds=(0, 1)).fun


@pytest.mark.parametrize("m", [4, 8, 16, 32])
@pytest.mark.parametrize(("exact", "share"), [(True, 1), (False, 0.99)])
def test_a_transposable_mask_keeps_what_a_linear_program_does_or_nearly(m, exact, share):
    scores, pattern = np.abs(np.random.default_rng(m).standard_normal((m, m))), Pattern(m // 2, m)
    kept = scores[transposable_mask(scores, pattern, exact=exact)].sum()
    assert kept >= share * linear_program(scores, pattern.n) * (1 - 1e-9)


@pytest.mark.parametrize(("m", "exact"), [(8, True), (16, False)])
def test_transposable_masks_are_exact_by_default_up_to_eight(m, exact):
    scores, pattern = np.abs(np.random.default_rng(2).standard_normal((8 * m, 8 * m))), Pattern(m // 2, m)
    found = {choice: transposable_mask(scores, pattern, exact=choice) for choice in (None, True, False)}
    np.testing.assert_array_equal(found[None], found[exact])
    assert (found[True] != found[False]).any()


def test_statistics_of_a_mask_count_what_it_keeps():
    mask = np.array([[1, 1, 0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 0, 1, 1, 0]], bool)
    found = mask_statistics(mask, Pattern(2, 4), site="a")
    assert (found.site, found.rows, found.cols, found.kept) == ("a", 2, 8, 7)
    assert (found.kept_per_row_max, found.kept_per_row_mean, found.kept_per_column_max) == (4, 3.5, 1)
    assert found.groups_short == 1
    assert mask_statistics(mask[:, :2], Pattern(1, 2), axis=0).groups_short == 0


def test_statistics_of_an_empty_mask_are_zero():
    found = mask_statistics(np.zeros((0, 0), bool), Pattern(1, 2))
    assert (found.kept, found.kept_per_row_max, found.kept_per_row_mean) == (0, 0, 0.0)
