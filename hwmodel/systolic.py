"""Cycles of a systolic array, equal to SCALE-Sim's stall-free ones. Plain numbers or arrays alike.

cycles = ceil(S_r / R) ceil(S_c / C) per_fold - 1 with R x C the array and (S_r, S_c, T), per_fold:

os  (rows, cols, inner)   T + R + C - 2
ws  (inner, cols, rows)   T + 2 R + C - 2
is  (inner, rows, cols)   T + 2 R + C - 2

The -1 is SCALE-Sim's own (issue 125 of its repository). N:M weights shorten `inner` to its kept positions.
"""

from __future__ import annotations

from typing import Any

from hwmodel.errors import unknown

DATAFLOWS = ("os", "ws", "is")


def systolic_cycles(  # noqa: PLR0917 (the published order of its six sizes is a contract)
    gemm_rows: Any, gemm_cols: Any, gemm_inner: Any, array_rows: Any, array_cols: Any, dataflow: str
) -> Any:
    """Cycles of the product [rows, inner] @ [inner, cols] on an array; an int for plain ints, an array for arrays.

    Raises `UserError` for an unknown dataflow ("os", "ws" or "is").
    """
    down, across, streamed, fill = _mapping(gemm_rows, gemm_cols, gemm_inner, array_rows, dataflow)
    folds = -(-down // array_rows) * -(-across // array_cols)
    return folds * (streamed + fill + array_cols - 2) - 1


def _mapping(rows: Any, cols: Any, inner: Any, array_rows: Any, dataflow: str) -> tuple[Any, Any, Any, Any]:
    """What lies down and across the array, what streams through, and the cycles to fill and drain its rows."""
    if dataflow == "os":
        return rows, cols, inner, array_rows
    if dataflow == "ws":
        return inner, cols, rows, 2 * array_rows
    if dataflow == "is":
        return inner, rows, cols, 2 * array_rows
    raise unknown("dataflow", dataflow, DATAFLOWS)
