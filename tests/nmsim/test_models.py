"""Every model: gradients against differences, products against the derived workload, parameters against the count."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from gradcheck import directional

from hwmodel.errors import UserError
from hwmodel.networks import (
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    MLPConfig,
    ViTConfig,
    parameters,
    train_step,
    weights,
)
from hwmodel.pattern import Pattern
from nmsim import gemm, recipes
from nmsim.flat import Flat
from nmsim.functional import Targets, cross_entropy
from nmsim.models.blocks import dropped
from nmsim.models.build import build_model
from nmsim.models.encoder_decoder import greedy
from nmsim.sparsifier import Sparsifier

SMALL = {"width": 8, "depth": 2, "heads": 2}
CONFIGS = {
    "mlp": MLPConfig(inputs=8, width=8, depth=2, classes=3, activation="gelu"),
    "mlp without bias": MLPConfig(inputs=8, width=8, depth=1, classes=3, activation="relu", bias=False),
    "vit": ViTConfig(image=(4, 4), patch=(2, 2), classes=3, **SMALL),
    "vit of a sequence": ViTConfig(image=(1, 12), patch=(1, 4), classes=3, **SMALL),
    "vit with class token": ViTConfig(image=(4, 4), patch=(2, 2), classes=3, pool="class", bias=False, **SMALL),
    "decoder": DecoderConfig(vocab=7, context=5, ff_width=12, **SMALL),
    "decoder untied": DecoderConfig(vocab=7, context=5, tied_embeddings=False, activation="relu", **SMALL),
    "encoder-decoder": EncoderDecoderConfig(vocab=7, context=5, **SMALL),
    "encoder-decoder untied": EncoderDecoderConfig(vocab=7, context=5, tied_embeddings=False, bias=False, **SMALL),
}
BATCH = 4
JOINED = gemm.fprop_joined
EVERY = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def case(config, dtype=np.float64, seed=0):
    """A model off its first weights, inputs and targets."""
    rng = np.random.default_rng(seed)
    model = build_model(config, rng, dtype)
    for param in model.params():
        param.value += (0.1 * rng.standard_normal(param.value.shape)).astype(dtype)
    if isinstance(config, MLPConfig):
        inputs, rows, classes = (rng.standard_normal((BATCH, config.inputs)),), BATCH, config.classes
    elif isinstance(config, ViTConfig):
        inputs, rows, classes = (rng.standard_normal((BATCH, *config.image)),), BATCH, config.classes
    else:
        count = 2 if isinstance(config, EncoderDecoderConfig) else 1
        inputs = tuple(rng.integers(1, config.vocab, (BATCH, config.context)) for _ in range(count))
        rows, classes = BATCH * config.context, config.vocab
    return model, inputs, Targets(rng.integers(0, classes, rows), rng.integers(0, classes, rows), 0.8, 0.1)


def step(model, inputs, targets):
    logits = model.forward(*inputs)
    loss = cross_entropy(logits, targets, 1 / len(targets.labels))
    model.backward(logits)
    return loss.value


@EVERY
def test_gradients_are_the_differences_of_the_loss(config):
    model, inputs, targets = case(config)
    step(model, inputs, targets)
    params = list(model.params())

    def loss():
        return cross_entropy(model.forward(*inputs), targets, 1 / len(targets.labels)).value

    directional(loss, [p.value for p in params], [p.grad for p in params], np.random.default_rng(9), step=1e-5)


@EVERY
def test_gradients_add_up(config):
    model, inputs, targets = case(config)
    step(model, inputs, targets)
    once = [param.grad.copy() for param in model.params()]
    step(model, inputs, targets)
    for param, grad in zip(model.params(), once, strict=True):
        np.testing.assert_allclose(param.grad, 2 * grad, rtol=1e-9, atol=1e-12)


@EVERY
def test_the_products_that_ran_are_the_derived_workload(config):
    model, inputs, targets = case(config)
    with gemm.record() as ran:
        step(model, inputs, targets)
    assert Counter(ran) == Counter(train_step(config, BATCH, tokens=config.tokens, bits=64).gemms)


@pytest.mark.parametrize("kind", ["vit", "vit with class token", "decoder", "encoder-decoder"])
@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.compiled), np.float64])
def test_joined_products_of_parameters_end_to_end_change_no_gradient_and_no_record(kind, dtype, monkeypatch):
    config = replace(CONFIGS[kind], width=16)
    found = []
    for wrap in (list, Flat):
        model, inputs, targets = case(config, dtype)
        wrap(model.params())
        joined = []
        monkeypatch.setattr(gemm, "fprop_joined", lambda *args, joined=joined: joined.append(args) or JOINED(*args))
        with gemm.record() as ran:
            loss = step(model, inputs, targets)
        found.append((Counter(ran), loss, [param.grad for param in model.params()], bool(joined)))
    (apart, loss, gradients, joined_apart), (together, same, others, joined_together) = found
    assert (joined_apart, joined_together) == (False, True)
    assert apart == together
    assert same == pytest.approx(loss, rel=1e-6)
    error = 1e-6 * max(np.abs(a).max() for a in gradients)
    for a, b in zip(gradients, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=error)


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["ste", "slope", "bi_mask", "static_magnitude"])
@pytest.mark.parametrize("kind", ["mlp", "vit", "decoder", "encoder-decoder"])
def test_compressed_products_are_those_of_the_plan(kind, name):
    config = CONFIGS[kind]
    model, inputs, targets = case(config, np.float32)
    sites = [param for param in model.sparsifiable() if all(size % 4 == 0 for size in param.value.shape)]
    recipe = recipes.find(name)(Pattern(2, 4), steps=10)
    sparsifier = Sparsifier({"*": recipe}, sites, np.random.default_rng(0), "compressed")
    sparsifier.before_forward(9)
    with gemm.record() as ran:
        step(model, inputs, targets)
    plan = sparsifier.plan(9)
    assert Counter(ran) == Counter(train_step(config, BATCH, plan, tokens=config.tokens).gemms)


@EVERY
def test_parameters_and_sites_are_those_of_the_cost_model(config):
    model, _, _ = case(config)
    assert sum(param.value.size for param in model.params()) == parameters(config)
    names = [param.name for param in model.params()]
    assert len(names) == len(set(names))
    assert {layer.site: layer.weight.value.shape for layer in model.linears()} == weights(config)
    tied = getattr(config, "tied_embeddings", False)
    assert [p.name for p in model.sparsifiable()] == [site for site in weights(config) if not (tied and site == "head")]


@EVERY
def test_arrays_keep_the_type_of_the_model(config):
    model, inputs, targets = case(config, np.float32)
    logits = model.forward(*inputs)
    assert logits.dtype == np.float32
    cross_entropy(logits, targets, 0.1)
    model.backward(logits)
    assert {param.grad.dtype for param in model.params()} == {np.dtype(np.float32)}
    assert {layer.x.dtype for layer in model.linears()} == {np.dtype(np.float32)}


def test_a_causal_model_does_not_see_the_future():
    model, (tokens,), _ = case(CONFIGS["decoder"])
    before = model.forward(tokens).reshape(BATCH, 5, -1)
    tokens[:, 3] = (tokens[:, 3] + 1) % 7
    after = model.forward(tokens).reshape(BATCH, 5, -1)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 1e-6


def test_padding_of_the_source_is_not_seen():
    model, (source, target), _ = case(CONFIGS["encoder-decoder"])
    padded = np.concatenate([source[:, :3], np.zeros((BATCH, 2), int)], axis=1)
    np.testing.assert_allclose(model.forward(padded, target), model.forward(source[:, :3], target), rtol=1e-9)


def test_greedy_decoding_takes_the_likeliest_symbol_each_time():
    model, (source, _), _ = case(CONFIGS["encoder-decoder"])
    found = greedy(model, source, longest=4, begin=1, end=6)
    for row in range(BATCH):
        so_far = np.concatenate([[1], found[row]])
        logits = model.forward(source[row : row + 1], so_far[None, :-1])
        np.testing.assert_array_equal(logits.argmax(axis=1), found[row])


def test_greedy_decoding_ends_when_every_sequence_has_its_end_and_ties_take_the_lower_symbol(monkeypatch):
    model, calls = case(CONFIGS["encoder-decoder"])[0], []
    script = np.array([[[0, 5, 5], [9, 0, 0], [0, 0, 9]], [[0, 0, 9], [0, 1, 0], [0, 1, 0]]])

    def decode(target, memory, sight):
        calls.append(target.shape[1])
        return script[:, : target.shape[1]].reshape(-1, 3).astype(float)

    monkeypatch.setattr(model, "decode", decode)
    source = np.ones((2, 1), int)
    assert greedy(model, source, longest=3, begin=0, end=2).tolist() == [[1, 0, 2], [2, 1, 1]]
    script[0, 1] = [0, 0, 9]
    assert greedy(model, source, longest=3, begin=0, end=2).tolist() == [[1, 2], [2, 1]]
    assert calls == [1, 2, 3, 1, 2]


def test_greedy_decoding_of_a_batch_is_that_of_each_sequence_alone():
    model, (source, _), _ = case(CONFIGS["encoder-decoder"])
    source[:2, 3:] = 0
    found = greedy(model, source, longest=5, begin=1, end=6)
    for row in range(BATCH):
        alone, symbols = [1], found[row].tolist()
        while len(alone) <= 5 and 6 not in alone:
            logits = model.forward(source[row : row + 1], np.array([alone]))
            alone.append(int(logits[-1].argmax()))
        assert symbols[: len(alone) - 1] == alone[1:]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_noise_drops_is_made_up_for_by_what_it_keeps(dtype):
    rng = np.random.default_rng(0)
    factors = dropped((200, 500), 0.3, rng, np.dtype(dtype))
    assert factors.dtype == dtype
    assert np.unique(factors).tolist() == [0, dtype(1) / dtype(0.7)]
    assert factors.mean() == pytest.approx(1, abs=5 * math.sqrt(0.3 / 0.7 / factors.size))
    np.testing.assert_array_equal(factors, dropped((200, 500), 0.3, np.random.default_rng(0), np.dtype(dtype)))


@pytest.mark.compiled
@pytest.mark.parametrize("kind", ["vit", "decoder", "encoder-decoder"])
def test_stochastic_depth_drops_branches_of_whole_sequences_more_often_further_up(kind):
    config = replace(CONFIGS[kind], depth=4, stochastic_depth=0.8)
    model, inputs, _ = case(config)
    stack = model.decoder if kind == "encoder-decoder" else model.stack
    per_block = 3 if kind == "encoder-decoder" else 2
    kept = np.zeros((len(stack.branches), 60 * BATCH))
    for draw in range(60):
        model.noise.rng = np.random.default_rng(draw)
        model.forward(*inputs)
        for branch, seen in zip(stack.branches, kept, strict=True):
            factors = branch._factor.reshape(BATCH, -1)
            assert (factors == factors[:, :1]).all()
            seen[draw * BATCH :][:BATCH] = factors[:, 0]
    for i, seen in enumerate(kept):
        rate = 0.8 * (i // per_block + 1) / 4
        assert set(seen.tolist()) == {0.0, 1 / (1 - rate)}
        assert np.mean(seen == 0) == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / seen.size))
    model.noise.rng = None
    np.testing.assert_array_equal(model.forward(*inputs), model.forward(*inputs))
    assert all(branch._factor is None for branch in stack.branches)


@pytest.mark.parametrize(
    "rates", [{"dropout": 0.5}, {"stochastic_depth": 0.5}, {"dropout": 0.3, "stochastic_depth": 0.3}]
)
@pytest.mark.parametrize("kind", ["vit", "decoder", "encoder-decoder"])
def test_gradients_hold_under_noise(kind, rates):
    config = type(CONFIGS[kind])(**{**vars(CONFIGS[kind]), **rates})
    model, inputs, targets = case(config)

    def loss():
        model.noise.rng = np.random.default_rng(7)
        return cross_entropy(model.forward(*inputs), targets, 1 / len(targets.labels)).value

    model.noise.rng = np.random.default_rng(7)
    noisy = step(model, inputs, targets)
    params = list(model.params())
    directional(loss, [p.value for p in params], [p.grad for p in params], np.random.default_rng(9), step=1e-5)
    model.noise.rng = None
    assert noisy != cross_entropy(model.forward(*inputs), targets, 1 / len(targets.labels)).value


def test_gradients_of_an_mlp_hold_under_dropout():
    config = MLPConfig(inputs=8, width=8, depth=2, classes=3, activation="gelu", dropout=0.4)
    model, inputs, targets = case(config)

    def loss():
        model.noise.rng = np.random.default_rng(7)
        return cross_entropy(model.forward(*inputs), targets, 1 / len(targets.labels)).value

    model.noise.rng = np.random.default_rng(7)
    step(model, inputs, targets)
    params = list(model.params())
    directional(loss, [p.value for p in params], [p.grad for p in params], np.random.default_rng(9), step=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(),
        DecoderConfig(norm="rmsnorm"),
        DecoderConfig(position="rotary"),
        DecoderConfig(activation="swiglu"),
    ],
)
def test_what_can_only_be_priced_is_refused(config):
    with pytest.raises(UserError, match="can be priced but not trained"):
        build_model(config, np.random.default_rng(0))


def test_a_sequence_longer_than_the_context_is_refused():
    model, _, _ = case(CONFIGS["decoder"])
    with pytest.raises(UserError, match="context = 5 is too short"):
        model.forward(np.ones((1, 6), int))
