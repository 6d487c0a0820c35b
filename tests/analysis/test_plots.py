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
    assert all(panel.get_xlabel() == "accuracy (%)\n(measured)" for panel in figure.axes)
    seeds = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    drawn = np.sort(np.concatenate([line.get_xdata() for line in seeds]))
    np.testing.assert_array_equal(drawn, np.sort(rows.loc[rows["pattern"] == "1:4", "accuracy"]))


@pytest.mark.parametrize(("source", "dash"), [("measured", "-"), ("modelled", "--")])
def test_measured_is_solid_and_modelled_dashed(rows, source, dash):
    points = tradeoff.summarise(rows, by=["recipe", "pattern"], value="accuracy").assign(flops=[5.0, 1, 2, 3, 4])
    points["front"] = tradeoff.pareto(points, cost="flops", value="mean", better="higher")
    points["condition"] = points["recipe"] + " " + points["pattern"]
    labels = {"axis_label": "training FLOPs", "quality_label": "accuracy (%)"}
    figure = plots.tradeoff(points, cost="flops", source=source, **labels)
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


def test_every_recipe_keeps_its_look_whether_dense_is_drawn_or_not():
    assert plots.styles(["dense", "ste"])["ste"] == plots.styles(["ste"])["ste"]
    looks = plots.styles([f"recipe {i}" for i in range(9)])
    assert len({tuple(look.values()) for look in looks.values()}) == 10


def test_a_crowd_is_named_by_a_legend_and_its_front_at_the_points(rows):
    points = tradeoff.summarise(rows, by=["recipe", "pattern"], value="accuracy").assign(flops=[5.0, 1, 2, 3, 4])
    points["front"] = tradeoff.pareto(points, cost="flops", value="mean", better="higher")
    crowd = pd.concat([points.assign(device=name) for name in ("a", "b")], ignore_index=True)
    crowd["condition"] = crowd["recipe"] + " " + crowd["pattern"]
    labels = {"axis_label": "inference (ms)", "quality_label": "accuracy (%)"}
    figure = plots.tradeoff(crowd, cost="flops", source="modelled", by="device", **labels)
    assert [panel.get_title() for panel in figure.axes] == ["a", "b"]
    for panel in figure.axes:
        assert {text.get_text() for text in panel.texts} == set(crowd.loc[crowd["front"], "condition"])
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.texts} == set(points["recipe"])


def test_slices_have_a_panel_an_account_with_a_line_a_recipe():
    line = {"recipe": ["a", "a", "b", "b"], "gflop": [1.0, 2, 1, 2], "mean": [3.0, 2, 3, 1]}
    one = pd.DataFrame(line).assign(low=lambda rows: rows["mean"] - 0.1, high=lambda rows: rows["mean"] + 0.1)
    rows = pd.concat([one.assign(account=name) for name in ("x", "y")])
    labels = {"axis_label": "training (GFLOP)", "quality_label": "loss (nats)"}
    figure = plots.slices(rows, cost="gflop", by="account", **labels)
    assert [panel.get_title() for panel in figure.axes] == ["x", "y"]
    assert all(panel.get_xlabel() == "training (GFLOP)\n(modelled)" for panel in figure.axes)
    assert all(len(panel.containers) == 2 for panel in figure.axes)


def test_many_panels_stand_in_rows_that_keep_a_figure_readable():
    rows = pd.DataFrame(
        [
            {
                "device": device,
                "recipe": recipe,
                "condition": recipe,
                "time": 1.0,
                "mean": mean,
                "low": 1.0,
                "high": 9.0,
            }
            | {"front": True}
            for device in ("a100", "v100", "vegeta", "cpu", "stc")
            for recipe, mean in (("dense", 5.0), ("ste", 4.0))
        ]
    )
    style = {"axis_label": "inference (ms)", "quality_label": "accuracy (%)", "source": "modelled", "by": "device"}
    figure = plots.tradeoff(rows, cost="time", **style)
    assert figure.get_figwidth() < 9
    assert [panel.get_title() for panel in figure.axes] == ["a100", "v100", "vegeta", "cpu", "stc"]
    assert [panel.get_ylabel() for panel in figure.axes] == ["accuracy (%)", "", "accuracy (%)", "", "accuracy (%)"]
