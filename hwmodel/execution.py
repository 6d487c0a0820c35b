"""Which sparsity of a product a kernel can use, and the bytes it then moves. What it can't use runs dense."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hwmodel.footprint import matrix_bytes, operand_bytes
from hwmodel.pattern import DENSE, Pattern, Structure
from hwmodel.workload import Gemm, Operand

Kind = Literal["dense", "hardware", "unstructured", "groups"]


@dataclass(frozen=True)
class Execution:
    """How a kernel runs a product: the share of the multiply-adds that it executes and the bytes that it moves."""

    density: float
    bytes: float
    structure: Structure = DENSE

    @property
    def is_dense(self) -> bool:
        """Whether every multiply-add is executed."""
        return self.density == 1


def dense_execution(gemm: Gemm) -> Execution:
    """Every multiply-add of the product, all operands stored dense."""
    return Execution(1.0, gemm.repeat * sum(_dense_bytes(operand) for operand in (gemm.a, gemm.b, gemm.out)))


def sparse_operand(gemm: Gemm) -> Operand:
    """The sparser of the two operands, seen with the reduction along its rows' length: [lines, inner]."""
    return min(gemm.a, gemm.b.transposed(), key=lambda operand: operand.density)


def hardware_execution(gemm: Gemm, supported: tuple[Pattern, ...]) -> Execution:
    """On units that run the patterns that one of `supported` contains, at that pattern's speed; one operand only.

    The sparsest container wins. Groups must run along the reduction; otherwise the product runs dense.
    """
    operand = sparse_operand(gemm)
    found = container(operand.structure, supported)
    if operand.is_dense or operand.axis != 1 or found.is_dense:
        return dense_execution(gemm)
    stored = matrix_bytes(operand.rows, operand.cols, found, operand.bits, "index")
    return Execution(found.density, _bytes_with(gemm, operand, stored), found)


def unstructured_execution(gemm: Gemm) -> Execution:
    """On kernels that skip any zero of one operand, stored as csr (Sputnik, arXiv 2006.10901)."""
    operand = sparse_operand(gemm)
    if operand.is_dense:
        return dense_execution(gemm)
    stored = matrix_bytes(operand.rows, operand.cols, operand.structure, operand.bits, "csr", axis=operand.axis)
    return Execution(operand.density, _bytes_with(gemm, operand, stored), operand.structure)


def groups_execution(gemm: Gemm, axes: tuple[str, ...]) -> Execution:
    """On kernels that follow N:M groups: along the `reduction`, along the `output`, or of the kept `result` alone."""
    if not gemm.out.is_dense and "result" in axes:
        stored = operand_bytes(gemm.out)
        return Execution(gemm.out.density, _bytes_with(gemm, gemm.out, stored), gemm.out.structure)
    operand = sparse_operand(gemm)
    along = "reduction" if operand.axis == 1 else "output"
    if operand.is_dense or along not in axes or not isinstance(operand.structure, Pattern):
        return dense_execution(gemm)
    stored = matrix_bytes(operand.rows, operand.cols, operand.structure, operand.bits, "host", axis=operand.axis)
    return Execution(operand.density, _bytes_with(gemm, operand, stored), operand.structure)


def container(structure: Structure, supported: tuple[Pattern, ...]) -> Pattern:
    """The sparsest of `supported` that contains the structure; DENSE where none does."""
    if not isinstance(structure, Pattern):
        return DENSE
    fitting = [pattern for pattern in supported if pattern.contains(structure)]
    return min(fitting, key=lambda pattern: pattern.density, default=DENSE)


def _bytes_with(gemm: Gemm, sparse: Operand, stored: int) -> float:
    """Bytes of the product's three matrices with `stored` ones for the sparse one."""
    operands = (gemm.a, gemm.b.transposed(), gemm.out)
    position = next(i for i, operand in enumerate(operands) if operand is sparse or operand == sparse)
    others = sum(_dense_bytes(operand) for i, operand in enumerate(operands) if i != position)
    return gemm.repeat * (others + stored)


def _dense_bytes(operand: Operand) -> float:
    return operand.elements * operand.bits / 8


def with_bits(gemm: Gemm, bits: int) -> Gemm:
    """The same product of `bits`-bit values."""
    a, b, out = (replace(operand, bits=bits) for operand in (gemm.a, gemm.b, gemm.out))
    return replace(gemm, a=a, b=b, out=out)
