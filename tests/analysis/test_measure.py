"""Timing of products without a GPU: a made-up backend in PyTorch's place."""

import importlib.util

import pytest
from nmsim_analysis.measure import DTYPES, REPEATS, WARM_UPS, Shape, TorchBackend, grid, measure

from hwmodel.errors import UserError
from hwmodel.fits import shipped_fits
from hwmodel.measured import read_measured
from hwmodel.validation import errors, predict, split_covered


class Fake:
    """Products that take their multiply-adds over a rate, half of them with 2:4; fp8 is not there."""

    device = "RTX 3090"
    cache_bytes = 6_000_000

    def __init__(self):
        self.header = {"driver": "none", "library": "fake", "clock": "0 MHz"}
        self.calls = []

    def dense(self, shape, dtype, buffers):
        if dtype == "fp8":
            raise UserError("fp8: not on this device")
        return lambda index: (
            self.calls.append((index, buffers)) or 2 * shape.d_out * shape.tokens * shape.d_in / 60e12 + 2e-5
        )

    def sparse(self, shape, dtype, buffers):
        dense = self.dense(shape, dtype, buffers)
        return lambda index: dense(index) / 2

    def seconds(self, call, index):
        return call(index)


def test_the_grid_has_at_least_two_hundred_shapes():
    assert len(set(grid())) >= 200
    assert {"bf16", "fp16", "int8", "fp8"} == set(DTYPES)


def test_a_table_is_written_that_validate_reads(tmp_path):
    out = tmp_path / "mine.csv"
    shapes = [Shape(4096, 4096, 4096), Shape(1024, 256, 4096)]
    assert measure(out, Fake(), shapes) == 3 * 2 * len(shapes)
    text = out.read_text()
    assert "# driver: none" in text
    assert "fp8: not on this device" in text
    rows, uncovered = split_covered(read_measured(out))
    assert uncovered.empty
    assert set(rows.library) == {"cuBLAS", "cuSPARSELt"}
    assert rows.seconds.iloc[0] == pytest.approx(2 * 4096**3 / 60e12 + 2e-5, rel=1e-3)
    assert len(errors(rows, predict(rows, shipped_fits()), "shipped")) == 6


def test_buffers_rotate_and_exceed_the_cache(tmp_path):
    fake = Fake()
    measure(tmp_path / "mine.csv", fake, [Shape(512, 64, 512)], ["fp16"])
    indices, buffers = zip(*fake.calls, strict=True)
    assert len(fake.calls) == 2 * (WARM_UPS + REPEATS)
    assert buffers[0] * 2 * 512 * (512 + 64) > 2 * fake.cache_bytes
    assert set(indices) == set(range(min(REPEATS, buffers[0])))


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_one_line_says_what_to_install():
    with pytest.raises(UserError, match="pip install"):
        TorchBackend()
