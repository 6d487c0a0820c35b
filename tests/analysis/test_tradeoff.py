"""Trade-offs: fronts against brute force, budgets, and quality at equal cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nmsim_analysis import tradeoff

from hwmodel.errors import UserError

points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(points, st.sampled_from(["higher", "lower"]))
def test_the_front_is_what_nothing_dominates(cells, better):
    rows = pd.DataFrame(cells, columns=["cost", "value"])
    front = tradeoff.pareto(rows, cost="cost", value="value", better=better)
    sign = 1 if better == "higher" else -1
    for i, (cost, value) in enumerate(cells):
        beaten = any(c <= cost and sign * v >= sign * value and (c, v) != (cost, value) for c, v in cells)
        assert front[i] == (not beaten)


def test_a_budget_buys_the_best_it_can_and_too_small_a_one_is_refused():
    rows = pd.DataFrame({"name": ["a", "b", "c"], "cost": [1.0, 2.0, 3.0], "loss": [3.0, 1.0, 0.5]})
    best = tradeoff.affordable(rows, cost="cost", value="loss", better="lower", budget=2.5)
    assert best["name"] == "b"
    with pytest.raises(UserError, match="cheapest condition costs 1"):
        tradeoff.affordable(rows, cost="cost", value="loss", better="lower", budget=0.5)


def test_shares_of_the_dearest_cost_buy_the_best_within_them():
    rows = pd.DataFrame({"name": ["a", "b", "c"], "cost": [4.0, 8.0, 10.0], "loss": [3.0, 2.0, 2.5]})
    bought = tradeoff.budgets(rows, cost="cost", value="loss", better="lower", shares=(0.2, 0.5, 1.0))
    assert list(bought["name"]) == ["a", "b"]
    assert list(bought["share_percent"]) == [50, 100]


def test_quality_at_equal_cost_interpolates_and_does_not_extrapolate():
    curves = pd.DataFrame({"name": list("aabb"), "cost": [0.0, 2.0, 1.0, 3.0], "loss": [4.0, 2.0, 1.0, 0.0]})
    at = tradeoff.at_equal_cost(curves, by="name", cost="cost", value="loss", points=[1.0, 3.0])
    np.testing.assert_allclose(at["loss"], [3.0, np.nan, 1.0, 0.0])


def test_summaries_keep_the_groups_order_and_leave_missing_values_out():
    rows = pd.DataFrame({"recipe": list("bbaa"), "seed": [0, 1, 0, 1], "v": [1.0, 3.0, 5.0, np.nan]})
    got = tradeoff.summarise(rows, by=["recipe"], value="v")
    assert list(got["recipe"]) == ["b", "a"]
    assert list(got["mean"]) == [2.0, 5.0]
    assert list(got["count"]) == [2, 1]
