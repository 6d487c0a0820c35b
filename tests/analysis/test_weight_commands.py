"""`nmsim check`, `prune`, `export` and `import` from end to end, and what they say of mistakes."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from commands import rows, told
from nmsim_analysis import cli
from weightfiles import save

from nmsim.formats.dtypes import bits
from nmsim.formats.safetensors import Reader


@pytest.fixture
def checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"block0.mlp.up.weight": (128, 64), "block0.mlp.down.weight": (64, 128), "embed.weight": (100, 64)}
    tensors = {name: rng.standard_normal(shape).astype(ml_dtypes.bfloat16) for name, shape in shapes.items()}
    return save(tmp_path / "model.safetensors", tensors | {"norm.weight": np.ones(64, np.float32)})


def test_from_a_checkpoint_to_a_pruned_checked_and_exported_one(checkpoint, tmp_path, capsys):
    before = rows(told(capsys, "check", checkpoint, "--pattern", "2:4"))["block0.mlp.up.weight"]
    assert (before["found"], before["obeys"], before["eligible"]) == ("1:1", False, True)
    pruned = tmp_path / "pruned.safetensors"
    report = told(capsys, "prune", checkpoint, "-o", pruned, "--pattern", "2:4", "--exclude", "embed*")
    assert {row["name"] for row in report["pruned"]} == {"block0.mlp.up.weight", "block0.mlp.down.weight"}
    assert all(0.6 < row["kept_magnitude"] < 0.9 and 0 < row["relative_error"] < 0.5 for row in report["pruned"])
    assert "1-D" in report["left_dense"]["norm.weight"]
    after = rows(told(capsys, "check", pruned))["block0.mlp.up.weight"]
    assert (after["found"], after["pattern"], after["obeys"], after["nonzero"]) == ("2:4", "2:4", True, 0.5)
    assert after["bytes"]["index"] == after["bytes"]["dense"] * 9 // 16
    assert 1 <= after["gain"] <= 2
    packed, back = tmp_path / "packed.safetensors", tmp_path / "back.safetensors"
    exported = told(capsys, "export", pruned, "-o", packed, "--format", "torch-semi-structured")
    assert exported["bytes"] == packed.stat().st_size
    assert [row["name"] for row in exported["tensors"] if row["reason"]] == ["embed.weight"]
    assert told(capsys, "import", packed, "-o", back)["decoded"] == ["block0.mlp.down.weight", "block0.mlp.up.weight"]
    assert back.read_bytes() == pruned.read_bytes()


def test_an_exported_graph_is_as_large_as_it_is_with_the_weights_beside_it(checkpoint, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr("nmsim.formats.onnx_io._MAX_BYTES", 100)
    exported = told(capsys, "export", checkpoint, "-o", tmp_path / "a.onnx", "--format", "onnx")
    assert exported["bytes"] == sum((tmp_path / name).stat().st_size for name in ("a.onnx", "a.onnx.data"))


def test_export_says_where_negative_zeros_lose_their_sign(tmp_path, capsys):
    path = save(tmp_path / "a.safetensors", {"a.weight": np.tile(np.array([1, -2, 0, -0.0], np.float16), (64, 32))})
    out = str(tmp_path / "b.safetensors")
    assert cli.run(["export", str(path), "-o", out, "--format", "nm", "--pattern", "2:4"]) == 0
    assert "a.weight: 2,048 weights of -0.0 had no room and come back as +0.0" in capsys.readouterr().out


def test_an_exported_file_is_checked_pruned_and_exported_as_the_weights_it_stands_for(checkpoint, tmp_path, capsys):
    pruned, packed, again = (tmp_path / f"{name}.safetensors" for name in ("pruned", "packed", "again"))
    told(capsys, "prune", checkpoint, "-o", pruned, "--pattern", "2:4", "--exclude", "embed*")
    told(capsys, "export", pruned, "-o", packed, "--format", "nm")
    before, after = rows(told(capsys, "check", pruned)), rows(told(capsys, "check", packed))
    for name, row in after.items():
        encoded = name != "embed.weight"
        assert row["stored"] == ("nm" if encoded else "dense")
        assert row["stored_bytes"] == row["bytes"]["index" if encoded else "dense"]
        assert row | {"stored": "", "stored_bytes": 0} == before[name] | {"stored": "", "stored_bytes": 0}
    told(capsys, "export", packed, "-o", again, "--format", "sparse-24-bitmask", "--exclude", "embed*")
    told(capsys, "import", again, "-o", tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == pruned.read_bytes()
    for source in (pruned, packed):
        told(capsys, "prune", source, "-o", tmp_path / f"1_4_{source.name}", "--pattern", "1:4")
    assert (tmp_path / "1_4_pruned.safetensors").read_bytes() == (tmp_path / "1_4_packed.safetensors").read_bytes()


def test_check_says_in_words_what_keeps_a_file_large_and_slow(checkpoint, tmp_path, capsys):
    pruned = tmp_path / "pruned.safetensors"
    assert cli.run(["prune", str(checkpoint), "-o", str(pruned), "--pattern", "2:4", "--exclude", "embed*"]) == 0
    assert "zeros are stored" in capsys.readouterr().out
    assert cli.run(["check", str(pruned), "--tokens", "65536"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert sum("block0.mlp.up.weight" in line for line in said) == 1
    saved = 2 * 128 * 64 * 2 * 7 // 16
    assert (
        f"not smaller yet: 2 matrices are stored with their zeros; nmsim export --format nm would save {saved:,}"
        in ("\n".join(said))
    )
    assert any(line.startswith("rule 1 (2 of 3): ") for line in said)
    assert "1 left dense (1-D; only matrices are candidates): norm.weight" in said


def test_a_plan_prunes_each_group_of_tensors_in_its_own_way(checkpoint, tmp_path, capsys):
    rng = np.random.default_rng(1)
    inputs = {
        "block0.mlp.down": rng.standard_normal((200, 128)).astype(np.float32),
        "block0.mlp.up.weight": rng.standard_normal((200, 64)).astype(np.float32),
    }
    save(tmp_path / "x.safetensors", inputs)
    (tmp_path / "plan.toml").write_text(
        """
        [[prune]]
        tensors = "*.up.weight"
        pattern = "1:8"
        method = "wanda"
        [[prune]]
        tensors = "*.down.weight"
        pattern = "2:4"
        method = "sparsegpt"
        [[prune]]
        tensors = "embed*"
        pattern = "dense"
        """
    )
    out = tmp_path / "pruned.safetensors"
    report = told(
        capsys,
        "prune",
        checkpoint,
        "-o",
        out,
        "--plan",
        tmp_path / "plan.toml",
        "--calibration",
        tmp_path / "x.safetensors",
    )
    assert {row["name"]: row["pattern"] for row in report["pruned"]} == {
        "block0.mlp.up.weight": "1:8",
        "block0.mlp.down.weight": "2:4",
    }
    by_name = {row["name"]: row for row in report["pruned"]}
    assert by_name["block0.mlp.down.weight"]["output_error"] < by_name["block0.mlp.down.weight"]["relative_error"]
    found = {name: row["found"] for name, row in rows(told(capsys, "check", out)).items()}
    assert found == {"block0.mlp.up.weight": "1:8", "block0.mlp.down.weight": "2:4", "embed.weight": "1:1"}
    with Reader(checkpoint) as old, Reader(out) as new:
        w, pruned = old.read("block0.mlp.up.weight"), new.read("block0.mlp.up.weight")
        kept = bits(pruned) != 0
        assert np.array_equal(bits(pruned)[kept], bits(w)[kept])
        x = inputs["block0.mlp.down"]
        w, pruned = (source.read("block0.mlp.down.weight").astype(np.float32) for source in (old, new))
        by_size = np.where(
            np.abs(w) >= np.sort(np.abs(w).reshape(64, -1, 4), axis=-1)[..., 2:3].repeat(4, -1).reshape(w.shape), w, 0
        )
    lost = np.linalg.norm(x @ (w - pruned).T)
    assert lost < np.linalg.norm(x @ (w - by_size).T)
    told_of = by_name["block0.mlp.down.weight"]["output_error"]
    assert told_of == pytest.approx(lost / np.linalg.norm(x @ w.T), rel=1e-3)
    options = ["--pattern", "2:4", "--include", "*.mlp.*", "--calibration", tmp_path / "x.safetensors"]
    by_magnitude = told(capsys, "prune", checkpoint, "-o", tmp_path / "by_magnitude.safetensors", *options)
    assert by_magnitude["pruned"][0]["output_error"] > told_of


def test_groups_down_the_columns_are_pruned_and_found(checkpoint, tmp_path, capsys):
    out = tmp_path / "pruned.safetensors"
    told(capsys, "prune", checkpoint, "-o", out, "--pattern", "1:4", "--axis", "0")
    assert rows(told(capsys, "check", out, "--axis", "0"))["block0.mlp.up.weight"]["found"] == "1:4"
    across = rows(told(capsys, "check", out))["block0.mlp.up.weight"]
    assert (across["found"], across["axis"], across["groups_axis"], across["eligible"]) == ("1:4", 1, 0, False)
    assert across["rule"].startswith("axis: groups run along d_out")
    asked = rows(told(capsys, "check", out, "--pattern", "2:4"))["block0.mlp.up.weight"]
    assert (asked["obeys"], asked["groups_axis"]) == (True, 0)


def test_an_onnx_model_is_checked_and_pruned_along_the_axis_its_products_sum_over(checkpoint, tmp_path, capsys):
    pytest.importorskip("onnx")
    graph, pruned = tmp_path / "model.onnx", tmp_path / "pruned.onnx"
    told(capsys, "export", checkpoint, "-o", graph, "--format", "onnx", "--dtype", "float32")
    told(capsys, "prune", graph, "-o", pruned, "--pattern", "2:4")
    assert rows(told(capsys, "check", pruned))["embed.weight"]["found"] == "2:4"


def test_the_bytes_of_an_export_are_those_of_all_its_shards(checkpoint, tmp_path, capsys):
    with Reader(checkpoint) as source:
        names = dict.fromkeys(source.specs, checkpoint.name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    told_of = told(capsys, "export", index, "-o", tmp_path / "out" / index.name, "--format", "sparse-bitmask")
    assert told_of["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())


def test_a_named_model_is_judged_by_its_shapes(capsys):
    table = told(capsys, "check", "gpt2-small", "--pattern", "2:4", "--device", "v100", "--include", "block0.*")
    assert len(table["tensors"]) == 6
    assert not any(row["eligible"] for row in table["tensors"])
    assert all("no bf16" in row["rule"] for row in table["tensors"])
    assert table["total"]["gain"] == 1


def test_a_single_token_gains_nothing_and_is_told_why(capsys):
    table = told(capsys, "check", "gpt2-small", "--pattern", "2:4", "--tokens", "1", "--include", "block*")
    assert all(row["gain"] == 1 and "no faster at this size: bound by" in row["rule"] for row in table["tensors"])


def test_tables_for_people_name_every_tensor(checkpoint, tmp_path, capsys):
    out = tmp_path / "pruned.safetensors"
    assert cli.run(["prune", str(checkpoint), "-o", str(out), "--pattern", "2:4"]) == 0
    assert cli.run(["check", str(out)]) == 0
    assert cli.run(["export", str(out), "-o", str(tmp_path / "nm.safetensors"), "--format", "nm"]) == 0
    assert cli.run(["import", str(tmp_path / "nm.safetensors"), "-o", str(tmp_path / "back.safetensors")]) == 0
    said = capsys.readouterr().out
    assert said.count("block0.mlp.up.weight") == 3
    assert "3 matrices pruned" in said
    assert "modelled gain" in said
    assert "3 matrices decoded" in said


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["check", "absent.safetensors"], "no such file"),
        (["check", "gpt2-small"], "give --pattern"),
        (["check", "FILE", "--tokens", "0"], "needs at least 1"),
        (["check", "FILE", "--include", "x*"], "matches no tensor"),
        (["prune", "FILE", "-o", "FILE", "--pattern", "2:4"], "would replace"),
        (["prune", "FILE", "-o", "OUT"], "either --pattern"),
        (["prune", "FILE", "-o", "OUT", "--pattern", "2:4", "--plan", "p.toml"], "either --pattern"),
        (["prune", "FILE", "-o", "OUT", "--pattern", "2:4", "--method", "wanda"], "needs --calibration"),
        (["prune", "FILE", "-o", "OUT", "--pattern", "2:7"], "no tensor can be pruned"),
        (["export", "FILE", "-o", "OUT", "--format", "nmm"], "did you mean nm"),
        (["export", "FILE", "-o", "OUT", "--format", "onnx"], "ends in .onnx"),
        (["export", "FILE", "-o", "OUT", "--format", "nm", "--dtype", "half"], "unknown dtype"),
        (["prune", "FILE", "-o", "OUT", "--pattern", "dense"], "(3 left dense (not asked for): "),
        (["prune", "FILE", "-o", "OUT", "--pattern", "2:4", "--exclude", "*"], "choose other tensors"),
        (["prune", "FILE", "-o", "m.index.json", "--pattern", "2:4"], "model.safetensors is one file, and stays one"),
        (["import", "absent.safetensors", "-o", "OUT"], "no such file"),
        (["export", "FOLDER", "-o", "OUT", "--format", "dense"], "no checkpoint.safetensors"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(tokens, said, checkpoint, tmp_path, capsys):
    places = {"FILE": str(checkpoint), "OUT": str(tmp_path / "out.safetensors"), "FOLDER": str(tmp_path)}
    assert cli.run([places.get(token, token) for token in tokens]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("inputs", "said"), [({"embed": (9, 65)}, "must be [t, 64]"), ({"other": (9, 64)}, "no inputs of embed.weight")]
)
def test_calibration_inputs_that_do_not_fit_are_named_before_anything_is_written(
    inputs, said, checkpoint, tmp_path, capsys
):
    x = save(tmp_path / "x.safetensors", {name: np.ones(shape, np.float32) for name, shape in inputs.items()})
    out = tmp_path / "out.safetensors"
    tokens = [
        "prune",
        checkpoint,
        "-o",
        out,
        "--pattern",
        "2:4",
        "--include",
        "embed*",
        "--method",
        "sparsegpt",
        "--calibration",
        x,
    ]
    assert cli.run([*map(str, tokens)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_calibration_inputs_that_say_nothing_are_named(tmp_path, capsys):
    w = save(tmp_path / "w.safetensors", {"w": np.eye(16, dtype="f4")})
    for x, said in [
        (np.full((4, 16), np.nan, np.float32), "their squares are not finite"),
        (np.full((4, 16), 1e30, np.float32), "their squares are not finite"),
        (np.zeros((4, 16), np.float32), "their squares are all zero"),
        (np.zeros((0, 16), np.float32), "are [0, 16]; they must be [t, 16]"),
        (np.ones((4, 16), np.int32), "are int32; they must be one of float32"),
    ]:
        inputs = save(tmp_path / "x.safetensors", {"w": x})
        tokens = ["prune", w, "-o", tmp_path / "out.safetensors", "--pattern", "2:4", "--method", "wanda"]
        assert cli.run([*map(str, tokens), "--calibration", str(inputs)]) == 2
        assert f"{inputs}: inputs of w" in (err := capsys.readouterr().err)
        assert said in err
        assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.float8_e4m3fn], ids=lambda t: t.__name__)
def test_corrected_weights_that_are_too_large_for_the_file_are_named_and_nothing_is_written(dtype, tmp_path, capsys):
    """Inputs that are nearly equal put the pruned half's weight on the half that stays."""
    rng = np.random.default_rng(0)
    w = save(tmp_path / "w.safetensors", {"w": np.full((16, 16), ml_dtypes.finfo(dtype).max, dtype)})
    inputs = rng.standard_normal((64, 1)) + 0.01 * rng.standard_normal((64, 16))
    x = save(tmp_path / "x.safetensors", {"w": inputs.astype(np.float32)})
    tokens = ["prune", w, "-o", tmp_path / "o", "--pattern", "2:4", "--method", "sparsegpt", "--calibration", x]
    assert cli.run([*map(str, tokens)]) == 2
    assert f"is too large for {np.dtype(dtype).name}; choose a wider dtype" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


