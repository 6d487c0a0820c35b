"""Selection: which weights live, within the structure of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hwmodel.pattern import FanIn, Pattern, Unstructured
from nmsim.masks import transposable_mask
from nmsim.rules.scores import Magnitude, Random, Score
from nmsim.rules.site import MASK, Mask, Site, Weight
from nmsim.rules.spread import Same, Spread
from nmsim.rules.structures import as_pattern, best_mask, from_lines, obeys, to_lines
from nmsim.schedules import Schedule


class Select:
    """Which weights live. All sites that share a recipe are given at once, so that they can share a budget."""

    reads_gradient: bool = False
    both_axes: ClassVar[bool] = False

    def choose(self, sites: Sequence[Site]) -> list[Mask]:
        """The new mask of each site."""
        raise NotImplementedError

    def learn(self, site: Site, gradient: Weight) -> None:
        """Update the rule's own state from the raw gradient of this step; most rules have none."""


@dataclass(frozen=True)
class TopK(Select):
    """The weights with the highest score; an unstructured budget is laid out over the sites by `spread`."""

    score: Score = Magnitude()  # noqa: RUF009 (frozen)
    spread: Spread = Same()  # noqa: RUF009 (frozen)

    @property
    def reads_gradient(self) -> bool:  # type: ignore[override]
        """Whether the score does."""
        return self.score.reads_gradient

    def choose(self, sites: Sequence[Site]) -> list[Mask]:
        """The best mask of each site's structure."""
        if isinstance(self.spread, Same):  # with the scores of one site at a time in memory
            return [best_mask(self.score(site), site.structure, site.axis) for site in sites]
        scores = [self.score(site) for site in sites]
        structures = self.spread(scores, [site.structure for site in sites])
        return [best_mask(s, r, site.axis) for s, r, site in zip(scores, structures, sites, strict=True)]

    def learn(self, site: Site, gradient: Weight) -> None:
        """Let the score learn."""
        self.score.learn(site, gradient)


@dataclass(frozen=True)
class Transposable(Select):
    """The magnitude mask that keeps at most n of m along both axes (arXiv 2102.08124, section 4)."""

    both_axes: ClassVar[bool] = True

    def choose(self, sites: Sequence[Site]) -> list[Mask]:
        """The transposable mask of |w|."""
        return [self._mask(site) for site in sites]

    def _mask(self, site: Site) -> Mask:
        if site.is_dense:
            return np.ones(site.value.shape, bool)
        assert isinstance(site.structure, Pattern)  # noqa: S101 (such a recipe has N:M structures only)
        return transposable_mask(np.abs(site.value), site.structure)


