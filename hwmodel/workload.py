"""The operations of a computation, as sizes: the vocabulary that the simulator records and the cost model prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

from hwmodel.pattern import DENSE, Structure

Phase = Literal["fprop", "dgrad", "wgrad", "update"]


@dataclass(frozen=True)
class Operand:
    """A matrix [rows, cols] of `bits`-bit values, with groups of `structure` along `axis` (0: columns, 1: rows).

    One that keeps everything is written in one way, DENSE with axis 1, so that equal operands compare equal.
    """

    rows: int
    cols: int
    bits: int = 32
    structure: Structure = DENSE
    axis: int = 1

    def __post_init__(self) -> None:
        if self.structure.density == 1:
            object.__setattr__(self, "structure", DENSE)
            object.__setattr__(self, "axis", 1)

    @property
    def elements(self) -> int:
        """Positions of the matrix, kept or not."""
        return self.rows * self.cols

    @property
    def density(self) -> float:
        """Share of positions that are stored."""
        return self.structure.density

    @property
    def is_dense(self) -> bool:
        """Whether every position is stored."""
        return self.density == 1

    def transposed(self) -> Operand:
        """The same matrix with rows and columns exchanged."""
        return replace(self, rows=self.cols, cols=self.rows, axis=1 - self.axis)


@dataclass(frozen=True)
class Gemm:
    """`repeat` products out = a @ b with a [rows, inner], b [inner, cols], out [rows, cols], at a `site`, in a `phase`.

    One kernel computes all `repeat` of them; `times` such kernels run one after another. A structure on `a` or `b` says
    which positions are stored; one on `out` says which positions are computed.
    """

    site: str
    phase: Phase
    a: Operand
    b: Operand
    out: Operand
    repeat: int = 1
    times: int = 1

    def __post_init__(self) -> None:
        if (self.a.cols, self.a.rows, self.b.cols) != (self.b.rows, self.out.rows, self.out.cols):
            shapes = [f"[{o.rows}, {o.cols}]" for o in (self.a, self.b, self.out)]
            raise ValueError(f"{self.site}: {shapes[0]} @ {shapes[1]} is not {shapes[2]}")

    @property
    def rows(self) -> int:
        """Rows of `a` and of the result."""
        return self.a.rows

    @property
    def inner(self) -> int:
        """Length of the reduction."""
        return self.a.cols

    @property
    def cols(self) -> int:
        """Columns of `b` and of the result."""
        return self.b.cols

    @property
    def sizes(self) -> tuple[Operand, Operand, Operand, int]:
        """All that one kernel's price depends on."""
        return self.a, self.b, self.out, self.repeat

    @property
    def dense_macs(self) -> int:
        """Multiply-adds of the dense product, rows * inner * cols * repeat * times."""
        return self.rows * self.inner * self.cols * self.repeat * self.times

    @property
    def macs(self) -> float:
        """Multiply-adds at stored positions: the dense count times the densities of a, b and out."""
        return self.dense_macs * self.a.density * self.b.density * self.out.density

    @property
    def flops(self) -> float:
        """Floating-point operations at stored positions, two a multiply-add."""
        return 2 * self.macs


def projection(site: str, rows: int, weight: Operand) -> Gemm:
    """The forward product of a linear site: x [rows, d_in] @ weight.T, with a weight [d_out, d_in]."""
    x, y = (Operand(rows, features, weight.bits) for features in (weight.cols, weight.rows))
    return Gemm(site, "fprop", x, weight.transposed(), y)


@dataclass(frozen=True)
class Elementwise:
    """`times` passes of a pointwise or row-wise operation over `elements` elements."""

    site: str
    phase: Phase
    kind: str
    elements: int
    flops_per_element: float
    bytes_moved: float
    times: int = 1

    @property
    def sizes(self) -> tuple[str, int, float, float]:
        """All that one pass's price depends on."""
        return self.kind, self.elements, self.flops_per_element, self.bytes_moved

    @property
    def flops(self) -> float:
        """Floating-point operations of all passes."""
        return self.elements * self.flops_per_element * self.times


Op = Gemm | Elementwise


@dataclass(frozen=True)
class Workload:
    """An ordered collection of operations. `+` joins, `*` repeats."""

    ops: tuple[Op, ...] = ()

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __len__(self) -> int:
        return len(self.ops)

    def __add__(self, other: Workload) -> Workload:
        return Workload(self.ops + other.ops)

    def __mul__(self, times: int) -> Workload:
        return Workload(tuple(replace(op, times=op.times * times) for op in self.ops))

    @property
    def gemms(self) -> tuple[Gemm, ...]:
        """The matrix products alone."""
        return tuple(op for op in self.ops if isinstance(op, Gemm))

    @property
    def flops(self) -> float:
        """Floating-point operations of all operations."""
        return sum(op.flops for op in self.ops)

    @property
    def macs(self) -> float:
        """Multiply-adds of the matrix products."""
        return sum(op.macs for op in self.gemms)

    def phase(self, phase: Phase) -> Workload:
        """The operations of one phase."""
        return Workload(tuple(op for op in self.ops if op.phase == phase))

    def at(self, glob: str) -> Workload:
        """The operations whose site matches a shell pattern such as `*.mlp.*`."""
        return Workload(tuple(op for op in self.ops if fnmatchcase(op.site, glob)))


@dataclass(frozen=True)
class SitePlan:
    """What one site's weight [d_out, d_in] offers its three products.

    fprop: structure of the forward operand, groups along `axis` (1: d_in, the forward reduction; 0: d_out).
    dgrad: structure of the operand of the input gradient, groups along `dgrad_axis` of the same [d_out, d_in] matrix.
    wgrad: structure of the positions whose weight gradient is computed, groups along `axis`.
    dy: structure of the output gradient [t, d_out] that `wgrad` sees, groups along `dy_axis` (0: tokens, 1: outputs).
    """

    fprop: Structure = DENSE
    dgrad: Structure = DENSE
    wgrad: Structure = DENSE
    dy: Structure = DENSE
    axis: int = 1
    dgrad_axis: int = 1
    dy_axis: int = 0


DENSE_PLAN = SitePlan()


@dataclass(frozen=True)
class Plan:
    """The `SitePlan` of every sparse site of a model at one step; sites that are not named are dense."""

    sites: dict[str, SitePlan] = field(default_factory=dict)
    refreshed: frozenset[str] = frozenset()

    def __getitem__(self, site: str) -> SitePlan:
        return self.sites.get(site, DENSE_PLAN)


def uniform_plan(sites: Iterator[str] | list[str] | tuple[str, ...], plan: SitePlan) -> Plan:
    """The same `SitePlan` at every one of `sites`."""
    return Plan(dict.fromkeys(sites, plan))


@dataclass(frozen=True)
class MaskStatistics:
    """What a cost model needs of one real mask [rows, cols]: how many weights it keeps, and how unevenly."""

    site: str
    rows: int
    cols: int
    structure: Structure
    kept: int
    kept_per_row_max: int
    kept_per_row_mean: float
    kept_per_column_max: int
    groups_short: int

    @property
    def density(self) -> float:
        """Share of weights really kept."""
        return self.kept / (self.rows * self.cols)
