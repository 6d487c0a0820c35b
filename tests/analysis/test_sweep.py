"""Sweeps: every run once, whatever happens to its neighbours or its worker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from nmsim_analysis import engines
from nmsim_analysis.progress import progress
from nmsim_analysis.store import Store
from nmsim_analysis.sweep import execute, sweep

sys.path.insert(0, str(Path(__file__).parent))
from toy_work import toy


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "runs")


def configs(does, count=4):
    return [{"does": does, "seed": seed} for seed in range(count)]


def executions(store, config):
    return len((store.folder(config).path / "executions").read_text().splitlines())


def run(store, grid, workers=2):
    heard = []
    outcomes = sweep(toy, grid, store, engines.local(workers), heard.append)
    assert heard == outcomes
    return {outcome.name: outcome for outcome in outcomes}


def test_a_done_run_is_not_run_again(store):
    config = configs("work")[0]
    assert execute(toy, config, str(store.root)).state == "done"
    assert execute(toy, config, str(store.root)).state == "done"
    assert executions(store, config) == 1


def test_a_diverged_run_is_reported_and_the_rest_goes_on(store):
    grid = [*configs("work"), *configs("diverge", 1)]
    outcomes = run(store, grid)
    assert [outcomes[store.folder(c).path.name].state for c in grid] == ["done"] * 4 + ["failed"]
    assert "step 3, first at block0.mlp.up" in outcomes[store.folder(grid[-1]).path.name].message


def test_a_corrupt_run_is_run_again(store):
    config = configs("work")[0]
    execute(toy, config, str(store.root))
    (store.folder(config).path / "result.json").write_text("{")
    assert execute(toy, config, str(store.root)).state == "done"
    assert store.folder(config).record().result["quality"] == 0.0


def test_a_worker_killed_once_costs_no_run(store):
    grid = [*configs("work"), *configs("die once", 1)]
    assert {o.state for o in run(store, grid).values()} == {"done"}
    assert len(store.frame()) == 5


def test_a_run_that_always_kills_its_worker_is_named_and_the_rest_goes_on(store):
    grid = [*configs("die", 1), *configs("work", 6)]
    outcomes = run(store, grid)
    bad = outcomes.pop(store.folder(grid[0]).path.name)
    assert bad.state == "failed"
    assert "killed" in bad.message
    assert {o.state for o in outcomes.values()} == {"done"}
    assert len(outcomes) == 6


def test_a_full_disk_stops_one_run_only(store, monkeypatch):
    def full(folder, result):
        raise OSError(28, "No space left on device")

    config = configs("work")[0]
    monkeypatch.setattr("nmsim_analysis.store.RunFolder.finish", full)
    assert "No space left" in execute(toy, config, str(store.root)).message
    monkeypatch.undo()
    assert execute(toy, config, str(store.root)).state == "done"


def test_piped_progress_is_json_lines(store, capsys):
    with progress("toy", 2) as notify:
        sweep(toy, configs("work", 2), store, engines.local(1), notify)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["done"], line["total"], line["state"]) for line in lines] == [(1, 2, "done"), (2, 2, "done")]
