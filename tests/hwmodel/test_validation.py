"""Predictions of measured kernels: errors in bounds, fits that find the truth, hold-outs, and wrong tables."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from hwmodel import validation
from hwmodel.checks import check_sparseloop, check_systolic
from hwmodel.cost import price
from hwmodel.device import load_device
from hwmodel.errors import UserError
from hwmodel.explore import broadcast, evaluate
from hwmodel.fits import read_fits, shipped_fits, write_fits
from hwmodel.libraries import LIBRARIES
from hwmodel.measured import COLUMNS, device_name, read_measured
from hwmodel.processor import BOUNDS
from hwmodel.transfer import constants_of
from hwmodel.validation import calibrate, errors, held_out, predict, priced, report, split_covered
from hwmodel.workload import Operand, Workload, projection

SHIPPED = Path(str(files("hwmodel"))) / "data" / "measured.csv"


@pytest.fixture(scope="module")
def shipped():
    return read_measured(SHIPPED)


def table(path, **changes):
    row = dict.fromkeys(COLUMNS, "") | {
        "device": "A100 SXM 80GB",
        "library": "cuBLAS",
        "op": "gemm",
        "m": "4096",
        "n": "4096",
        "k": "4096",
        "density": "1",
        "dtype": "fp16",
        "quantity": "time",
        "value": "0.6",
        "unit": "ms",
    }
    frame = pd.DataFrame([row, row | changes])
    frame.to_csv(path, index=False)
    return path


def test_shipped_rows_are_all_covered_and_carry_a_licence(shipped):
    rows, uncovered = split_covered(shipped)
    assert len(rows) == len(shipped) >= 400
    assert uncovered.empty
    header = "".join(line for line in SHIPPED.read_text().splitlines(keepends=True) if line.startswith("#"))
    for name in ("venom", "LLMCompass", "Samoyeds", "pytorch"):
        assert name in header


def test_errors_on_the_shipped_rows_are_in_the_stated_bounds(shipped):
    rows, _ = split_covered(shipped)
    made = errors(rows, predict(rows, shipped_fits()), "shipped").set_index(["device", "library", "op"])
    goal = made[[name in ("cuBLAS", "cuSPARSELt", "Spatha") for name in made.index.get_level_values("library")]]
    assert (goal["median"] <= 5).all()
    assert (goal["p90"] <= 15).all()
    assert (made["median"] <= 12).all()


def test_throughput_and_time_are_the_same_measurement(tmp_path):
    fast = 2 * 4096**3 / 0.6e-3 / 1e12
    rows = read_measured(table(tmp_path / "t.csv", value=str(fast), unit="TFLOPS dense-equivalent"))
    assert rows.seconds.iloc[0] == pytest.approx(rows.seconds.iloc[1])


def test_what_is_not_covered_says_why(tmp_path):
    cases = [
        ("op", "conv", "no model of the operation"),
        ("device", "Abacus", "device not in the catalogue"),
        ("device", "stc", "runs no library of a GPU"),
        ("library", "MyGEMM", "library not modelled"),
        ("dtype", "fp8", "no peak rate for fp8"),
        ("k", "", "size is missing"),
        ("unit", "furlongs", "no time or rate"),
        ("value", "0", "value is missing or 0"),
    ]
    for name, value, said in cases:
        rows, uncovered = split_covered(read_measured(table(tmp_path / "t.csv", **{name: value})))
        assert len(rows) == 1
        assert said in uncovered.reason.iloc[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"m": "many"}, 'row 3, column m: "many" is not a number'),
        ({"value": "fast"}, "row 3, column value"),
        ({"value": "-1"}, "row 3, column value: -1 is out of range"),
        ({"m": "1e999"}, "row 3, column m: inf is out of range"),
        ({"v": "0"}, "row 3, column v: 0 is out of range"),
        ({"density": "7"}, "row 3, column density: 7 is more than 1"),
        ({"pattern_n": "4", "pattern_m": "2"}, "row 3, column pattern_n: 4 is more than pattern_m"),
    ],
)
def test_a_value_that_is_no_number_is_found(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        read_measured(table(tmp_path / "t.csv", **changes))


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("H100 80GB HBM3", "h100-sxm"),
        ("A100-SXM4-80GB", "a100-80gb-sxm"),
        ("A100-SXM4-40GB", "a100-40gb-sxm"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("RTX 4090", "rtx-4090"),
    ],
)
def test_a_name_that_a_driver_reports_is_known(reported, name):
    assert device_name(reported) == name


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame({"source": ["x"]}).to_csv(path, index=False)
    with pytest.raises(UserError, match="missing column device"):
        read_measured(path)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n1,2,3,4\n", "\xff"])
def test_a_file_that_is_no_table_is_named(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="latin-1")
    for read in (read_measured, check_systolic, check_sparseloop):
        with pytest.raises(UserError, match=r"t\.csv: (not a CSV table|missing column)"):
            read(path)


def test_rows_are_counted_from_the_top_of_the_file(tmp_path):
    path = table(tmp_path / "t.csv", m="many")
    path.write_text("# a comment\n" + path.read_text())
    with pytest.raises(UserError, match="row 4, column m"):
        read_measured(path)


def test_an_uncovered_table_gives_an_empty_report(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame([dict.fromkeys(COLUMNS, "") | {"device": "Abacus", "op": "gemm"}]).to_csv(path, index=False)
    rows, uncovered = split_covered(read_measured(path))
    none = errors(rows, predict(rows, shipped_fits()), "shipped")
    made = report(none, uncovered, none)
    assert made["groups"] == made["prices"] == []
    assert made["uncovered"][0]["count"] == 1


def grid(device, library, op, density):
    """A table of shapes without times."""
    shapes = [(m, n, k) for m in (256, 1024, 3072) for n in (512, 2048, 8192) for k in (256, 1024, 4096, 8192)]
    frame = pd.DataFrame(shapes, columns=["m", "n", "k"], dtype=float)
    names = {"device": device, "library": library, "op": op, "dtype": "fp16", "accumulate": "", "config": ""}
    kernel = {
        "library_name": library,
        "device_name": load_device(device.lower().replace(" ", "-")).name,
        "dtype_name": "fp16",
    }
    empty = {"v": np.nan, "pattern_n": np.nan, "pattern_m": np.nan, "sparse_operand": "a (m x k)"}
    return frame.assign(density=density, source="made up", **names, **kernel, **empty)


def synthetic():
    """Tables of a dense and a 2:4 library on two devices, timed by the model itself with the shipped constants."""
    parts = [grid(device, "cuBLAS", "gemm", 1.0) for device in ("RTX 3090", "A100 40GB")]
    parts += [grid(device, "cuSPARSELt", "spmm", 0.5) for device in ("RTX 3090", "A100 40GB")]
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(seconds=predict(rows.assign(seconds=1.0), shipped_fits()))


@pytest.fixture
def quick(monkeypatch):
    """Two searches a fit: the shipped constants took twelve."""
    monkeypatch.setattr("hwmodel.validation.STARTS", 2)


def test_a_fit_finds_the_constants_that_made_the_times(quick):
    rows = synthetic()
    fits = calibrate(rows)
    made = errors(rows, predict(rows, fits), "shipped")
    assert (made["median"] < 1).all()
    for fit in fits:
        truth = next(
            f for f in shipped_fits() if (f.library, f.device, f.dtype) == (fit.library, fit.device, fit.dtype)
        )
        assert fit.constants["mac_cost"] == pytest.approx(truth.constants["mac_cost"], rel=0.15)


@pytest.mark.slow
def test_hold_outs_predict_what_they_did_not_see(quick):
    made = held_out(synthetic())
    assert set(made.split) == {"shape", "device"}  # one pattern a library: none can be left out
    shapes = made[made.split == "shape"].set_index("device")["median"]
    assert (shapes["RTX 3090"] < 1).all()
    assert (shapes < 20).all()  # the host hides most of this A100's kernels
    assert set(made[made.split == "device"].library) == {"cuSPARSELt"}


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=40), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_the_quick_quantile_is_that_of_numpy(values, share):
    found = validation._quantile(np.sort(values), share)
    assert found == pytest.approx(np.quantile(values, share), rel=1e-12, abs=1e-300)


def test_fits_survive_a_file(tmp_path):
    write_fits(shipped_fits(), tmp_path / "fits.toml")
    assert tuple(read_fits(tmp_path / "fits.toml")) == shipped_fits()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mac_cost = ", "mac_cost = 9", "mac_cost = 9.* is outside 1 to 40"),
        ("mac_cost = ", "mad_cost = ", "missing constant mac_cost"),
        ("constants = { ", "constants = { speed = 2, ", "unknown constant"),
        ('device = "cpu"', 'device = "cpux"', "unknown device .*did you mean cpu"),
        ('library = "NumPy"', 'library = "Numpyx"', "did you mean NumPy"),
        ('dtype = "fp32"', 'dtype = "fp31"', "did you mean fp32"),
        ("rows = 1", 'rows = "one"', "'one' is str; needs int"),
        ("[[fit]]", "[[fits]]", "no .*fit"),
    ],
)
def test_a_wrong_file_of_fits_is_refused_with_its_place(tmp_path, old, new, said):
    path = tmp_path / "fits.toml"
    write_fits(shipped_fits()[:1], path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=said) as caught:
        read_fits(path)
    assert str(path) in str(caught.value)


def test_fits_of_ones_own_go_before_the_shipped_ones():
    device, work = load_device("rtx-3090"), Workload((projection("site", 4096, Operand(4096, 4096, 16)),))
    shipped = next(f for f in shipped_fits() if (f.library, f.device, f.dtype) == ("cuBLAS", "rtx-3090", "fp16"))
    slower = replace(shipped, constants=shipped.constants | {"mac_cost": 2 * shipped.constants["mac_cost"]})
    before, after = (price(work, device, dtype="fp16", fits=fits) for fits in ((), (slower,)))
    assert after.compute_s == pytest.approx(2 * before.compute_s)
    shape = broadcast(4096, 4096, 4096)
    assert evaluate(shape, device, dtype="fp16", fits=(slower,)).seconds[0] == after.seconds


def test_a_device_of_a_users_file_is_calibrated_and_priced_like_another(tmp_path, quick):
    text = (files("hwmodel") / "devices" / "rtx-3090.toml").read_text().replace('name = "rtx-3090"', 'name = "mine"')
    path = tmp_path / "mine.toml"
    path.write_text(text)
    rows = synthetic()
    rows = rows[(rows.device == "RTX 3090") & (rows.library == "cuBLAS")]
    theirs = calibrate(rows)[0]
    fits = calibrate(rows.assign(device=str(path), device_name=str(path)))
    assert [(fit.device, fit.constants) for fit in fits] == [("mine", theirs.constants)]
    write_fits(fits, tmp_path / "fits.toml")
    assert read_fits(tmp_path / "fits.toml", [load_device(path)]) == fits
    work = Workload((projection("site", 4096, Operand(4096, 4096, 16)),))
    mine, known = (price(work, load_device(name), dtype="fp16", fits=[*fits, theirs]) for name in (path, "rtx-3090"))
    assert mine == known != price(work, load_device(path), dtype="fp16")
    assert device_name(str(path)) == str(path)


def test_no_library_has_more_than_six_numbers_on_a_device_and_type():
    for fit in shipped_fits():
        assert fit.numbers <= 6
        assert set(fit.constants) <= set(BOUNDS)
        assert set(fit.constants) <= set(LIBRARIES[fit.library].free) | {"host_s", "bandwidth_share"}


def test_a_clock_that_was_chosen_to_meet_kernels_counts_as_a_number_of_its_fits():
    fit = next(fit for fit in shipped_fits() if fit.device == "rtx-4070-super")
    assert load_device(fit.device).fitted == ("engine.clock_mhz",)
    assert fit.numbers == LIBRARIES[fit.library].numbers(fit.dtype) + 1


def test_a_price_differs_from_a_prediction_by_the_start_of_the_kernel_alone(shipped):
    rows, _ = split_covered(shipped)
    long = rows[rows.seconds > 2e-3]
    assert (priced(long, shipped_fits()) / predict(long, shipped_fits())).between(0.95, 1.001).all()
    row = rows[(rows.device_name == "rtx-3090") & (rows.library_name == "cuBLAS") & (rows.dtype_name == "fp16")].iloc[
        :1
    ]
    m, n, k = (int(row[name].iloc[0]) for name in ("m", "n", "k"))
    work = Workload((projection("site", n, Operand(m, k, 16)),))
    assert priced(row, shipped_fits()).iloc[0] == price(work, load_device("rtx-3090"), dtype="fp16").seconds


def test_an_untimed_library_borrows_from_the_nearest_device():
    known = constants_of(LIBRARIES["cuSPARSELt"], load_device("a100-80gb-sxm"), "fp16", shipped_fits())
    assert known.basis == "carried over from a100-40gb-sxm"
    dense = constants_of(LIBRARIES["cuBLAS"], load_device("a100-80gb-sxm"), "fp16", shipped_fits())
    assert known.constants.launch_s == dense.constants.launch_s
    assert constants_of(LIBRARIES["NM-SpMM"], load_device("rtx-4090"), "fp32", shipped_fits()).basis.endswith(
        "rtx-3090"
    )


def test_published_schemas_are_checked(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "m,n,k,array_rows,array_cols,dataflow,cycles,overall_util_pct\n1,1,1,16,16,os,30,0\n1,1,2,8,8,os,16,0\n"
    )
    assert check_systolic(path) == {"count": 2, "differing": 1, "ok": False}
    header = "design,m,k,n,weight_density,activation_density,cycles,energy_uJ\n"
    path.write_text(
        header + "STC,128,1152,1024,0.5,0.44,73728,173.42\nSTC,128,1152,1024,0.5,0.44,80000,173.42\nXYZ,1,1,1,1,1,1,1\n"
    )
    stc, other = check_sparseloop(path)
    assert (stc["count"], stc["ok"]) == (2, False)
    assert other["reason"] == "design not modelled"
    path.write_text(header + "STC,128,1152,1024,half,0.44,73728,173.42\n")
    with pytest.raises(UserError, match='row 2, column weight_density: "half"'):
        check_sparseloop(path)
