"""The report of the paper's study says what the rows say, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from nmsim_analysis import evidence, paper, study, trend_claims, trends
from nmsim_analysis.answers import condition_table, verdicts
from nmsim_analysis.evidence import Evidence
from nmsim_analysis.findings import Finding, Findings
from nmsim_analysis.store import Record, Store
from nmsim_analysis.study import Hypothesis, Study, Task

from hwmodel.pattern import Pattern
from nmsim.run import Run, Sparsity

COSTS = [*evidence.ACCOUNT_NAMES, "inference_flops", "stored_bytes", "cpu_s"]
GAINS = {"dense": 0.3, "sr_ste": 0.0, "mdgf_exponential": 0.1, "ste": 0.0}


def task(name="language-grid", **grid):
    axes = {"seed": list(range(8)), "recipe": list(GAINS), "pattern": ["1:8", "1:16"], "sites": ["*"]}
    run = {"steps": 10, "batch": 1, "data": {"name": "pydoc"}, "model": {"kind": "decoder"}}
    return Task(name, "A task", "loss_nats", "nats", "lower", run, axes | grid)


def finding(of=None, spread=0.01):
    """A run a cell: quality from `GAINS`, costs that grow with the steps."""
    of = of or task()
    rng = np.random.default_rng(0)
    rows = []
    for cell in study.cells(Study("?", (of,))):
        steps = cell.run["steps"]
        loss = 2 - GAINS[cell.labels["recipe"]] - 0.001 * steps + spread * rng.standard_normal()
        costs = dict.fromkeys(COSTS, float(steps))
        rows.append({"run": cell.name, "task": of.name, "loss_nats": loss} | cell.labels | costs)
    frame = pd.DataFrame(rows)
    return Finding(of, frame, condition_table(of, frame, COSTS), frame.iloc[:0], frame.iloc[:0], [], frame.iloc[:0])


def known(of):
    return Evidence({of.task.name: of}, pd.DataFrame(), pd.DataFrame(), pd.DataFrame())


def reply(claims, number):
    return next(claim.reply for claim in claims if claim.number == number)


def test_falls_are_taken_between_the_evaluations_around_a_boundary():
    history = pd.DataFrame({"step": [9, 19, 29, 39], "quality": [80.0, 82.0, 75.0, 79.0]})
    got = trends.falls(history, value="quality", boundaries=[20, 25, 60], sign=1.0)
    assert got.to_dict("list") == {"boundary": [20, 25], "before": [82, 82], "after": [75, 75], "fall": [7, 7]}


def test_a_fall_of_a_loss_is_its_rise():
    history = pd.DataFrame({"step": [9, 19], "loss": [1.0, 1.5]})
    assert trends.falls(history, value="loss", boundaries=[10], sign=-1.0)["fall"].tolist() == [0.5]


def test_thirds_share_the_steps():
    history = pd.DataFrame({"step": range(9), "x": [1.0] * 3 + [2.0] * 3 + [4.0] * 3})
    assert trends.thirds(history, ["x"]) == {"x first": 1, "x middle": 2, "x last": 4}


def test_a_gain_is_paired_over_seeds_and_positive_where_the_first_is_better():
    got = known(finding()).gain("language-grid", "mdgf_exponential", "sr_ste", "1:8")
    assert got.low < 0.1 < got.high
    assert got.low > 0.05
    assert got.count == 8


def test_a_gain_over_dense_uses_the_dense_runs_of_the_task():
    got = known(finding()).gain("language-grid", "sr_ste", "dense", "1:16")
    assert got.mean == pytest.approx(-0.3, abs=0.02)


def test_a_recipe_that_did_not_run_has_no_gain():
    assert known(finding()).gain("language-grid", "sdgf_geometric", "sr_ste", "1:8") is None
    assert known(finding()).gains("language-grid", "sdgf_geometric", "sr_ste") == ""
    assert known(finding()).gains("another-task", "ste", "sr_ste") == ""


def test_claims_about_trends_give_intervals_and_no_verdict():
    claims = trend_claims.trend_claims(known(finding()))
    assert [claim.number for claim in claims] == [f"b{i}" for i in range(1, 13)]
    ordering = reply(claims, "b1")
    assert ordering.verdict == trend_claims.EXPLORATORY
    assert "1:32 FF +3.01" in ordering.text
    assert "language-grid: 1:8 +0." in ordering.text
    assert {claim.reply.verdict for claim in claims} == {trend_claims.EXPLORATORY, trend_claims.NOT_TESTABLE}


def test_without_runs_every_trend_is_refused_with_a_reason():
    nothing = Evidence({}, pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    claims = trend_claims.trend_claims(nothing)
    assert {claim.reply.verdict for claim in claims} == {trend_claims.NOT_TESTABLE}
    assert all(claim.reply.text for claim in claims)


def test_falls_by_pattern_reached_are_in_the_answer_to_their_claim():
    fell = pd.DataFrame({"task": ["v", "v"], "reached": ["1:4", "1:4"], "fall": [1.0, 3.0]})
    claims = trend_claims.trend_claims(replace(known(finding()), falls=fell))
    assert "v to 1:4 +2.000 ± 1.000 (n=2)" in reply(claims, "b3").text


def test_noise_is_the_ratio_of_the_two_recipes_by_thirds():
    table = pd.DataFrame({"task": "language-grid", "pattern": "1:16", "recipe": ["sr_ste", "mdgf_exponential"]})
    for third, pair in (("first", [3.0, 1.0]), ("middle", [1.0, 1.0]), ("last", [1.0, 2.0])):
        table[f"gradient_magnitude_variance {third}"] = pair
    claims = trend_claims.trend_claims(replace(known(finding()), gradients=table))
    assert "language-grid at 1:16: variance 3.00, 1.00, 0.50." in reply(claims, "b5").text


def test_quality_at_equal_flops_reads_every_recipe_at_the_costs_of_the_dense_runs():
    of = finding(task("language-lengths", steps=[10, 20, 40], pattern=["1:16"]), spread=0.0)
    of.rows["train_flops_half"] = of.rows["train_flops_half"] * np.where(of.rows["recipe"] == "dense", 1.0, 0.5)
    table = evidence.equal_flops(of).set_index(["account", "flops"])
    assert set(table.index.get_level_values("account")) == set(evidence.ACCOUNT_NAMES)
    assert table.loc[("train_flops", 20.0), "dense"] == pytest.approx(2 - 0.3 - 0.02)
    assert table.loc[("train_flops", 20.0), "sr_ste"] == pytest.approx(2 - 0.02)
    assert table.loc[("train_flops_half", 20.0), "sr_ste"] == pytest.approx(2 - 0.04)


def test_one_length_makes_no_curve():
    assert evidence.equal_flops(finding(task("language-lengths", steps=[10]))).empty


def test_changes_of_structure_are_found_from_the_runs_recipe():
    sparse = Sparsity("sdgf_stepwise", "*", Pattern(1, 8), {"dense": 0.0, "fine_tune": 0.0})
    run = Run({"name": "pydoc"}, {"kind": "decoder"}, 350, sparsity=(sparse,))
    assert evidence._changes(run) == {87: "4:8", 175: "2:8", 262: "1:8"}


def test_the_report_names_verdicts_claims_and_what_is_missing_with_rows_and_errata_beside_it(tmp_path, monkeypatch):
    of = finding(task("language-1000", pattern=["1:16"]))
    claim = Hypothesis("decay wins", of.task.name, {"recipe": "mdgf_exponential"}, {"recipe": "sr_ste"}, 0.01)
    lost = Hypothesis("a recipe that did not run wins", of.task.name, {"recipe": "rigl"}, {"recipe": "sr_ste"})
    asked = Study("Does it?", (of.task,), (claim, lost))
    records = [Record(name, "done", {}, {}) for name in of.rows["run"][1:]]
    Store(tmp_path).run(records[0].name).path.mkdir()
    (Store(tmp_path).run(records[0].name).path / "env.json").write_text('{"cpu": "zilog-z80"}')
    findings = Findings(asked, [of], verdicts(asked, of.rows), records)
    monkeypatch.setattr(paper, "gather_evidence", lambda *_: known(of))
    paper.write_paper(findings, Store(tmp_path), tmp_path, commands=["nmsim study paper"])
    text = (tmp_path / "paper.md").read_text()
    assert "31 of 32 runs finished, 0 failed: **incomplete**" in text
    assert "zilog-z80" in text
    assert "| decay wins | supported |" in text
    assert "| a recipe that did not run wins | not testable here |" in text
    assert "| a15 |" in text
    assert "| b12 |" in text
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 32
    assert "60 % fewer inference FLOPs" in (tmp_path / "errata.md").read_text()
