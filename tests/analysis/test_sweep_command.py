"""`nmsim sweep` from a study file to its report: claims that come late, runs that fail."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
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
def here(tmp_path, monkeypatch):
    """A folder to sweep in, on threads of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep_command, "default_engine", lambda workers: lambda jobs: ThreadPoolExecutor(1))
    return tmp_path / "study.toml"


@pytest.mark.compiled
def test_a_claim_added_after_its_runs_gets_no_verdict_and_one_from_before_keeps_its_own(here, capsys):
    here.write_text(SMALL + CLAIM)
    for _ in range(2):  # the second finds every run finished
        assert run(["sweep", "study.toml", "--out", "before", "--device", "a100"]) == 0
        assert "before it was registered" not in (here.parent / "before" / "report.html").read_text(encoding="utf-8")
    here.write_text(SMALL)
    assert run(["sweep", "study.toml", "--out", "after", "--device", "a100"]) == 0
    here.write_text(SMALL + CLAIM)
    capsys.readouterr()
    assert run(["sweep", "study.toml", "--out", "after", "--device", "a100"]) == 0
    assert "dense wins: not testable here at this scale." in capsys.readouterr().out
    page = (here.parent / "after" / "report.html").read_text(encoding="utf-8")
    assert "16 of its runs had finished before it was registered" in page


@pytest.mark.compiled
def test_a_sweep_whose_runs_fail_ends_with_status_1(here, capsys):
    here.write_text(SMALL.replace("seed = [0, 1, 2, 3, 4, 5, 6, 7]", 'seed = [0]\n"optimizer.lr" = [0.001, 1e30]'))
    text = here.read_text().replace('better = "higher"', 'better = "higher"\nranked = false')
    here.write_text(text.replace("steps = 2", "steps = 20"))
    assert run(["sweep", "study.toml", "--out", "out", "--device", "a100"]) == 1
    assert "runs failed; see Runs." in capsys.readouterr().out
