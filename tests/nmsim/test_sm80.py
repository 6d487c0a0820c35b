"""The sm80 encoding against golden vectors, its definition written out, other orders of metadata, and PyTorch."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weightfiles import sparse

from hwmodel.pattern import Pattern
from nmsim.formats.dtypes import bits
from nmsim.formats.sm80 import decode, encode, hardware_pattern, reorder, restore

PYTORCH_LUT = [int(digit, 16) for digit in "E894E894ECD4ECD4"]  # nibble by m0 + 2 m1 + 4 m2 + 8 m3


def sm80_offsets(rows, cols, itemsize):
    """Where word (r, c) goes, by CUTLASS's closed form."""
    group, step = (32, 4) if itemsize == 2 else (16, 2)
    r, c = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    moved = r // group * group + (r % 8) * step + (r % group) // 8
    return (c // 2) * 2 * rows + (moved // 2) * 4 + (c % 2) * 2 + (moved % 2)


def marlin_offsets(rows, cols, itemsize):
    """Where Marlin-24 puts word (r, c): another order under the same function name."""
    group = 32 if itemsize == 2 else 16
    r, c = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    moved = r // 64 * 64 + (r % 2) * 2 + (r % 8) // 4 + ((r % group) % 4) // 2 * 32 + ((r % 64) // 8) * 4
    return (c // 2) * 2 * rows + (moved // 2) * 4 + (c % 2) * 2 + (moved % 2)


def offsets(rows, cols, itemsize):
    """Where `reorder` puts each word."""
    words = np.arange(rows * cols).astype(f"u{itemsize}").reshape(rows, cols)
    places = np.empty(rows * cols, int)
    places[reorder(words).reshape(-1)] = np.arange(rows * cols)
    return places.reshape(rows, cols)


SHAPES = [(64, 4, 2), (32, 2, 2), (96, 10, 2), (128, 6, 2), (64, 4, 4), (16, 2, 4), (80, 6, 4)]


@pytest.mark.parametrize(("rows", "cols", "itemsize"), SHAPES)
def test_the_reorder_is_the_closed_form_a_permutation_and_undone(rows, cols, itemsize):
    places = offsets(rows, cols, itemsize)
    assert np.array_equal(places, sm80_offsets(rows, cols, itemsize))
    assert sorted(places.reshape(-1)) == list(range(rows * cols))
    words = np.random.default_rng(0).integers(0, 1 << 15, (rows, cols)).astype(f"u{itemsize}")
    assert np.array_equal(restore(reorder(words)), words)


def test_golden_offsets():
    places = offsets(32, 4, 2)
    assert [list(places[r]) for r in (0, 1, 7, 8)] == [
        [0, 2, 64, 66],
        [8, 10, 72, 74],
        [56, 58, 120, 122],
        [1, 3, 65, 67],
    ]
    places = offsets(16, 4, 4)
    assert [list(places[r]) for r in (0, 1)] == [[0, 2, 32, 34], [4, 6, 36, 38]]


@pytest.mark.parametrize("itemsize", [2, 4])
def test_the_order_is_not_marlins(itemsize):
    ours, marlins = offsets(64, 4, itemsize), marlin_offsets(64, 4, itemsize)
    assert sorted(marlins.reshape(-1)) == list(range(256))
    assert (ours != marlins).mean() > 0.5


def tiled(row, dtype):
    """A legal matrix whose first row begins with `row`."""
    w = np.zeros((32, 128), dtype)
    w[0, : len(row)] = row
    return w


def test_golden_row():
    values, meta = encode(tiled([1, 2, 0, 0, 0, 3, 0, 4, 5, 0, 0, 6, 0, 0, 7, 8], np.float16))
    assert values[0, :8].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert restore(meta)[0, 0] == 0xECD4
    assert restore(meta)[0, 1] == 0xEEEE


def test_a_uniform_pattern_hides_every_reorder():
    values, meta = encode(np.tile(np.array([0, 0, 1, 1], np.float16), (32, 32)))
    assert (meta == 0xEEEE).all()
    assert (meta.view(np.int16) == -4370).all()
    assert (values == 1).all()


@pytest.mark.parametrize("kept", [k for k in itertools.product([0, 1], repeat=4) if sum(k) <= 2])
def test_every_mask_has_pytorchs_nibble(kept):
    _, meta = encode(tiled(np.array(kept) * 1.5, np.float16))
    assert restore(meta)[0, 0] & 15 == PYTORCH_LUT[kept[0] + 2 * kept[1] + 4 * kept[2] + 8 * kept[3]]


@pytest.mark.parametrize(("pair", "nibble"), [((0, 0), 0xE), ((1, 0), 4), ((0, 1), 0xE)])
def test_float32_keeps_one_of_two(pair, nibble):
    _, meta = encode(tiled(pair, np.float32))
    assert restore(meta)[0, 0] & 15 == nibble


def plain(w):
    """Without what PyTorch does not carry: -0.0 counts as zero there, and NaN loses its payload."""
    as_float = w.astype(np.float32)
    return np.where(np.isnan(as_float), w.dtype.type(1), np.where(as_float == 0, w.dtype.type(0), w))


TORCH_DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "int8": np.int8, "float32": np.float32}


@pytest.mark.parametrize("name", TORCH_DTYPES)
@given(seed=st.integers(0, 2**32), blocks=st.tuples(st.integers(1, 4), st.integers(1, 2)))
def test_values_and_metadata_equal_those_of_torch(name, seed, blocks):
    torch = pytest.importorskip("torch")
    conversions = pytest.importorskip("torch.sparse._semi_structured_conversions")
    dtype = np.dtype(TORCH_DTYPES[name])
    pattern = hardware_pattern(dtype.itemsize)
    w = sparse(np.random.default_rng(seed), (32 * blocks[0], 128 * blocks[1]), pattern, dtype)
    w = plain(w)
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32}[dtype.itemsize]
    dense = torch.from_numpy(bits(w).view(f"i{dtype.itemsize}")).view(getattr(torch, name))
    packed, words = conversions.sparse_semi_structured_from_dense_cutlass(dense)
    values, meta = encode(w)
    assert np.array_equal(packed.view(integers).numpy(), bits(values).view(f"i{dtype.itemsize}"))
    assert np.array_equal(words.numpy(), meta.view(f"i{meta.itemsize}"))


@given(seed=st.integers(0, 2**32))
def test_any_legal_metadata_decodes_and_encodes_to_itself(seed):
    rng = np.random.default_rng(seed)
    values = (rng.integers(1, 1 << 14, (32, 32)).astype(np.uint16)).view(np.float16)
    nibbles = rng.choice([4, 8, 9, 12, 13, 14], (32, 4, 4))
    meta = (nibbles << (4 * np.arange(4))).sum(-1).astype(np.uint16)
    again = encode(decode(values, meta))
    assert np.array_equal(bits(again[0]), bits(values))
    assert np.array_equal(again[1], meta)


def test_the_hardware_keeps_1_of_2_wide_weights_and_2_of_4_narrow_ones():
    assert [hardware_pattern(size) for size in (1, 2, 4)] == [Pattern(2, 4), Pattern(2, 4), Pattern(1, 2)]
