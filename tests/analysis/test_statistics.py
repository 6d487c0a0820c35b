"""Statistics over seeds: against scipy, and by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nmsim_analysis import statistics
from scipy import stats

from hwmodel.errors import UserError


def table(rng, means, seeds=6, spread=1.0):
    return pd.DataFrame({name: mean + spread * rng.standard_normal(seeds) for name, mean in means.items()})


def test_estimate_is_scipys_interval():
    x = np.random.default_rng(0).standard_normal(7)
    got = statistics.estimate(x)
    low, high = stats.t.interval(0.95, 6, loc=x.mean(), scale=stats.sem(x))
    assert (got.mean, got.error, got.low, got.high) == pytest.approx((x.mean(), stats.sem(x), low, high))


def test_one_seed_has_a_mean_and_no_error():
    got = statistics.estimate([2.0])
    assert got.mean == 2.0
    assert np.isnan(got.error)


def test_no_seed_is_refused():
    with pytest.raises(UserError, match="at least one run"):
        statistics.estimate([])


def test_a_paired_difference_is_scipys_paired_t_test():
    t = table(np.random.default_rng(1), {"a": 0.0, "b": 0.5})
    got = statistics.paired(t, "a", "b")
    assert got.p == pytest.approx(stats.ttest_rel(t["a"], t["b"]).pvalue)
    interval = stats.ttest_rel(t["a"], t["b"]).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((interval.low, interval.high))


def test_pairing_uses_shared_seeds_only_and_needs_two():
    rows = pd.DataFrame({"seed": [0, 1, 2, 0, 1, 0], "r": list("aaabbc"), "v": [1.0, 2.0, 9.0, 0.5, 0.9, 1.0]})
    assert statistics.compare(rows, [("a", "b")], value="v", by="r")[0].count == 2
    with pytest.raises(UserError, match="1 shared seeds"):
        statistics.compare(rows, [("a", "c")], value="v", by="r")


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=12))
def test_holm_is_its_definition(p):
    got = statistics.holm(p)
    order = sorted(range(len(p)), key=lambda i: (p[i], i))
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        assert got[i] == pytest.approx(running)


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_the_corrected_interval_excludes_the_margin_exactly_when_holm_rejects(seed, shift):
    t = table(np.random.default_rng(seed), {"a": 0.0, "b": shift, "c": 2 * shift})
    for c in statistics.correct([statistics.paired(t, *pair) for pair in statistics.all_pairs("abc")]):
        assert c.distinguished == (c.p_holm < statistics.LEVEL)


def test_identical_conditions_are_not_distinguished_and_a_constant_gap_is():
    t = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0], "c": [0.0, 1.0, 2.0]})
    same, gap = statistics.correct([statistics.paired(t, "a", "b"), statistics.paired(t, "a", "c")])
    assert (same.verdict, gap.verdict) == ("not decided", "supported")


def test_a_verdict_is_about_the_margin():
    t = table(np.random.default_rng(2), {"a": 1.0, "b": 0.0}, seeds=12, spread=0.1)
    assert statistics.paired(t, "a", "b", 0.5).verdict == "supported"
    assert statistics.paired(t, "a", "b", 1.5).verdict == "contradicted"
    assert statistics.paired(t, "a", "b", 1.0).verdict == "not decided"


def test_a_family_without_effects_is_called_different_at_most_five_in_a_hundred_times():
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        t = table(rng, dict.fromkeys("abcd", 0.0), seeds=5)
        family = statistics.correct([statistics.paired(t, *pair) for pair in statistics.all_pairs("abcd")])
        wrong += any(c.distinguished for c in family)
    assert wrong / 400 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_the_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(4)
    delta = statistics.smallest_detectable(1.0, 8)
    found = stats.ttest_1samp(delta + rng.standard_normal((4000, 8)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


def test_the_bootstrap_is_refused_below_twenty_seeds():
    with pytest.raises(UserError, match="needs at least 20"):
        statistics.bootstrap_interval([1.0] * 19, np.random.default_rng(0))
    x = np.random.default_rng(5).standard_normal(20)
    low, high = statistics.bootstrap_interval(list(x), np.random.default_rng(0))
    assert low < x.mean() < high
