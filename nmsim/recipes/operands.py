"""Recipes whose point is what the backward products or the optimiser see: transposable and double masks, MVUE, STEP."""

from __future__ import annotations

from dataclasses import replace

from hwmodel.pattern import Pattern
from nmsim.recipes.phases import span, sparse_after
from nmsim.recipes.recipe import Recipe
from nmsim.recipes.registry import register
from nmsim.recipes.straight import ste
from nmsim.rules.gradient import Masked
from nmsim.rules.moments import FreezeAfter
from nmsim.rules.selection import Transposable
from nmsim.rules.view import Bidirectional, DoublePrune, Transposed
from nmsim.rules.weight import GONE, SoftThreshold
from nmsim.schedules import Constant, Every


@register
def transposable(pattern: Pattern, steps: int | None, *, dense: float = 0.0) -> Recipe:
    """`ste` with masks that obey n:m along both axes, so that the input gradient runs sparse too (arXiv 2102.08124).

    At most n of each m are kept, not always n. Masks are chosen every 40 steps, as in the source's timings.
    """
    structure = sparse_after(steps, dense, pattern)
    return Recipe(structure=structure, select=Transposable(), refresh=Every(40), view=Transposed())


@register
def bi_mask(pattern: Pattern, steps: int | None, *, dense: float = 0.0) -> Recipe:
    """`ste` whose input gradient sees the master under a mask of its own along d_out (Bi-Mask, arXiv 2302.06058).

    The source also permutes rows to bring both masks closer; that is left out here.
    """
    return Recipe(structure=sparse_after(steps, dense, pattern), view=Bidirectional())


@register
def slope(pattern: Pattern, steps: int | None) -> Recipe:  # noqa: ARG001 (one phase)
    """A fixed mask from the start, pruned once more along d_out for the input gradient (SLoPe, arXiv 2405.16325).

    From the source: the static mask and the double pruning. Ours: the mask is by magnitude at initialisation. The
    low-rank adapters of the source's last 1 % of steps are left out.
    """
    return Recipe(
        structure=Constant(pattern), refresh=Constant(False), weight=(GONE,), grad=Masked(), view=DoublePrune()
    )


@register
def s_ste(pattern: Pattern, steps: int | None, *, dy: Pattern = Pattern(2, 4), dense: float = 0.0) -> Recipe:
    """Continuous pruning: beta sign(w) max(|w| - t, 0), t the largest pruned |w| of a group (S-STE, arXiv 2409.09099).

    beta is fixed at the first step; gradients are straight-through; the weight gradient sees output gradients at
    2:4 by MVUE. The source does 2:4 in 8-bit floats; other patterns and float32 are ours.
    """
    return Recipe(structure=sparse_after(steps, dense, pattern), weight=(SoftThreshold(),), dy=dy)


@register
def mvue(pattern: Pattern, steps: int | None, *, dy: Pattern = Pattern(1, 2), dense: float = 0.0) -> Recipe:
    """`ste` whose weight gradient sees output gradients at N:M, by the unbiased choice of least variance.

    MVUE (arXiv 2203.10991, section 4): magnitude pruning of gradients is biased and fails; 1:2 is usually enough.
    """
    return replace(ste(pattern, steps=steps, dense=dense), dy=dy)


@register
def step(pattern: Pattern, steps: int | None, *, dense: float = 0.3) -> Recipe:
    """Dense Adam first; then its second moment is frozen and `ste` learns the mask (STEP, arXiv 2302.01172).

    From the source: both phases. Ours: the switch is at the share `dense` of the steps. The source's AutoSwitch, which
    finds it while training by a test of the second moment (within 10 to 50 % of the run), is left out.
    """
    switch, _ = span(steps, dense, 0.0)
    return Recipe(structure=sparse_after(steps, dense, pattern), moments=FreezeAfter(switch))
