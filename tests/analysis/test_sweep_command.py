"""`nmsim sweep` from a study file to its report: claims that come late, runs that fail."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from nmsim_analysis.answers import verdicts
from nmsim_analysis.cli import run
from nmsim_analysis.commands import sweep as sweep_command

SMALL = """
question = "Which?"

[[task]]
name = "toy"
title = "A toy"
metric = "accuracy_percent"
unit = "%"
better = "higher"

[task.run]
steps = 2
data = { name = "digits" }
model = { kind = "mlp", width = 32, depth = 2 }

[task.grid]
recipe = ["dense", "ste"]
pattern = ["1:4"]
sites = ["*"]
seed = [0, 1, 2, 3, 4, 5, 6, 7]
"""
CLAIM = """
[[hypothesis]]
claim = "dense wins"
task = "toy"
first = { recipe = "dense" }
second = { recipe = "ste" }
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Sweep a study, given as text, into a folder, on a thread of this process: the exit status, and the verdicts."""
    found = []

    def publish(study, rows, *_, **__):
        found.append([(answer.verdict, answer.why) for answer in verdicts(study, rows)])

    def run_into(out, text):
        (tmp_path / "study.toml").write_text(text)
        status = run(["sweep", str(tmp_path / "study.toml"), "--out", str(tmp_path / out), "--device", "a100"])
        return status, found[-1]

    monkeypatch.setattr(sweep_command, "default_engine", lambda workers: lambda jobs: ThreadPoolExecutor(1))
    monkeypatch.setattr(sweep_command, "publish", publish)
    return run_into


@pytest.mark.compiled
def test_a_claim_added_after_its_runs_gets_no_verdict_and_one_from_before_keeps_its_own(sweep):
    first = sweep("before", SMALL + CLAIM)
    assert first[0] == 0
    assert first[1][0][0] != "not testable here"
    assert sweep("before", SMALL + CLAIM) == first  # though every run has finished by now
    assert sweep("after", SMALL) == (0, [])
    late = "16 of its runs had finished before it was registered; register it before its runs"
    assert sweep("after", SMALL + CLAIM) == (0, [("not testable here", late)])


@pytest.mark.compiled
def test_a_sweep_whose_runs_fail_ends_with_status_1(sweep):
    failing = SMALL.replace("seed = [0, 1, 2, 3, 4, 5, 6, 7]", 'seed = [0]\n"optimizer.lr" = [0.001, 1e30]')
    failing = failing.replace('better = "higher"', 'better = "higher"\nranked = false')
    assert sweep("out", failing.replace("steps = 2", "steps = 20")) == (1, [])
