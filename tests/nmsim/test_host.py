"""What the machine offers, what is forced instead, and the memory that products work in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hwmodel.errors import UserError
from nmsim.kernels import host
from nmsim.kernels.scratch import aligned, scratch


@pytest.mark.parametrize(
    ("features", "width"), [("+avx2,+fma,+avx512f", 64), ("+avx2,+fma,-avx512f", 32), ("+neon", 16), ("", 16)]
)
def test_the_vector_width_follows_the_features_that_numba_compiles_for(monkeypatch, features, width):
    monkeypatch.setattr(host.config, "CPU_FEATURES", features)
    assert host.widest_vector_bytes.__wrapped__() == width


def test_the_vector_width_follows_the_processor_unless_numba_is_told_otherwise(monkeypatch):
    monkeypatch.setattr(host.config, "CPU_FEATURES", None)
    features = type("Features", (), {"flatten": lambda _: "+fma,+avx2"})
    monkeypatch.setattr(host.binding, "get_host_cpu_features", features)
    assert host.widest_vector_bytes.__wrapped__() == 32


@pytest.mark.parametrize("width", [64, 24, 0])
def test_a_width_that_the_machine_does_not_have_is_refused(monkeypatch, width):
    monkeypatch.setattr(host, "widest_vector_bytes", lambda: 32)
    message = f"vectors of {width} bytes; this machine has 16, 32: choose one of them"
    with pytest.raises(UserError, match=message), host.vectors(width):
        pass
    assert host.vector_bytes() == 32


def test_a_forced_width_ends_with_its_block_and_belongs_to_its_thread(monkeypatch):
    monkeypatch.setattr(host, "widest_vector_bytes", lambda: 64)
    with ThreadPoolExecutor(1) as pool, host.vectors(32):
        with host.vectors(16):
            assert host.vector_bytes() == 16
        assert host.vector_bytes() == 32
        assert pool.submit(host.vector_bytes).result() == 64
    assert host.vector_bytes() == 64


@pytest.mark.parametrize(("bytes_", "registers"), [(64, {4: 2, 8: 2}), (32, {4: 1, 8: 0}), (16, {4: 0, 8: 0})])
def test_tables_of_a_permute_follow_the_vector(monkeypatch, bytes_, registers):
    monkeypatch.setattr(host, "vector_bytes", lambda: bytes_)
    assert {size: host.table_registers(size) for size in (4, 8)} == registers
    assert host.accumulators() == (8 if bytes_ == 32 else 12)


def test_the_first_cache_is_known_or_taken_as_the_common_one(monkeypatch):
    assert host.first_cache_bytes.__wrapped__() >= 16 * 1024
    monkeypatch.setattr(host.Path, "read_text", lambda _: "48K\n")
    assert host.first_cache_bytes.__wrapped__() == 48 * 1024
    monkeypatch.setattr(host.Path, "read_text", lambda _: "unknown")
    assert host.first_cache_bytes.__wrapped__() == 32 * 1024


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (1000,)])
def test_aligned_memory_begins_at_a_cache_line(shape, dtype):
    for _ in range(8):
        array = aligned(shape, dtype)
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.ctypes.data % 64 == 0


def test_scratch_memory_grows_is_kept_and_belongs_to_its_thread():
    with ThreadPoolExecutor(1) as pool:  # a thread without any
        first = pool.submit(scratch, 10, np.float32).result()
        assert (first.size, first.dtype) == (10, np.float32)
        assert pool.submit(scratch, 5, np.float64).result().ctypes.data == first.ctypes.data
        larger = pool.submit(scratch, 1000, np.float32).result()
        assert larger.size == 1000
        assert np.shares_memory(pool.submit(scratch, 10, np.float32).result(), larger)
        assert not np.shares_memory(scratch(10, np.float32), larger)
