"""Device files: units, sources, and what a wrong file is told."""

import re

import pytest

from hwmodel.device import CERTAINTIES, cpu_device, load_device, shipped_devices
from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from hwmodel.units import UNITS, split_unit, to_si, units_like

NAMES = [
    "v100",
    "a100-40gb-sxm",
    "a100-80gb-sxm",
    "a100-80gb-pcie",
    "h100-pcie",
    "h100-sxm",
    "h200",
    "l40s",
    "rtx-3090",
    "rtx-4070-super",
    "rtx-4090",
    "b200",
    "mi210",
    "mi300x",
    "tpu-v4",
    "tpu-v5e",
    "systolic",
    "stc",
    "vegeta",
    "unstructured",
    "cpu",
]

GOOD = """
name = "mine"
family = "gpu"
summary = "a test"
libraries = ["cuBLAS"]
power_w = { value = 100, source = "x", certainty = "assumed" }
[engine]
cores_count = { value = 10, source = "x", certainty = "assumed" }
clock_mhz = { value = 1000, source = "x", certainty = "assumed" }
launch_us = { value = 3, source = "x", certainty = "assumed" }
[memory]
capacity_gb = { value = 8, source = "x", certainty = "assumed" }
bandwidth_gb_per_s = { value = 100, source = "x", certainty = "assumed" }
cache_mb = { value = 1, source = "x", certainty = "assumed" }
energy_pj_per_byte = { value = 40, source = "x", certainty = "assumed" }
[peaks.fp16]
dense_tflops_per_s = { value = 10, source = "x", certainty = "assumed" }
"""


def test_every_promised_device_is_there():
    assert {device.name for device in shipped_devices()} == set(NAMES)
    assert load_device("A100").name == "a100-80gb-sxm"


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source_and_a_certainty(name):
    device = load_device(name)
    assert device.sources
    for key, source in device.sources.items():
        assert split_unit(key.rsplit(".", 1)[-1])[1], key
        assert source.source
        assert source.certainty in CERTAINTIES


@pytest.mark.parametrize(("name", "lanes"), [("v100", 512), ("a100", 1024), ("h100-sxm", 2048), ("rtx-4090", 256)])
def test_half_precision_peaks_follow_from_cores_and_clock(name, lanes):
    device = load_device(name)
    derived = device.engine.cores_count * lanes * 2 * device.engine.clock_hz
    assert device.peak("fp16").dense_flops_per_s == pytest.approx(derived, rel=0.01)


def test_sparse_peaks_are_twice_the_dense_ones_for_two_of_four():
    for device in shipped_devices():
        for peak in device.peaks.values():
            if peak.is_sparse:
                assert peak.sparse_flops_per_s == pytest.approx(2 * peak.dense_flops_per_s, rel=0.02)
                assert peak.pattern in (Pattern(2, 4), Pattern(1, 2))


@pytest.mark.parametrize("unit", UNITS)
def test_units_round_trip(unit):
    si, value = to_si(f"thing_{unit}", 3.0)
    quantity, base = split_unit(si)
    assert quantity == "thing"
    assert UNITS[base][1] == 1.0
    assert value == 3.0 * UNITS[unit][1]
    assert unit in units_like(si)


@pytest.fixture
def edited(tmp_path):
    def write(old="", new=""):
        assert old in GOOD
        path = tmp_path / "mine.toml"
        path.write_text(GOOD.replace(old, new))
        return path

    return write


def test_a_users_file_works_the_same_way(edited):
    device = load_device(edited())
    assert device.memory.bandwidth_bytes_per_s == 1e11
    assert load_device(edited("clock_mhz = { value = 1000", "clock_ghz = { value = 1")).engine.clock_hz == 1e9


BAD = [
    ("clock_mhz", "clock", "mine.toml: engine: clock has no unit; write clock_hz or clock_mhz or clock_ghz"),
    (
        "bandwidth_gb_per_s",
        "bandwidth_gb",
        "memory: bandwidth is given in bytes; write bandwidth_bytes_per_s or bandwidth_gb_per_s",
    ),
    ("value = 1000", "value = -1000", "engine.clock_mhz = -1000: a negative number"),
    (
        'clock_mhz = { value = 1000, source = "x", certainty = "assumed" }\n',
        "",
        "engine: missing key clock_hz or clock_mhz",
    ),
    (
        'clock_mhz = { value = 1000, source = "x", certainty = "assumed" }',
        "clock_mhz = 1000",
        r"write \{ value = 1000, source",
    ),
    ('family = "gpu"', 'family = "gpus"', "did you mean gpu"),
    ("cores_count", "core_count", "did you mean cores_count"),
    ('certainty = "assumed" }\n[engine]', 'certainty = "sure" }\n[engine]', "sure"),
    ("[memory]", "[memory", "not valid TOML"),
    (
        "cores_count = { value = 10,",
        "cores_count = { value = 0.5,",
        "engine.cores_count = 0.5: a count; needs a whole number",
    ),
    ("value = 1000", "value = 0", "engine.clock_mhz = 0: needs a number above 0"),
    ("value = 1000", "value = nan", "engine.clock_mhz = nan: needs a number above 0"),
    ('["cuBLAS"]', '["cublas"]', "libraries: unknown library .*did you mean cuBLAS"),
    ('["cuBLAS"]', '["cuSPARSELt"]', "needs a dense one .*cuBLAS"),
    ('["cuBLAS"]', '["cuBLAS"]\naxes = ["reductoin"]', "axes.*did you mean reduction"),
    ("[peaks.fp16]", "[peaks.fp61]", "peaks: unknown dtype .*did you mean fp64"),
    ("[peaks.fp16]", '[peaks.fp16]\npattern = "2:4"', "peaks.fp16: give both"),
    (
        '[peaks.fp16]\ndense_tflops_per_s = { value = 10, source = "x", certainty = "assumed" }',
        "",
        r"missing table \[peaks.TYPE\]",
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), BAD)
def test_a_wrong_file_names_the_key_and_the_unit(edited, old, new, said):
    with pytest.raises(UserError, match=said) as caught:
        load_device(edited(old, new))
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_device_lists_the_known_ones():
    with pytest.raises(UserError, match=re.escape("did you mean h100")) as caught:
        load_device("h10")
    assert "vegeta" in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        load_device("nowhere.toml")


def test_a_probed_host_replaces_the_shipped_rates():
    host = cpu_device(2e11, 2e10, cores=2)
    assert host.peak("fp32").dense_flops_per_s == 2e11
    assert host.sources["memory.bandwidth_bytes_per_s"].certainty == "measured"
    with pytest.raises(UserError, match="bytes_per_s = 0"):
        cpu_device(1e9, 0)
