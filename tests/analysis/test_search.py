"""The search: candidates are valid recipes, a score is the worst cell, and what is confirmed was not searched."""

from __future__ import annotations

import optuna
import pandas as pd
import pytest
from nmsim_analysis import search, study
from nmsim_analysis.engines import local
from nmsim_analysis.study import Study, Task

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.recipes import RECIPES

BASELINES = [{"name": "sr_ste", "label": "sr_ste"}, {"name": "dense_then_ste", "label": "dense_then_ste"}]


def task(name, better="lower", metric="loss_nats"):
    grid = {"seed": [0, 1, 2], "recipe": BASELINES, "pattern": ["1:16", "1:32"], "sites": ["*"]}
    return Task(name, name, metric, "nats", better, {"steps": 10}, grid)


def rows(name, values, metric="loss_nats"):
    """A row a seed for every (recipe, pattern) with its quality."""
    noise = {0: -0.001, 1: 0.0, 2: 0.001}
    return pd.DataFrame(
        [
            {"run": f"{name}{r}{p}{s}", "task": name, "recipe": r, "pattern": p, "seed": s, metric: v + d}
            for (r, p), v in values.items()
            for s, d in noise.items()
        ]
    )


def values(candidate_16, candidate_32):
    return {
        ("sr_ste", "1:16"): 1.8,
        ("dense_then_ste", "1:16"): 1.7,
        ("sr_ste", "1:32"): 1.9,
        ("dense_then_ste", "1:32"): 2.0,
        ("candidate 3", "1:16"): candidate_16,
        ("candidate 3", "1:32"): candidate_32,
    }


@pytest.mark.parametrize("seed", range(20))
def test_every_candidate_is_a_recipe_for_any_length(seed):
    sampler = optuna.samplers.RandomSampler(seed=seed)
    table = search.candidate(optuna.create_study(sampler=sampler).ask(), "candidate 0")
    options = {key: value for key, value in table.items() if key not in ("name", "label")}
    for steps in (500, 2000):
        assert RECIPES[table["name"]](Pattern(1, 16), steps=steps, **options).final == Pattern(1, 16)


def test_a_score_is_the_least_improvement_over_the_best_baseline_of_each_cell():
    asked = Study("?", (task("search-a"),))
    assert search.worst_improvement(asked, rows("search-a", values(1.6, 1.85)), "candidate 3") == pytest.approx(0.05)
    assert search.worst_improvement(asked, rows("search-a", values(1.6, 1.95)), "candidate 3") == pytest.approx(-0.05)


def test_a_score_where_higher_is_better():
    asked = Study("?", (task("search-a", "higher"),))
    assert search.worst_improvement(asked, rows("search-a", values(1.9, 2.1)), "candidate 3") == pytest.approx(0.1)


def test_a_candidate_without_a_finished_run_is_named():
    with pytest.raises(UserError, match="no finished run of candidate 9"):
        search.worst_improvement(Study("?", (task("search-a"),)), rows("search-a", values(1, 1)), "candidate 9")


def test_the_shipped_search_confirms_on_seeds_and_a_task_that_it_never_saw():
    tasks = study.shipped("search").task
    searched = [t for t in tasks if t.name.startswith(search.SEARCHED)]
    held_out = [t for t in tasks if t not in searched]
    assert {t.run["steps"] if "steps" in t.run else t.grid["steps"][0] for t in searched} == {500, 1000, 2000}
    assert not {s for t in searched for s in t.grid["seed"]} & {s for t in held_out for s in t.grid["seed"]}
    assert {t.run["data"]["name"] for t in held_out} - {t.run["data"]["name"] for t in searched} == {"fashion_mnist"}
    assert all(set(t.grid["pattern"]) == {"1:16", "1:32"} for t in tasks)


def fake_runs(monkeypatch, quality):
    """Replace training by a table of qualities of (recipe's label, pattern)."""

    def run_study(asked, out, engine, title):
        parts = []
        for cell in study.cells(asked):
            recipe, pattern = cell.labels["recipe"], cell.labels["pattern"]
            loss = quality(recipe, cell) + 0.0001 * (cell.labels["seed"] % 7)
            parts.append(
                {"run": cell.name, "task": cell.task, "recipe": recipe, "pattern": pattern}
                | cell.labels
                | {"loss_nats": loss}
            )
        return pd.DataFrame(parts), None

    monkeypatch.setattr(search, "run_study", run_study)


def small():
    return Study("?", (task("search-a"), task("confirm-b")))


def test_the_best_candidate_is_confirmed_against_the_baselines(monkeypatch, tmp_path):
    def quality(recipe, cell):
        if not recipe.startswith("candidate"):
            return 1.0
        return 0.9 + cell.run["sparsity"][0]["options"]["dense"]

    fake_runs(monkeypatch, quality)
    found = search.search(small(), tmp_path, local(1), minutes=0, seed=0)
    assert len(found.trials) == search.TRIALS_AT_ONCE
    assert found.best.score == max(t.score for t in found.trials)
    assert found.best.recipe["dense"] == min(t.recipe["dense"] for t in found.trials)
    (confirmation,) = found.confirmations
    assert {c.count for c in confirmation.compared} == {3}
    assert len(confirmation.compared) == 4
    text = search.write_search(found, tmp_path).read_text()
    assert found.sentences()[0] in text


def test_a_search_that_finds_nothing_says_so(monkeypatch, tmp_path):
    fake_runs(
        monkeypatch, lambda recipe, cell: 2.0 if recipe.startswith("candidate") else 1.0 + 0.01 * cell.labels["seed"]
    )
    found = search.search(small(), tmp_path, local(1), minutes=0, seed=0)
    assert found.best.score < 0
    assert "better in 0 of 4 comparisons with a baseline, worse in 4" in found.sentences()[1]


def test_a_study_without_a_held_out_task_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not begin"):
        search.search(Study("?", (task("search-a"),)), tmp_path, local(1), minutes=0, seed=0)
