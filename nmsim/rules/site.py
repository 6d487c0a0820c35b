"""What a rule sees of one sparse weight: its master value, its stored state and where the run stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from hwmodel.pattern import Structure

Weight = Float[np.ndarray, "d_out d_in"]
Mask = Bool[np.ndarray, "d_out d_in"]

PREFIX = "sparse."
MASK, BACKWARD_MASK, GRADIENT, SCORES = (PREFIX + name for name in ("mask", "backward_mask", "gradient", "scores"))
SEED, STEP, SCALE = (PREFIX + name for name in ("seed", "step", "scale"))
SECOND_MOMENT_FROZEN = PREFIX + "second_moment_frozen"
"""Set once a recipe wants Adam's second moment, and its bias correction, to stay as they are."""


@dataclass
class Site:
    """One sparse weight [d_out, d_in] at one step; groups of a pattern run along `axis`.

    All state lives in `slots`, as arrays under names that begin with `PREFIX`, so that a checkpoint holds it.
    """

    name: str
    value: Weight
    slots: dict[str, np.ndarray]
    structure: Structure
    axis: int
    step: int

    @property
    def mask(self) -> Mask:
        """The weights that live now."""
        return self.slots[MASK]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return self.value.shape[0], self.value.shape[1]

    @property
    def is_dense(self) -> bool:
        """Whether the structure of this step keeps every weight."""
        return self.structure.density == 1

    @property
    def rng(self) -> np.random.Generator:
        """A generator that depends on the run's seed, the site and the step alone: a resumed run draws alike."""
        return np.random.default_rng([self.slots[SEED].item(), self.step])

    @property
    def gradient(self) -> Weight:
        """The raw dense gradient of the step before; zero where none was kept yet."""
        return self.slots[GRADIENT] if GRADIENT in self.slots else np.zeros_like(self.value)
