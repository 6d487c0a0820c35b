"""Pruning of files: exactly n of every m, the largest, bit for bit; blocks don't show; memory is bounded."""

from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weightfiles import save

from hwmodel.errors import UserError
from hwmodel.pattern import DENSE, Pattern
from nmsim.formats import tensors as tensors_module
from nmsim.formats.detect import look
from nmsim.formats.dtypes import bits, largest, magnitude, named, to_float32
from nmsim.formats.header import file_order, header_bytes
from nmsim.formats.memory import Memory
from nmsim.formats.pruning import Choice, by_magnitude, misfit, prune_file
from nmsim.formats.safetensors import Reader
from nmsim.formats.tensors import TensorSpec

WEIGHT_DTYPES = [named(name) for name in ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")]
P24 = Pattern(2, 4)


def nothing(nbytes):
    pass


def finite(rng, shape, dtype):
    """Finite weights of a dtype, with -0.0, denormals and many ties."""
    unsigned = rng.integers(0, largest(dtype) + 1, shape).astype(f"u{dtype.itemsize}")
    coarse = np.where(rng.random(shape) < 0.3, unsigned & np.array(0x7C, unsigned.dtype), unsigned)
    sign = rng.integers(0, 2, shape).astype(unsigned.dtype) << (8 * dtype.itemsize - 1)
    return (coarse | sign).astype(unsigned.dtype).view(dtype)


def naive(w, pattern, axis):
    """The definition, group by group: the n largest |w|, ties to the lower index, bits as they were."""
    lines = np.moveaxis(w, axis, -1)
    out = np.zeros(lines.shape, bits(w).dtype)
    for row, line in enumerate(lines):
        for start in range(0, len(line), pattern.m):
            sizes = [-abs(float(value)) for value in line[start : start + pattern.m]]
            for j in sorted(range(pattern.m), key=lambda j, sizes=sizes: (sizes[j], j))[: pattern.n]:
                out[row, start + j] = bits(line[start + j : start + j + 1])[0]
    return np.moveaxis(out.view(w.dtype), -1, axis)


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES, ids=str)
@settings(max_examples=20)  # every example is synced to disk
@given(
    seed=st.integers(0, 2**32),
    pattern=st.sampled_from([P24, Pattern(1, 2), Pattern(1, 4), Pattern(3, 4), Pattern(1, 3), Pattern(7, 16)]),
    block=st.sampled_from([1, 64, 1 << 20]),
)
def test_pruning_keeps_the_largest_of_every_group_bit_for_bit(dtype, seed, pattern, block, tmp_path_factory):
    rng = np.random.default_rng(seed)
    axis = int(rng.integers(2))
    w = finite(rng, (16, 48) if axis else (48, 16), dtype)
    folder = tmp_path_factory.mktemp("p")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors_module, "BLOCK_BYTES", block)
        with Memory({"w": w, "kept": np.arange(5)}, "a") as source:
            (told,) = prune_file(source, folder / "b.safetensors", {"w": Choice(pattern, axis, by_magnitude)}, nothing)
    with Reader(folder / "b.safetensors") as source:
        pruned = source.read("w")
        assert source.read("kept").tolist() == list(range(5))
    assert np.array_equal(bits(pruned), bits(naive(w, pattern, axis)))
    exact = to_float32(w).astype(np.float64), to_float32(pruned).astype(np.float64)
    assert told.kept_magnitude == pytest.approx(np.abs(exact[1]).sum() / np.abs(exact[0]).sum(), rel=1e-5)
    assert told.relative_error == pytest.approx(
        np.linalg.norm(exact[0] - exact[1]) / np.linalg.norm(exact[0]), rel=1e-5
    )


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES, ids=str)
def test_magnitudes_as_integers_order_as_values_do(dtype):
    values = finite(np.random.default_rng(0), 1000, dtype)
    order = np.abs(to_float32(values))
    assert np.array_equal(
        np.sign(np.subtract.outer(order, order)),
        np.sign(np.subtract.outer(magnitude(values).astype(np.int64), magnitude(values).astype(np.int64))),
    )


@pytest.mark.compiled
@pytest.mark.parametrize(("value", "place"), [(np.nan, "row 5, group 3"), (np.inf, "row 5, group 3")])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_weight_that_is_not_finite_is_named_and_nothing_is_written(value, place, axis, tmp_path):
    w = np.ones((16, 16), ml_dtypes.bfloat16)
    w[(5, 14) if axis == 1 else (14, 5)] = value
    path = save(tmp_path / "a.safetensors", {"w": w})
    with Reader(path) as source, pytest.raises(UserError, match=f"w: {place}: weight .* is not finite"):
        prune_file(source, tmp_path / "b.safetensors", {"w": Choice(P24, axis, by_magnitude)}, nothing)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        ((4,), np.float32, "1-D"),
        ((4, 4), np.int8, "int8"),
        ((4, 6), np.float32, "d_in=6 is not a multiple of m=4"),
        ((4, 8), np.float32, ""),
    ],
)
def test_what_can_not_be_pruned_has_a_reason(shape, dtype, said):
    assert said in misfit(TensorSpec(np.dtype(dtype), shape), P24, 1)
    assert bool(said) == bool(misfit(TensorSpec(np.dtype(dtype), shape), P24, 1))


