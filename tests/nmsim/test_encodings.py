"""Every encoding returns every bit, has the bytes it should have, and tells where a damaged one is wrong."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weightfiles import DTYPES, matrices, sparse

from hwmodel.errors import UserError
from hwmodel.footprint import matrix_bytes
from hwmodel.pattern import Pattern
from nmsim.formats.codecs import CODECS, codec, decode
from nmsim.formats.dtypes import bits
from nmsim.formats.encoded import Encoded
from nmsim.formats.sm80 import hardware_pattern

HARDWARE = ("torch-semi-structured", "cutlass-sm80")
ANY = ("sparse-bitmask", "nm", "nm-bitmask", "scipy")
BF16 = np.dtype(ml_dtypes.bfloat16)


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(bits(a), bits(b))


@pytest.mark.parametrize("name", ANY)
@given(case=matrices())
def test_any_pattern_comes_back_bit_for_bit(name, case):
    w, pattern = case
    encoded = CODECS[name].encode(w, pattern)
    assert CODECS[name].shape(encoded) == w.shape
    assert same_bits(decode(encoded, CODECS[name]), w)


@pytest.mark.parametrize("name", ["nm", "nm-bitmask"])
@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 4), (2, 4), (3, 4), (1, 8), (2, 8), (3, 8), (4, 8), (5, 8)])
def test_groups_that_fill_whole_bytes_come_back_bit_for_bit(name, n, m):
    pattern = Pattern(n, m)
    w = sparse(np.random.default_rng(n), (7, 64), pattern, BF16)
    encoded = CODECS[name].encode(w, pattern)
    assert np.array_equal(bits(decode(encoded, CODECS[name])), bits(w))
    one_more = w.copy()
    one_more[5, m : 2 * m] = 1
    with pytest.raises(UserError, match=f"row 5, group 1: {m} of {m} weights are not zero"):
        CODECS[name].encode(one_more, pattern)


@pytest.mark.parametrize("name", [*HARDWARE, "sparse-24-bitmask"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(seed=st.integers(0, 2**32), blocks=st.tuples(st.integers(1, 3), st.integers(1, 2)))
def test_2_4_comes_back_bit_for_bit(name, dtype, seed, blocks):
    pattern = Pattern(2, 4) if name == "sparse-24-bitmask" else hardware_pattern(dtype.itemsize)
    w = sparse(np.random.default_rng(seed), (32 * blocks[0], 128 * blocks[1]), pattern, dtype)
    encoded = CODECS[name].encode(w, pattern)
    assert CODECS[name].shape(encoded) == w.shape
    assert same_bits(decode(encoded, CODECS[name]), w)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(seed=st.integers(0, 2**32), shape=st.tuples(st.integers(1, 9), st.integers(1, 20)))
def test_2_4_in_rows_that_end_within_a_byte_comes_back_bit_for_bit(dtype, seed, shape):
    w = sparse(np.random.default_rng(seed), (shape[0], 4 * shape[1]), Pattern(2, 4), dtype)
    encoded = CODECS["sparse-24-bitmask"].encode(w, Pattern(2, 4))
    assert same_bits(decode(encoded, CODECS["sparse-24-bitmask"]), w)


def exactly(rng, shape, pattern, dtype):
    """Weights of which exactly n of every m are not zero."""
    ranks = rng.random((shape[0], shape[1] // pattern.m, pattern.m)).argsort(axis=-1)
    return np.where((ranks < pattern.n).reshape(shape), rng.uniform(1, 2, shape), 0).astype(dtype)


@pytest.mark.parametrize(
    ("name", "layout", "overhead"),
    [
        ("torch-semi-structured", "cusparselt", 0),
        ("cutlass-sm80", "cusparselt", 0),
        ("sparse-24-bitmask", "bitmask", 16),
        ("sparse-bitmask", "bitmask", 16 + 8 * 64),
        ("nm", "index", 0),
        ("nm-bitmask", "bitmask", 0),
        ("scipy", "csr", 16),
    ],
)
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BF16, np.dtype(np.int8)], ids=str)
def test_bytes_are_those_of_the_footprint_model(name, layout, overhead, dtype):
    pattern = hardware_pattern(dtype.itemsize) if name in HARDWARE else Pattern(2, 4)
    w = exactly(np.random.default_rng(0), (64, 256), pattern, dtype)
    parts = CODECS[name].encode(w, pattern).parts
    expected = matrix_bytes(64, 256, pattern, 8 * dtype.itemsize, layout) + overhead
    assert sum(part.nbytes for part in parts.values()) == expected


@pytest.mark.parametrize(("name", "layout"), [("nm", "index"), ("nm-bitmask", "bitmask")])
@pytest.mark.parametrize("pattern", [Pattern(1, 32), Pattern(3, 5), Pattern(7, 16), Pattern(1, 3)], ids=str)
@pytest.mark.parametrize("cols", [96, 101])
def test_the_container_has_the_bytes_of_the_footprint_model_for_any_pattern(name, layout, pattern, cols):
    w = sparse(np.random.default_rng(1), (7, cols), pattern, BF16)
    parts = CODECS[name].encode(w, pattern).parts
    assert sum(part.nbytes for part in parts.values()) == matrix_bytes(7, cols, pattern, 16, layout)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_negative_zeros_without_room_become_zeros_and_nothing_else_changes(name):
    pattern = Pattern(1, 2) if name in HARDWARE else Pattern(2, 4)
    w = exactly(np.random.default_rng(2), (32, 128), pattern, np.dtype(np.float32))
    negative = np.where(w == 0, np.float32(-0.0), w)
    back = decode(CODECS[name].encode(negative, pattern), CODECS[name])
    kept_as_is = name in ("sparse-bitmask", "scipy")
    assert same_bits(back, negative if kept_as_is else w)


@pytest.mark.parametrize("name", sorted(set(CODECS) - {"sparse-bitmask", "scipy"}))
def test_a_group_with_too_many_weights_is_named(name):
    pattern = Pattern(2, 4)
    w = exactly(np.random.default_rng(3), (32, 128), pattern, np.dtype(np.float16))
    w[9, 20:23] = 1.0
    w[9, 23] = 0.0
    with pytest.raises(UserError, match=r"row 9, group 5: 3 of 4 weights are not zero; 2:4 keeps 2"):
        CODECS[name].encode(w, pattern)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((16, 64), np.float16),
        ((32, 32), np.float16),
        ((8, 128), np.int8),
        ((32, 48), np.float32),
        ((32, 64), np.float64),
    ],
)
@pytest.mark.parametrize("name", HARDWARE)
def test_shapes_that_the_hardware_does_not_take_are_refused(name, shape, dtype):
    with pytest.raises(UserError, match=r"need multiples of|take 8, 16 or 32 bits"):
        CODECS[name].encode(np.zeros(shape, dtype), Pattern(2, 4))


def damaged(name, change, shape=(32, 128), pattern=Pattern(2, 4)):
    encoded = CODECS[name].encode(exactly(np.random.default_rng(4), shape, pattern, np.dtype(np.float16)), pattern)
    parts = {suffix: part.copy() for suffix, part in encoded.parts.items()}
    info = dict(encoded.info)
    change(parts, info)
    return Encoded(parts, info)


def flip(suffix, index, value):
    def change(parts, info):
        parts[suffix].reshape(-1).view(np.uint8)[index] = value

    return change


def put(suffix, place, value):
    def change(parts, info):
        parts[suffix][place] = value

    return change


def drop(suffix):
    def change(parts, info):
        parts[suffix] = parts[suffix][:-1]

    return change


def tell(**info):
    def change(parts, table):
        table.update(info)

    return change


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("torch-semi-structured", flip("meta", 0, 0x05), "row 0, group 0: metadata nibble 5 is not one of 4 8 9 C D E"),
        ("torch-semi-structured", flip("meta", 1, 0xF4), "row 0, group 3: metadata nibble F"),
        ("torch-semi-structured", drop("meta"), "meta is int16"),
        ("torch-semi-structured", drop("packed"), "need multiples of 32 rows"),
        ("cutlass-sm80", flip("e", 0, 0xA4), "row 0, group 1: metadata nibble A"),
        ("cutlass-sm80", drop("e"), "e is uint16"),
        ("sparse-24-bitmask", flip("bitmask", 17, 0b00110111), "row 1, group 2: the bitmask keeps 3 of 4"),
        ("sparse-24-bitmask", put("shape", (0, 0), 33), "bitmask is uint8"),
        ("sparse-24-bitmask", put("shape", (1, 0), -4), "sizes are 0 or more"),
        ("sparse-24-bitmask", drop("compressed"), "compressed is"),
        ("sparse-bitmask", put("row_offsets", 3, 7), "row 3: row_offsets says it begins at value 7"),
        ("sparse-bitmask", drop("compressed"), "compressed is"),
        ("sparse-bitmask", flip("bitmask", 0, 0xFF), "row 1: row_offsets"),
        ("nm", flip("nm_index", 2, 0x00), "row 0, group 4: positions do not rise"),
        ("nm", drop("nm_index"), "nm_index is uint8"),
        ("nm", drop("nm_values"), "nm_values is"),
        ("nm", tell(m=0), "pattern 2:0"),
        ("nm", tell(m=129), "at most the row length"),
        ("nm", tell(n="2"), "needs int"),
        ("nm", tell(shape=[32]), "needs 2"),
        ("nm", tell(shape=[-32, 128]), "sizes are 0 or more"),
        ("nm", tell(colour=1), "unknown key"),
        ("nm-bitmask", flip("nm_bitmask", 16, 0xF3), "row 1, group 1: the bitmask keeps 4 of 4"),
        ("nm-bitmask", flip("nm_bitmask", 16, 0x13), "row 1, group 1: the bitmask keeps 1 of 4"),
        ("scipy", put("indices", 70, 128), "row 1: column 128 is outside"),
        ("scipy", put("indices", 70, -1), "row 1: column -1 is outside"),
        ("scipy", put("indices", 70, 0), "row 1: columns do not rise"),
        ("scipy", put("indptr", 5, 9), "row 4: row pointers"),
        ("scipy", put("indptr", 0, 1), "row pointers"),
        ("scipy", put("csr_shape", 0, 33), "indptr is int32"),
        ("scipy", put("csr_shape", 1, 1 << 40), "the shape is damaged"),
        ("nm", tell(shape=[1 << 60, 0], n=1, m=1), "the shape is damaged"),
    ],
)
def test_a_damaged_encoding_is_named_with_its_place(name, change, said):
    with pytest.raises(UserError) as told:
        decode(damaged(name, change), CODECS[name])
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_bit_beyond_the_last_column_is_refused():
    encoded = damaged("sparse-bitmask", flip("bitmask", 0, 0xFF), shape=(4, 4))
    with pytest.raises(UserError, match="row 0: the bitmask keeps a column beyond the last one, 3"):
        decode(encoded, CODECS["sparse-bitmask"])


def test_a_weight_in_the_padding_of_a_short_group_is_refused():
    pattern = Pattern(2, 4)
    w = np.array([[0, 0, 0, 1, 5]], np.float32)
    encoded = CODECS["nm"].encode(w, pattern)
    values = encoded.parts["nm_values"].copy()
    values[-1] = 7
    with pytest.raises(UserError, match="row 0, group 1: a weight stands beyond the last column, 4"):
        decode(Encoded({**encoded.parts, "nm_values": values}, encoded.info), CODECS["nm"])


def test_an_unknown_format_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean torch-semi-structured"):
        codec("torch-semistructured")


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_matrices_without_rows_come_back(name, dtype):
    w = np.zeros((0, 128), dtype)
    assert same_bits(decode(CODECS[name].encode(w, Pattern(2, 4)), CODECS[name]), w)


def test_empty_matrices_come_back():
    for name in ANY:
        w = np.zeros((3, 0), np.float32)
        assert same_bits(decode(CODECS[name].encode(w, Pattern(1, 1)), CODECS[name]), w)
