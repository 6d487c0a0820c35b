"""Why a weight's pattern gains or loses on a device, in a sentence; from which batch, width and density on it pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hwmodel.cost import Cost, kernels, libraries_of, price_op
from hwmodel.device import DTYPE_BITS, Device, Processor
from hwmodel.eligibility import eligibility
from hwmodel.engines import abilities
from hwmodel.execution import execution
from hwmodel.explore import break_even, broadcast, densest_that_pays, gain
from hwmodel.fits import Fit, shipped_fits
from hwmodel.footprint import lines_bytes
from hwmodel.pattern import DENSE, Pattern, Structure
from hwmodel.transfer import constants_of
from hwmodel.workload import Gemm, Operand, projection

PAYS = 1.05
"""Dense over sparse time from which on a pattern counts as paying; less is within the model's error."""
BATCHES = tuple(2**i for i in range(18))
WIDTHS = tuple(2**i for i in range(6, 16))
SPARSER = (Pattern(1, 8), Pattern(1, 16), Pattern(1, 32))
TAIL = 0.2
"""Share of the compute time that the last wave must leave cores idle to be named."""


class Question(NamedTuple):
    """x [rows, d_in] @ weight.T on a device with a type, a library ("best" for the fastest) and fits of one's own."""

    rows: int
    weight: Operand
    device: Device
    dtype: str
    library: str = "best"
    fits: Sequence[Fit] = ()

    def product(self, structure: Structure) -> Gemm:
        """The product with the weight at a structure along d_in, in values of the type."""
        weight = Operand(self.weight.rows, self.weight.cols, DTYPE_BITS[self.dtype], structure)
        return projection("product", self.rows, weight)

    def cost(self, structure: Structure) -> Cost:
        """Its price."""
        return price_op(self.product(structure), self.device, library=self.library, dtype=self.dtype, fits=self.fits)


def reason(ask: Question) -> str:
    """Why the weight's pattern gains or loses, and what bounds it; "" for a dense weight."""
    product = ask.product(ask.weight.structure)
    if product.b.is_dense:
        return ""
    able = abilities(ask.device.engine, ask.device, ask.dtype)
    usable = kernels(product, ask.device, ask.dtype, ask.library)
    sparse = [kernel.name for kernel in usable if not execution(product, kernel.kind, able).is_dense]
    rule = _refusal(ask)
    if not sparse:
        return f"It runs dense ({rule or f'{ask.library} runs no {ask.weight.structure}'})."
    ran, dense = ask.cost(ask.weight.structure), ask.cost(DENSE)
    head = f"Its sparse units can't use it ({rule}). " if rule else ""
    if ran.library in sparse:
        return head + _sparse_sentence(ask, ran, dense)
    tried = [ask._replace(library=name).cost(ask.weight.structure) for name in sparse]
    best = min(tried, key=lambda cost: cost.seconds)
    slower = best.seconds / dense.seconds
    return f"{head}It runs dense, as {best.library} would take {slower:.2f} times as long: {_bound(ask, best)}."


def pays_from(ask: Question) -> dict[str, int | str | None]:
    """The smallest batch and width (d_in = d_out) and the densest pattern that pay, all else as asked; None where none.

    Batches and widths are powers of two: from that one on, every larger one up to 2^17 rows or 2^15 wide pays.
    """
    structure, d_out, d_in = ask.weight.structure, ask.weight.rows, ask.weight.cols
    options: dict[str, Any] = {"dtype": ask.dtype, "library": ask.library, "fits": ask.fits}
    batch = break_even(lambda n: gain(ask.device, structure, broadcast(n, d_in, d_out), **options), BATCHES, PAYS)
    width = break_even(lambda n: gain(ask.device, structure, broadcast(ask.rows, n, n), **options), WIDTHS, PAYS)
    shape = broadcast(ask.rows, d_in, d_out)
    pattern = densest_that_pays(ask.device, _patterns(structure), shape, threshold=PAYS, **options)
    return {"batch": batch, "width": width, "pattern": None if pattern is None else str(pattern)}


def pays_text(found: dict[str, int | str | None]) -> str:
    """`pays_from` as a sentence."""
    batch, width, pattern = (found[name] for name in ("batch", "width", "pattern"))
    return (
        f"Break-even, a gain of {PAYS:g}: {f'from {batch} rows on' if batch else 'no number of rows'}; "
        f"{f'from d_in = d_out = {width} on' if width else 'no width'}; "
        f"{f'the densest pattern is {pattern}' if pattern else 'no pattern'}; all else as asked."
    )


def _patterns(structure: Structure) -> list[Structure]:
    """Patterns to compare: every n of the asked m, and the sparse ones of the field."""
    m = structure.m if isinstance(structure, Pattern) else 4
    return [*(Pattern(n, m) for n in range(1, m)), *SPARSER]


def _refusal(ask: Question) -> str:
    """The rule by which the device's own sparse units can't use the weight; "" where they can."""
    verdict = eligibility(ask.weight, ask.device, ask.dtype)
    return "" if verdict.eligible else verdict.rule


def _sparse_sentence(ask: Question, ran: Cost, dense: Cost) -> str:
    """What the sparse kernel gains of what it could, and what bounds it."""
    gained, executed = dense.seconds / ran.seconds, ran.flops / dense.flops
    result = (
        f"gains {gained:.2f} of {1 / executed:.2f}" if gained >= 1 else f"takes {1 / gained:.2f} times as long as dense"
    )
    return f"{ran.library} executes {executed:.1%} of the multiply-adds and {result}: {_bound(ask, ran)}."


def _bound(ask: Question, cost: Cost) -> str:
    return f"{cost.bound}-bound, {bound_detail(ask, cost)}{_known(ask, cost)}"


def bound_detail(ask: Question, cost: Cost) -> str:
    """The number that shows what bounds a sparse kernel."""
    if cost.bound == "launch":
        share = cost.launch_s / cost.seconds
        return f"as starting the kernel is {share:.0%} of the time and no sparsity shortens it"
    if cost.bound == "memory":
        stored, whole = _stored(ask, cost)
        return (
            f"as the weight is {stored / cost.bytes:.0%} of the bytes moved, "
            f"and stored in {stored / whole:.0%} of its dense bytes"
        )
    waiting, peak = cost.tail_s / cost.compute_s, ask.device.peak(ask.dtype).dense_flops_per_s
    if waiting > TAIL:
        return f"with {waiting:.0%} of that lost to partly filled tiles and the last wave of them"
    return f"at {cost.flops / cost.compute_s / peak:.0%} of the dense peak rate"


def _stored(ask: Question, cost: Cost) -> tuple[int, int]:
    """Bytes of the weight as the kernel reads it, and dense."""
    able = abilities(ask.device.engine, ask.device, ask.dtype)
    kind = libraries_of(ask.device)[cost.library].kind
    choice = execution(ask.product(ask.weight.structure), kind, able).choice
    size = (ask.weight.rows, ask.weight.cols)
    kept, whole = (
        lines_bytes(*size, structure, DTYPE_BITS[ask.dtype], layout)
        for structure, layout in ((choice.structure, choice.layout), (DENSE, "dense"))
    )
    return int(kept), int(whole)


def _known(ask: Question, cost: Cost) -> str:
    """How the constants of a kernel on a processor are known."""
    if not isinstance(ask.device.engine, Processor):
        return ""
    library = libraries_of(ask.device)[cost.library]
    basis = constants_of(library, ask.device, ask.dtype, (*ask.fits, *shipped_fits())).basis
    return f" (its constants are {basis})"