def brute_force(w, axis):
    """The sparsest pattern by trying every m."""
    lines = np.moveaxis(np.asarray(w != 0), axis, -1)
    best = DENSE
    for m in range(2, 65):
        if lines.shape[1] % m == 0:
            most = int(lines.reshape(-1, m).sum(axis=1).max())
            candidate = Pattern(max(1, most), m)
            if candidate.density < best.density:
                best = candidate
    return best


@given(
    seed=st.integers(0, 2**32),
    axis=st.sampled_from([0, 1]),
    cols=st.sampled_from([1, 12, 48, 60, 64, 70, 128, 130, 192]),
    rows=st.sampled_from([6, 16, 60]),
)
def test_the_pattern_found_is_the_sparsest_that_is_obeyed(seed, axis, cols, rows):
    rng = np.random.default_rng(seed)
    w = np.where(rng.random((rows, cols)) < rng.choice([0, 0.02, 0.2, 0.5]), 1, 0).astype(np.float32)
    n, m = [(1, 4), (2, 4), (1, 3), (3, 5), (1, 16), (4, 4)][rng.integers(6)]
    if w.shape[axis] % m == 0:
        w = by_magnitude(
            "w",
            np.moveaxis(w + rng.random(w.shape).astype(np.float32) * (w.shape[1] % 3), axis, -1).copy(),
            Pattern(n, m),
        )
        w = np.moveaxis(w, -1, axis).copy()
    w[w == 0] *= -1  # -0.0 is zero to a pattern
    with Memory({"w": w}, "x") as source:
        found = look(source, "w", axis)
    assert found.pattern == brute_force(w, axis)
    assert found.nonzero == np.count_nonzero(w)
    assert found.obeys(found.pattern)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_size_that_no_machine_word_holds_is_looked_at_when_it_is_asked_for(axis):
    w = np.zeros((256, 256), np.float32)
    w[:3, :3] = 1
    w[130] = w[:, 130] = 2
    with Memory({"w": w}, "x") as source:
        assert look(source, "w", axis, 128).most[128] == 128
        w[130] = w[:, 130] = 0
        assert look(source, "w", axis, 128).obeys(Pattern(3, 128))
        assert not look(source, "w", axis, 128).obeys(Pattern(2, 128))
        assert look(source, "w", axis, 10**9).most[10**9] == 3


class Watched(Memory):
    """Arrays whose largest block that was read is known."""

    largest = 0

    def rows(self, name, start, stop):
        self.largest = max(self.largest, stop - start)
        return super().rows(name, start, stop)


def test_groups_of_many_sizes_down_the_columns_are_looked_at_in_small_blocks(monkeypatch):
    """5040 rows have groups of 39 sizes, and only all rows together are whole groups of each."""
    monkeypatch.setattr("nmsim.formats.detect._PASS_BYTES", 1000 * 8 * 4)
    monkeypatch.setattr(tensors_module, "BLOCK_BYTES", 1)
    rng = np.random.default_rng(0)
    w = np.where(rng.random((5040, 8)) < 0.02, 1, 0).astype(np.float32)
    w[:63] = 1
    w[::63] = 0
    with Watched({"w": w}, "x") as source:
        found = look(source, "w", 0)
        assert source.largest <= 1000
    assert found.nonzero == np.count_nonzero(w)
    lines = (w != 0).T
    for m, most in found.most.items():
        assert most == lines.reshape(8, -1, m).sum(axis=-1).max(), m


LIMITED = """
import resource, sys
from pathlib import Path
from hwmodel.pattern import Pattern
from nmsim.formats.detect import look
from nmsim.formats.pruning import Choice, by_magnitude, prune_file
from nmsim.formats.safetensors import Reader
path, out, allowed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
with Reader(path) as source:
    look(source, "small", 1)
    by_magnitude("warm", source.read("small"), Pattern(2, 4))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + allowed
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name in source.specs:
        look(source, name, 1)
    prune_file(source, out, {name: Choice(Pattern(2, 4), 1, by_magnitude) for name in source.specs}, lambda nbytes: None)
"""


@pytest.mark.slow
@pytest.mark.compiled
def test_a_file_is_pruned_in_a_quarter_of_its_size(tmp_path):
    """One 512 MiB tensor of mostly holes in 128 MiB of address space; 8 GiB in 2 GiB is the same ratio."""
    shape = (1 << 14, 1 << 14)
    specs = {"big": TensorSpec(named("bfloat16"), shape), "small": TensorSpec(named("bfloat16"), (4, 64))}
    path = tmp_path / "a.safetensors"
    header = header_bytes(file_order(specs), {})
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(spec.nbytes for spec in specs.values()))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path, tmp_path / "b.safetensors", str(128 << 20)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.safetensors").stat().st_size == path.stat().st_size
