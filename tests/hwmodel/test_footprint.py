"""Bytes by layout, to the digit and by law."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hwmodel.errors import UserError
from hwmodel.footprint import LAYOUTS, lines_bytes, matrix_bytes
from hwmodel.pattern import DENSE, FanIn, Pattern, Unstructured

# 4096 x 4096: index, code, bitmask, csr with 32-bit and with 16-bit columns, for 16-bit and for 32-bit values
TOTALS = {
    (2, 4): ((18874368, 18350080, 18874368, 50348036, 33570820), (35651584, 35127296, 35651584, 67125252, 50348036)),
    (1, 4): ((9437184, 9437184, 10485760, 25182212, 16793604), (17825792, 17825792, 18874368, 33570820, 25182212)),
    (1, 8): ((4980736, 4980736, 6291456, 12599300, 8404996), (9175040, 9175040, 10485760, 16793604, 12599300)),
    (1, 16): ((2621440, 2621440, 4194304, 6307844, 4210692), (4718592, 4718592, 6291456, 8404996, 6307844)),
    (1, 32): ((1376256, 1376256, 3145728, 3162116, 2113540), (2424832, 2424832, 4194304, 4210692, 3162116)),
}
METADATA = {  # bytes of positions alone: index, code
    (4, 8): (3145728, 1835008),
    (2, 8): (1572864, 1310720),
    (8, 32): (2621440, 1572864),
    (16, 32): (5242880, 1966080),
}
SHARES = {(2, 4): 0.5625, (4, 8): 0.59375, (1, 4): 0.28125, (2, 8): 0.296875, (1, 128): 0.01123046875}
patterns = st.integers(1, 16).flatmap(lambda m: st.builds(Pattern, st.integers(1, m), st.just(m)))


def size(pattern, bits, layout, **options):
    return matrix_bytes(4096, 4096, Pattern(*pattern), bits, layout, **options)


@pytest.mark.parametrize("pattern", TOTALS)
@pytest.mark.parametrize(("bits", "column"), [(16, 0), (32, 1)])
def test_totals_of_a_4096_matrix(pattern, bits, column):
    got = [size(pattern, bits, layout) for layout in ("index", "code", "bitmask", "csr")]
    assert (*got, size(pattern, bits, "csr", index_bits=16)) == TOTALS[pattern][column]


@pytest.mark.parametrize("pattern", METADATA)
def test_positions_alone(pattern):
    values = 4096 * 4096 * pattern[0] // pattern[1] * 2
    assert tuple(size(pattern, 16, layout) - values for layout in ("index", "code")) == METADATA[pattern]


@pytest.mark.parametrize("pattern", SHARES)
def test_shares_of_dense_half_precision(pattern):
    assert size(pattern, 16, "index") / size((1, 1), 16, "dense") == SHARES[pattern]


def test_hardware_layouts():
    assert size((2, 4), 16, "cusparselt") / size((1, 1), 16, "dense") == 9 / 16
    assert size((2, 4), 8, "cusparselt") / size((1, 1), 8, "dense") == 10 / 16
    assert size((1, 2), 32, "cusparselt") == 37_748_736
    assert size((1, 8), 16, "cusparselt") == size((2, 4), 16, "cusparselt")
    assert size((2, 8), 16, "vnm", v=64) == 9_486_336


def test_ellpack_of_the_scale_sim_golden_layer():
    assert matrix_bytes(96, 363, Pattern(4, 8), 32, "ellpack", index_bits=2) == (17_664 + 1_104) * 4


@pytest.mark.parametrize(
    ("pattern", "index", "code"),
    [  # bytes of positions alone: ceil(log2 m) bits a kept weight, ceil(log2 C(m, n)) bits a group
        ((2, 4), 2097152, 1572864),
        ((1, 4), 1048576, 1048576),
        ((1, 8), 786432, 786432),
        ((1, 16), 524288, 524288),
        ((1, 32), 327680, 327680),
    ],
)
def test_positions_of_a_4096_matrix_whatever_the_width_of_values(pattern, index, code):
    for bits in (16, 32):
        values = 4096 * 4096 * pattern[0] // pattern[1] * bits // 8
        sizes = [size(pattern, bits, layout) - values for layout in ("index", "code", "bitmask")]
        assert sizes == [index, code, 2_097_152]


def test_dense_matrices_and_what_csr_costs_at_one_half():
    assert size((1, 1), 16, "dense") == 33_554_432
    assert size((2, 4), 32, "csr") > size((1, 1), 32, "dense") == 67_108_864
    assert size((2, 4), 32, "ellpack", index_bits=2) // 4 == 8_912_896  # words of 32 bits, as SCALE-Sim counts them


def test_parts_of_a_v_n_m_matrix():
    values, positions, columns = 8_388_608, 1_048_576, 49_152  # of 64:2:8, 16 bits
    assert size((2, 8), 16, "vnm", v=64) == values + positions + columns


def test_what_sparse_units_read():
    assert size((2, 4), 16, "units") == size((2, 4), 16, "index")
    assert size((1, 2), 32, "units") == 37_748_736  # 4 bits beside each kept TF32 value
    assert matrix_bytes(8, 4, Pattern(2, 8), 8, "units") == 8 * 2 * (8 + 2) // 8  # four positions need two bits
    assert matrix_bytes(8, 2, Pattern(2, 4), 16, "units") == 8 * 2 * 2  # no zeros to leave out: stored dense


def test_host_holds_the_padding_index():
    assert matrix_bytes(8, 16, Pattern(1, 8), 32, "host") == 16 * (4 + 1)
    assert matrix_bytes(8, 512, Pattern(1, 256), 32, "host") == 16 * (4 + 2)  # 256 marks padding, so needs two bytes


@given(st.integers(1, 40), st.integers(1, 40), patterns, st.sampled_from([8, 16, 32]), st.sampled_from(sorted(LAYOUTS)))
def test_transposing_the_matrix_and_the_axis_changes_nothing(rows, cols, pattern, bits, layout):
    def both():
        yield matrix_bytes(rows, cols, pattern, bits, layout)
        yield matrix_bytes(cols, rows, pattern, bits, layout, axis=0)

    try:
        first, second = both()
    except UserError:
        return
    assert first == second == lines_bytes(rows, cols, pattern, bits, layout) or layout == "vnm"


@given(st.integers(1, 64), st.integers(1, 16), st.integers(1, 8), st.sampled_from([8, 16, 32]))
def test_no_layout_is_below_the_values_and_none_of_positions_below_the_code(rows, groups, m, bits):
    for n in range(1, m):
        pattern = Pattern(n, m)
        values = rows * groups * n * bits / 8
        code = matrix_bytes(rows, groups * m, pattern, bits, "code")
        assert values <= code <= matrix_bytes(rows, groups * m, pattern, bits, "index") + 1 or n > 1
        assert matrix_bytes(rows, groups * m, pattern, bits, "bitmask") >= values


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([8, 16, 32]), st.integers(1, 8))
def test_a_pattern_that_keeps_all_is_stored_dense(rows, cols, bits, m):
    dense = matrix_bytes(rows, cols, DENSE, bits, "dense")
    assert all(
        matrix_bytes(rows, cols, Pattern(m, m), bits, x) == dense for x in ("index", "code", "vnm", "cusparselt")
    )


def test_other_structures():
    assert matrix_bytes(10, 20, FanIn(0.25), 32, "host") == 10 * 5 * (4 + 1)
    assert matrix_bytes(10, 20, Unstructured(0.25), 32, "csr") == 50 * 8 + 4 * 11


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((4, 4, Pattern(2, 4), 16, "indx"), "did you mean index"),
        ((0, 4, Pattern(2, 4), 16, "index"), "rows = 0"),
        ((4, 4, Pattern(2, 4), 0, "index"), "bits = 0"),
        ((4, 4, Pattern(4, 8), 16, "cusparselt"), "4:8 is not contained in the hardware's 2:4"),
        ((4, 4, Pattern(1, 8), 16, "vnm"), "n = 1"),
        ((4, 4, Unstructured(0.5), 16, "index"), "needs n:m groups"),
    ],
)
def test_what_a_layout_cannot_hold_is_said(arguments, said):
    with pytest.raises(UserError, match=said):
        matrix_bytes(*arguments)


def test_a_matrix_has_two_axes():
    with pytest.raises(UserError, match="axis = 2"):
        matrix_bytes(4, 4, Pattern(2, 4), 16, "index", axis=2)
