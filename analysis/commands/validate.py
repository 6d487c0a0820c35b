"""`nmsim validate`: the cost model's predictions against measured tables, with its own error by group."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from cyclopts import Parameter
from rich.table import Table

from hwmodel.checks import check_sparseloop, check_systolic
from hwmodel.device import load_device
from hwmodel.errors import UserError
from hwmodel.fits import read_fits, shipped_fits
from hwmodel.measured import read_measured
from hwmodel.validation import errors, held_out, predict, priced, report, split_covered

from ..terminal import console


def validate(
    *,
    measurements: Path | None = None,
    holdout: bool = False,
    systolic: Path | None = None,
    sparseloop: Path | None = None,
    measure: Path | None = None,
    fits: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Predict measured tables with the shipped constants and show the errors; nothing is fitted to the table.

    Args:
        measurements: A table in the schema of the shipped one, which is the default.
        holdout: Also refit with shapes, patterns and devices left out, and predict those.
        systolic: Check a table of SCALE-Sim cycles instead.
        sparseloop: Check a table of sparse tensor core runs instead.
        measure: Time dense and 2:4 products on this machine's CUDA GPU into this new table (needs the extra torch).
        fits: Constants that nmsim calibrate wrote; they go before the shipped ones, and the split is called "fits".
        as_json: Print JSON.
    """
    ways = {"--measure": measure, "--systolic": systolic or sparseloop, "--measurements": measurements}
    chosen = [name for name, value in ways.items() if value is not None]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)}: one at a time; each prints a table of its own")
    if measure is not None:
        return _measure(measure)
    if systolic is not None or sparseloop is not None:
        return _check(systolic, sparseloop, as_json=as_json)
    path = measurements or Path(str(files("hwmodel").joinpath("data").joinpath("measured.csv")))
    rows, uncovered = split_covered(read_measured(path))
    devices = [load_device(name) for name in rows.device_name.unique()]
    known = (*read_fits(fits, devices), *shipped_fits()) if fits else shipped_fits()
    groups = errors(rows, predict(rows, known), "fits" if fits else "shipped")
    if holdout:
        groups = pd.concat([groups, held_out(rows)])
    prices = errors(rows, priced(rows, known), "price")
    _show(report(groups, uncovered, prices), as_json=as_json)
    return 0


def _show(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(made, indent=1) + "\n")
        return
    prices = "the same as prices have them: a kernel among others, not in its harness's loop"
    titles = {"groups": "errors in percent of the measured time", "prices": prices, "uncovered": "not covered"}
    for name, title in titles.items():
        console().print(_table(made[name], title))


def _table(records: list[dict[str, Any]], title: str) -> Table:
    names = list(records[0]) if records else []
    table = Table(*names, title=title, box=None)
    for record in records:
        table.add_row(*(str(record[name]) for name in names))
    return table


def _check(systolic: Path | None, sparseloop: Path | None, *, as_json: bool) -> int:
    made: dict[str, Any] = {}
    if systolic is not None:
        made["systolic"] = [check_systolic(systolic)]
    if sparseloop is not None:
        made["sparseloop"] = check_sparseloop(sparseloop)
    if as_json:
        sys.stdout.write(json.dumps(made, indent=1) + "\n")
    else:
        for name, records in made.items():
            console().print(_table(records, name))
    return 0 if all(record["ok"] for records in made.values() for record in records) else 1


def _measure(out: Path) -> int:
    from ..measure import TorchBackend, measure  # noqa: PLC0415 (PyTorch is an extra; imports here are relative)

    made = measure(out, TorchBackend())
    sys.stdout.write(f"{made} rows in {out}; compare with: nmsim validate --measurements {out}\n")
    return 0
