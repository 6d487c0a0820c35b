"""Weight rules: what the forward product sees of the master weight. A recipe applies several in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwmodel.pattern import Pattern
from nmsim.rules.site import SCALE, Site, Weight
from nmsim.schedules import Constant, Schedule


class WeightRule:
    """From a weight to the weight that the forward product sees."""

    def leak(self, step: int) -> float:  # noqa: ARG002 - most rules are the same at every step
        """What is left of a pruned weight: 0 where the result is sparse, 1 where pruned weights are untouched."""
        return 0.0

    def __call__(self, w: Weight, site: Site) -> Weight:
        """The weight seen, not sharing memory with `w` unless it is equal to it."""
        raise NotImplementedError

    def derivative(self, w: Weight, site: Site) -> Weight:
        """Elementwise derivative of the result by `w`, for `ChainRule`."""
        raise NotImplementedError

    def start(self, site: Site) -> None:
        """Change the master weight itself, once before the first step; most rules do not."""

    def settle(self, site: Site) -> None:
        """Change the master weight itself, once a step before the forward pass; most rules do not."""


@dataclass(frozen=True)
class Hard(WeightRule):
    """w * mask. Pruned masters are kept as they are, and can come back."""

    def __call__(self, w: Weight, site: Site) -> Weight:
        """Zero the pruned weights."""
        return w if site.is_dense else np.where(site.mask, w, 0).astype(w.dtype, copy=False)

    def derivative(self, w: Weight, site: Site) -> Weight:
        """1 at kept weights, 0 at pruned ones."""
        return site.mask.astype(w.dtype)


@dataclass(frozen=True)
class Leak(WeightRule):
    """w * (mask + D (1 - mask)) with D = share(step) in [0, 1] (arXiv 2402.04744, section 3)."""

    share: Schedule[float]

    def leak(self, step: int) -> float:
        """D."""
        return self.share(step)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """Scale the pruned weights by D."""
        share = self.share(site.step)
        if share == 1 or site.is_dense:
            return w
        seen = w * share
        np.copyto(seen, w, where=site.mask)
        return seen

    def derivative(self, w: Weight, site: Site) -> Weight:
        """1 at kept weights, D at pruned ones."""
        return np.where(site.mask, 1, self.share(site.step)).astype(w.dtype)


@dataclass(frozen=True)
class SoftThreshold(WeightRule):
    """beta * sign(w) * max(|w| - t, 0), t the largest pruned magnitude of the group (S-STE, arXiv 2409.09099).

    beta = <w, s> / <s, s> for the thresholded s of the first step; it is then frozen.
    """

    def __call__(self, w: Weight, site: Site) -> Weight:
        """Shrink every weight by its group's threshold."""
        if site.is_dense:
            return w
        soft = self._soft(w, site)
        if SCALE not in site.slots:
            size = float(np.vdot(soft, soft))
            site.slots[SCALE] = np.array(float(np.vdot(w, soft)) / size if size else 1.0)
        seen: Weight = soft * site.slots[SCALE].item()
        return seen

    def derivative(self, w: Weight, site: Site) -> Weight:
        """`beta` where the result is not zero; the threshold is taken as a constant."""
        if site.is_dense:
            return np.ones_like(w)
        derivative: Weight = (self._soft(w, site) != 0).astype(w.dtype) * site.slots[SCALE].item()
        return derivative

    def _soft(self, w: Weight, site: Site) -> Weight:
        assert isinstance(site.structure, Pattern)  # noqa: S101 (such a recipe has N:M structures only)
        lines = np.moveaxis(np.where(site.mask, 0, np.abs(w)), site.axis, -1)
        ends = np.arange(0, lines.shape[1], site.structure.m)
        threshold = np.repeat(np.maximum.reduceat(lines, ends, axis=1), site.structure.m, axis=1)[:, : lines.shape[1]]
        soft = np.sign(w) * np.maximum(np.abs(w) - np.moveaxis(threshold, -1, site.axis), 0)
        return np.ascontiguousarray(soft.astype(w.dtype, copy=False))


@dataclass(frozen=True)
class Power(WeightRule):
    """w |w|^(alpha - 1): large weights learn faster and small ones fade (powerpropagation, arXiv 2110.00296, eq. 1).

    The master starts at sign(w) |w|^(1 / alpha), so that the first forward pass sees the initial weight.
    """

    alpha: float

    def start(self, site: Site) -> None:
        """Take the root of the initial weight."""
        site.value[...] = np.sign(site.value) * np.abs(site.value) ** (1 / self.alpha)

    def leak(self, step: int) -> float:  # noqa: ARG002 - the same at every step
        """1: it prunes nothing."""
        return 1.0

    def __call__(self, w: Weight, site: Site) -> Weight:  # noqa: ARG002 - the same at every site
        """Raise the magnitude to `alpha`."""
        seen: Weight = w * np.abs(w) ** (self.alpha - 1)
        return seen

    def derivative(self, w: Weight, site: Site) -> Weight:  # noqa: ARG002 - the same at every site
        """`alpha |w|^(alpha - 1)`."""
        derivative: Weight = np.abs(w) ** (self.alpha - 1) * self.alpha
        return derivative


@dataclass(frozen=True)
class Shrink(WeightRule):
    """Pruned masters are multiplied by keep(step) at every step; the forward product sees the masters.

    keep = 0 prunes for good (`GONE`); a share just under 1 lets a weight come back for a while (soft shrinkage).
    """

    keep: Schedule[float]

    def leak(self, step: int) -> float:
        """0 once nothing is kept of a pruned weight, 1 before."""
        return 0.0 if self.keep(step) == 0 else 1.0

    def __call__(self, w: Weight, site: Site) -> Weight:
        """The master; at keep = 0 under the mask, because momentum may have moved it since it was settled."""
        return w if self.leak(site.step) else Hard()(w, site)

    def derivative(self, w: Weight, site: Site) -> Weight:
        """1 where the master is free to move."""
        return np.ones_like(w) if self.leak(site.step) else site.mask.astype(w.dtype)

    def settle(self, site: Site) -> None:
        """Shrink the pruned masters."""
        keep = 1.0 if site.is_dense else self.keep(site.step)
        if keep == 0:
            site.value *= site.mask
        elif keep != 1:
            np.multiply(site.value, keep, out=site.value, where=~site.mask)


GONE = Shrink(Constant(0.0))
