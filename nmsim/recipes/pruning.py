"""Recipes that prune for good: a pruned weight is zero and gets no gradient."""

from __future__ import annotations

from dataclasses import replace

from hwmodel.pattern import DENSE, Pattern, Structure, Unstructured
from nmsim.recipes.phases import Budget, Thinning, sequence, span, sparse_after
from nmsim.recipes.recipe import Recipe
from nmsim.recipes.registry import positive, register, share
from nmsim.rules.gradient import ChainRule, Masked
from nmsim.rules.scores import Learned, Random, Saliency
from nmsim.rules.selection import TopK
from nmsim.rules.spread import ErdosRenyi, OverModel
from nmsim.rules.weight import GONE, Hard, Power, Shrink
from nmsim.schedules import Constant, Cubic, Cycle, Every, Schedule, Staircase

AT_CHANGES = Constant(False)
"""Masks are chosen when the structure changes, and at no other step."""


def _pruned(structure: Schedule[Structure]) -> Recipe:
    """Magnitude masks, chosen when the structure changes; what they prune is gone."""
    return Recipe(structure=structure, refresh=AT_CHANGES, weight=(GONE,), grad=Masked())


@register
def static_magnitude(pattern: Pattern, steps: int | None) -> Recipe:  # noqa: ARG001 (one phase)
    """The n largest |w| of each group at initialisation, for good: a control without any search."""
    return _pruned(Constant(pattern))


@register
def static_random(pattern: Pattern, steps: int | None) -> Recipe:  # noqa: ARG001 (one phase)
    """The mask of `static_magnitude` drawn at random: `static_sparse` of JaxPruner (arXiv 2304.14082), at N:M."""
    return replace(_pruned(Constant(pattern)), select=TopK(Random()))


@register
def random_erk(pattern: Pattern, steps: int | None) -> Recipe:  # noqa: ARG001 (one phase)
    """Random unstructured masks for good, of the density of n:m over all sites together (arXiv 2202.02643).

    A site's density is proportional to (d_in + d_out) / (d_in d_out), capped at 1: Erdos-Renyi without the kernel
    term, which linear layers do not have.
    """
    budget = Constant(Unstructured(pattern.density))
    return replace(_pruned(budget), select=TopK(Random(), ErdosRenyi()))


@register
def one_shot(pattern: Pattern, steps: int | None, *, dense: float = 0.6) -> Recipe:
    """Dense training, then the magnitude mask of that moment for good, and fine-tuning (ASP, arXiv 2104.08378).

    ASP trains twice as long; the share `dense` = 0.6 of one run is ours, and is a real baseline in short runs. Its
    search for a permutation of the inputs is left out.
    """
    return _pruned(sparse_after(steps, dense, pattern))


@register
def gradual_magnitude(pattern: Pattern, steps: int | None, *, dense: float = 0.25, fine_tune: float = 0.25) -> Recipe:
    """Gradual magnitude pruning: the kept share falls as a cubic from 1 to n/m (arXiv 1710.01878, section 3).

    Ours is the N:M form: the kept of each m are the least whole number that holds the share. It begins at 25 % and ends
    at 75 % of the run, which is near the best by arXiv 2501.12486.
    """
    return _pruned(_thinning(pattern, steps, dense, fine_tune))


@register
def saliency(pattern: Pattern, steps: int | None, *, dense: float = 0.25, fine_tune: float = 0.25) -> Recipe:
    """`gradual_magnitude` by |w g| instead of |w| (`saliency` of JaxPruner, arXiv 2304.14082), at N:M."""
    return replace(_pruned(_thinning(pattern, steps, dense, fine_tune)), select=TopK(Saliency()))


def _thinning(pattern: Pattern, steps: int | None, dense: float, fine_tune: float) -> Schedule[Structure]:
    first, last = span(steps, dense, fine_tune)
    return sequence(
        (0, Constant[Structure](DENSE)), (first, Thinning(pattern, Cubic(1.0, pattern.density, last - first)))
    )


