"""Gradients and training beside PyTorch, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from hwmodel.networks import DecoderConfig, EncoderDecoderConfig, MLPConfig, ViTConfig
from nmsim import optim
from nmsim.models.build import build_model
from nmsim.shards import Lesson, Shards
from nmsim.sparsifier import Sparsifier
from nmsim.team import Team

torch = pytest.importorskip("torch", reason="needs PyTorch, an extra that is not in the lock file")

from nmsim_analysis.torch_twin import TorchTwin  # noqa: E402 -- only with PyTorch
from nmsim_analysis.train_steps import OPTIMIZER, Case, OwnStep, recipe  # noqa: E402

pytestmark = pytest.mark.compiled

CASES = [
    Case("vit", ViTConfig(width=32, depth=2, heads=4, image=(16, 16), patch=(4, 4)), 8),
    Case("decoder", DecoderConfig(width=32, depth=2, heads=4, vocab=50, context=12), 8),
    Case("untied", DecoderConfig(width=32, depth=1, heads=2, vocab=50, context=12, tied_embeddings=False), 8),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_and_ten_steps_are_those_of_torch(case):
    ours = OwnStep(case, 1, recipe("dense"))
    twin, lesson = TorchTwin(case.config, ours.model, OPTIMIZER), case.lesson(0)
    tensors = torch.tensor(lesson.inputs[0]), torch.tensor(lesson.labels)
    assert ours.shards.gradient(lesson, [0]).value == pytest.approx(twin.gradient(*tensors), rel=1e-5)
    for param in ours.model.params():
        expected = twin.gradient_of(param)
        np.testing.assert_allclose(param.grad, expected, atol=2e-5 * np.abs(expected).max() + 1e-8)
    losses = np.array([(ours.step(lesson), twin.step(*tensors)) for _ in range(10)])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-4)
    assert losses[-1, 0] < losses[0, 0]


class Dense:
    """A training step of ours without sparsity."""

    def __init__(self, config):
        self.model, team = build_model(config, np.random.default_rng(0)), Team(1)
        self.sparsifier = Sparsifier({}, self.model.sparsifiable(), np.random.default_rng(0))
        self.optimizer = optim.create(OPTIMIZER, self.model.params(), 1, team)
        self.shards, self.team = Shards(self.model, config, self.optimizer.flat, team, 1), team

    def gradient(self, lesson, step=0):
        self.sparsifier.before_forward(step)
        return self.shards.gradient(lesson, [0]).value

    def step(self, lesson, step):
        loss = self.gradient(lesson, step)
        norm = optim.gradient_norm(self.optimizer.flat, self.team)
        self.optimizer.update(step, optim.clip_factor(norm, OPTIMIZER.clip))
        return loss


class Plain:
    """An MLP or an encoder-decoder in PyTorch, with the weights of ours by their names."""

    def __init__(self, config, model):
        self.config = config
        self.params = {param.name: torch.tensor(param.value, requires_grad=True) for param in model.params()}
        matrices, vectors = ([p for p in self.params.values() if (p.ndim > 1) is wanted] for wanted in (True, False))
        groups = [
            {"params": matrices, "weight_decay": OPTIMIZER.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(groups, lr=OPTIMIZER.lr, eps=OPTIMIZER.eps)

    def step(self, lesson):
        """One training step, whose gradients stay; the loss before it."""
        self.adamw.zero_grad()
        logits, labels = self.logits(*map(torch.tensor, lesson.inputs)), torch.tensor(lesson.labels).flatten()
        options = {"ignore_index": -1, "label_smoothing": lesson.smoothing}
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels, **options)
        loss.backward()
        gradients = {name: param.grad.numpy().copy() for name, param in self.params.items()}
        torch.nn.utils.clip_grad_norm_(self.params.values(), OPTIMIZER.clip)
        self.adamw.step()
        return loss.item(), gradients

    def logits(self, x, target=None):
        if isinstance(self.config, MLPConfig):
            for i in range(self.config.depth):
                x = torch.relu(self.linear(f"layer{i}", x))
            return self.linear("head", x)
        seen = (x != 0)[:, None, None]
        memory = self.stack("encoder.", x, seen)
        causal = torch.ones(target.shape[1], target.shape[1], dtype=bool).tril()
        return self.stack("decoder.", target, causal, memory, seen) @ self.params["embed"].T

    def stack(self, prefix, tokens, sight, memory=None, memory_sight=None):
        x = self.params["embed"][tokens] + self.params[f"{prefix}position"][: tokens.shape[1]]
        for i in range(self.config.depth):
            block = f"{prefix}block{i}"
            h = self.norm(f"{block}.norm1", x)
            x = x + self.attention(f"{block}.attn", h, h, sight)
            if memory is not None:
                x = x + self.attention(f"{block}.cross", self.norm(f"{block}.norm2", x), memory, memory_sight)
            h = self.norm(f"{block}.norm{2 if memory is None else 3}", x)
            h = torch.nn.functional.gelu(self.linear(f"{block}.mlp.up", h), approximate="tanh")
            x = x + self.linear(f"{block}.mlp.down", h)
        return self.norm(f"{prefix}norm", x)

    def attention(self, site, h, memory, sight):
        streams = ("q", h), ("k", memory), ("v", memory)
        q, k, v = (
            self.linear(f"{site}.{name}", x).unflatten(2, (self.config.heads, -1)).transpose(1, 2)
            for name, x in streams
        )
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sight)
        return self.linear(f"{site}.o", y.transpose(1, 2).flatten(2))

    def linear(self, site, x):
        return torch.nn.functional.linear(x, self.params[site], self.params.get(f"{site}.bias"))

    def norm(self, site, x):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], self.params[site], self.params[f"{site}.bias"], 1e-5)


def rows():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 16)
    return Lesson((rng.standard_normal((16, 12), np.float32),), labels, labels, smoothing=0.1)


def pairs():
    """Sources and targets of several lengths, padded with 0; labels of padding are ignored."""
    rng = np.random.default_rng(0)
    source, target = rng.integers(1, 30, (6, 9)), rng.integers(1, 30, (6, 8))
    for i in range(6):
        source[i, 9 - i :], target[i, 8 - i :] = 0, 0
    labels = np.where(target[:, 1:] > 0, target[:, 1:], -1)
    return Lesson((source, target[:, :-1]), labels, labels, smoothing=0.1)


@pytest.mark.parametrize(
    ("config", "lesson"),
    [
        (MLPConfig(inputs=12, width=32, depth=2, classes=5, activation="relu"), rows()),
        (EncoderDecoderConfig(width=32, depth=2, heads=4, vocab=30, context=12), pairs()),
    ],
    ids=["mlp", "encoder_decoder"],
)
def test_other_models_are_those_of_torch(config, lesson):
    ours = Dense(config)
    twin = Plain(config, ours.model)
    ours.gradient(lesson)
    first, expected = twin.step(lesson)
    for param in ours.model.params():
        wanted = expected[param.name]
        np.testing.assert_allclose(param.grad, wanted, atol=2e-5 * np.abs(wanted).max() + 1e-8, err_msg=param.name)
    losses = [ours.step(lesson, step) for step in range(10)]
    np.testing.assert_allclose(losses, [first, *(twin.step(lesson)[0] for _ in range(9))], rtol=1e-4)
    assert losses[-1] < losses[0]
