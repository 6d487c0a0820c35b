"""Answers say no more than the rows do."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from nmsim_analysis import answers
from nmsim_analysis.findings import Findings
from nmsim_analysis.report import answer_lines
from nmsim_analysis.store import Record
from nmsim_analysis.study import Hypothesis, Study, Task, axes, cells, shipped

from hwmodel.errors import UserError

SEEDS = range(8)


def task(better="higher", **grid):
    plain = {"recipe": ["dense", "ste", "sr_ste"], "pattern": ["1:4", "1:16"], "sites": ["*"], "seed": list(SEEDS)}
    return Task("toy", "A toy", "score", "points", better, {}, plain | grid)


def rows(means, spread=0.1):
    """Runs of each condition (recipe, pattern) around its mean, with costs."""
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        [
            {"run": f"{r}{p}{s}", "task": "toy", "recipe": r, "pattern": p, "seed": s, "train_flops": 1.0}
            | {"score": mean + spread * rng.standard_normal()}
            for (r, p), mean in means.items()
            for s in SEEDS
        ]
    )


MEANS = {
    ("dense", "dense"): 9.0,
    ("ste", "1:16"): 5.0,
    ("sr_ste", "1:16"): 5.01,
    ("ste", "1:4"): 8.0,
    ("sr_ste", "1:4"): 7.0,
}


def test_pairs_are_of_equal_pattern_or_with_dense():
    pairs = {frozenset((c.first, c.second)) for c in answers.comparisons(task(), rows(MEANS))}
    assert len(pairs) == 6
    assert frozenset(("ste 1:16", "ste 1:4")) not in pairs
    assert frozenset(("dense", "ste 1:4")) in pairs


def test_leaders_are_called_better_only_where_they_are_distinguished():
    data = rows(MEANS)
    table = answers.condition_table(task(), data, ["train_flops"])
    lines = answers.leaders(task(), table, answers.comparisons(task(), data))
    close = next(line for line in lines if line.startswith("At 1:16"))
    apart = next(line for line in lines if line.startswith("At 1:4"))
    assert "worse than dense" in close
    assert "not distinguished from" in close
    assert "better than" not in close
    assert "ste has the best mean" in apart
    assert "worse than dense; better than sr_ste" in apart
    assert "8 seeds and 6 comparisons" in lines[-1]


@pytest.mark.parametrize(("better", "best"), [("higher", "dense"), ("lower", "ste")])
def test_the_front_follows_the_direction_of_the_metric(better, best):
    table = answers.condition_table(task(better), rows(MEANS), ["train_flops"])
    assert list(table.loc[table["front"], "recipe"]) == [best]


def claim(better, first, second, **changes):
    sides = ({"recipe": r, "pattern": p} for r, p in (first, second))
    return Study("Q?", (task(better),), (replace(Hypothesis("c", "toy", *sides), **changes),))


@pytest.mark.parametrize(
    ("better", "first", "second", "margin", "verdict"),
    [
        ("higher", ("dense", "dense"), ("ste", "1:4"), 0.0, "supported"),
        ("lower", ("dense", "dense"), ("ste", "1:4"), 0.0, "contradicted"),
        ("higher", ("dense", "dense"), ("ste", "1:4"), 2.0, "contradicted"),
        ("higher", ("sr_ste", "1:16"), ("ste", "1:16"), 0.0, "not decided"),
    ],
)
def test_a_verdict_follows_sign_margin_and_direction(better, first, second, margin, verdict):
    (answer,) = answers.verdicts(claim(better, first, second, margin=margin), rows(MEANS))
    assert answer.verdict == verdict


def test_a_claim_whose_runs_failed_is_not_testable_and_says_why():
    data = rows(MEANS)
    (answer,) = answers.verdicts(claim("higher", ("dense", "dense"), ("ste", "1:4")), data[data["recipe"] == "dense"])
    assert answer.verdict == "not testable here"
    assert answer.why == "0 seeds of both have finished; needs 8"


def test_a_claim_that_was_made_after_its_runs_gets_no_verdict():
    (answer,) = answers.verdicts(claim("higher", ("dense", "dense"), ("ste", "1:4"), seen=3), rows(MEANS))
    assert answer.verdict == "not testable here"
    assert answer.why == "3 of its runs had finished before it was registered; register it before its runs"


def test_no_verdict_falls_before_every_seed_has_finished():
    """Else whoever looks often enough at a running study sees the claim supported some time."""
    data = rows(MEANS)
    early = data[(data["recipe"] != "ste") | (data["seed"] < 7)]
    (answer,) = answers.verdicts(claim("higher", ("dense", "dense"), ("ste", "1:4")), early)
    assert answer.verdict == "not testable here"
    assert answer.why == "7 seeds of both have finished; needs 8"


def test_a_condition_with_one_seed_is_left_out_of_the_comparisons():
    data = rows(MEANS)
    lonely = data[(data["recipe"] != "ste") | (data["pattern"] != "1:4") | (data["seed"] == 0)]
    names = {name for c in answers.comparisons(task(), lonely) for name in (c.first, c.second)}
    assert "ste 1:4" not in names
    assert "sr_ste 1:4" in names


def test_an_axis_of_several_values_tells_conditions_apart():
    assert axes(task(steps=[1000, 4000], batch=[64])) == ["recipe", "pattern", "steps"]


def test_a_metric_that_no_run_measured_is_named():
    with pytest.raises(UserError, match='task toy: unknown metric "scor"; did you mean score'):
        answers.condition_table(replace(task(), metric="scor"), rows(MEANS), ["train_flops"])


def test_one_seed_has_a_sentence_of_its_own():
    data = rows(MEANS).query("seed == 0")
    table = answers.condition_table(task(), data, ["train_flops"])
    line = next(line for line in answers.leaders(task(), table, []) if line.startswith("At 1:4"))
    assert re.fullmatch(r"At 1:4, ste has the best mean score \(points\): [\d.]+ \(one seed\)\.", line)


def test_the_answer_says_how_many_runs_of_the_study_are_missing():
    study = shipped("look")
    done = Record(cells(study)[0].name, "done", {}, {})
    (line,) = answer_lines(Findings(study, [], [], [done]))
    assert line == "11 of 12 runs of the study have not finished; the tables hold the others."
