"""Moments: what a recipe asks of the optimiser's second moment."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class FreezeAfter:
    """Adam's second moment is updated before `step` and stays as it is from there on (STEP, arXiv 2302.01172).

    The bias correction freezes with it: the preconditioner of the switch is used to the end.
    """

    step: float = math.inf


UPDATE = FreezeAfter()
