"""What happens inside runs, from their histories: falls at changes of pattern and statistics by thirds of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

THIRDS = ("first", "middle", "last")


def falls(history: pd.DataFrame, *, value: str, boundaries: Sequence[int], sign: float) -> pd.DataFrame:
    """One row a boundary: quality at the last evaluation before it, at the next one, and what that change cost.

    `history` has a row an evaluation with its `step`, the number of updates made. `sign` is 1 where higher is better,
    -1 where lower is; a positive fall is a loss of quality.
    """
    rows = []
    for boundary in boundaries:
        before = history[history["step"] <= boundary].tail(1)
        after = history[history["step"] > boundary].head(1)
        if len(before) and len(after):
            pair = float(before[value].iloc[0]), float(after[value].iloc[0])
            rows.append({"boundary": boundary, "before": pair[0], "after": pair[1], "fall": sign * (pair[0] - pair[1])})
    return pd.DataFrame(rows, columns=["boundary", "before", "after", "fall"])


def thirds(history: pd.DataFrame, columns: Sequence[str]) -> dict[str, float]:
    """The mean of each column over each third of the recorded steps, as "column first", "column middle" and so on."""
    edge = history["step"].max() + 1
    third = np.minimum(3 * history["step"] // edge, 2).to_numpy()
    return {
        f"{column} {name}": float(history[column][third == i].mean())
        for column in columns
        for i, name in enumerate(THIRDS)
    }
