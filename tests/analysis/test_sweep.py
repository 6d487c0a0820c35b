"""Sweeps: every run once, whatever happens to its neighbours or its worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nmsim_analysis import engines
from nmsim_analysis.progress import progress
from nmsim_analysis.store import Store
from nmsim_analysis.sweep import execute, sweep

sys.path.insert(0, str(Path(__file__).parent))
from toy_work import threads_with_scipy, toy


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


def test_every_pool_of_a_worker_is_pinned_and_recorded_so():
    with engines.local(1)(1) as executor:
        found = executor.submit(threads_with_scipy).result()
    assert found["numba"] == 1
    assert len(found["pools"]) >= 2
    assert {pool["num_threads"] for pool in found["pools"]} == {1}


def test_a_slurm_job_out_of_time_is_queued_again_and_its_run_done_once(store, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    config = {"does": "run out of time once", "seed": 0}
    outcomes = sweep(toy, [config], store, engines.slurm(tmp_path / "slurm", 1), lambda _: None)
    assert [outcome.state for outcome in outcomes] == ["done"]
    assert executions(store, config) == 2
    assert len(store.frame()) == 1


SWEEPER = """
import sys
from nmsim_analysis import engines
from nmsim_analysis.store import Store
from nmsim_analysis.sweep import sweep
from toy_work import toy

if __name__ == "__main__":
    sweep(toy, [{"does": "work", "seed": 0, "seconds": 600}], Store.create(sys.argv[1]), engines.local(1), print)
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_sweep_leaves_no_worker_behind(stop, tmp_path):
    script = Path(__file__).parent / "toy_work.py"
    (tmp_path / "sweeper.py").write_text(SWEEPER)
    environment = os.environ | {"PYTHONPATH": str(script.parent)}
    runs = tmp_path / "runs"
    with subprocess.Popen([sys.executable, tmp_path / "sweeper.py", runs], env=environment) as sweeper:
        while not (begun := list(runs.glob("*/executions"))):
            time.sleep(0.05)
        worker = int(begun[0].read_text())
        sweeper.send_signal(stop)
        assert sweeper.wait(60) == -stop
    for _ in range(600):
        if not alive(worker):
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} outlived its parent")


def alive(process):
    """Whether a process runs: a zombie that nobody waits for doesn't."""
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


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
    assert lines[0]["seconds_left"] >= 0
    assert lines[-1]["seconds_left"] == 0
