"""Applies recipes to the weights of a model: before each forward pass and after each backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, get_args

import numpy as np

from hwmodel.errors import UserError, unknown
from hwmodel.pattern import DENSE, Pattern, Structure, Unstructured
from hwmodel.workload import Plan, SitePlan
from nmsim.compressed import NMMatrix, compress
from nmsim.gemm import WIDEST_GROUP
from nmsim.kernels.threads import threads
from nmsim.layers import Param
from nmsim.recipes.recipe import Recipe
from nmsim.rules.outputs import Sampler
from nmsim.rules.selection import keep_zeros
from nmsim.rules.site import BACKWARD_MASK, GRADIENT, MASK, PREFIX, SECOND_MOMENT_FROZEN, SEED, STEP, Mask, Site, Weight
from nmsim.team import Team

ALONE = Team(1)
WORTHWHILE = 1 << 18
"""Weights in all from which on a team is faster than one thread."""

Execution = Literal["dense", "compressed"]
Remainder = Literal["refuse", "pad", "exclude"]


@dataclass(frozen=True)
class _Entry:
    """A weight and the recipe that it follows."""

    param: Param
    recipe: Recipe

    def site(self, step: int) -> Site:
        """What the rules see of it."""
        p, axis = self.param, self.recipe.axis
        return Site(p.name, p.value, p.slots, self.recipe.at(step, p.value.shape[axis]), axis, step)


class Sparsifier:
    """Gives every sparse weight its operands, step by step. All state lives in `Param.slots`.

    `recipes` maps shell patterns of sites to recipes; the first that matches a weight's name wins, and a weight that
    none matches stays dense. With `execution` "compressed" an operand that obeys N:M is an `NMMatrix`. `remainder` says
    what happens where groups do not fill the lines of a weight: refuse, let the last group be shorter ("pad": the
    kernels run as if the line were padded with zeros), or leave the site dense ("exclude").

    Weights that come pruned begin so: the first mask keeps all that are not zero, whatever the recipe would choose, if
    its structure has room for them.

    The sites are shared among the threads of `team`, where they are large enough.

    `notes` says, a line each, where a site got something else than its recipe's nominal structure.

    Raises `UserError` for a shell pattern that matches nothing and, all sites at once, for targets that can't be met.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        params: Iterable[Param],
        rng: np.random.Generator,
        execution: str = "dense",
        remainder: str = "refuse",
        *,
        team: Team = ALONE,
    ) -> None:
        _check_choice("execution", execution, get_args(Execution))
        _check_choice("remainder", remainder, get_args(Remainder))
        self.execution = execution
        entries = _matched(recipes, {id(p): p for p in params}.values())
        misfits = {e.param.name: text for e in entries if (text := ", ".join(e.recipe.misfits(e.param.value.shape)))}
        if misfits and remainder == "refuse":
            raise UserError(_refusal(misfits))
        squares = {
            e.param.name: misfits[e.param.name]
            for e in entries
            if e.recipe.select.both_axes and e.param.name in misfits
        }
        if squares and remainder == "pad":
            raise UserError(_refusal_to_pad(squares))
        self.notes = [f"{site}: {text}; {_OUTCOME[remainder]}" for site, text in misfits.items()]
        self._entries = [e for e in entries if remainder == "pad" or e.param.name not in misfits]
        self.notes += _narrowed(self._entries)
        self._team = team if sum(e.param.value.size for e in self._entries) >= WORTHWHILE else ALONE
        for entry in self._entries:
            entry.param.slots[SEED] = np.array(rng.integers(2**63))

    def check_tokens(self, tokens: Mapping[str, int]) -> None:
        """Raise `UserError` where the output gradient of a site, of so many tokens, can't be sampled at N:M."""
        sampled = ((e.param.name, e.recipe.dy.m) for e in self._entries if not e.recipe.dy.is_dense)
        misfits = {site: f"t={tokens[site]} is not a multiple of m={m}" for site, m in sampled if tokens[site] % m}
        if misfits:
            raise UserError(
                f"{_listed(misfits)}; output gradients are sampled along the tokens of a shard: choose a batch, shards "
                "or a length whose tokens are, or exclude these sites"
            )

    @property
    def samples(self) -> bool:
        """Whether any output gradient is sampled."""
        return any(not e.recipe.dy.is_dense for e in self._entries)

    def before_forward(self, step: int) -> None:
        """Choose masks where they are due, and set the operands of this step.

        Calling it again at the same step sets the same operands: what changes state is done once a step.
        """
        with threads(self._team.threads):
            for recipe in dict.fromkeys(entry.recipe for entry in self._entries):
                self._advance(recipe, step)
        self._for_each(lambda entry: self._set_operands(entry, step))

    def after_backward(self, step: int) -> None:
        """Turn the raw gradient of every weight into what the optimiser sees."""
        self._for_each(lambda entry: _change_gradient(entry, step))

    def plan(self, step: int) -> Plan:
        """What every sparse site really offers its products at `step`, whether it ran compressed or not."""
        sites = {e.param.name: e.recipe.plan(step, _realised(e, step)) for e in self._entries}
        return Plan(sites, frozenset(e.param.name for e in self._entries if e.recipe.refreshes(step)))

    def structures(self, step: int) -> dict[str, Structure]:
        """The structure that each sparse site really has at `step`."""
        return {e.param.name: _realised(e, step) for e in self._entries}

    def masks(self) -> dict[str, Mask]:
        """The weights that live at each sparse site."""
        return {e.param.name: e.param.slots[MASK] for e in self._entries if MASK in e.param.slots}

    def _for_each(self, work: Callable[[_Entry], None]) -> None:
        self._team.map(lambda index: work(self._entries[index]), len(self._entries))

    def _advance(self, recipe: Recipe, step: int) -> None:
        """Choose the masks of the sites of one recipe and let its rules change the masters, once a step."""
        sites = [e.site(step) for e in self._entries if e.recipe == recipe]
        sites = [site for site in sites if STEP not in site.slots or site.slots[STEP].item() != step]
        due = sites if recipe.refreshes(step) else [site for site in sites if MASK not in site.slots]
        for site in (site for site in due if MASK not in site.slots):
            for rule in recipe.weight:
                rule.start(site)
        for site, mask in zip(due, recipe.select.choose(due) if due else (), strict=True):
            first = MASK not in site.slots
            _adopt(site, keep_zeros(site, mask, recipe.select) if first else mask, recipe)
        for site in sites:
            for rule in recipe.weight:
                rule.settle(site)
            site.slots[STEP] = np.array(step)
            if step >= recipe.moments.step:
                site.slots[SECOND_MOMENT_FROZEN] = np.array(True)

    def _set_operands(self, entry: _Entry, step: int) -> None:
        param, recipe, site = entry.param, entry.recipe, entry.site(step)
        plan = executed(recipe.plan(step, site.structure)) if self.execution == "compressed" else SitePlan()
        seen = site.value
        for rule in recipe.weight:
            seen = rule(seen, site)
        param.fwd = _operand(seen, site.mask, plan.fprop, plan.axis)
        if recipe.view.sparse and not recipe.view.turned:
            param.bwd = param.fwd
        else:
            turned_mask = site.slots.get(BACKWARD_MASK, site.mask)
            turned = seen if site.is_dense else recipe.view(seen, site)
            param.bwd = _operand(turned, turned_mask, plan.dgrad, plan.dgrad_axis)
        param.grad_like = param.fwd if isinstance(param.fwd, NMMatrix) and not _is_dense(plan.wgrad) else None
        if not recipe.dy.is_dense:
            param.dy = Sampler(recipe.dy, param.name, param.slots[SEED].item(), step)


