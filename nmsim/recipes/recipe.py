"""A recipe is a point in one product space: a frozen record with one rule for each axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from hwmodel.pattern import DENSE, Pattern, Structure
from hwmodel.workload import SitePlan
from nmsim.rules.gradient import GradientRule, StraightThrough
from nmsim.rules.moments import UPDATE, FreezeAfter
from nmsim.rules.selection import Select, TopK
from nmsim.rules.view import Same, View
from nmsim.rules.weight import Hard, WeightRule
from nmsim.schedules import Every, Schedule, values

END = 2**62
"""A step after every phase of any run."""


@dataclass(frozen=True, repr=False)
class Recipe:
    """How a weight becomes sparse while it trains; pure data, whose `repr` shows what differs from plain STE.

    Attributes:
        structure: Which sparsity at each step.
        select: Which weights live.
        refresh: At which steps the choice is made again; the first step and a change of structure always do.
        weight: What the forward product sees, rule after rule.
        grad: What the optimiser sees of the gradient.
        view: What the input gradient sees of the weight.
        dy: N:M of the output gradient in the weight gradient, along the tokens, by an unbiased sampler.
        zero_regrown: Whether the optimiser forgets what it knew of a weight that comes back.
        moments: What happens to Adam's second moment.
        axis: Groups run along d_in (1) or d_out (0).
        name: What the recipe is called.
    """

    structure: Schedule[Structure]
    select: Select = TopK()  # noqa: RUF009 (frozen, as all rules are)
    refresh: Schedule[bool] = Every(1)  # noqa: RUF009
    weight: tuple[WeightRule, ...] = (Hard(),)
    grad: GradientRule = StraightThrough()  # noqa: RUF009
    view: View = Same()  # noqa: RUF009
    dy: Pattern = DENSE
    zero_regrown: bool = False
    moments: FreezeAfter = UPDATE
    axis: int = 1
    name: str = field(default="", compare=False)

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default)
        return f"Recipe({', '.join(shown)})"

    @property
    def final(self) -> Structure:
        """The structure of the last phase."""
        return self.structure(END)

    def leak(self, step: int) -> float:
        """What is left of a pruned weight in the forward product: D in [0, 1], 0 where the mask is hard."""
        return min(rule.leak(step) for rule in self.weight)

    def refreshes(self, step: int) -> bool:
        """Whether masks are chosen at `step`."""
        structure = self.structure(step)
        if step == 0 or structure != self.structure(step - 1):
            return True
        return structure.density < 1 and self.refresh(step)

    def saves_gradient(self, step: int) -> bool:
        """Whether the raw dense gradient of `step` is wanted for the choice of the next step."""
        return self.select.reads_gradient and self.refreshes(step + 1)

    def at(self, step: int, length: int) -> Structure:
        """The structure at `step` where groups share lines of `length` weights.

        A wider pattern k n : k m on the way to n : m takes the largest k that fits, halving it as often as needed.
        """
        structure = self.structure(step)
        if isinstance(structure, Pattern):
            while _is_wider(structure, self.final) and length % structure.m:
                structure = Pattern(structure.n // 2, structure.m // 2)
        return structure

    def plan(self, step: int, realised: Structure | None = None) -> SitePlan:
        """What a site offers its products at `step`: nominally, or with the structure that was `realised` there."""
        structure = self.structure(step) if realised is None else realised
        seen = structure if structure.density < 1 and self.leak(step) == 0 else DENSE
        return SitePlan(
            fprop=seen,
            dgrad=seen if self.view.sparse else DENSE,
            wgrad=seen if self.grad.masked and not self.saves_gradient(step) else DENSE,
            dy=self.dy,
            axis=self.axis,
            dgrad_axis=1 - self.axis if self.view.turned else self.axis,
        )

    def misfits(self, shape: tuple[int, int]) -> Iterator[str]:
        """What keeps a weight [d_out, d_in] of `shape` from the final structure."""
        if not isinstance(self.final, Pattern):
            return
        both = self.view.turned or self.select.both_axes
        for axis in (1 - self.axis, self.axis) if both else (self.axis,):
            if shape[axis] % self.final.m:
                yield f"{('d_out', 'd_in')[axis]}={shape[axis]} is not a multiple of m={self.final.m}"

    def wider(self) -> tuple[Pattern, ...]:
        """The patterns k n : k m, k > 1, on the way to n : m."""
        return tuple(v for v in values(self.structure) if isinstance(v, Pattern) and _is_wider(v, self.final))


def _is_wider(structure: Structure, final: Structure) -> bool:
    """Whether `structure` is k n : k m of the final n : m, with k > 1."""
    if not isinstance(structure, Pattern) or not isinstance(final, Pattern):
        return False
    return structure.m > final.m and structure.n * final.m == final.n * structure.m and structure.m % final.m == 0
