"""Our own training step without a run: synthetic batches, for timing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwmodel.networks import DecoderConfig, ViTConfig
from hwmodel.pattern import Pattern
from nmsim import optim
from nmsim.models.build import build_model
from nmsim.optim import OptimizerConfig
from nmsim.probe import Probe
from nmsim.recipes import Recipe, find
from nmsim.shards import Lesson, Shards
from nmsim.sparsifier import Execution, Sparsifier
from nmsim.team import Team

CLASSES = 10
OPTIMIZER = OptimizerConfig(schedule="constant", warmup=0.0, lr=1e-3)


@dataclass(frozen=True)
class Case:
    """A model and the batch it is trained with."""

    name: str
    config: ViTConfig | DecoderConfig
    batch: int

    def lesson(self, seed: int) -> Lesson:
        """A batch of noise with random labels."""
        rng, config = np.random.default_rng(seed), self.config
        if isinstance(config, ViTConfig):
            images = rng.standard_normal((self.batch, *config.image), dtype=np.float32)
            labels = rng.integers(0, config.classes, self.batch)
            return Lesson((images,), labels, labels)
        tokens = rng.integers(0, config.vocab, (self.batch, config.context + 1))
        return Lesson((tokens[:, :-1],), tokens[:, 1:], tokens[:, 1:])


def _vit(tokens: int, width: int, depth: int, heads: int) -> ViTConfig:
    side = round(tokens**0.5)
    return ViTConfig(depth=depth, width=width, heads=heads, image=(4 * side, 4 * side), patch=(4, 4), classes=CLASSES)


CASES = (
    Case("ViT, 16 tokens, width 64, depth 2, batch 256", _vit(16, 64, 2, 4), 256),
    Case("ViT, 49 tokens, width 128, depth 4, batch 64", _vit(49, 128, 4, 4), 64),
    Case("LM, context 128, width 128, depth 4, batch 16", DecoderConfig(depth=4, width=128, heads=4, context=128), 16),
    Case("ViT, 49 tokens, width 384, depth 4, batch 64", _vit(49, 384, 4, 6), 64),
)


class OwnStep:
    """A model of ours with its optimiser, a recipe at the feed-forward sites, and statistics every so many steps."""

    def __init__(
        self, case: Case, threads: int, recipe: Recipe, execution: Execution = "dense", statistics_every: int = 0
    ) -> None:
        self.model = build_model(case.config, np.random.default_rng(0))
        self.team, self.done = Team(threads), 0
        weights = self.model.sparsifiable()
        self.sparsifier = Sparsifier({"*.mlp.*": recipe}, weights, np.random.default_rng(0), execution, team=self.team)
        self.optimizer = optim.create(OPTIMIZER, self.model.params(), 1, self.team)
        self.shards = Shards(self.model, case.config, self.optimizer.flat, self.team, threads)
        self.probe = Probe(self.model, self.sparsifier, statistics_every)

    def step(self, lesson: Lesson) -> float:
        """One training step; the loss before it."""
        self.probe.masks(self.done)
        self.sparsifier.before_forward(self.done)
        loss = self.shards.gradient(lesson, [0])
        self.probe.gradients(self.done)
        self.sparsifier.after_backward(self.done)
        clip = optim.clip_factor(optim.gradient_norm(self.optimizer.flat, self.team), OPTIMIZER.clip)
        self.optimizer.update(self.done, clip)
        self.probe.record(self.done, clip)
        self.done += 1
        return loss.value


def recipe(name: str, refresh: int = 1) -> Recipe:
    """A recipe at 1:8 with masks chosen every `refresh` steps."""
    return find(name)(Pattern(1, 8), steps=1, **({} if name == "dense" else {"refresh": refresh}))
