"""What N:M would do for each matrix of a checkpoint or a model: the rows of `nmsim check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hwmodel.cost import Cost
from hwmodel.device import Device
from hwmodel.eligibility import Eligibility, eligibility
from hwmodel.fits import Fit
from hwmodel.footprint import matrix_bytes
from hwmodel.libraries import LIBRARIES
from hwmodel.pattern import DENSE, Pattern
from hwmodel.reasons import Question, bound_detail, pays_from
from hwmodel.workload import Operand

DTYPES = {
    "float64": ("fp64", 64),
    "float32": ("fp32", 32),
    "float16": ("fp16", 16),
    "bfloat16": ("bf16", 16),
    "float8_e4m3fn": ("fp8", 8),
    "float8_e5m2": ("fp8", 8),
    "int8": ("int8", 8),
}
"""Element types of files, as device files name them, and their bits."""
LAYOUTS = ("dense", "index", "code", "bitmask", "csr")


@dataclass(frozen=True)
class Matrix:
    """One weight [d_out, d_in], or [d_in, d_out] where `axis` is 0, with the pattern in question.

    `found` is the sparsest pattern that its weights obey, and `nonzero` the share of them that is not zero; "" and 1
    where only the shape is known. `obeys` says whether they obey `pattern`; `across` that they do so along the outputs
    only, where the product does not sum. `stored` and `stored_bytes` are how and in how many bytes the file keeps it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    axis: int
    pattern: Pattern
    found: str
    nonzero: float
    obeys: bool
    across: bool = False
    stored: str = ""
    stored_bytes: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the answer; times are modelled, for a product with a number of tokens."""

    matrix: Matrix
    verdict: Eligibility
    bytes: dict[str, int]
    dense: Cost
    sparse: Cost
    bound: str
    pays_from: dict[str, int | str | None]

    @property
    def gain(self) -> float:
        """Dense over sparse time, at least 1: a product that would lose runs dense."""
        return max(1.0, self.dense.seconds / self.sparse.seconds) if self.sparse.seconds else 1.0

    @property
    def is_padded(self) -> bool:
        """Whether the kernels want a larger shape than the weight has."""
        d_out, d_in = self.matrix.shape if self.matrix.axis == 1 else self.matrix.shape[::-1]
        return self.verdict.eligible and self.verdict.padded != (d_out, d_in)

    @property
    def is_packable(self) -> bool:
        """Whether the file keeps zeros of the pattern that an encoding would leave out."""
        return self.matrix.stored == "dense" and self.matrix.obeys and not self.matrix.pattern.is_dense

    @property
    def why(self) -> str:
        """The rule that decided, or what bounds a product that is eligible and gains nothing."""
        if self.matrix.pattern.is_dense:
            return "pattern: the weights obey no n:m; nmsim prune makes them, --pattern n:m tells what that would gain"
        if not self.verdict.eligible or self.gain > 1:
            return self.verdict.rule
        return f"{self.verdict.rule}, but no faster at this size: bound by {self.sparse.bound}, {self.bound}"

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON."""
        m = self.matrix
        return {
            "name": m.name,
            "shape": list(m.shape),
            "dtype": m.dtype,
            "axis": m.axis,
            "groups_axis": 1 - m.axis if m.across else m.axis,
            "stored": m.stored,
            "stored_bytes": m.stored_bytes,
            "found": m.found,
            "nonzero": m.nonzero,
            "pattern": str(m.pattern),
            "obeys": m.obeys,
            "eligible": self.verdict.eligible,
            "rule": self.why,
            "padded": list(self.verdict.padded),
            "bytes": self.bytes,
            "dense_seconds": self.dense.seconds,
            "seconds": self.dense.seconds / self.gain,
            "gain": self.gain,
            "pays_from": self.pays_from,
        }


def judge_all(matrices: Sequence[Matrix], device: Device, tokens: int, fits: Sequence[Fit] = ()) -> list[Row]:
    """The row of every matrix; those of equal shape, type and pattern, as of equal blocks, are judged once."""
    known: dict[Matrix, Row] = {}
    for matrix in matrices:
        alike = _without_weights(matrix)
        known[alike] = known.get(alike) or judge(matrix, device, tokens, fits)
    return [replace(known[_without_weights(matrix)], matrix=matrix) for matrix in matrices]


def _without_weights(matrix: Matrix) -> Matrix:
    return replace(matrix, name="", found="", nonzero=1.0, obeys=False, stored="", stored_bytes=0)


def judge(matrix: Matrix, device: Device, tokens: int, fits: Sequence[Fit] = ()) -> Row:
    """The row of one matrix on a device; `fits` go before the shipped constants."""
    d_out, d_in = matrix.shape if matrix.axis == 1 else matrix.shape[::-1]
    dtype, bits = DTYPES[matrix.dtype]
    along = 0 if matrix.across else 1
    weight = Operand(d_out, d_in, bits, matrix.pattern, along)
    verdict = eligibility(weight, device, dtype)
    sizes = {layout: matrix_bytes(d_out, d_in, matrix.pattern, bits, layout, axis=along) for layout in LAYOUTS}
    if dtype not in device.peaks:
        return Row(matrix, verdict, sizes, Cost(), Cost(), "", {})
    dense = Question(tokens, weight, device, dtype, "best", fits).cost(DENSE)
    if not verdict.eligible:
        return Row(matrix, verdict, sizes, dense, dense, "", {})
    rows, cols = verdict.padded
    ask = Question(tokens, replace(weight, rows=rows, cols=cols), device, dtype, sparse_library(device), fits)
    sparse = ask.cost(matrix.pattern)
    return Row(matrix, verdict, sizes, dense, sparse, bound_detail(ask, sparse), pays_from(ask))


def sparse_library(device: Device) -> str:
    """The device's library for N:M; one for any mask asks for no pattern, and eligibility says nothing of it."""
    return next((name for name in device.libraries if LIBRARIES[name].kind in ("hardware", "groups")), "best")


def totals(rows: list[Row]) -> dict[str, Any]:
    """Bytes by layout and the gain of all products one after another, those that are not eligible dense."""
    dense = sum(row.dense.seconds for row in rows)
    seconds = sum(row.dense.seconds / row.gain for row in rows)
    return {
        "matrices": len(rows),
        "eligible": sum(row.verdict.eligible for row in rows),
        "stored_bytes": sum(row.matrix.stored_bytes for row in rows),
        "bytes": {layout: sum(row.bytes[layout] for row in rows) for layout in LAYOUTS},
        "dense_seconds": dense,
        "seconds": seconds,
        "gain": dense / seconds if seconds else 1.0,
    }
