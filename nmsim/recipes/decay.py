"""Recipes that reach their pattern by degrees: mask decay (MdGf), structure decay (SdGf) and their forerunners.

`dense` = 1.25 % is the shortest dense phase tried in arXiv 2402.04744, appendix A; longer ones changed little.
`fine_tune`, the binary phase at the target, is 25 % where the decay ends early and 50 % for MdGf-Linear and
SdGf-Stepwise, which a trial found 1 to 2 points of accuracy short with 25 % (1:32, small ViT, 1,000 steps).
"""

from __future__ import annotations

import math
from dataclasses import replace

from hwmodel.errors import UserError
from hwmodel.pattern import DENSE, Pattern, Structure
from nmsim.recipes.phases import after, sequence, span
from nmsim.recipes.recipe import Recipe
from nmsim.recipes.registry import positive, register
from nmsim.rules.gradient import SRSTE
from nmsim.rules.weight import Leak
from nmsim.schedules import Constant, Every, Exponential, Linear, Schedule, Staircase, stages

BRIEF = 0.0125
"""The shortest dense phase that was tried."""
RESIDUE = 0.01
"""What MdGf-Exponential's default rate leaves of a pruned weight when its binary phase begins."""


@register
def mdgf_linear(
    pattern: Pattern, steps: int | None, *, dense: float = BRIEF, fine_tune: float = 0.5, beta: float | None = None
) -> Recipe:
    """Mask decay, linear: forward w * (mask + D (1 - mask)), D = max(1 - beta j, 0); arXiv 2402.04744, section 3.

    j counts from the end of the dense phase. By default `beta` brings D to 0 when the binary phase begins. With
    `beta` and without `steps` there is no dense phase, and D follows the formula to the end.
    """
    if steps is None and beta is not None:
        return _mask_decay(pattern, 0, math.inf, Linear(1.0, 0.0, 1 / positive(beta, "beta")))
    first, last = span(steps, dense, fine_tune)
    return _mask_decay(
        pattern, first, last, Linear(1.0, 0.0, last - first if beta is None else 1 / positive(beta, "beta"))
    )


@register
def mdgf_exponential(
    pattern: Pattern, steps: int | None, *, dense: float = BRIEF, fine_tune: float = 0.25, beta: float | None = None
) -> Recipe:
    """Mask decay, exponential: forward w * (mask + D (1 - mask)), D = exp(-beta j); arXiv 2402.04744, section 3.

    j counts from the end of the dense phase, and D is 0 in the binary phase. By default `beta` brings D to 0.01 when
    that begins. With `beta` and without `steps` D follows the formula to the end, and never reaches 0.
    """
    if steps is None and beta is not None:
        return _mask_decay(pattern, 0, math.inf, Exponential(positive(beta, "beta")))
    first, last = span(steps, dense, fine_tune)
    rate = -math.log(RESIDUE) / max(1, last - first) if beta is None else positive(beta, "beta")
    return _mask_decay(pattern, first, last, Exponential(rate))


def _mask_decay(pattern: Pattern, first: int, last: float, decay: Schedule[float]) -> Recipe:
    """The target's mask from `first` on, with pruned weights scaled by `decay`, and by 0 from `last` on."""
    return Recipe(structure=after(first, pattern), weight=(Leak(_decay(first, last, decay)),))


def _decay(first: int, last: float, decay: Schedule[float]) -> Schedule[float]:
    """D: 1 before `first`, `decay` with a clock from there, 0 from `last` on."""
    binary = () if last == math.inf else ((int(last), Constant(0.0)),)
    return sequence((0, Constant(1.0)), (first, decay), *binary)


@register
def mdgf_sr_ste(
    pattern: Pattern,
    steps: int | None,
    *,
    dense: float = BRIEF,
    fine_tune: float = 0.25,
    beta: float | None = None,
    lam: float = 2e-4,
) -> Recipe:
    """MdGf-Exponential with SR-STE's term: the optimiser sees g + lam (1 - mask) w while pruned weights fade.

    Ours, from arXiv 2402.04744 and 2102.04010: the term calms the masks, which MdGf leaves moving to the end.
    """
    faded = mdgf_exponential(pattern, steps=steps, dense=dense, fine_tune=fine_tune, beta=beta)
    return replace(faded, grad=SRSTE(lam))


def stepwise_patterns(pattern: Pattern) -> tuple[Pattern, ...]:
    """(m-1):m, then (m / 2^d):m while more than n are kept, then n:m, also where m / n is no power of two."""
    kept = [pattern.m - 1, *(pattern.m >> d for d in range(1, pattern.m.bit_length()))]
    return tuple(Pattern(n, pattern.m) for n in dict.fromkeys([*(n for n in kept if n > pattern.n), pattern.n]))


