"""The published tables and figures of progressive gradient flow (arXiv 2402.04744, CPAL 2025), as data frames.

Table values are as printed. Figure values were read from the vector graphics of the paper's PDF, to about 0.02 points
of accuracy and half an epoch. Recipes carry this project's names, except in Table 12, which keeps its printed labels.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import pandas as pd

from hwmodel.errors import unknown

TITLES = {
    "table1": "ViT-Base on one image: share of inference FLOPs (%) and parameters (millions) by part",
    "table2": "ViT-Base, ImageNet-1K top-1 accuracy (%) by target and recipe",
    "table3": "SwinV2-Base, ImageNet-1K top-1 accuracy (%) by target and recipe",
    "table4": "T5X-Base, overall GLUE score by target and recipe",
    "table5": "Encoder-decoder, WMT accuracy (share of tokens) by target and recipe",
    "table6": "ResNet-50, CIFAR-10 accuracy (%) by target and recipe",
    "table7": "T5X-Base at 1:32 FF, overall GLUE score by method",
    "table8": "ViT-Large end-to-end inference speed-up over dense, FF layers sparse",
    "table9": "WMT accuracy by length of the dense phase (% of steps)",
    "table10": "WMT accuracy by length of the fine-tune phase (% of steps)",
    "table11": "ViT-Base, ImageNet-1K top-1 accuracy (%) of MdGf-Linear by decay rate",
    "table12": "T5X-Base, every GLUE task by recipe and target",
    "table17": "ViT-Base on one image: inference GFLOPs of one operation over all 12 blocks",
    "table18": "ViT-Base on one image: inference GFLOPs of the FF layers and in total, by target",
    "table19": "FF kernel speed-up over the 2:4 kernel",
    "figure3a": "Norm of AdamW's second moment over training steps, FF layers (digitised)",
    "figure3b": "Variance of the back-propagated gradient over training steps, FF layers, in 1e-7 (digitised)",
    "figure4a": "Reduction in inference FLOPs by sparsity, right axis (digitised)",
    "figure4b": "Accuracy on an axis of equal training FLOPs: ends and first crossings, in % of the axis (digitised)",
    "figure6": "ViT-Base top-1 accuracy (%) over epochs (digitised)",
    "figure6_epochs": "ViT-Base top-1 accuracy (%) at the last and at the best epoch of Figure 6 (digitised)",
    "figure6_jumps": "Top-1 accuracy (%) before and after a change of pattern in Figure 6 (digitised)",
}


@cache
def table(name: str) -> pd.DataFrame:
    """One published table or figure, such as "table2"; `TITLES` lists them."""
    if name not in TITLES:
        raise unknown("published table", name, TITLES)
    with resources.files(__package__).joinpath("data", "published", f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def cell(name: str, row: str, column: str) -> float:
    """The value of `column` in the row whose first entry is `row`."""
    frame = table(name).set_index(table(name).columns[0])
    return float(frame[column][row])
