"""Dispatch, refusals and the record of the three products; the kernels themselves are in test_kernels.py."""

from __future__ import annotations

import inspect
import threading

import naive
import naive_simd
import numpy as np
import pytest
from hypothesis import given

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from hwmodel.workload import Operand
from nmsim import gemm, layouts
from nmsim.compressed import compress, decompress
from nmsim.gemm import derive_layouts, dgrad, fprop, joined, matmul, note_stack, record, wgrad
from nmsim.kernels import host, simd
from nmsim.kernels.threads import threads
from nmsim.masks import topk_mask
from nmsim.testing import strategies

RNG = np.random.default_rng(0)


def matrix(rows, cols, pattern, axis=1):
    w = RNG.standard_normal((rows, cols))
    return compress(w, topk_mask(np.abs(w), pattern, axis), pattern, axis)


@given(problem=strategies.problems(axes=(0, 1)))
def test_the_three_products_are_their_naive_twins(problem):
    x, w = problem.x[:17], problem.w
    dy = np.random.default_rng(1).standard_normal((x.shape[0], w.shape[0])).astype(w.dtype)
    close = {"rtol": 1e-4 if w.dtype == np.float32 else 1e-10, "atol": 1e-1 if w.dtype == np.float32 else 1e-6}
    np.testing.assert_allclose(fprop(x, w), naive.fprop(x, w)[0], **close)
    np.testing.assert_allclose(dgrad(dy, w), naive.dgrad(dy, w), **close)
    np.testing.assert_allclose(decompress(wgrad(dy, x, like=w)), naive.wgrad(dy, x, w), **close)


@given(problem=strategies.problems(axes=(0, 1)))
def test_input_and_weight_gradients_are_adjoint_to_the_forward_product(problem):
    x, w = problem.x.astype(np.float64), problem.w.with_values(problem.w.values.astype(np.float64))
    dy = np.random.default_rng(1).standard_normal((x.shape[0], w.shape[0]))
    forward = (fprop(x, w) * dy).sum()
    scale = 1e-12 * (1 + (np.abs(x) @ np.abs(decompress(w)).T * np.abs(dy)).sum())
    assert abs(forward - (x * dgrad(dy, w)).sum()) <= scale
    assert abs(forward - (w.values * wgrad(dy, x, like=w).values).sum()) <= scale


@pytest.fixture
def vector_loops(monkeypatch):
    """Products run through their loops even without a compiler, with twins in place of vector instructions."""
    if not gemm.COMPILED:
        monkeypatch.setattr(gemm, "COMPILED", True)
        for twin in naive_simd.TWINS:
            monkeypatch.setattr(simd, twin.__name__, twin)


