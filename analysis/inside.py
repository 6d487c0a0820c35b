"""Statistics that runs record over training: gradients, second moments and masks, as means over the FF layers."""

from __future__ import annotations

import pandas as pd

from .store import Store

STATISTICS = {
    "gradient_magnitude_variance": "variance of the gradient's magnitude (FF layers)",
    "second_moment_norm": "norm of Adam's second moment (FF layers)",
    "second_moment_spread": "spread of Adam's second moment, in means (FF layers)",
    "mask_flip_rate": "share of masks that flip in a step (FF layers)",
}
"""Each statistic with its name on an axis; definitions are in nmsim.probe."""


def inside(store: Store, run: str) -> pd.DataFrame:
    """A row a recorded step: the mean of each of `STATISTICS` that the run has over its FF sites."""
    recorded = pd.read_csv(store.run(run).path / "statistics.csv")
    recorded = recorded[recorded["site"].astype(str).str.contains(".mlp.", regex=False)]
    wide = recorded.pivot_table(index="step", columns="statistic", values="value").reset_index()
    return wide[["step", *(name for name in STATISTICS if name in wide)]]
