"""Views: what the input gradient sees of the weight, and along which axis its groups run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmsim.rules.site import BACKWARD_MASK, Mask, Site, Weight
from nmsim.rules.structures import best_mask


class View:
    """The operand of the input gradient. `turned`: its groups run along the other axis than the forward ones."""

    turned: ClassVar[bool] = False
    sparse: ClassVar[bool] = True

    def choose(self, site: Site) -> Mask | None:  # noqa: ARG002 - most views have no mask of their own
        """A mask of its own, chosen whenever the forward mask is; None where it has none."""
        return None

    def __call__(self, seen: Weight, site: Site) -> Weight:  # noqa: ARG002 - the same at every site
        """The operand, from the weight that the forward product saw."""
        return seen


@dataclass(frozen=True)
class Same(View):
    """The forward weight itself."""


@dataclass(frozen=True)
class Transposed(View):
    """The forward weight, whose mask obeys the pattern along both axes."""

    turned: ClassVar[bool] = True


@dataclass(frozen=True)
class Dense(View):
    """The dense master weight."""

    sparse: ClassVar[bool] = False

    def __call__(self, seen: Weight, site: Site) -> Weight:  # noqa: ARG002 - the master, not what was seen
        """The master."""
        return site.value


@dataclass(frozen=True)
class Bidirectional(View):
    """The master under a magnitude mask of its own along the other axis (Bi-Mask, arXiv 2302.06058)."""

    turned: ClassVar[bool] = True

    def choose(self, site: Site) -> Mask:
        """The largest |w| of groups along the other axis."""
        return best_mask(np.abs(site.value), site.structure, 1 - site.axis)

    def __call__(self, seen: Weight, site: Site) -> Weight:
        """The masked master."""
        return np.where(site.slots[BACKWARD_MASK], site.value, 0).astype(seen.dtype, copy=False)


@dataclass(frozen=True)
class DoublePrune(View):
    """The forward weight, pruned once more along the other axis (SLoPe, arXiv 2405.16325, section 2)."""

    turned: ClassVar[bool] = True

    def choose(self, site: Site) -> Mask:
        """The largest kept |w| of groups along the other axis."""
        kept: Weight = np.where(site.mask, np.abs(site.value), -1)
        chosen: Mask = best_mask(kept, site.structure, 1 - site.axis) & site.mask
        return chosen

    def __call__(self, seen: Weight, site: Site) -> Weight:
        """The twice pruned weight."""
        return np.where(site.slots[BACKWARD_MASK], seen, 0).astype(seen.dtype, copy=False)
