"""Scores: how much a weight deserves to live. The higher, the more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmsim.rules.site import MASK, SCORES, Site, Weight


class Score:
    """A score for every weight of a site. `reads_gradient` asks for the raw dense gradient of the step before."""

    reads_gradient: ClassVar[bool] = False

    def __call__(self, site: Site) -> Weight:
        """The scores [d_out, d_in]."""
        raise NotImplementedError

    def learn(self, site: Site, gradient: Weight) -> None:
        """Update the rule's own state in `site.slots` from the raw gradient of this step; most rules have none."""


@dataclass(frozen=True)
class Magnitude(Score):
    """|w|."""

    def __call__(self, site: Site) -> Weight:
        """|w|."""
        scores: Weight = np.abs(site.value)
        return scores


@dataclass(frozen=True)
class Random(Score):
    """Uniform draws in [0, 1), new at each choice."""

    def __call__(self, site: Site) -> Weight:
        """The draws."""
        return site.rng.random(site.value.shape, np.float32)


@dataclass(frozen=True)
class Gradient(Score):
    """|g|, of the raw dense gradient: a masked one would never bring a pruned weight back (RigL, arXiv 1911.11134)."""

    reads_gradient: ClassVar[bool] = True

    def __call__(self, site: Site) -> Weight:
        """|g| of the step before."""
        scores: Weight = np.abs(site.gradient)
        return scores


@dataclass(frozen=True)
class Saliency(Score):
    """|w g|, the first-order change of the loss when the weight goes; |w| before the first gradient."""

    reads_gradient: ClassVar[bool] = True

    def __call__(self, site: Site) -> Weight:
        """|w g| with the g of the step before."""
        saliency: Weight = np.abs(site.value * site.gradient)
        return saliency if saliency.any() else Magnitude()(site)


@dataclass(frozen=True)
class Learned(Score):
    """Scores s that start at |w| and follow the loss at every step: s <- s - rate * w * g / rms(g).

    w g is the gradient of the loss with respect to a gate on the weight (arXiv 2005.07683, section 4). The division
    keeps `rate` in units of the weights.
    """

    rate: float
    reads_gradient: ClassVar[bool] = True

    def __call__(self, site: Site) -> Weight:
        """The scores learned so far; what was removed has the lowest possible one, and never returns."""
        scores = site.slots.get(SCORES, np.abs(site.value))
        return np.where(site.mask, scores, -np.inf).astype(scores.dtype) if MASK in site.slots else scores

    def learn(self, site: Site, gradient: Weight) -> None:
        """Take one step along the gradient of the weights that live."""
        g = np.where(site.mask, gradient, 0)
        size = math.sqrt(float(np.mean(np.square(g))))
        if size > 0:
            scores = site.slots.get(SCORES, np.abs(site.value))
            site.slots[SCORES] = scores - site.value * g * (self.rate / size)
