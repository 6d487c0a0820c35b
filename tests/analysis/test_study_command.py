"""`nmsim study`: the verbs that answer without training."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pandas as pd
import pytest
import tomli_w
from nmsim_analysis import scaling
from nmsim_analysis.cli import run
from nmsim_analysis.study import shipped


def test_scaling_prints_published_and_refitted_laws(capsys):
    assert run(["study", "scaling", "--json"]) == 0
    rows = {row["law"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["t5, optimum"]["huber_loss"] < 0.65 * rows["t5, published"]["huber_loss"]
    assert set(rows) == {"vit, published", "vit, optimum", "t5, published", "t5, optimum"}


def test_scaling_draws_where_a_sparsity_is_optimal(tmp_path, capsys):
    assert run(["study", "scaling", "--out", str(tmp_path / "figures"), "--json"]) == 0
    laws = {row["law"]: row for row in json.loads(capsys.readouterr().out)}
    for name in ("t5", "vit"):
        assert (tmp_path / "figures" / f"scaling-{name}.png").read_bytes().startswith(b"\x89PNG")
        law = scaling.Law(**{key: laws[f"{name}, optimum"][key] for key in scaling.Law.__dataclass_fields__})
        row = pd.read_csv(tmp_path / "figures" / f"scaling-{name}.csv").query("sparsity == 0.75").iloc[7]
        assert law.optimal_sparsity(row["parameters"], row["data"]) == pytest.approx(0.75, abs=1e-3)


def test_scaling_fits_points_of_ones_own(tmp_path, capsys):
    scaling.published_points("t5").to_csv(tmp_path / "own.csv", index=False)
    assert run(["study", "scaling", "--points", str(tmp_path / "own.csv"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["law"] == "own.csv"


def test_a_missing_or_unfit_file_of_points_is_a_users_mistake(tmp_path, capsys):
    (tmp_path / "bad.csv").write_text("sparsity,loss\n0.5,1\n")
    (tmp_path / "text.csv").write_text("a\nb\nc,d\n")
    (tmp_path / "folder").mkdir()
    mistakes = {
        "none.csv": "no such file",
        "bad.csv": "no column parameters",
        "text.csv": "not a CSV file",
        "folder": "holds no runs",
    }
    for name, said in mistakes.items():
        assert run(["study", "scaling", "--points", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


def test_errata_print_place_and_arithmetic(capsys):
    assert run(["study", "errata"]) == 0
    assert "1 - 13.9016 / 23.6124 = 0.4113" in capsys.readouterr().out


def test_an_unknown_tier_or_an_empty_budget_is_a_users_mistake(capsys):
    assert run(["study", "paper", "--tier", "hours"]) == 2
    assert "look" in capsys.readouterr().err
    assert run(["study", "search", "--budget", "0"]) == 2
    assert "needs minutes above 0" in capsys.readouterr().err


def test_a_metric_that_no_run_measures_is_refused_before_any_run(tmp_path, capsys):
    study = shipped("demo")
    renamed = replace(study, task=tuple(replace(task, metric="acuracy_percent") for task in study.task))
    (tmp_path / "study.toml").write_text(tomli_w.dumps(asdict(renamed)))
    for more in (["--dry-run"], ["--out", str(tmp_path / "out")]):
        assert run(["sweep", str(tmp_path / "study.toml"), *more]) == 2
        assert 'unknown metric "acuracy_percent"; did you mean accuracy_percent?' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--workers", "-3"], "--workers -3: needs 1 or more"), (["--device", "a1000"], 'unknown device "a1000"')],
)
@pytest.mark.parametrize("command", [["sweep", "study.toml"], ["study", "paper"]], ids=["sweep", "paper"])
def test_a_wrong_option_is_told_before_any_run(tmp_path, monkeypatch, capsys, command, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(tomli_w.dumps(asdict(shipped("demo"))))
    assert run([*command, *options, "--out", "out"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
