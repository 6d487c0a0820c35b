"""Optimisers against their equations, and the flat arrays that they work on."""

from __future__ import annotations

import math
import threading

import naive_layers
import numpy as np
import pytest

from hwmodel.errors import UserError
from nmsim import optim
from nmsim import team as team_module
from nmsim.flat import ALIGNMENT, Flat
from nmsim.layers import Param
from nmsim.optim import OptimizerConfig
from nmsim.rules.site import SECOND_MOMENT_FROZEN
from nmsim.team import SMALLEST, Team

ONE = Team(1)
PLAIN = {"warmup": 0.0, "schedule": "constant", "lr": 0.01}


def params(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"a": (3, 5), "a.bias": (3,), "b": (4, 2)}
    return [Param(name, rng.standard_normal(shape).astype(dtype)) for name, shape in shapes.items()]


def take_steps(optimizer, gradients, clip=1.0):
    for step, gradient in enumerate(gradients):
        for param, grad in zip(optimizer.flat.params, gradient, strict=True):
            param.grad[...] = grad
        optimizer.update(step, clip)


def drawn(flat, steps, seed=1):
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(param.value.shape) for param in flat.params] for _ in range(steps)]


def test_adamw_is_its_definition_and_biases_do_not_decay():
    config = OptimizerConfig(weight_decay=0.1, **PLAIN)
    optimizer = optim.create(config, params(), 10, ONE)
    start = [param.value.copy() for param in optimizer.flat.params]
    gradients = drawn(optimizer.flat, 5)
    take_steps(optimizer, gradients, clip=0.5)
    for i, param in enumerate(optimizer.flat.params):
        seen = [0.5 * gradient[i] for gradient in gradients]
        decay = 0.1 if param.value.ndim > 1 else 0.0
        expected = naive_layers.adamw(start[i], seen, lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8, decay=decay)
        np.testing.assert_allclose(param.value, expected, rtol=1e-10)


def test_adam_adds_the_decay_to_the_gradient():
    config = OptimizerConfig(kind="adam", weight_decay=0.1, **PLAIN)
    optimizer = optim.create(config, params(), 10, ONE)
    weight = optimizer.flat.params[0]
    start, (gradient,) = weight.value.copy(), drawn(optimizer.flat, 1)
    take_steps(optimizer, [gradient])
    np.testing.assert_allclose(weight.slots[optim.MEAN], 0.1 * (gradient[0] + 0.1 * start), rtol=1e-12)


def test_sgd_is_its_definition():
    config = OptimizerConfig(kind="sgd", weight_decay=0.1, momentum=0.8, **PLAIN)
    optimizer = optim.create(config, params(), 10, ONE)
    weight = optimizer.flat.params[0]
    value, velocity = weight.value.copy(), 0.0
    gradients = drawn(optimizer.flat, 4)
    take_steps(optimizer, gradients)
    for gradient in gradients:
        velocity = 0.8 * velocity + gradient[0] + 0.1 * value
        value = value - 0.01 * velocity
    np.testing.assert_allclose(weight.value, value, rtol=1e-10)


