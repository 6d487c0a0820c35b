"""The weight commands on files of unusual content: no tensors, odd names, matrices that stay dense, shards."""

from __future__ import annotations

import json

import numpy as np
import pytest
from commands import rows, told
from nmsim_analysis import cli
from weightfiles import save


def test_a_file_without_tensors_says_so(tmp_path, capsys):
    path = save(tmp_path / "a.safetensors", {})
    assert cli.run(["check", str(path)]) == 2
    assert "the file holds no tensors" in capsys.readouterr().err


def test_a_name_with_brackets_is_chosen_as_it_is_written(tmp_path, capsys):
    w = np.eye(16, dtype=np.float32)
    path = save(tmp_path / "a.safetensors", {"layers[0].weight": w, "layers[1].weight": w})
    found = told(capsys, "check", path, "--include", "layers[0].weight")
    assert [row["name"] for row in found["tensors"]] == ["layers[0].weight"]


def test_a_plan_takes_an_axis_as_a_number_and_names_what_it_leaves_dense(tmp_path, capsys):
    shapes = {"up": (16, 6), "head": (6, 16), "other": (16, 16)}
    path = save(tmp_path / "a.safetensors", {name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    plan = tmp_path / "plan.toml"
    plan.write_text(
        '[[prune]]\ntensors = "up"\npattern = "2:4"\naxis = 0\n[[prune]]\ntensors = "*"\npattern = "dense"\n'
    )
    done = told(capsys, "prune", path, "-o", tmp_path / "b.safetensors", "--plan", plan)
    assert [row["name"] for row in done["pruned"]] == ["up"]
    assert done["left_dense"] == {"head": "not asked for", "other": "not asked for"}
    plan.write_text('[[prune]]\ntensors = "up"\npattern = "2:4"\naxis = 2\n')
    assert cli.run(["prune", str(path), "-o", str(tmp_path / "c.safetensors"), "--plan", str(plan)]) == 2
    assert 'axis: unknown value "2" (known: 0, 1, auto)' in capsys.readouterr().err


def test_export_says_why_a_matrix_that_is_no_weight_stays_dense(tmp_path, capsys):
    tensors = {"ids": np.zeros((16, 16), np.int64), "w": np.diag(np.arange(16, dtype=np.float32))}
    path = save(tmp_path / "a.safetensors", tensors)
    out = tmp_path / "b.safetensors"
    reasons = {
        name: row["reason"] for name, row in rows(told(capsys, "export", path, "-o", out, "--format", "nm")).items()
    }
    assert reasons.keys() == tensors.keys()
    assert reasons["ids"].startswith("int64; only weights of float32")
    assert reasons["w"] == ""


def test_shards_become_one_graph(tmp_path, capsys):
    pytest.importorskip("onnx")
    files = {f"{n}.safetensors": {n: np.full((8, 8), i, np.float32)} for i, n in enumerate("ab")}
    for name, tensors in files.items():
        save(tmp_path / name, tensors)
    index = tmp_path / "m.index.json"
    index.write_text(json.dumps({"weight_map": {n: f"{n}.safetensors" for n in "ab"}}))
    told(capsys, "export", index, "-o", tmp_path / "all.onnx", "--format", "onnx")
    assert rows(told(capsys, "check", tmp_path / "all.onnx")).keys() == {"a", "b"}
    assert (
        cli.run(["export", str(index), "-o", str(tmp_path / "a.safetensors" / "m.index.json"), "--format", "nm"]) == 2
    )
    assert "can't be made (File exists); name another folder" in capsys.readouterr().err


def test_names_that_would_move_the_cursor_are_escaped(tmp_path, capsys):
    w = np.ones((16, 16), np.float32)
    path = save(tmp_path / "a.safetensors", {"a\n\x1b[2J": w, "b": w})
    assert cli.run(["check", str(path)]) == 0
    assert r"a\n\x1b[2J" in capsys.readouterr().out
    w[3, 5] = np.nan
    save(path, {"a\n\x1b[2J": w})
    assert cli.run(["prune", str(path), "-o", str(tmp_path / "b.safetensors"), "--pattern", "2:4"]) == 2
    assert r"a\n\x1b[2J: row 3, group 1" in capsys.readouterr().err
    assert cli.run(["check", str(path), "--include", "\x1b*"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_matrix_without_weights_is_left_dense_with_the_reason(tmp_path, capsys):
    shapes = {"rows": (0, 64), "cols": (64, 0)}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()} | {"w": np.eye(64, dtype="f4")}
    path = save(tmp_path / "a.safetensors", tensors)
    left = told(capsys, "prune", path, "-o", tmp_path / "b.safetensors", "--pattern", "2:4")["left_dense"]
    assert left == dict.fromkeys(shapes, "it has no weights")
    exported = rows(told(capsys, "export", path, "-o", tmp_path / "c.safetensors", "--format", "nm"))
    assert {name: row["reason"] for name, row in exported.items()} == {**left, "w": ""}
