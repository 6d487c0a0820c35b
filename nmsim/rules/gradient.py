"""Gradient rules: what the optimiser sees, from the raw dense gradient of the weight that the forward product saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nmsim.rules.site import Site, Weight
from nmsim.rules.weight import WeightRule


class GradientRule:
    """Turns the raw gradient into the one that the optimiser sees, in place."""

    masked: ClassVar[bool] = False

    def __call__(self, g: Weight, site: Site, weight: Sequence[WeightRule]) -> None:
        """Change `g` in place."""
        raise NotImplementedError


@dataclass(frozen=True)
class StraightThrough(GradientRule):
    """g for kept and pruned weights alike: the mask is taken as the identity (arXiv 1308.3432)."""

    def __call__(self, g: Weight, site: Site, weight: Sequence[WeightRule]) -> None:
        """Leave the gradient as it is."""


@dataclass(frozen=True)
class Masked(GradientRule):
    """g * mask: pruned weights do not move, and their gradient need not be computed."""

    masked: ClassVar[bool] = True

    def __call__(self, g: Weight, site: Site, weight: Sequence[WeightRule]) -> None:  # noqa: ARG002
        """Zero the gradient of pruned weights."""
        g *= site.mask


@dataclass(frozen=True)
class SRSTE(GradientRule):
    """g + lam (1 - mask) w: a pull of pruned weights to zero (SR-STE, arXiv 2102.04010, eq. 9).

    It enters the gradient, so clipping, momentum and Adam's second moment all see it.
    """

    lam: float = 2e-4

    def __call__(self, g: Weight, site: Site, weight: Sequence[WeightRule]) -> None:  # noqa: ARG002
        """Add the pull."""
        if not site.is_dense:
            g += site.value * self.lam * ~site.mask


@dataclass(frozen=True)
class ChainRule(GradientRule):
    """The true gradient: g times the derivative of every weight rule."""

    def __call__(self, g: Weight, site: Site, weight: Sequence[WeightRule]) -> None:
        """Multiply by the derivatives, each at the weight that its rule saw."""
        w = site.value
        for rule in weight:
            g *= rule.derivative(w, site)
            w = rule(w, site)