def executed(plan: SitePlan) -> SitePlan:
    """What our kernels make of a plan: N:M weights with positions of one byte run compressed, all else runs dense."""
    fprop, dgrad, wgrad = (_runnable(structure) for structure in (plan.fprop, plan.dgrad, plan.wgrad))
    return replace(plan, fprop=fprop, dgrad=dgrad, wgrad=wgrad, dy=DENSE)


def _runnable(structure: Structure) -> Structure:
    return structure if isinstance(structure, Pattern) and structure.m <= WIDEST_GROUP else DENSE


def _is_dense(structure: Structure) -> bool:
    return structure.density == 1


def _operand(w: Weight, mask: Mask, structure: Structure, axis: int) -> Weight | NMMatrix:
    """The weight itself where the structure is dense, compressed where it is N:M."""
    if not isinstance(structure, Pattern) or structure.is_dense:
        return w
    return compress(w, mask, structure, axis)


def _change_gradient(entry: _Entry, step: int) -> None:
    """Turn the raw gradient of one weight into what the optimiser sees."""
    param, recipe, site = entry.param, entry.recipe, entry.site(step)
    if recipe.saves_gradient(step):
        param.slots[GRADIENT] = param.grad.copy()
    recipe.select.learn(site, param.grad)
    recipe.grad(param.grad, site, recipe.weight)