@pytest.mark.parametrize(
    ("tokens", "shape", "pattern", "axis"),
    [
        (3, (9, 32), Pattern(2, 4), 1),
        (16, (40, 36), Pattern(1, 4), 1),
        (20, (17, 30), Pattern(2, 5), 1),
        (20, (30, 17), Pattern(2, 5), 0),
        (70, (16, 24), Pattern(1, 8), 0),
        (1, (8, 16), Pattern(1, 16), 1),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kept", [1.0, 0.7])
@pytest.mark.usefixtures("vector_loops")
def test_the_loops_around_vector_instructions_compute_the_products(tokens, shape, pattern, axis, dtype, kept):
    rng = np.random.default_rng(0)
    w = rng.integers(-4, 5, shape).astype(dtype)
    mask = topk_mask(rng.random(shape), pattern, axis) & (rng.random(shape) < kept)
    c, dense = compress(w, mask, pattern, axis), np.where(mask, w, 0)
    x, dy = (rng.integers(-4, 5, (tokens, size)).astype(dtype) for size in (shape[1], shape[0]))
    bias = np.arange(shape[0], dtype=dtype)
    np.testing.assert_array_equal(fprop(x, c, bias=bias), x @ dense.T + bias)
    np.testing.assert_array_equal(fprop(x, c), x @ dense.T)
    np.testing.assert_array_equal(dgrad(dy, c), dy @ dense)
    np.testing.assert_array_equal(decompress(wgrad(dy, x, like=c)), np.where(mask, dy.T @ x, 0))


@pytest.mark.usefixtures("vector_loops")
def test_chunks_and_blocks_of_the_loops_are_summed(monkeypatch):
    monkeypatch.setattr(host, "first_cache_bytes", lambda: 4096)
    monkeypatch.setattr(layouts, "PANEL_BYTES", 16 * layouts.WIDEST_TILE_BYTES)
    monkeypatch.setattr(layouts, "OUTPUT_BYTES", 4096)
    monkeypatch.setattr("nmsim.kernels.threads.LEAST_WORK", 1)
    rng = np.random.default_rng(0)
    w, mask = rng.integers(-4, 5, (50, 48)).astype(np.float64), topk_mask(rng.random((50, 48)), Pattern(2, 4))
    c, dense = compress(w, mask, Pattern(2, 4)), np.where(mask, w, 0)
    x, dy = (rng.integers(-4, 5, (40, size)).astype(np.float64) for size in (48, 50))
    with threads(2):
        np.testing.assert_array_equal(fprop(x, c), x @ dense.T)
        np.testing.assert_array_equal(dgrad(dy, c), dy @ dense)
        np.testing.assert_array_equal(decompress(wgrad(dy, x, like=c)), np.where(mask, dy.T @ x, 0))


def test_padding_gets_no_gradient_even_from_infinity():
    w = compress(np.ones((2, 4)), np.array([[True, False, False, False]] * 2), Pattern(2, 4))
    dy, x = np.full((1, 2), np.inf), np.ones((1, 4))
    assert wgrad(dy, x, like=w).values.tolist() == [[[np.inf, 0]]] * 2


def test_the_naive_forward_product_adds_as_often_as_the_record_says():
    w = matrix(6, 16, Pattern(2, 8))
    x = RNG.standard_normal((3, 16))
    with record() as ops:
        fprop(x, w, site="a")
    assert ops[0].macs == naive.fprop(x, w)[1]


@pytest.mark.parametrize("axis", [0, 1])
def test_products_are_recorded_with_the_operands_that_ran(axis):
    pattern = Pattern(1, 4)
    w = matrix(8, 12, pattern, axis)
    x, dy = np.ones((5, 12)), np.ones((5, 8))
    with record() as ops:
        fprop(x, w, site="a")
        dgrad(dy, w, site="a")
        wgrad(dy, x, like=w, site="a")
        wgrad(dy, x, site="a")
        matmul(x, x.T, site="b", phase="dgrad")
    stored = Operand(8, 12, bits=64, structure=pattern, axis=axis)
    assert [op.phase for op in ops] == ["fprop", "dgrad", "wgrad", "wgrad", "dgrad"]
    assert [op.site for op in ops] == ["a"] * 4 + ["b"]
    assert ops[0].b == stored.transposed()
    assert ops[0].a == Operand(5, 12, bits=64)
    assert ops[1].b == stored
    assert ops[2].out == stored
    assert ops[3].out == Operand(8, 12, bits=64)
    assert ops[4].out == Operand(5, 5, bits=64)


def test_groups_wider_than_255_run_dense_and_are_recorded_so():
    w = matrix(4, 512, Pattern(3, 256))
    dense, x, dy = decompress(w), RNG.standard_normal((2, 512)), RNG.standard_normal((2, 4))
    with record() as ops:
        np.testing.assert_allclose(fprop(x, w), x @ dense.T)
        np.testing.assert_allclose(dgrad(dy, w), dy @ dense)
        dw = wgrad(dy, x, like=w)
    np.testing.assert_allclose(decompress(dw), np.where(w.mask, dy.T @ x, 0))
    assert all(operand.is_dense for op in ops for operand in (op.a, op.b, op.out))


def test_groups_of_255_run_compressed():
    w = matrix(4, 510, Pattern(3, 255))
    x = RNG.standard_normal((20, 510))
    with record() as ops:
        np.testing.assert_allclose(fprop(x, w), x @ decompress(w).T)
    assert ops[0].b.structure == Pattern(3, 255)


def test_recordings_nest_and_do_not_see_other_threads():
    a = np.ones((2, 2))
    with record() as outer:
        matmul(a, a, site="outer")
        with record() as inner:
            matmul(a, a, site="inner")
        thread = threading.Thread(target=matmul, args=(a, a), kwargs={"site": "thread"})
        thread.start()
        thread.join()
    matmul(a, a, site="after")
    assert [op.site for op in outer] == ["outer", "inner"]
    assert [op.site for op in inner] == ["inner"]


@pytest.mark.parametrize("axis", [0, 1])
def test_layouts_of_both_directions_can_be_built_ahead(axis):
    w = matrix(16, 24, Pattern(2, 8), axis)
    derive_layouts(w, 100)
    assert {key[0] for key in w.value_layouts} == {"blocks", "lists"}


FLAT, OTHER = np.arange(32.0), np.arange(32.0)


def test_matrices_that_follow_each_other_in_memory_are_one():
    whole = joined([FLAT[4:8].reshape(1, 4), FLAT[8:24].reshape(4, 4)])
    assert np.shares_memory(whole, FLAT)
    np.testing.assert_array_equal(whole, FLAT[4:24].reshape(5, 4))


@pytest.mark.parametrize(
    "operands",
    [
        [FLAT[:8].reshape(2, 4), FLAT[12:20].reshape(2, 4)],
        [FLAT[8:16].reshape(2, 4), FLAT[:8].reshape(2, 4)],
        [FLAT[:8].reshape(2, 4), OTHER[8:16].reshape(2, 4)],
        [FLAT[:8].reshape(2, 4), FLAT[8:16].reshape(4, 2)],
        [FLAT[:8].reshape(2, 4), FLAT[8:24].reshape(4, 4).T],
        [FLAT[:8].reshape(2, 4), matrix(2, 4, Pattern(1, 4))],
        [np.ones((2, 4)), np.ones((2, 4))],
    ],
    ids=["gap", "order", "other memory", "width", "transposed", "compressed", "memory of their own"],
)
def test_other_matrices_are_not_joined(operands):
    assert joined(operands) is None


def test_a_stack_is_recorded_by_one_of_its_products():
    a, b = np.ones((2, 5, 3, 4), np.float32), np.ones((2, 5, 4, 6), np.float32)
    with record() as ops:
        matmul(a, b)
        note_stack("s", "fprop", (3, 4, 6), 10, np.dtype(np.float32))
    sizes = [tuple((o.rows, o.cols, o.bits) for o in (op.a, op.b, op.out)) for op in ops]
    assert sizes == [((3, 4, 32), (4, 6, 32), (3, 6, 32))] * 2
    assert [op.repeat for op in ops] == [10, 10]


@pytest.mark.parametrize("w", [matrix(8, 12, Pattern(1, 4)), np.ones((8, 12))])
def test_a_bias_is_added_to_every_token(w):
    x, bias = RNG.standard_normal((3, 12)), RNG.standard_normal(8)
    np.testing.assert_allclose(fprop(x, w, bias=bias), fprop(x, w) + bias)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: fprop(np.ones((2, 11)), w, site="s"), "s: x has 11, d_in is 12"),
        (lambda w: dgrad(np.ones((2, 9)), w, site="s"), "s: dy has 9, d_out is 8"),
        (
            lambda w: inspect.unwrap(wgrad)(np.ones((2, 8)), np.ones((3, 12)), like=w),
            "product: dy has 2, tokens of x is 3",
        ),
        (lambda w: wgrad(np.ones((2, 8)), np.ones((2, 13)), like=w), "d_in is 12"),
        (lambda w: wgrad(np.ones((2, 7)), np.ones((2, 12)), like=w), "d_out is 8"),
        (lambda _: inspect.unwrap(matmul)(np.ones((2, 3)), np.ones((2, 3))), "a has 3, rows of b is 2"),
        (lambda w: fprop(np.ones((2, 12)), w, bias=np.ones(3), site="s"), "s: bias has 3, d_out is 8"),
    ],
)
def test_operands_that_do_not_fit_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call(matrix(8, 12, Pattern(1, 4)))
