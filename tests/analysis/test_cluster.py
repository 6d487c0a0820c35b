"""Sweeps on a real dask cluster: a worker killed in mid-run loses and doubles nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from nmsim_analysis import engines
from nmsim_analysis.store import Store
from nmsim_analysis.sweep import sweep

from hwmodel.errors import UserError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from toy_work import toy  # noqa: E402 - workers import it by this name


@pytest.fixture
def cluster(tmp_path):
    """The scheduler file of a dask scheduler with two one-thread workers, each under its nanny."""
    file = tmp_path / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker"]
    common = {"env": environment, "cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [
        subprocess.Popen([*dask, "--port", "0", "--no-dashboard", "--scheduler-file", file], **common),
        subprocess.Popen(
            [*worker, "--scheduler-file", file, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"], **common
        ),
    ]
    while not file.exists():
        time.sleep(0.05)
    yield file
    for process in reversed(started):
        process.terminate()
        process.wait(20)


def kill_the_first_worker(store, first):
    """SIGKILL the process that runs `first`, once it has begun."""
    record = store.folder(first).path / "executions"
    while not record.exists() or not record.read_text():
        time.sleep(0.05)
    os.kill(int(record.read_text().splitlines()[0]), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_loses_and_doubles_no_run(cluster, tmp_path):
    store = Store.create(tmp_path / "runs")
    grid = [{"does": "work", "seed": seed, "seconds": 1.0} for seed in range(6)]
    killer = threading.Thread(target=kill_the_first_worker, args=(store, grid[0]))
    killer.start()
    heard = []
    outcomes = sweep(toy, grid, store, engines.dask(str(cluster)), heard.append)
    killer.join()
    assert sorted(o.name for o in outcomes) == sorted(store.folder(c).path.name for c in grid)
    assert {o.state for o in outcomes} == {"done"}
    assert sorted(store.frame()["seed"]) == list(range(6))
    starts = [len((store.folder(c).path / "executions").read_text().splitlines()) for c in grid]
    assert starts[0] == 2
    assert sum(starts) == 7


def test_a_scheduler_that_does_not_answer_is_a_users_mistake(monkeypatch):
    monkeypatch.setattr(engines, "ANSWER_SECONDS", 0.2)
    engine = engines.dask("tcp://127.0.0.1:9")
    with pytest.raises(UserError, match="no dask scheduler answers"), engine(1):
        pass


def test_a_missing_extra_is_named_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r'pip install "nmsim\[cluster\]"'):
        engines.dask("tcp://127.0.0.1:9")
