"""`nmsim calibrate`: fit the constants of the latency model to a measured table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hwmodel.errors import UserError
from hwmodel.fits import write_fits
from hwmodel.measured import read_measured
from hwmodel.validation import calibrate as fit_all
from hwmodel.validation import split_covered


def calibrate(table: Path, *, out: Annotated[Path, Parameter(name=["--out", "-o"])]) -> None:
    """Fit every library, device and type of a measured table, and write the constants with their errors.

    Args:
        table: A table in the schema of `nmsim validate`.
        out: The file of constants to write.
    """
    rows, _ = split_covered(read_measured(table))
    if rows.empty:
        raise UserError(f"{table}: no row can be fitted; nmsim validate --measurements {table} says why")
    fits = fit_all(rows)
    write_fits(fits, out)
    for fit in fits:
        sys.stdout.write(
            f"{fit.library} on {fit.device}, {fit.dtype}: {fit.rows} rows, median error {fit.median_percent:.1f} %, "
            f"90th percentile {fit.p90_percent:.1f} %\n"
        )
