"""Spread: how an unstructured budget is laid out over the sites that share a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num

from hwmodel.pattern import Structure, Unstructured
from nmsim.masks import topk_mask
from nmsim.rules.structures import as_pattern

Scores = Num[np.ndarray, "_ _"]


class Spread:
    """The structure of each site, given its scores and the structure that the recipe asks for."""

    def __call__(self, scores: Sequence[Scores], structures: Sequence[Structure]) -> list[Structure]:
        """One structure for each site. N:M and fan-in structures fix their own budgets and are left alone."""
        budgets = [s for s in structures if isinstance(s, Unstructured)]
        if len(budgets) < len(structures):
            return list(structures)
        sizes = np.array([score.size for score in scores])
        kept = self.counts(scores, float(np.dot(sizes, [b.density for b in budgets])))
        return [Unstructured(max(1, int(k)) / int(size)) for k, size in zip(kept, sizes, strict=True)]

    def counts(self, scores: Sequence[Scores], total: float) -> Sequence[float]:
        """How many of `total` weights each site keeps."""
        raise NotImplementedError


@dataclass(frozen=True)
class Same(Spread):
    """Every site keeps the recipe's density."""

    def __call__(self, scores: Sequence[Scores], structures: Sequence[Structure]) -> list[Structure]:  # noqa: ARG002
        """The structures as they are."""
        return list(structures)


@dataclass(frozen=True)
class OverModel(Spread):
    """One threshold for all sites: the highest scores of the model live, at least one at each site."""

    def counts(self, scores: Sequence[Scores], total: float) -> Sequence[float]:
        """How many of the model's `total` highest scores each site holds."""
        flat = np.concatenate([score.ravel() for score in scores])
        pattern, _ = as_pattern(Unstructured(total / flat.size), (1, flat.size), 1)
        chosen = topk_mask(flat, pattern)
        ends = np.cumsum([score.size for score in scores])[:-1]
        return [float(part.sum()) for part in np.split(chosen, ends)]


@dataclass(frozen=True)
class ErdosRenyi(Spread):
    """Density proportional to (d_in + d_out) / (d_in d_out), capped at 1 (SET, ERK; arXiv 1707.04780, 1911.11134)."""

    def counts(self, scores: Sequence[Scores], total: float) -> Sequence[float]:
        """Counts d_in + d_out, scaled so that they add up to `total` once the full sites are capped."""
        wanted = np.array([sum(score.shape) for score in scores], float)
        sizes = np.array([score.size for score in scores], float)
        full = np.zeros(len(sizes), bool)
        while not full.all():
            scale = (total - sizes[full].sum()) / wanted[~full].sum()
            over = ~full & (wanted * scale > sizes)
            if not over.any():
                break
            full |= over
        counts: list[float] = np.where(full, sizes, np.floor(wanted * scale)).tolist()
        return counts