def _adopt(site: Site, mask: Mask, recipe: Recipe) -> None:
    """Make `mask` the site's mask, forget the optimiser's memory of weights that return, and choose the view's mask."""
    if recipe.zero_regrown and MASK in site.slots:
        regrown = mask & ~site.mask
        for name, slot in site.slots.items():
            if not name.startswith(PREFIX) and slot.shape == mask.shape:
                slot[regrown] = 0
    site.slots[MASK] = mask
    backward = None if site.is_dense else recipe.view.choose(site)
    if backward is not None:
        site.slots[BACKWARD_MASK] = backward


def _realised(entry: _Entry, step: int) -> Structure:
    """The structure that a site really has: the recipe's, with the site's own share of an unstructured budget."""
    structure = entry.site(step).structure
    if isinstance(structure, Unstructured) and MASK in entry.param.slots:
        return Unstructured(float(np.mean(entry.param.slots[MASK])))
    return structure


def _matched(recipes: Mapping[str, Recipe], params: Iterable[Param]) -> list[_Entry]:
    """Every 2-D weight that a shell pattern matches, with the recipe of the first such pattern."""
    weights = [p for p in params if p.value.ndim == 2]
    for glob in recipes:
        if not any(fnmatchcase(p.name, glob) for p in weights):
            raise UserError(f'"{glob}" matches no sparsifiable site (sites: {", ".join(p.name for p in weights)})')
    firsts = [(p, next((glob for glob in recipes if fnmatchcase(p.name, glob)), None)) for p in weights]
    idle = recipes.keys() - {glob for _, glob in firsts}
    if idle:
        raise UserError(f'"{min(idle)}" comes too late: earlier entries match all of its sites; put it before them')
    return [_Entry(p, recipes[glob]) for p, glob in firsts if glob is not None]


def _listed(misfits: Mapping[str, str]) -> str:
    return "; ".join(f"{site}: {text}" for site, text in misfits.items())


def _refusal(misfits: Mapping[str, str]) -> str:
    return f'{_listed(misfits)}; choose another pattern, exclude these sites, or set remainder to "pad" or "exclude"'


def _refusal_to_pad(misfits: Mapping[str, str]) -> str:
    return (
        f"{_listed(misfits)}; masks that hold along both axes are chosen in whole squares and can't be padded; "
        'choose another pattern, exclude these sites, or set remainder to "exclude"'
    )


_OUTCOME = {"pad": "the last group of each line is shorter", "exclude": "this site stays dense"}


def _narrowed(entries: Sequence[_Entry]) -> list[str]:
    """Where the widest pattern on the way does not fit; raises `UserError` for a recipe of which none fits anywhere."""
    notes = []
    for recipe in dict.fromkeys(e.recipe for e in entries if e.recipe.wider()):
        widths = [pattern.m for pattern in recipe.wider()]
        lengths = {e.param.name: e.param.value.shape[recipe.axis] for e in entries if e.recipe == recipe}
        if all(length % width for width in widths for length in lengths.values()):
            sizes = ", ".join(f"{site}: {length}" for site, length in lengths.items())
            raise UserError(
                f"{recipe.name}: no line is a multiple of m={min(widths)}, the narrowest pattern before {recipe.final} "
                f"({sizes}), so it is identical to ste; use ste, or another pattern"
            )
        notes += [
            f"{site}: lines of {length} are no multiple of m={max(widths)}; patterns go up to m={fitting}"
            for site, length in lengths.items()
            if (fitting := max((w for w in widths if length % w == 0), default=min(widths) // 2)) < max(widths)
        ]
    return notes


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise unknown(name, value, known)
