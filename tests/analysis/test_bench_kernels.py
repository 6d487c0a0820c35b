"""`nmsim bench kernels` and `nmsim bench masks` from end to end, on small problems."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from nmsim_analysis import cli, mask_quality
from nmsim_analysis.commands import bench_masks
from nmsim_analysis.mask_quality import best_sum

from hwmodel.pattern import Pattern
from nmsim.kernels import host

SMALL = ["bench", "kernels", "--shapes", "40,32,64", "--patterns", "1:4", "--threads", "1", "--rounds", "2"]


@pytest.mark.compiled
def test_a_row_for_us_and_every_peer_a_csv_and_a_figure(tmp_path, capsys):
    assert cli.run([*SMALL, "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    contenders = {op: {r["contender"] for r in told["rows"] if r["op"] == op} for op in ("fprop", "dgrad", "refresh")}
    assert {"nmsim", "numpy", "scipy csr", "nmsim at n = m"} <= contenders["fprop"]
    assert contenders["dgrad"] == contenders["refresh"] == {"nmsim", "numpy"}
    assert [level["level"] for level in told["levels"]] == ["L1", "L2", "L3", "DRAM"]
    assert told["peak_flops_per_s"] > 0
    rows = pd.read_csv(tmp_path / "kernels.csv")
    assert len(rows) == len(told["rows"])
    numpy = rows[rows["contender"] == "numpy"]
    assert (numpy["ratio"] == 1).all()
    fprop = rows[(rows["op"] == "fprop") & (rows["contender"] == "nmsim")].iloc[0]
    assert fprop["gflops_per_s"] == pytest.approx(2 * 40 * 32 * 64 / 4 / fprop["median_ms"] / 1e6)
    assert (tmp_path / "roofline.png").stat().st_size > 0


@pytest.mark.compiled
def test_the_table_names_the_blas_and_the_limits(capsys):
    assert cli.run([*SMALL, "--ops", "wgrad", "--vectors", "16"]) == 0
    out = capsys.readouterr().out
    assert "openblas" in out
    assert "GFLOP/s of float32 multiply-adds" in out
    assert "Compressed products" in out


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vectors", "48"], "vectors of 48 bytes; this machine has 16"),
        (["--shapes", "40,32"], 'shape "40,32": write t,d_in,d_out'),
        (["--shapes", "0,32,32"], 'shape "0,32,32": write t,d_in,d_out'),
        (["--ops", "grad"], "grad"),
        (["--rounds", "0"], "rounds"),
    ],
)
def test_what_can_not_be_measured_is_refused(options, message, capsys):
    assert cli.run([*SMALL, *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert host.vector_bytes() == host.widest_vector_bytes()


def test_without_a_compiler_there_is_nothing_to_measure(monkeypatch, capsys):
    monkeypatch.setattr("nmsim_analysis.commands.bench_kernels.COMPILED", False)
    assert cli.run(SMALL) == 2
    assert "NUMBA_DISABLE_JIT is set" in capsys.readouterr().err


def test_the_best_sum_of_a_square_keeps_n_in_rows_and_columns():
    assert best_sum(np.array([[3.0, 2.0], [2.0, 0.0]]), 1) == 4
    assert best_sum(np.array([[3.0, 2.0], [2.0, 0.0]]), 2) == 7


@pytest.mark.compiled
def test_masks_are_compared_over_gaussian_and_trained_weights(capsys, monkeypatch):
    monkeypatch.setattr(mask_quality, "STEPS", 10)
    monkeypatch.setattr(bench_masks, "PATTERNS", (Pattern(2, 4), Pattern(8, 16)))
    assert cli.run(["bench", "masks", "--blocks", "2", "--json"]) == 0
    rows = pd.DataFrame(json.loads(capsys.readouterr().out)["rows"])
    assert len(rows) == 2 * 2 * 2
    assert set(rows["weights"]) == {"Gaussian", "trained"}
    exact = rows.loc[rows["choice"] == "exact", "share_percent"]
    np.testing.assert_allclose(exact, 100, rtol=1e-5)
    assert (rows["share_percent"] > 99).all()
