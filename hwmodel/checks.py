"""Checks of the systolic and sparse tensor core models against tables in two published schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from hwmodel.dstc import run_dual
from hwmodel.stc import DESIGNS, Run, run
from hwmodel.systolic import systolic_cycles
from hwmodel.tables import read_table

SYSTOLIC = ("m", "n", "k", "array_rows", "array_cols", "dataflow", "cycles")
SPARSELOOP = ("design", "m", "k", "n", "weight_density", "activation_density", "cycles", "energy_uJ")
CYCLES_PERCENT, ENERGY_PERCENT, DUAL_PERCENT = 0.01, 2.0, 10.0
DUAL = "DSTC"


def check_systolic(path: Path) -> dict[str, Any]:
    """Rows of a table of array cycles, and how many differ from the model's: they should be none."""
    table = read_table(path, SYSTOLIC, ("m", "n", "k", "array_rows", "array_cols", "cycles"))
    modelled = table.apply(_cycles, axis=1) if len(table) else table.cycles
    wrong = int((modelled != table.cycles).sum())
    return {"count": len(table), "differing": wrong, "ok": wrong == 0}


def _cycles(row: Any) -> int:
    m, n, k, array_rows, array_cols = (int(row[name]) for name in SYSTOLIC[:5])
    return int(systolic_cycles(m, n, k, array_rows, array_cols, row["dataflow"]))


def check_sparseloop(path: Path) -> list[dict[str, Any]]:
    """For each design of a table: rows, worst errors in percent of cycles and energy, and whether they are in bounds.

    Bounds: 0.01 % of the cycles and 2 % of the energy; 10 % of both for the dual-side design.
    """
    table = read_table(path, SPARSELOOP, tuple(name for name in SPARSELOOP if name != "design"))
    return [_check_design(str(design), rows) for design, rows in table.groupby("design")]


def _check_design(design: str, rows: pd.DataFrame) -> dict[str, Any]:
    if design not in (*DESIGNS, DUAL):
        return {"design": design, "count": len(rows), "ok": False, "reason": "design not modelled"}
    runs = [_run(design, row) for row in rows.to_dict("records")]
    cycles = max(abs(pd.Series([made.cycles for made in runs]) / rows.cycles.to_numpy() - 1))
    energy = max(abs(pd.Series([made.joules * 1e6 for made in runs]) / rows.energy_uJ.to_numpy() - 1))
    bounds = (DUAL_PERCENT, DUAL_PERCENT) if design == DUAL else (CYCLES_PERCENT, ENERGY_PERCENT)
    worst = {"worst_cycles_percent": round(100 * cycles, 4), "worst_energy_percent": round(100 * energy, 2)}
    return {
        "design": design,
        "count": len(rows),
        **worst,
        "ok": 100 * cycles <= bounds[0] and 100 * energy <= bounds[1],
    }


def _run(design: str, row: dict[Any, Any]) -> Run:
    sizes = (int(row["m"]), int(row["k"]), int(row["n"]), row["weight_density"], row["activation_density"])
    return run_dual(*sizes) if design == DUAL else run(design, *sizes)
