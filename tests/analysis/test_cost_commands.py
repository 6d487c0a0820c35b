"""The commands of the cost model: cost, validate, calibrate, devices."""

import json
from dataclasses import replace
from importlib.resources import files

import pytest
from nmsim_analysis.cli import run

from hwmodel.fits import shipped_fits, write_fits


def answer(capsys, *tokens):
    assert run([*tokens, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_cost_of_a_product_compares_a_pattern_with_dense(capsys):
    made = answer(capsys, "cost", "gemm", "16384", "8192", "8192", "--pattern", "2:4")
    assert made["device"] == "a100-80gb-sxm"
    assert 1.5 < made["costs"]["2:4"]["gain"] < 2
    assert made["costs"]["dense"]["library"] == "cuBLAS"
    assert "compute-bound" in made["why"]
    assert made["pays_from"] == {"batch": 256, "width": 512, "pattern": "2:4"}


def test_cost_of_a_model_and_of_its_training(capsys):
    model = answer(capsys, "cost", "model", "vit-ti", "--pattern", "1:4", "--device", "vegeta")
    assert model["costs"]["1:4"]["gain"] > 1
    train = answer(capsys, "cost", "train", "vit-ti", "--steps", "10", "--batch", "2", "--device", "vegeta")
    assert train["training_flops"]["forward_sparse"] > train["training_flops"]["forward_and_dgrad_sparse"]
    assert train["memory_bytes"]["activations"] > 0


def test_a_training_step_in_half_precision_moves_half_of_the_activations(capsys):
    command = ("cost", "train", "vit-ti", "--steps", "2", "--batch", "64", "--dtype")
    half, single = (answer(capsys, *command, dtype)["costs"]["dense"]["bytes"] for dtype in ("fp16", "fp32"))
    assert half < 0.6 * single


def test_a_line_a_layer_says_from_how_many_tokens_on_it_pays(capsys):
    layers = {row["name"]: row for row in answer(capsys, "check", "vit-b", "--pattern", "2:4")["tensors"]}
    up = layers["block0.mlp.up"]
    assert up["pays_from"]["batch"] <= 2048
    few = answer(capsys, "check", "vit-b", "--pattern", "2:4", "--tokens", "16")["tensors"]
    assert all("no faster at this size: bound by" in row["rule"] for row in few if row["name"] == "block0.mlp.up")


def test_tables_for_people(capsys):
    assert run(["cost", "gemm", "64", "64", "64", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "uncalibrated" in told
    assert "main memory" in told
    assert "dense, J: rest" in told
    assert run(["cost", "gemm", "197", "768", "3072", "--pattern", "4:8"]) == 0
    told = capsys.readouterr().out
    assert "4:8 is not contained in 2:4" in told
    assert "Break-even" in told
    assert run(["devices"]) == 0
    assert run(["devices", "rtx-3090"]) == 0
    assert run(["devices", "--fits"]) == 0
    assert "cuSPARSELt" in capsys.readouterr().out
    assert run(["validate"]) == 0
    assert "fp16/bf16" in capsys.readouterr().out  # piped tables are not folded to the width of a terminal


def test_devices_as_data(capsys):
    assert len(answer(capsys, "devices")) == 21
    assert answer(capsys, "devices", "a100")["numbers"]["memory.capacity_gb"]["value"] == 80
    assert "mac_cost" in answer(capsys, "devices", "--fits")["constants"]


def test_validate_keeps_its_contract(capsys):
    made = answer(capsys, "validate")
    keys = {"device", "library", "op", "dtype", "split", "count", "mean", "median", "p90", "worst"}
    assert all(set(group) == keys and group["split"] == "shipped" for group in made["groups"])
    assert all(set(group) == keys and group["split"] == "price" for group in made["prices"])
    assert len(made["prices"]) == len(made["groups"])
    assert made["uncovered"] == []


def test_calibrate_writes_a_file_of_constants(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hwmodel.validation.STARTS", 1)
    source = (files("hwmodel") / "data" / "measured.csv").read_text().splitlines()
    kept = [line for line in source if line.startswith(("#", "source")) or ",gelu," in line]
    table = tmp_path / "gelu.csv"
    table.write_text("\n".join(kept) + "\n")
    assert run(["calibrate", str(table), "-o", str(tmp_path / "mine.toml")]) == 0
    assert "PyTorch gelu" in (tmp_path / "mine.toml").read_text()
    assert "median error" in capsys.readouterr().out


@pytest.fixture
def slower(tmp_path):
    """A file in which cuBLAS on the A100 takes twice the shipped time of a multiply-add."""
    own = [fit for fit in shipped_fits() if (fit.library, fit.device) == ("cuBLAS", "a100-80gb-sxm")]
    path = tmp_path / "fits.toml"
    write_fits([replace(f, constants=f.constants | {"mac_cost": 2 * f.constants["mac_cost"]}) for f in own], path)
    return str(path)


@pytest.mark.parametrize(
    ("tokens", "time"),
    [
        (("cost", "gemm", "8192", "8192", "8192"), lambda made: made["costs"]["dense"]["seconds"]),
        (("cost", "model", "vit-l", "--batch", "64"), lambda made: made["costs"]["dense"]["seconds"]),
        (
            ("cost", "train", "vit-b", "--batch", "32", "--steps", "2"),
            lambda made: made["costs"]["dense"]["seconds"],
        ),
        (("check", "vit-l", "--pattern", "2:4"), lambda made: made["total"]["dense_seconds"]),
        (
            ("validate",),
            lambda made: max(
                g["median"] for g in made["groups"] if (g["device"], g["library"]) == ("A100 SXM 80GB", "cuBLAS")
            ),
        ),
    ],
)
def test_fits_of_ones_own_are_used(capsys, slower, tokens, time):
    shipped, mine = (time(answer(capsys, *tokens, *extra)) for extra in ((), ("--fits", slower)))
    assert mine > 1.2 * shipped


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["cost", "gemm", "4", "4", "4", "--fits", "nowhere.toml"], "nowhere.toml: no such file"),
        (["check", "vit-b", "--pattern", "2:4", "--fits", "nowhere.toml"], "nowhere.toml: no such file"),
        (["validate", "--fits", "nowhere.toml"], "nowhere.toml: no such file"),
        (["cost", "gemm", "4", "4", "4", "--device", "a10"], "did you mean a100"),
        (["cost", "gemm", "4", "4", "4", "--pattern", "4:2"], "needs 1 <= n <= m"),
        (["cost", "gemm", "4", "30", "4", "--pattern", "2:4"], "inner = 30 is not a multiple of m = 4; pad it to 32"),
        (["cost", "gemm", "1.5", "4", "4"], '"1.5" is not a whole number'),
        (["cost", "train", "vit-b", "--steps", "1e3"], '"1e3" is not a whole number'),
        (["check", "vit-z", "--pattern", "2:4"], 'no such file; unknown model "vit-z"; did you mean vit-'),
        (["cost", "gemm", "0", "4", "4"], "needs at least 1"),
        (["cost", "model", "vit-z"], "did you mean vit-"),
        (["cost", "model", "vit-b", "--sites", "*.ffn.*"], "matches no site"),
        (["cost", "train", "vit-b", "--recipe", "srste"], "did you mean sr_ste"),
        (["cost", "train", "llama-7b", "--steps", "3"], "GB too much"),
        (["cost", "model", "llama-7b", "--device", "rtx-4070-super"], "GB too much"),
        (["cost", "model", "vit-b", "--phase", "decode"], "ViTConfig computes all positions at once"),
        (["cost", "model", "gpt2-small", "--context", "-1"], "context = -1: needs at least 0"),
        (
            ["cost", "model", "bert-base", "--tokens", "8", "--context", "5"],
            "EncoderConfig caches no earlier positions",
        ),
        (["cost", "model", "vit-b", "--tokens", "10"], "vit-b: an image has 197 positions; leave --tokens"),
        (["cost", "model", "swin-v2-t", "--context", "3"], "swin-v2-t: an image has 4096 positions"),
        (["cost", "model", "gpt2-small", "--tokens", "5000"], "5000 positions after 0; it has learned 1024 positions"),
        (["cost", "model", "vit-b", "--pattern", "2:5"], "block0.mlp.up: d_in = 768 is not a multiple of m = 5"),
        (["cost", "train", "vit-b", "--pattern", "2:5"], "block0.mlp.up: d_in=768 is not a multiple of m=5"),
        (["cost", "train", "vit-b", "--steps", "0"], "steps = 0: needs at least 1"),
        (["validate", "--measurements", __file__], "test_cost_commands.py: "),
        (["cost", "gemm", "4", "4", "4", "--library", "cublas"], "did you mean cuBLAS"),
        (["validate", "--measurements", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_a_users_mistake_gives_one_line_and_status_two(capsys, tokens, said):
    assert run(tokens) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