@register
def sdgf_stepwise(pattern: Pattern, steps: int | None, *, dense: float = BRIEF, fine_tune: float = 0.5) -> Recipe:
    """Structure decay, stepwise: (m-1):m, m/2:m, m/4:m, ... n:m under a hard mask; arXiv 2402.04744, section 3.

    The steps between the dense and the fine-tune phase are shared evenly. `ste` gradients.
    """
    return Recipe(structure=_structure_decay(stepwise_patterns(pattern), *span(steps, dense, fine_tune)))


def geometric_patterns(pattern: Pattern, k: int) -> tuple[Pattern, ...]:
    """`k n:k m`, then half of both numbers again and again, down to n:m."""
    if k < 2 or k & (k - 1):
        raise UserError(f"k={k}: needs a power of two above 1 (with k=1 the recipe is ste)")
    return tuple(Pattern(pattern.n * (k >> d), pattern.m * (k >> d)) for d in range(k.bit_length()))


@register
def sdgf_geometric(
    pattern: Pattern, steps: int | None, *, k: int = 16, dense: float = BRIEF, fine_tune: float = 0.25
) -> Recipe:
    """Structure decay, geometric: k n:k m, k n/2:k m/2, ... n:m, one density throughout; arXiv 2402.04744, section 3.

    `k` is 16 as printed; the released code has 8. Where k m does not divide a site's lines, that site takes the largest
    k that does; where none does anywhere, the recipe is refused as identical to `ste`.
    """
    return Recipe(structure=_structure_decay(geometric_patterns(pattern, k), *span(steps, dense, fine_tune)))


def _structure_decay(patterns: tuple[Pattern, ...], first: int, last: int) -> Schedule[Structure]:
    pieces = ((start, Constant[Structure](held.value)) for start, held in stages(patterns, first, last))
    return sequence((0, Constant[Structure](DENSE)), *pieces)


@register
def sdgf_mdgf(
    pattern: Pattern, steps: int | None, *, dense: float = BRIEF, fine_tune: float = 0.5, beta: float | None = None
) -> Recipe:
    """Both decays at once: SdGf-Stepwise's structures, with pruned weights scaled by MdGf-Exponential's D.

    Ours, from the two rules of arXiv 2402.04744, section 3.
    """
    faded = mdgf_exponential(pattern, steps=steps, dense=dense, fine_tune=fine_tune, beta=beta)
    return replace(faded, structure=_structure_decay(stepwise_patterns(pattern), *span(steps, dense, fine_tune)))


UPDATES = 16
"""Mask updates after which the mask decay of arXiv 2209.07617 is over (its released code)."""


@register
def kao_mask_decay(
    pattern: Pattern, steps: int | None, *, dense: float = BRIEF, fine_tune: float = 0.25, weight: float = 1 / UPDATES
) -> Recipe:
    """Mask decay by mask updates: D = max(1 - weight * u, 0), u the number of updates so far, and 0 from u = 16 on.

    arXiv 2209.07617, after its released code; its text gives no numbers. The default `weight`, and the interval between
    updates (a sixteenth of the decay phase), are ours.
    """
    first, last = span(steps, dense, fine_tune)
    every = max(1, (last - first) // UPDATES)
    fading = sequence((0, Linear(1.0, 0.0, 1 / positive(weight, "weight"))), (UPDATES, Constant(0.0)))
    return replace(_mask_decay(pattern, first, last, Staircase(fading, every)), refresh=Every(every, first))


def kao_patterns(pattern: Pattern) -> tuple[Pattern, ...]:
    """Kept of m: m, m - 1, then ceil(m / 2^u) for u = 2, 3, ... down to n; 16, 15, 4, 2, 1 at 1:16."""
    kept = [pattern.m, pattern.m - 1, *(-(-pattern.m >> u) for u in range(2, pattern.m.bit_length() + 1))]
    return tuple(Pattern(n, pattern.m) for n in dict.fromkeys([*(n for n in kept if n > pattern.n), pattern.n]))


@register
def kao_structure_decay(
    pattern: Pattern, steps: int | None, *, dense: float = BRIEF, fine_tune: float = 0.25
) -> Recipe:
    """Structure decay m:m, (m-1):m, ceil(m/4):m, ceil(m/8):m, ... n:m; arXiv 2209.07617, after its released code.

    That code skips m/2. Ours is the even share of the steps between the phases.
    """
    return Recipe(structure=_structure_decay(kao_patterns(pattern), *span(steps, dense, fine_tune)))
