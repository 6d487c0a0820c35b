"""Which sparsity of a product a kernel can use, and the bytes it then moves. What it can't use runs dense."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from hwmodel.footprint import lines_bytes
from hwmodel.pattern import DENSE, Pattern, Structure
from hwmodel.workload import Gemm, Operand

Kind = Literal["dense", "hardware", "selected", "vector", "unstructured", "skipping", "groups", "pass"]
Along = Literal["reduction", "output", "result"]


class Choice(NamedTuple):
    """How a kernel sees a sparse matrix: the share that it executes, the structure that it follows, and its layout."""

    density: float
    structure: Structure
    layout: str


ANY_MASK = {"unstructured": "csr", "skipping": "skipping"}
"""Kinds of kernel that use any mask of one operand, and the layout that they read."""
RUN_DENSE = Choice(1.0, DENSE, "dense")


class Abilities(NamedTuple):
    """What a device offers its sparse kernels: patterns of its sparse units, and axes that it exploits."""

    supported: tuple[Pattern, ...] = ()
    axes: tuple[str, ...] = ("reduction",)


def choose(kind: Kind, structure: Structure, along: Along, abilities: Abilities) -> Choice:
    """What a kernel of a kind does with groups of `structure` along an axis; `RUN_DENSE` where it can't use them."""
    if structure.density == 1 or kind in ("dense", "pass"):
        return RUN_DENSE
    if kind in ANY_MASK:
        return Choice(structure.density, structure, ANY_MASK[kind]) if along != "result" else RUN_DENSE
    if kind == "hardware":
        found = container(structure, abilities.supported) if along == "reduction" else DENSE
        return RUN_DENSE if found.is_dense else Choice(found.density, found, "units")
    if isinstance(structure, Pattern) and along in abilities.axes:
        return Choice(structure.density, structure, "host" if kind == "groups" else "index")
    return RUN_DENSE


def container(structure: Structure, supported: tuple[Pattern, ...]) -> Pattern:
    """The sparsest of `supported` that contains the structure; DENSE where none does."""
    if not isinstance(structure, Pattern):
        return DENSE
    fitting = [pattern for pattern in supported if pattern.contains(structure)]
    return min(fitting, key=lambda pattern: pattern.density, default=DENSE)


def moved_bytes(lines: Any, inner: Any, others: Any, bits: int, choice: Choice) -> Any:
    """Bytes of one product: a matrix [lines, inner] stored as chosen, the other operand and the result dense."""
    stored = lines_bytes(lines, inner, choice.structure, bits, choice.layout)
    return stored + (inner * others + lines * others) * bits / 8


@dataclass(frozen=True)
class Execution:
    """How a kernel runs a product, [lines, inner] sparse by [inner, others], and the bytes that it moves."""

    choice: Choice
    lines: int
    others: int
    bytes: float

    @property
    def density(self) -> float:
        """Share of the multiply-adds that is executed."""
        return self.choice.density

    @property
    def is_dense(self) -> bool:
        """Whether every multiply-add is executed."""
        return self.choice.density == 1


def execution(gemm: Gemm, kind: Kind, abilities: Abilities) -> Execution:
    """How a kernel of a kind runs the product; only one of its three matrices is used as sparse."""
    result = choose(kind, gemm.out.structure, "result", abilities)
    if result.density < 1 and gemm.out.axis == 1:
        stored = lines_bytes(gemm.rows, gemm.cols, result.structure, gemm.out.bits, result.layout)
        inputs = (gemm.rows + gemm.cols) * gemm.inner * gemm.a.bits / 8
        return Execution(result, gemm.rows, gemm.cols, gemm.repeat * (stored + inputs))
    operand = sparse_operand(gemm)
    along: Along = "reduction" if operand.axis == 1 else "output"
    choice = choose(kind, operand.structure, along, abilities)
    lines, others = _sides(gemm, operand)
    if choice != RUN_DENSE and along == "output":
        stored = lines_bytes(gemm.inner, lines, choice.structure, operand.bits, choice.layout)
        rest = (gemm.inner + lines) * others * operand.bits / 8
        return Execution(choice, lines, others, gemm.repeat * (stored + rest))
    return Execution(choice, lines, others, gemm.repeat * moved_bytes(lines, gemm.inner, others, operand.bits, choice))


def sparse_operand(gemm: Gemm) -> Operand:
    """The sparser of the two operands, written [lines, inner]: groups along the reduction have axis 1."""
    return min(gemm.b.transposed(), gemm.a, key=lambda operand: operand.density)


def _sides(gemm: Gemm, operand: Operand) -> tuple[int, int]:
    """Lines of the sparse operand, and of the other."""
    return (gemm.cols, gemm.rows) if operand.density == gemm.b.density else (gemm.rows, gemm.cols)


def with_bits(gemm: Gemm, bits: int) -> Gemm:
    """The same product of `bits`-bit values."""
    a, b, out = (replace(operand, bits=bits) for operand in (gemm.a, gemm.b, gemm.out))
    return replace(gemm, a=a, b=b, out=out)