RUN = """
steps = 2
batch = 8
data = { name = "mnist1d" }
model = { kind = "mlp", width = 32, depth = 2 }
sparsity = [{ recipe = "sr_ste", pattern = "2:4", sites = "layer1" }]
"""


@pytest.mark.compiled
def test_the_folder_of_a_run_is_exported_as_its_model_uses_it(tmp_path, capsys):
    (tmp_path / "run.toml").write_text(RUN)
    folder = told(capsys, "train", tmp_path / "run.toml", "--out", tmp_path / "runs")["folder"]
    out = tmp_path / "weights.safetensors"
    told(capsys, "export", folder, "-o", out, "--format", "dense")
    found = {name: row["found"] for name, row in rows(told(capsys, "check", out)).items()}
    assert found == {"layer0": "1:1", "layer1": "2:4", "head": "1:1"}
    assert rows(told(capsys, "check", folder)).keys() == found.keys()


STILL = RUN.replace("steps = 2", "steps = 1\noptimizer = { lr = 1e-30 }")


@pytest.mark.compiled
@pytest.mark.parametrize(("form", "recipe"), [("dense", "random_ste"), ("nm", "sr_ste"), ("onnx", "transposable")])
def test_an_exported_run_starts_the_next_one(form, recipe, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(RUN.replace("sr_ste", recipe))
    first = told(capsys, "train", tmp_path / "run.toml", "--out", tmp_path / "runs")
    ending = "onnx" if form == "onnx" else "safetensors"
    out = tmp_path / f"weights.{ending}"
    told(capsys, "export", first["folder"], "-o", out, "--format", form)
    (tmp_path / "still.toml").write_text(STILL.replace("sr_ste", "static_random"))
    second = told(capsys, "train", tmp_path / "still.toml", "--init", out, "--out", tmp_path / "runs")
    for key in ("loss_nats", "validation_loss_nats", "accuracy_percent"):
        assert second[key] == pytest.approx(first[key], rel=1e-6)
    assert rows(told(capsys, "check", second["folder"]))["layer1"]["found"] == "2:4"


@pytest.mark.compiled
def test_a_file_that_fits_no_model_is_named_before_a_run_is_recorded(checkpoint, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(RUN)
    assert cli.run([*map(str, ("train", tmp_path / "run.toml", "--init", checkpoint, "--out", tmp_path / "runs"))]) == 2
    err = capsys.readouterr().err
    assert "embed.weight is no parameter of this model" in err
    assert err.count("\n") == 1
    assert not list((tmp_path / "runs" / "runs").iterdir())