def test_a_frozen_second_moment_stays_with_its_bias_correction():
    optimizer = optim.create(OptimizerConfig(weight_decay=0.0, **PLAIN), params(), 10, ONE)
    weight, other = optimizer.flat.params[:2]
    gradients = drawn(optimizer.flat, 6)
    take_steps(optimizer, gradients[:3])
    weight.slots[SECOND_MOMENT_FROZEN] = np.array(True)
    held, moving, value, mean = (
        x.copy() for x in (weight.slots["square"], other.slots["square"], weight.value, weight.slots["mean"])
    )
    for step in (3, 4):
        for param, grad in zip(optimizer.flat.params, gradients[step], strict=True):
            param.grad[...] = grad
        optimizer.update(step, 1.0)
        mean = 0.9 * mean + 0.1 * gradients[step][0]
        value -= 0.01 * mean / (1 - 0.9 ** (step + 1)) / (np.sqrt(held / (1 - 0.999**3)) + 1e-8)
    np.testing.assert_array_equal(weight.slots["square"], held)
    np.testing.assert_allclose(weight.value, value, rtol=1e-10)
    assert (other.slots["square"] != moving).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_team_returns_what_every_part_found_in_order(threads):
    team = Team(threads)
    assert team.map(lambda part: part * part, 5) == [0, 1, 4, 9, 16]
    workers = set(team.map(lambda _: threading.get_ident(), threads))
    assert threading.get_ident() in workers
    pieces = []
    team.split(lambda lo, hi: pieces.append((lo, hi)), 3, 10, elements=2 * SMALLEST)
    assert sorted(pieces) == [(3 + 7 * i // threads, 3 + 7 * (i + 1) // threads) for i in range(threads)]
    team.split(lambda lo, hi: pieces.append((lo, hi)), 0, SMALLEST - 1)
    assert pieces[-1] == (0, SMALLEST - 1)
    team.close()


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_two_threads_give_the_bits_of_one(kind, monkeypatch):
    monkeypatch.setattr(team_module, "SMALLEST", 0)
    found = []
    for threads in (1, 2):
        team = Team(threads)
        optimizer = optim.create(OptimizerConfig(kind=kind), params(np.float32), 10, team)
        take_steps(optimizer, drawn(optimizer.flat, 3))
        found.append((optim.gradient_norm(optimizer.flat, team), optimizer.flat.value.tobytes()))
        team.close()
    assert found[0] == found[1]


def test_the_gradient_norm_is_that_of_all_parameters_and_clipping_reaches_its_limit():
    flat = Flat(params())
    for param in flat.params:
        param.grad[...] = 2.0
    norm = optim.gradient_norm(flat, ONE)
    assert norm == pytest.approx(2 * np.sqrt(15 + 3 + 8))
    assert optim.clip_factor(norm, 1.0) * norm == pytest.approx(1.0)
    assert optim.clip_factor(0.5, 1.0) == 1.0
    assert optim.clip_factor(0.0, 1.0) == 1.0


def test_flat_arrays_are_aligned_and_take_in_what_was_bound_since():
    flat = Flat(params(np.float32))
    assert all(param.value.ctypes.data % ALIGNMENT == 0 for param in flat.params)
    weight = flat.params[0]
    weight.value = np.full(weight.value.shape, 7, np.float32)
    flat.gather()
    assert np.shares_memory(weight.value, flat.value)
    assert (weight.value == 7).all()


@pytest.mark.parametrize(
    ("schedule", "middle", "last"),
    [("constant", 1.0, 1.0), ("cosine", 0.5, 0.0), ("inverse_sqrt", 1 / np.sqrt(5.5), 1 / np.sqrt(10))],
)
def test_the_learning_rate_rises_and_then_follows_its_schedule(schedule, middle, last):
    rate = optim.learning_rate(OptimizerConfig(lr=1.0, schedule=schedule, warmup=0.1), 100)
    assert [rate(0), rate(4), rate(9)] == pytest.approx([0.1, 0.5, 1.0])
    assert rate(55) == pytest.approx(middle)
    assert rate(100) == pytest.approx(last)
    assert all(type(rate(step)) is float for step in range(100))


def schedule_twin(config, steps):
    """The learning rate of every step, from its definition."""
    rising, rates = round(config.warmup * steps), []
    for step in range(steps):
        if step < rising:
            rates.append(config.lr * (step + 1) / rising)
        elif config.schedule == "cosine":
            angle = math.pi * (step - rising) / (steps - rising)
            low = config.lr * config.lr_end
            rates.append(low + (config.lr - low) * (1 + math.cos(angle)) / 2)
        elif config.schedule == "inverse_sqrt":
            rates.append(config.lr * math.sqrt(rising / step) if rising else config.lr / math.sqrt(1 + step))
        else:
            rates.append(config.lr)
    return rates


@pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse_sqrt"])
@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.37, 1.0])
def test_the_learning_rate_of_every_step_is_its_definition(schedule, warmup):
    config = OptimizerConfig(lr=3e-4, schedule=schedule, warmup=warmup, lr_end=0.1)
    rate = optim.learning_rate(config, 211)
    assert [rate(step) for step in range(211)] == pytest.approx(schedule_twin(config, 211), rel=1e-13)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"lr": 0.0}, {"lr": np.inf}, {"eps": np.inf}, {"warmup": 2.0}, {"clip": np.nan}, {"weight_decay": -1.0}),
        *({"beta1": 1.0}, {"beta2": 1.0}, {"weight_decay": np.inf}),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_named(wrong):
    with pytest.raises(UserError, match=f"optimizer: {next(iter(wrong))} = "):
        OptimizerConfig(**wrong)