@register
def global_magnitude(
    pattern: Pattern, steps: int | None, *, dense: float = 0.25, fine_tune: float = 0.25, refresh: int = 100
) -> Recipe:
    """Unstructured gradual magnitude pruning with one threshold for all sites, to the density of n:m.

    `global_magnitude` of JaxPruner (arXiv 2304.14082); its cubic is read every `refresh` steps. A site keeps at
    least one weight, which is ours.
    """
    first, last = span(steps, dense, fine_tune)
    every = max(1, min(refresh, last - first))
    budget = Budget(Cubic(1.0, pattern.density, (last - first) // every))
    structure = sequence((0, Constant[Structure](DENSE)), (first, Staircase[Structure](budget, every)))
    return replace(_pruned(structure), select=TopK(spread=OverModel()))


@register
def lbc(pattern: Pattern, steps: int | None, *, rate: float = 0.01, fine_tune: float = 0.5) -> Recipe:
    """Learned best combination: scores of the candidates of each group are learned, the worst go step by step.

    From the source (arXiv 2206.06662): learned scores, gradual removal from the start to half of the run, no dense
    gradient at removed weights. Ours: the score of a combination is the sum of its positions' scores, so that removing
    positions one by one leaves the best combination; they start at |w| and follow `Learned`; the cubic schedule.
    """
    _, last = span(steps, 0.0, fine_tune)
    made = _pruned(Thinning(pattern, Cubic(1.0, pattern.density, last)))
    return replace(made, select=TopK(Learned(positive(rate, "rate"))))


@register
def ac_dc(
    pattern: Pattern, steps: int | None, *, dense: float = 0.1, cycle: float = 0.1, fine_tune: float = 0.25
) -> Recipe:
    """Alternating compressed and dense phases: weights pruned in one start the next dense one at zero.

    AC/DC (arXiv 2106.12379), algorithm 1, with the magnitude mask of each beginning. It ends compressed. The source
    prunes unstructured; N:M and the shares (a cycle is a tenth of the run, half of it compressed) are ours.
    """
    first, last = span(steps, dense, fine_tune)
    half = max(1, round(positive(cycle, "cycle") * (steps or 0) / 2))
    turns = Cycle[Structure](((half, Constant(pattern)), (half, Constant(DENSE))))
    compressed = (last, Constant[Structure](pattern))
    return _pruned(sequence((0, Constant[Structure](DENSE)), (first, turns), compressed))


@register
def powerpropagation(pattern: Pattern, steps: int | None, *, alpha: float = 2.0, dense: float = 0.5) -> Recipe:
    """Weights w |w|^(alpha - 1) with their true gradient, which drives small ones to zero; then one magnitude mask.

    Powerpropagation (arXiv 2110.00296, eq. 1); `alpha` is the smaller of its usual values. The mask after half of the
    run, at N:M, is ours.
    """
    return Recipe(
        structure=sparse_after(steps, dense, pattern),
        refresh=AT_CHANGES,
        weight=(Power(positive(alpha, "alpha")), Hard()),
        grad=ChainRule(),
    )


@register
def soft_shrinkage(
    pattern: Pattern, steps: int | None, *, keep: float = 0.9, dense: float = 0.0125, fine_tune: float = 0.25
) -> Recipe:
    """Iterative soft shrinkage: weights outside the magnitude mask are multiplied by `keep` at every step.

    After ISS-P (arXiv 2303.09650): unimportant weights are shrunk, not zeroed, and may come back. N:M, `keep` and the
    binary phase, in which they are zeroed, are ours.
    """
    first, last = span(steps, dense, fine_tune)
    shrink = Shrink(sequence((0, Constant(share(keep, "keep"))), (last, Constant(0.0))))
    return Recipe(structure=sparse_after(steps, first / (steps or 1), pattern), refresh=Every(1), weight=(shrink,))
