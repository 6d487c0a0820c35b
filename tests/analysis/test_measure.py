"""Timing of products without a GPU: a made-up backend in PyTorch's place."""

import importlib.util
import os
import sys
from types import SimpleNamespace

import pytest
from nmsim_analysis.measure import CALLS, DTYPES, REPEATS, WARM_UPS, Shape, TorchBackend, grid, measure

from hwmodel.errors import UserError
from hwmodel.fits import shipped_fits
from hwmodel.measured import read_measured
from hwmodel.validation import errors, predict, split_covered


class Fake:
    """Products that take their multiply-adds over a rate, half of them with 2:4; fp8 is not there."""

    device = "RTX 3090"
    cache_bytes = 6_000_000

    def __init__(self):
        self.header = {"driver": "none", "library": "fake"}
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

    def seconds(self, call, indices):
        return sum(map(call, indices)) / len(indices)

    def clock(self):
        return "1000 MHz"


def test_the_grid_has_at_least_two_hundred_shapes():
    assert len(set(grid())) >= 200
    assert {"bf16", "fp16", "int8", "fp8"} == set(DTYPES)


def test_a_table_is_written_that_validate_reads(tmp_path):
    out = tmp_path / "mine.csv"
    shapes = [Shape(4096, 4096, 4096), Shape(1024, 256, 4096)]
    assert measure(out, Fake(), shapes) == 3 * 2 * len(shapes)
    text = out.read_text()
    assert "# driver: none" in text
    assert "# clock under load: 1000 MHz before, 1000 MHz after" in text
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
    assert len(fake.calls) == 2 * (WARM_UPS + REPEATS * CALLS)
    assert buffers[0] * 2 * 512 * (512 + 64) > 2 * fake.cache_bytes
    assert set(indices) == set(range(min(REPEATS * CALLS, buffers[0])))


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_one_line_says_what_to_install():
    with pytest.raises(UserError, match="pip install"):
        TorchBackend()


class Tensor:
    """As much of a tensor as the backend touches."""

    def __init__(self, size, dtype):
        self.shape, self.dtype = size, dtype

    def to(self, dtype):
        return Tensor(self.shape, dtype)

    def t(self):
        return Tensor(self.shape[::-1], self.dtype)

    def float(self):
        return self.to("float32")

    def repeat(self, _):
        return self

    def __mul__(self, _):
        return self


class OutOfMemoryError(RuntimeError):
    """PyTorch's error is a RuntimeError too."""


class Event:
    """A mark in the queue of a device that takes a millisecond a product."""

    def __init__(self, queue):
        self.queue = queue

    def record(self):
        self.at = len(self.queue)

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return float(end.at - self.at)


class Torch:
    """PyTorch on a GPU of 8 GB without fp8: products are counted, not computed."""

    def __init__(self):
        self.queue, self.emptied = [], 0
        self.__version__ = "0"
        self.version = SimpleNamespace(cuda="0")
        self.backends = SimpleNamespace(cusparselt=SimpleNamespace(version=lambda: 1))
        self.cuda = SimpleNamespace(
            is_available=lambda: True,
            get_device_properties=lambda _: SimpleNamespace(name="NVIDIA GeForce RTX 3090", L2_cache_size=6_000_000),
            Event=lambda **_: Event(self.queue),
            synchronize=lambda: None,
            empty_cache=lambda: setattr(self, "emptied", self.emptied + 1),
            OutOfMemoryError=OutOfMemoryError,
        )

    def __getattr__(self, name):
        return name  # the types

    def randint(self, low, high, size, **_):
        if size[0] * size[1] > 8e9:
            raise OutOfMemoryError("CUDA out of memory")
        return Tensor(size, "int8")

    def tensor(self, *_, **__):
        return Tensor((4,), "float32")

    def ones(self, *_, **__):
        return Tensor((), "float32")

    def mm(self, a, b):
        assert a.shape[1] == b.shape[0]
        self.queue.append(a.dtype)

    _int_mm = mm

    def _scaled_mm(self, *_, **__):
        raise RuntimeError("needs compute capability 8.9")

    def _cslt_compress(self, w):
        return w

    _cslt_sparse_mm = mm


@pytest.fixture
def torch(monkeypatch, tmp_path):
    """A stub in PyTorch's place, and an nvidia-smi that says that the clock falls under load."""
    made = Torch()
    monkeypatch.setitem(sys.modules, "torch", made)
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nsleep 0.05\ncase $1 in *clocks.sm*) echo 1395 MHz;; *) echo 550.1, 2100 MHz;; esac\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return made


def test_the_gpu_is_timed_in_runs_of_calls_and_its_clock_read_while_it_works(torch, tmp_path):
    out = tmp_path / "gpu.csv"
    shapes = [Shape(1024, 16, 1024), Shape(1_000_000, 16, 1_000_000)]
    assert measure(out, TorchBackend(), shapes) == 7  # 2:4 in fp8 runs, dense does not
    text = out.read_text()
    assert "# driver and highest clock: 550.1, 2100 MHz" in text
    assert "# clock under load: 1395 MHz before, 1395 MHz after" in text
    for reason in ("1 of bf16: out of memory", "1 of int8 2:4: out of memory", "1 of fp8: needs compute capability"):
        assert reason in text
    assert torch.emptied == 4 * 2  # every type, dense and 2:4
    assert set(read_measured(out).seconds) == {1e-3}
    assert torch.queue.count("float16") > 2 * (WARM_UPS + REPEATS * CALLS)  # and what ran while the clock was read


def test_without_nvidia_smi_the_clock_is_unknown(torch, monkeypatch):
    monkeypatch.setenv("PATH", "")
    backend = TorchBackend()
    assert (backend.header["driver and highest clock"], backend.clock()) == ("unknown", "unknown")
