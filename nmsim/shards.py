"""The gradient of a batch from parts that are computed on their own, at the same time where there are threads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from hwmodel.networks import NetworkConfig
from nmsim.flat import Flat
from nmsim.functional import Loss, Targets, cross_entropy
from nmsim.kernels import update
from nmsim.models.base import Model
from nmsim.models.build import build_model
from nmsim.team import Team


@dataclass(frozen=True)
class Lesson:
    """A batch: arrays for the model, and for each example its labels, those it is mixed with, and the mix.

    Labels below 0 are ignored.
    """

    inputs: tuple[np.ndarray, ...]
    labels: Int[np.ndarray, "batch ..."]
    others: Int[np.ndarray, "batch ..."]
    share: float = 1.0
    smoothing: float = 0.0

    @property
    def scale(self) -> float:
        """What makes the mean of a sum over all labels that count."""
        return 1 / max(int((self.labels >= 0).sum()), 1)

    def part(self, index: int, parts: int) -> Lesson:
        """One of `parts` nearly equal parts of the batch."""
        lo, hi = (len(self.labels) * cut // parts for cut in (index, index + 1))
        inputs = tuple(array[lo:hi] for array in self.inputs)
        return Lesson(inputs, self.labels[lo:hi], self.others[lo:hi], self.share, self.smoothing)

    @property
    def targets(self) -> Targets:
        """A target for every row of logits."""
        return Targets(self.labels.ravel(), self.others.ravel(), self.share, self.smoothing)


class Shards:
    """`count` models of one set of weights: the given one, and copies that follow it with gradients of their own."""

    def __init__(self, model: Model, network: NetworkConfig, flat: Flat, team: Team, count: int) -> None:
        self.team, self.flat = team, flat
        copies = [build_model(network, np.random.default_rng(0), flat.dtype.type) for _ in range(count - 1)]
        self.models = [model, *copies]
        self._copies = [Flat(copy.params()) for copy in copies]

    def gradient(self, lesson: Lesson, seeds: list[int]) -> Loss:
        """Fill the gradients of the first model's parameters with those of the mean loss; dropout draws by `seeds`."""
        scale, count = lesson.scale, len(self.models)
        for copy in self._copies:
            for mine, original in zip(copy.params, self.flat.params, strict=True):
                mine.follow(original)

        def one(index: int) -> Loss:
            model, flat = self.models[index], (self.flat, *self._copies)[index]
            flat.clear_gradients()
            model.noise.rng = np.random.default_rng([*seeds, index])
            part = lesson.part(index, count)
            logits = model.forward(*part.inputs)
            loss = cross_entropy(logits, part.targets, scale)
            model.backward(logits)
            return loss

        losses = self.team.map(one, count)
        for copy in self._copies:
            self._add(copy)
        return Loss(sum(loss.value for loss in losses), sum(loss.right for loss in losses))

    def _add(self, copy: Flat) -> None:
        self.team.split(lambda lo, hi: update.add(self.flat.grad, copy.grad, lo, hi), 0, self.flat.size)