@dataclass(frozen=True)
class DropGrow(Select):
    """Drop the share `fraction` of the live weights with the smallest |w|; grow as many of the others by `grow`.

    The first mask is random. Dropped and grown weights are counted line by line of the structure: a matrix for an
    unstructured one (SET, arXiv 1707.04780; RigL, 1911.11134), a row for a fan-in, a group for N:M.
    """

    grow: Score
    fraction: Schedule[float]

    @property
    def reads_gradient(self) -> bool:  # type: ignore[override]
        """Whether growing does."""
        return self.grow.reads_gradient

    def choose(self, sites: Sequence[Site]) -> list[Mask]:
        """The masks after one exchange."""
        return [self._exchange(site) if MASK in site.slots else first_mask(site) for site in sites]

    def _exchange(self, site: Site) -> Mask:
        if site.is_dense:
            return np.ones(site.value.shape, bool)
        pattern, (lines, length) = as_pattern(site.structure, site.shape, site.axis)
        shape = (lines * length // pattern.m, pattern.m)
        moved = int(pattern.n * self.fraction(site.step))
        live = to_lines(site.mask, site.axis, shape)
        kept = _best(to_lines(np.abs(site.value), site.axis, shape), live, pattern.n - moved)
        grown = _best(to_lines(self.grow(site), site.axis, shape), ~live, moved)
        return from_lines(kept | grown, site.axis, site.shape)


@dataclass(frozen=True)
class NeuronDropGrow(Select):
    """SRigL: drop and grow under a constant fan-in, and ablate neurons with too few salient weights.

    Salient are the n_keep largest |w| and the n_prune largest |g| of the layer. A neuron with fewer than
    max(1, floor(gamma k0)) of them is ablated, k0 being the fan-in without ablation; `gamma` of 1 and more is that
    number itself. Its share of the weights goes to the others (arXiv 2305.02299, section 3, and its released code).
    Other than in that code, the cut to the fan-in is by magnitude, where the code cuts by index; the fewest neurons
    that stay are rounded up, so that they hold all weights; and n_keep counts live weights that are still zero.
    """

    fraction: Schedule[float]
    gamma: float
    reads_gradient: bool = True

    def choose(self, sites: Sequence[Site]) -> list[Mask]:
        """The masks after one exchange."""
        return [self._exchange(site) if MASK in site.slots else first_mask(site) for site in sites]

    def _exchange(self, site: Site) -> Mask:
        magnitude, gradient = (np.moveaxis(np.abs(a), site.axis, -1) for a in (site.value, site.gradient))
        live = np.moveaxis(site.mask, site.axis, -1)
        prune = int(int(live.sum()) * self.fraction(site.step))
        kept = _best(np.where(live, magnitude, 0).reshape(1, -1), live.reshape(1, -1), int(live.sum()) - prune)
        salient = kept | _best(gradient.reshape(1, -1), np.ones((1, live.size), bool), prune)
        active = active_neurons(
            salient.reshape(live.shape).sum(axis=-1), site.structure.density, live.shape, self.gamma
        )
        fan_in = min(live.shape[1], int(live.size * site.structure.density) // int(active.sum()))
        kept = _best(magnitude, kept.reshape(live.shape) & active[:, None], fan_in)
        grown = _best_up_to(gradient, ~kept & active[:, None], fan_in - kept.sum(axis=-1))
        return np.ascontiguousarray(np.moveaxis(kept | grown, -1, site.axis))


def active_neurons(salient: np.ndarray, density: float, shape: tuple[int, ...], gamma: float) -> np.ndarray:
    """Which neurons stay, from their salient weights: SRigL's threshold, lowered so that the weights still fit."""
    rows, cols = shape
    total = int(rows * cols * density)
    threshold = max(1, int(gamma if gamma >= 1 else gamma * (total // rows)))
    needed = max(1, -(-total // cols))
    threshold = min(threshold, int(np.sort(salient)[::-1][needed - 1]))
    return salient >= threshold


def first_mask(site: Site) -> Mask:
    """A random mask of the site's structure."""
    return best_mask(Random()(site), site.structure, site.axis)


def keep_zeros(site: Site, chosen: Mask, select: Select) -> Mask:
    """The first mask of a site whose weights came pruned: those that are not zero live, and `chosen` fills it up.

    It is `chosen` itself where that keeps them already, or where they are more than the structure holds.
    """
    live: Mask = site.value != 0
    if select.both_axes or not (live & ~chosen).any():
        return chosen
    structure, wanted = site.structure, 2 * live.astype(np.float32) + chosen
    if isinstance(structure, FanIn):  # rows without a weight are ablated, the others have one fan-in
        counts = np.moveaxis(live, site.axis, -1).sum(axis=-1)
        lines = np.moveaxis(wanted, site.axis, -1)
        filled = _best_up_to(lines, np.ones(lines.shape, bool), np.where(counts, counts.max(), 0))
        mask = np.ascontiguousarray(np.moveaxis(filled, -1, site.axis))
        return mask if obeys(mask, structure, site.axis) else chosen
    if isinstance(structure, Unstructured):  # its budget is shared by the sites, and this is what the site got
        structure = Unstructured(float(np.mean(chosen)))
    return best_mask(wanted, structure, site.axis) if obeys(live, structure, site.axis) else chosen


def _best(scores: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """The `count` highest scores of each line among those allowed; ties keep the lower index."""
    return _best_up_to(scores, among, np.full(len(scores), count))


def _best_up_to(scores: np.ndarray, among: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The `counts[i]` highest scores of line i among those allowed, or all of them."""
    order = np.argsort(np.where(among, -scores, np.inf), axis=-1, kind="stable")
    ranked = np.arange(scores.shape[-1]) < np.minimum(counts, among.sum(axis=-1))[:, None]
    chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(chosen, order, ranked, axis=-1)
    return chosen
