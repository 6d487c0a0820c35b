"""Gradients and training beside PyTorch, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from hwmodel.networks import DecoderConfig, ViTConfig

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
