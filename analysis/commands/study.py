"""`nmsim study scaling` and `errata`: what can be said of the published figures without training."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from cyclopts import Parameter

from hwmodel.errors import UserError

from .. import errata as published_errata
from .. import plots
from .. import scaling as law
from ..page import Column
from ..terminal import show_lines, show_table

LAW = "L(S, N, D) = (a_s (1 - S)^b_s + c_s) N^-b_n + (a_d / D)^b_d + c, arXiv 2309.08520"

AXES = {
    "parameters": "non-zero parameters (dots: measured runs)",
    "data": "data at a dense model's compute\n(examples or tokens; modelled: the optimal sparsity)",
}

Json = Annotated[bool, Parameter(name="--json", help="Print JSON.")]


def scaling(*, points: Path | None = None, seed: int = 0, out: Path | None = None, as_json: Json = False) -> None:
    """Fit the scaling law of sparsity to the two published data sets, or to your own runs.

    Args:
        points: Your own runs: a folder that nmsim train, sweep or study wrote, or a CSV file with the columns sparsity,
            parameters (non-zero), data, loss.
        seed: Seed of the random starts of the fit.
        out: Folder for a figure of each fit: where which sparsity is optimal, with its rows.
        as_json: Print JSON.
    """
    fits = _published_fits(seed) if points is None else [_own_fit(points, seed)]
    if out is not None:
        _draw(fits, points, out)
    if as_json:
        _write_json(fits)
    else:
        columns = [
            Column("law", "fit"),
            *(Column(key, key.replace("_", " "), "{:.5g}") for key in fits[0] if key != "law"),
        ]
        show_table(pd.DataFrame(fits), columns, LAW)


def errata(*, as_json: Json = False) -> None:
    """List the published figures that do not follow from their own tables, each with the arithmetic.

    Args:
        as_json: Print JSON.
    """
    entries = published_errata.errata()
    if as_json:
        _write_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        show_lines(
            [entry.place, f"  printed: {entry.printed}", f"  follows: {entry.follows}", f"  {entry.arithmetic}", ""]
        )


def _published_fits(seed: int) -> list[dict[str, Any]]:
    rows = []
    for name, objective in law.OBJECTIVES.items():
        points = law.published_points(name)
        best = law.fit(points, objective, np.random.default_rng(seed))
        printed = law.PUBLISHED[name]
        rows.append({"law": f"{name}, published", **asdict(printed), "huber_loss": objective.of(printed, points)})
        rows.append({"law": f"{name}, optimum", **asdict(best.law), "huber_loss": best.objective})
    return rows


def _own_fit(path: Path, seed: int) -> dict[str, Any]:
    points = _own_points(path)
    best = law.fit(points, law.OBJECTIVES["t5"], np.random.default_rng(seed))
    return {"law": path.name, **asdict(best.law), "huber_loss": best.objective}


def _draw(fits: Sequence[dict[str, Any]], points: Path | None, out: Path) -> None:
    for fit in fits:
        name, _, kind = fit["law"].partition(", ")
        if kind == "published":
            continue
        measured = _own_points(points) if points is not None else law.published_points(name)
        fitted = law.Law(**{key: fit[key] for key in law.Law.__dataclass_fields__})
        rows = law.contours(fitted, measured)
        figure = plots.contours(rows, measured, x="parameters", y="data", level="sparsity", labels=AXES)
        plots.save(figure, out, f"scaling-{Path(name).stem}", rows)


def _own_points(path: Path) -> pd.DataFrame:
    return _points_of_folder(path) if path.is_dir() else _points_of_file(path)


def _points_of_folder(path: Path) -> pd.DataFrame:
    from ..own_runs import points_of  # noqa: PLC0415 - reads runs, which loads the simulator
    from ..store import Store  # noqa: PLC0415

    return points_of(Store.open(path / "runs" if (path / "runs").is_dir() else path))


def _points_of_file(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise UserError(f"{path}: no such file; give a CSV file with the columns {', '.join(law.COLUMNS)}")
    try:
        return pd.read_csv(path)
    except ValueError as error:
        raise UserError(f"{path}: not a CSV file: {error}") from None


def _write_json(rows: object) -> None:
    sys.stdout.write(json.dumps(rows, indent=2, allow_nan=False) + "\n")
