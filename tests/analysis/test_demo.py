"""The main job on its real data: the ranking task separates, runs keep their provenance, the report is whole."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from nmsim_analysis import cli, drive, engines
from nmsim_analysis.commands import demo
from nmsim_analysis.commands.demo import DEVICES, quickened
from nmsim_analysis.findings import gather
from nmsim_analysis.report import answer_lines, write
from nmsim_analysis.study import Study, shipped

from hwmodel.device import load_device


def ranking(**grid):
    """The demo's ranking task with fewer conditions, and else as shipped."""
    study = shipped("demo")
    task = study.task[0]
    return replace(study, task=(replace(task, grid=task.grid | grid),))


def small(folder, recipes):
    """The demo's study with these recipes, on a few examples, with models and runs that take no time."""
    (folder / "text.txt").write_text("All work and no play makes Jack a dull boy. " * 50)
    data = {
        "mnist1d": {"name": "mnist1d", "train": 64, "validation": 32, "test": 32},
        "pydoc": {"name": "text", "path": str(folder / "text.txt"), "context": 16},
    }
    return replace(shipped("demo"), task=tuple(_small(task, data[task.name], recipes) for task in shipped("demo").task))


def _small(task, data, recipes):
    model = task.run["model"] | {"width": 16, "depth": 1, "heads": 2}
    run = task.run | {"data": data, "model": model, "batch": 8}
    return replace(task, run=run, grid=task.grid | {"recipe": [r for r in recipes if r in task.grid["recipe"]]})


@pytest.fixture(scope="module")
def extremes(tmp_path_factory):
    """Dense and STE at 1:16 over all seeds of the demo: the folder, the rows, the store."""
    out = tmp_path_factory.mktemp("demo")
    study = ranking(recipe=["dense", "ste"], pattern=["1:16"])
    return out, *drive.run_study(study, out, engines.local(2), "test")


@pytest.mark.slow
@pytest.mark.compiled
def test_dense_and_ste_at_1_16_differ_by_more_than_three_standard_errors(extremes):
    _, rows, _ = extremes
    quality = rows.pivot_table(index="seed", columns="recipe", values="accuracy_percent")
    assert len(quality) == 5
    errors = quality.std(ddof=1) / np.sqrt(len(quality))
    assert quality["dense"].mean() - quality["ste"].mean() > 3 * np.hypot(*errors)


@pytest.mark.compiled
def test_compressed_and_masked_dense_evaluation_agree_within_the_bound(extremes):
    _, rows, _ = extremes
    assert (rows["compressed_error"] <= rows["compressed_bound"]).all()


@pytest.mark.compiled
def test_every_run_keeps_its_provenance(extremes):
    _, rows, store = extremes
    for name in rows["run"]:
        folder = store.run(name).path
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest.keys() >= {"source", "version", "sha256", "split"}
        assert json.loads((folder / "env.json").read_text())["packages"]["numpy"]
        assert store.run(name).metrics()["step"].is_monotonic_increasing


@pytest.mark.compiled
def test_a_finished_study_is_not_run_again(extremes):
    out, rows, store = extremes
    before = {name: (store.run(name).path / "result.json").stat().st_mtime_ns for name in rows["run"]}
    drive.run_study(ranking(recipe=["dense", "ste"], pattern=["1:16"]), out, engines.local(1), "again")
    assert before == {name: (store.run(name).path / "result.json").stat().st_mtime_ns for name in rows["run"]}


@pytest.mark.slow
def test_a_diverged_run_is_reported_and_the_rest_is_ranked(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "QUICK_STEPS", 4)
    (task, _) = quickened(small(tmp_path, ["dense", "ste"])).task
    study = Study("?", (replace(task, grid=task.grid | {"optimizer.lr": [0.004, 1e30]}),))
    rows, store = drive.run_study(study, tmp_path, engines.local(1), "test")
    findings = gather(study, rows, store, [load_device("v100")])
    assert set(rows["optimizer.lr"]) == {0.004}
    assert any("runs failed" in line for line in answer_lines(findings))
    page = write(findings, tmp_path, commands=["nmsim demo"]).read_text()
    assert "DivergedError: step" in page


@pytest.mark.slow
@pytest.mark.compiled
def test_the_quick_demo_leaves_a_whole_report(tmp_path, capsys, monkeypatch):
    # The wheel's check runs `nmsim demo --quick` as it is; here its runs are fewer and smaller.
    study = small(tmp_path, ["dense", "sr_ste"])
    monkeypatch.setattr(demo, "shipped", lambda _: study)
    monkeypatch.setattr(demo, "QUICK_STEPS", 4)
    assert cli.run(["demo", "--quick", "--workers", "1", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in ("measured", "modelled", "sr_ste", "this-cpu", *DEVICES[:1]))
    (first,) = [line for line in out.splitlines() if line.startswith("At 1:16, ")]
    assert "in inference and" in first
    assert "on a100-80gb-sxm" in first
    assert (tmp_path / "out" / "report.html").exists()
    assert "sr_ste | 1:16" in (tmp_path / "out" / "table.md").read_text()
    figures = tmp_path / "out" / "figures"
    assert {p.stem for p in figures.glob("*.png")} == {p.stem for p in figures.glob("*.csv")} != set()


@pytest.mark.compiled
def test_a_trained_run_can_be_reported_without_a_study(tmp_path, capsys):
    run = tmp_path / "run.toml"
    run.write_text('steps = 5\ndata = { name = "mnist1d" }\nmodel = { kind = "vit", patch = [1, 4] }\n')
    out = str(tmp_path / "out")
    assert cli.run(["train", str(run), "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy_percent"] >= 0
    assert cli.run(["report", out]) == 0
    assert "mnist1d vit 5 steps" in (tmp_path / "out" / "report.html").read_text()


def test_an_output_folder_that_can_not_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.run(["demo", "--quick", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
