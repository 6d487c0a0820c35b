"""The roofline figure of `nmsim bench kernels`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .plots import COLOURS, MARKERS, Figure


def roofline(rows: pd.DataFrame, levels: pd.DataFrame, peak: float) -> Figure:
    """Speed of one thread against arithmetic intensity, under the measured bandwidths and the multiply-add peak.

    `rows` as of `nmsim_analysis.kernel_timing.measure`; `levels` as of `kernel_limits.bandwidths`; after Williams,
    Waterman and Patterson (doi 10.1145/1498765.1498785).
    """
    from matplotlib import figure as drawing  # noqa: PLC0415 - its import is paid when a figure is drawn

    figure = drawing.Figure(figsize=(7, 4.4), layout="constrained")
    panel = figure.subplots()
    intensity = np.logspace(-1, 4, 50)
    for name, bandwidth in zip(levels["level"], levels["bytes_per_s"], strict=True):
        roof = np.minimum(intensity * bandwidth, peak) / 1e9
        panel.plot(intensity, roof, color="0.6", linewidth=0.8)
        panel.annotate(name, (intensity[0], roof[0]), fontsize=8, va="bottom")
    ours = rows[(rows["contender"] == "nmsim") & (rows["op"] != "refresh") & (rows["threads"] == rows["threads"].min())]
    for i, (op, part) in enumerate(ours.groupby("op")):
        look = {"color": COLOURS[i], "marker": MARKERS[i], "linestyle": "none", "label": op}
        panel.plot(part["flops_per_byte"], part["gflops_per_s"], markersize=4, **look)
    labels = {"xlabel": "operations a byte of main memory", "ylabel": "GFLOP/s, one thread (measured)"}
    panel.set(xscale="log", yscale="log", **labels)
    panel.legend(frameon=False)
    return figure
