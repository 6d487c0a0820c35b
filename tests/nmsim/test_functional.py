"""Forward passes against their definitions, backward passes against differences and by their adjoint identity."""

from __future__ import annotations

import naive_layers
import numba
import numpy as np
import pytest
from gradcheck import directional
from hypothesis import given
from hypothesis import strategies as st

from nmsim import functional
from nmsim.functional import Targets
from nmsim.kernels import pointwise

SIZES = st.integers(1, 5)
SEEDS = st.integers(0, 2**31)
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}


def attention_case(rng, sizes):
    batch, heads, queries, keys, width = sizes
    q, k, v = (rng.standard_normal((batch, heads, n, width)) for n in (queries, keys, keys))
    return q, k, v, rng.integers(1, keys + 1, batch)


@pytest.mark.parametrize("dtype", TOLERANCE)
@given(t=SIZES, d=st.integers(2, 20), seed=SEEDS)
def test_layer_norm_is_its_definition(dtype, t, d, seed):
    rng = np.random.default_rng(seed)
    x, gain, shift = (rng.standard_normal(shape).astype(dtype) for shape in ((t, d), d, d))
    y, _ = functional.layer_norm(x, gain, shift)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, naive_layers.layer_norm(x, gain, shift), rtol=0, atol=50 * TOLERANCE[dtype])


def test_the_fused_sum_and_norm_equals_the_two_steps():
    rng = np.random.default_rng(0)
    x, branch = rng.standard_normal((2, 5, 6))
    bias, gain, shift = rng.standard_normal((3, 6))
    y, saved = functional.add_layer_norm(x, branch, bias, gain, shift)
    np.testing.assert_allclose(saved.x, x + branch + bias, rtol=1e-15)
    np.testing.assert_allclose(y, functional.layer_norm(saved.x, gain, shift)[0], rtol=1e-12)


