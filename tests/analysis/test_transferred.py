"""The recipes of a small task priced at the shapes of published models."""

from __future__ import annotations

import pytest
from nmsim_analysis.transferred import TARGETS, transferred

from hwmodel.device import load_device
from hwmodel.pattern import Pattern
from nmsim.run import Run, Sparsity

BY = ["recipe", "pattern"]
DEVICES = [load_device("v100"), load_device("a100")]


def run(recipe: str = "", pattern: str = "1:16", sites: str = "*.mlp.*", steps: int = 10) -> Run:
    sparsity = (Sparsity(recipe, sites, Pattern.parse(pattern)),) if recipe else ()
    return Run(data={"name": "mnist1d"}, model={"kind": "vit", "patch": [1, 4]}, steps=steps, sparsity=sparsity)


def rows(**conditions: Run):
    return transferred({(name, name): made for name, made in conditions.items()}, BY, DEVICES)


def test_dense_gains_nothing_and_every_condition_has_a_row_a_model_device_and_use():
    table = rows(dense=run(), ste=run("ste"))
    assert (table[table["recipe"] == "dense"]["gain"] == 1).all()
    assert table.value_counts(["recipe", "model", "device", "what"]).tolist() == [1] * (2 * len(TARGETS) * 4)


def test_only_the_device_with_sparse_units_gains_in_inference():
    table = rows(ste=run("ste"))
    gains = table[table["what"] == "inference"].groupby("device")["gain"].agg(["min", "max"])
    assert gains.loc["v100", "max"] == pytest.approx(1)
    assert gains.loc["a100-80gb-sxm", "min"] > 1


def test_training_is_the_mean_step_whatever_the_length():
    table = rows(short=run("ste", steps=4), long=run("ste", steps=40))
    times = table[table["what"] == "training"].set_index(["recipe", "model", "device"])["time_s"]
    for key in times.loc["short"].index:
        assert times["short"][key] == pytest.approx(times["long"][key])


def test_a_condition_that_fits_no_site_is_left_out():
    table = rows(dense=run(), absent=run("ste", sites="*.nowhere"))
    assert set(table["recipe"]) == {"dense"}
