"""`nmsim bench masks`: the magnitude that transposable masks keep, fast and exact, beside the optimum."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import pandas as pd
from cyclopts import Parameter
from cyclopts.types import PositiveInt

from hwmodel.pattern import Pattern

from ..mask_quality import gaussian_weights, kept_magnitude, trained_weights
from ..page import Column
from ..terminal import show_table

PATTERNS = (Pattern(2, 4), Pattern(4, 8), Pattern(8, 16), Pattern(16, 32))
COLUMNS = (
    Column("weights", "weights"),
    Column("pattern", "pattern"),
    Column("choice", "choice"),
    Column("kept_mean", "mean kept magnitude", "{:.4f}"),
    Column("share_percent", "% of the optimum", "{:.3f}"),
    Column("microseconds_per_block", "µs a block", "{:.1f}", source="measured"),
)


def bench_masks(*, blocks: PositiveInt = 16, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Compare transposable masks, fast and exact, with the optimum of a linear program.

    Over Gaussian weights and those of an MLP that is trained on the digits for it.

    Args:
        blocks: Blocks of m x m weights that are compared.
        as_json: Print JSON.
    """
    weights = {"Gaussian": gaussian_weights(), "trained": trained_weights()}
    rows = [row for name, w in weights.items() for p in PATTERNS for row in kept_magnitude(name, w, p, blocks)]
    if as_json:
        sys.stdout.write(json.dumps({"blocks": blocks, "rows": rows}) + "\n")
    else:
        show_table(pd.DataFrame(rows), COLUMNS, "Transposable masks")