def test_layer_norm_backward_adds_the_gradient_of_everything_it_touches():
    rng = np.random.default_rng(1)
    x, branch, cotangent, above = rng.standard_normal((4, 4, 6))
    bias, gain, shift = rng.standard_normal((3, 6))

    def loss():
        y, saved = functional.add_layer_norm(x, branch, bias, gain, shift)
        return float(np.vdot(y, cotangent) + np.vdot(saved.x, above))

    _, saved = functional.add_layer_norm(x, branch, bias, gain, shift)
    dx, sums = above.copy(), np.zeros((3, 6))
    functional.layer_norm_backward(cotangent, saved, gain, dx, dgain=sums[0], dshift=sums[1], dbias=sums[2])
    directional(loss, [x, bias, gain, shift], [dx, sums[2], sums[0], sums[1]], rng)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gelu_is_its_definition(dtype):
    x = np.linspace(-12, 12, 97).reshape(1, -1).astype(dtype)
    y, _ = functional.gelu(x.copy(), np.zeros(97, dtype))
    np.testing.assert_allclose(y[0], [naive_layers.gelu(float(v)) for v in x[0]], rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("activation", [functional.gelu, functional.relu])
def test_activation_backward_is_the_gradient(activation):
    rng = np.random.default_rng(2)
    x, cotangent = rng.standard_normal((2, 4, 7))
    bias, dbias = rng.standard_normal(7), np.zeros(7)
    _, derivative = activation(x.copy(), bias)
    dx = functional.activation_backward(cotangent.copy(), derivative, dbias)
    directional(lambda: float(np.vdot(activation(x.copy(), bias)[0], cotangent)), [x, bias], [dx, dbias], rng)


@given(st.tuples(SIZES, SIZES, SIZES, SIZES, SIZES), st.booleans(), SEEDS)
def test_attention_is_its_definition(sizes, causal, seed):
    q, k, v, limits = attention_case(np.random.default_rng(seed), sizes)
    out, p = functional.attention(q, k, v, limits, causal=causal, site="a")
    np.testing.assert_allclose(out, naive_layers.attention(q, k, v, limits, causal=causal), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_backward_is_the_gradient(causal):
    rng = np.random.default_rng(3)
    q, k, v, limits = attention_case(rng, (2, 2, 4, 4, 3))
    cotangent = rng.standard_normal((8, 6))

    def forward():
        return functional.attention(q, k, v, limits, causal=causal, site="a")

    dout = functional.heads(cotangent, 2, 2)
    gradients = tuple(np.empty_like(x) for x in (q, k, v))
    functional.attention_backward(dout, q, k, v, forward()[1], into=gradients, causal=causal, site="a")
    directional(lambda: float(np.vdot(forward()[0], cotangent)), [q, k, v], gradients, rng)


@pytest.mark.parametrize(("tokens", "keys", "causal"), [(1, 1, False), (7, 21, False), (49, 49, False), (37, 37, True)])
def test_one_kernel_of_attention_equals_the_chain_of_products(tokens, keys, causal):
    rng = np.random.default_rng(tokens)
    shapes = (2, 3, tokens, 32), (2, 3, keys, 32), (2, 3, keys, 32), (2, 3, tokens, 32)
    exact = [rng.standard_normal(shape) for shape in shapes]
    limits = np.array([keys, max(1, keys - 3)])
    found = []
    for dtype in (np.float64, np.float32):
        q, k, v, dout = (x.astype(dtype) for x in exact)
        out, p = functional.attention(q, k, v, limits, causal=causal, site="a")
        into = tuple(np.full_like(x, np.nan) for x in (q, k, v))
        functional.attention_backward(dout, q, k, v, p, into=into, causal=causal, site="a")
        found.append((out, *into))
    for mine, reference in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(mine, reference, rtol=0, atol=4e-6 * np.abs(reference).max())


def test_attention_keeps_nan_and_infinity_in_their_sequence():
    q, k, v = np.random.default_rng(0).standard_normal((3, 2, 1, 9, 16)).astype(np.float32)
    k[0, 0, 4, 3], v[0, 0, 2, 5] = np.nan, np.inf
    out, _ = functional.attention(q, k, v, np.array([9, 9]), causal=False, site="a")
    assert np.isnan(out[:9]).all()
    assert np.isfinite(out[9:]).all()


@given(st.tuples(SIZES, st.integers(2, 9)), st.floats(0, 1), st.floats(0, 0.9), SEEDS)
def test_cross_entropy_is_its_definition_and_leaves_its_gradient(shape, share, smoothing, seed):
    rng = np.random.default_rng(seed)
    logits, labels, scale = rng.standard_normal(shape), rng.integers(-1, shape[1], shape[0]), rng.uniform(0.1, 2)
    targets = Targets(labels, rng.integers(0, shape[1], shape[0]), share, smoothing)
    dlogits = logits.copy()
    found = functional.cross_entropy(dlogits, targets, scale)
    assert found.value == pytest.approx(scale * naive_layers.cross_entropy(logits, *targets), abs=1e-9)
    directional(lambda: functional.cross_entropy(logits.copy(), targets, scale).value, [logits], [dlogits], rng)


def test_cross_entropy_counts_right_answers_and_skips_ignored_rows():
    logits = np.array([[1.0, 2.0], [2.0, 1.0], [0.0, 5.0]])
    labels = np.array([1, 1, -1])
    assert functional.cross_entropy(logits, Targets(labels, labels), 1.0).right == 1
    assert not logits[2].any()


@pytest.mark.compiled
def test_the_exponential_of_float32_is_within_its_stated_error():
    @numba.njit
    def each(x, y):
        for i in range(x.size):
            y[i] = pointwise.exp(x[i])

    x = np.linspace(-87, 88, 200_001).astype(np.float32)
    y = np.empty_like(x)
    each(x, y)
    np.testing.assert_allclose(y, np.exp(x.astype(np.float64)), rtol=3.1e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_reach_the_loss(bad):
    logits = np.zeros((1, 3), np.float32)
    logits[0, 1] = bad
    labels = np.array([0])
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(functional.cross_entropy(logits, Targets(labels, labels), 1.0).value)
