"""Figures draw what their rows say, with units on the axes, and leave the rows behind as CSV."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from nmsim_analysis import plots, tradeoff


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    cells = [("dense", "dense"), *((r, p) for p in ("1:4", "1:16") for r in ("ste", "sr_ste"))]
    return pd.DataFrame(
        [
            {"recipe": r, "pattern": p, "seed": seed, "accuracy": 70 + rng.standard_normal()}
            for r, p in cells
            for seed in range(3)
        ]
    )


def test_quality_has_a_panel_a_pattern_with_every_seed(rows):
    figure = plots.quality(rows, value="accuracy", axis_label="accuracy (%)")
    assert [panel.get_title() for panel in figure.axes] == ["1:4", "1:16"]
    assert all(panel.get_xlabel() == "accuracy (%)" for panel in figure.axes)
    seeds = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    drawn = np.sort(np.concatenate([line.get_xdata() for line in seeds]))
    np.testing.assert_array_equal(drawn, np.sort(rows.loc[rows["pattern"] == "1:4", "accuracy"]))


@pytest.mark.parametrize(("source", "dash"), [("measured", "-"), ("modelled", "--")])
def test_measured_is_solid_and_modelled_dashed(rows, source, dash):
    points = tradeoff.summarise(rows, by=["recipe", "pattern"], value="accuracy").assign(flops=[5.0, 1, 2, 3, 4])
    points["front"] = tradeoff.pareto(points, cost="flops", value="mean", better="higher")
    labels = {"flops": "training FLOPs", "accuracy": "accuracy (%)"}
    figure = plots.tradeoff(points, cost="flops", value="accuracy", labels=labels, source=source)
    assert figure.axes[0].lines[-1].get_linestyle() == dash
    assert source in figure.axes[0].get_xlabel()


def test_curves_name_their_lines_at_the_end():
    rows = pd.DataFrame({"recipe": list("aabb"), "step": [0, 1, 0, 1], "loss": [3.0, 1.0, 3.0, 1.01]})
    figure = plots.curves(rows, x="step", y="loss", by="recipe", labels={"step": "step", "loss": "loss (nats)"})
    names = [text.get_text().strip() for text in figure.axes[0].texts]
    assert sorted(names) == ["a", "b"]
    places = [text.get_position()[1] for text in figure.axes[0].texts]
    assert abs(places[0] - places[1]) > 9


def test_a_saved_figure_has_its_rows_beside_it(rows, tmp_path):
    figure = plots.quality(rows, value="accuracy", axis_label="accuracy (%)")
    path = plots.save(figure, tmp_path / "figures", "quality", rows)
    assert path.read_bytes().startswith(b"\x89PNG")
    pd.testing.assert_frame_equal(pd.read_csv(path.with_suffix(".csv")), rows)
