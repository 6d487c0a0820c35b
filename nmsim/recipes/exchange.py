"""Sparse from the first step to the last: a fixed budget of weights, some of which are exchanged now and then."""

from __future__ import annotations

from hwmodel.pattern import FanIn, Pattern, Structure, Unstructured
from nmsim.recipes.phases import span
from nmsim.recipes.recipe import Recipe
from nmsim.recipes.registry import positive, register, share
from nmsim.rules.gradient import Masked
from nmsim.rules.scores import Gradient, Random
from nmsim.rules.selection import DropGrow, NeuronDropGrow, Select
from nmsim.rules.weight import GONE
from nmsim.schedules import Constant, Cosine, Every


def _exchanging(structure: Structure, select: Select, last: int, interval: int) -> Recipe:
    """A mask that exchanges weights every `interval` steps before `last`; grown weights start at zero, like new."""
    return Recipe(
        structure=Constant(structure),
        select=select,
        refresh=Every(interval, until=last),
        weight=(GONE,),
        grad=Masked(),
        zero_regrown=True,
    )


@register
def set_(
    pattern: Pattern, steps: int | None, *, fraction: float = 0.3, refresh: int = 100, fine_tune: float = 0.25
) -> Recipe:
    """Sparse evolutionary training: the smallest |w| go, as many random ones come (arXiv 1707.04780, algorithm 1).

    Unstructured, with the density of n:m at every site, where the source has Erdos-Renyi. `fraction` is the source's
    zeta; it exchanges once an epoch, ours every `refresh` steps, and not in the last quarter, so that what was grown
    is trained. Ours too: what was just dropped is not grown in the same exchange.
    """
    _, last = span(steps, 0.0, fine_tune)
    return _exchanging(
        Unstructured(pattern.density), DropGrow(Random(), Constant(share(fraction, "fraction"))), last, refresh
    )


@register
def rigl(
    pattern: Pattern, steps: int | None, *, alpha: float = 0.3, refresh: int = 100, fine_tune: float = 0.25
) -> Recipe:
    """The smallest |w| go, the largest |g| of the dense gradient come (RigL, arXiv 1911.11134, section 3).

    The exchanged share is alpha / 2 (1 + cos(pi step / T)), T at 75 % of the run, every 100 steps: the source's.
    Unstructured, with the density of n:m at every site (the source's "uniform"). Ours: what was just dropped is not
    grown in the same exchange, which the source allows.
    """
    _, last = span(steps, 0.0, fine_tune)
    return _exchanging(
        Unstructured(pattern.density), DropGrow(Gradient(), Cosine(share(alpha, "alpha"), 0.0, last)), last, refresh
    )


@register
def srigl(
    pattern: Pattern,
    steps: int | None,
    *,
    alpha: float = 0.3,
    gamma: float = 0.95,
    refresh: int = 100,
    fine_tune: float = 0.25,
) -> Recipe:
    """RigL with a constant fan-in, which ablates neurons with few salient weights (arXiv 2305.02299, section 3).

    The fan-in has the density of n:m. `gamma` is the source's for transformers (0.3 for convolutions): a share of the
    fan-in, or from 1 on a number of weights. Where it leaves the released code: `NeuronDropGrow`.
    """
    _, last = span(steps, 0.0, fine_tune)
    exchange = NeuronDropGrow(Cosine(share(alpha, "alpha"), 0.0, last), positive(gamma, "gamma"))
    return _exchanging(FanIn(pattern.density), exchange, last, refresh)
