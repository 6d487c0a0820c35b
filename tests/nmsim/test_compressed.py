"""Compression, the way back, and what a user's own arrays are refused for."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.compressed import NMMatrix, compress, decompress
from nmsim.kernels.threads import threads
from nmsim.masks import topk_mask
from nmsim.testing import strategies

PATTERN = Pattern(2, 4)


def bits(a):
    return a.view(f"u{a.itemsize}")


@given(problem=strategies.problems(axes=(0, 1), special=True))
def test_decompress_gives_back_the_kept_weights_bit_for_bit(problem):
    w = problem.w
    dense = decompress(w)
    np.testing.assert_array_equal(bits(dense), bits(naive.decompress(w)))
    again = compress(dense, w.mask, w.pattern, w.axis)
    np.testing.assert_array_equal(bits(again.values), bits(w.values))
    np.testing.assert_array_equal(again.indices, w.indices)


def test_payloads_of_nan_and_signs_of_zero_survive():
    w = np.array([[0x7FC12345, 0x80000000, 0x7F800000, 0xFF812345]], np.uint32).view(np.float32)
    mask = np.array([[True, True, False, False]])
    expected = np.where(mask, w, np.float32(0))
    np.testing.assert_array_equal(bits(decompress(compress(w, mask, PATTERN))), bits(expected))
    np.testing.assert_array_equal(bits(decompress(compress(w, ~mask, PATTERN))), bits(np.where(mask, np.float32(0), w)))


@given(shape=st.tuples(st.integers(0, 9), st.integers(0, 9)), axis=st.sampled_from([0, 1, -1]), seed=st.integers(0, 99))
def test_a_last_group_may_be_short(shape, axis, seed):
    rng = np.random.default_rng(seed)
    w, pattern = rng.standard_normal(shape), Pattern(4, 4)
    mask = rng.random(shape) < 0.5
    c = compress(w, mask, pattern, axis)
    np.testing.assert_array_equal(decompress(c), np.where(mask, w, 0))
    assert not c.values.flags.writeable
    assert not c.indices.flags.writeable
    NMMatrix(c.values, c.indices, pattern, shape, axis)


@pytest.mark.parametrize(("m", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_indices_are_the_smallest_integers_that_hold_m(m, dtype):
    w = np.random.default_rng(0).standard_normal((2, 2 * m))
    c = compress(w, topk_mask(w, Pattern(1, m)), Pattern(1, m))
    assert c.indices.dtype == dtype
    np.testing.assert_array_equal(c.mask, topk_mask(w, Pattern(1, m)))


def test_a_live_zero_and_padding_differ():
    c = compress(np.zeros((1, 4)), np.array([[False, True, False, False]]), PATTERN)
    assert c.indices.tolist() == [[[1, 4]]]
    assert c.mask.tolist() == [[False, True, False, False]]
    assert not c.is_full
    assert c.nbytes == 2 * 8 + 2
    assert compress(np.full((1, 4), 3.0), c.mask, PATTERN).values.tolist() == [[[3, 0]]]


def test_a_matrix_can_not_be_changed():
    c = compress(np.ones((1, 4)), np.array([[True, False, True, False]]), PATTERN)
    with pytest.raises(FrozenInstanceError):
        c.axis = 0
    assert "layouts" not in repr(c)


def test_other_values_share_the_layouts_of_positions():
    c = compress(np.ones((4, 8)), topk_mask(np.ones((4, 8)), PATTERN), PATTERN)
    other = c.with_values(2 * c.values)
    assert other.index_layouts is c.index_layouts
    assert other.value_layouts is not c.value_layouts
    np.testing.assert_array_equal(decompress(other), 2 * decompress(c))


def test_bits_of_a_compression_do_not_depend_on_threads():
    w = np.random.default_rng(0).standard_normal((100, 64))
    mask = topk_mask(w, PATTERN)
    one = compress(w, mask, PATTERN)
    with threads(4):
        four = compress(w, mask, PATTERN)
        np.testing.assert_array_equal(decompress(four), decompress(one))
    np.testing.assert_array_equal(four.values, one.values)


def test_a_group_that_keeps_too_many_is_refused_with_its_place():
    mask = np.zeros((3, 12), bool)
    mask[2, 4:7] = mask[2, [0, 8]] = True
    with pytest.raises(UserError, match=r"row 2, group 1 keeps 3 of 4; the pattern 2:4 keeps at most 2"):
        compress(np.ones((3, 12)), mask, PATTERN)
    with pytest.raises(UserError, match=r"row 2, group 1 keeps 3 of 4"):
        compress(np.ones((12, 3)), mask.T, PATTERN, axis=0)
    with pytest.raises(UserError, match=r"row 0, group 0 keeps 4 of 4"):
        compress(np.ones((1, 4)), np.ones((1, 4), bool), PATTERN)


@pytest.mark.parametrize(
    ("w", "mask", "axis", "message"),
    [
        (np.ones((2, 4)), np.ones((2, 8), bool), 1, r"weight \(2, 4\) and mask \(2, 8\)"),
        (np.ones(4), np.ones(4, bool), 1, "give two matrices"),
        (np.ones((2, 4), np.float16), np.zeros((2, 4), bool), 1, "values are float16; give float32 or float64"),
        (np.ones((2, 4)), np.zeros((2, 4), bool), 2, "axis 2 of a matrix; give 0"),
    ],
)
def test_what_is_no_weight_and_mask_is_refused(w, mask, axis, message):
    with pytest.raises(UserError, match=message):
        inspect.unwrap(compress)(w, mask, PATTERN, axis)  # past the check of annotations, which refuses it first


def parts():
    return np.ones((2, 2, 2), np.float32), np.array([[[0, 1], [2, 3]], [[1, 4], [4, 4]]], np.uint8)


def test_a_users_own_arrays_are_copied_frozen_and_padding_is_made_zero():
    values, indices = parts()
    c = NMMatrix(values, indices, PATTERN, (2, 8))
    values[:] = 7
    assert c.values[0, 0, 0] == 1
    assert c.values[1, 1].tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        c.indices[0, 0, 0] = 9


@pytest.mark.parametrize(
    ("place", "index"), [((1, 0, 0), 5), ((0, 1, 1), 2), ((0, 1, 1), 1), ((1, 1, 1), 3), ((0, 0, 0), 4)]
)
def test_an_index_out_of_range_or_order_is_refused_with_row_and_group(place, index):
    values, indices = parts()
    indices[place] = index
    with pytest.raises(UserError, match=f"row {place[0]}, group {place[1]}: index .* out of range or not ascending"):
        NMMatrix(values, indices, PATTERN, (2, 8))


def test_an_index_beyond_a_short_last_group_is_refused():
    values, indices = parts()
    with pytest.raises(UserError, match="row 0, group 1: index 3 in slot 1"):
        NMMatrix(values, indices, PATTERN, (2, 7))


def _unchecked(values, indices):
    """A matrix past the check of annotations, which refuses other shapes first."""
    c = object.__new__(NMMatrix)
    for name, value in {"values": values, "indices": indices, "pattern": PATTERN, "shape": (2, 8), "axis": 1}.items():
        object.__setattr__(c, name, value)
    return c


def test_arrays_of_the_wrong_type_or_shape_are_refused():
    values, indices = parts()
    with pytest.raises(UserError, match="indices are uint16; 2:4 needs uint8"):
        NMMatrix(values, indices.astype(np.uint16), PATTERN, (2, 8))
    with pytest.raises(UserError, match="values are float16"):
        NMMatrix(values.astype(np.float16), indices, PATTERN, (2, 8))
    with pytest.raises(UserError, match=r"needs \(2, 3, 2\)"):
        NMMatrix(values, indices, PATTERN, (2, 9))
    for one, other in ((values[:1], indices), (values, indices[:1])):
        with pytest.raises(UserError, match=r"needs \(2, 2, 2\)"):
            inspect.unwrap(NMMatrix.__post_init__)(_unchecked(one, other))
