"""Sparse tensor cores: published cycles, energies and reads, derived from the shape."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hwmodel.dstc import run_dual
from hwmodel.errors import UserError
from hwmodel.stc import DESIGNS, run

LAYER, WIDE = (128, 1152, 1024), (512, 128, 1024)  # (m, k, n) of two layers of the Sparseloop artefact, figure 15
sizes = st.integers(1, 3000)


@pytest.mark.parametrize(
    ("design", "shape", "density", "cycles", "microjoules"),
    [
        ("TC", LAYER, 0.5, 147_456, 276.58),
        ("STC", LAYER, 1.0, 147_456, 248.15),
        ("STC", LAYER, 0.5, 73_728, 173.42),
        ("STC", LAYER, 0.25, 73_728, 173.42),
        ("STC_flexible", LAYER, 0.25, 66_707, 137.79),
        ("STC_flexible", LAYER, 0.3333, 70_218, 150.30),
        ("STC_flexible-RLE", LAYER, 0.3333, 67_877, 149.04),
        ("STC", WIDE, 0.5, 32_768, 79.80),
        ("STC_flexible", WIDE, 0.3333, 35_109, 74.01),  # k is padded from 128 to 144
    ],
)
def test_published_cycles_and_energies(design, shape, density, cycles, microjoules):
    made = run(design, *shape, density)
    assert made.cycles == pytest.approx(cycles, rel=1e-4)
    assert made.joules * 1e6 == pytest.approx(microjoules, rel=0.02)


def test_energy_by_level_as_reproduced_by_hand():
    levels = run("STC", *LAYER, 0.5).level_j
    expected = {"mac": 42.339, "latch": 6.848, "register": 15.738, "buffer": 19.895, "memory": 88.605}
    assert {name: round(joules * 1e6, 3) for name, joules in levels.items()} == expected


def test_reads_follow_from_the_mapping():
    m, k, n = LAYER
    dense, sparse = run("STC", *LAYER, 1.0), run("STC", *LAYER, 0.5)
    assert sparse.buffer_a_words == m * k / 2 * n / 128
    assert dense.buffer_a_words == m * k * n / 64  # the dense weights leave room for half the column tile
    assert sparse.buffer_b_words == dense.buffer_b_words == k * n * m / 64


def test_compressed_activations_lift_the_buffer_bound():
    plain, dual = (run(design, *LAYER, 0.25, 0.44) for design in ("STC_flexible-RLE", "STC_flexible_dualCompress-RLE"))
    assert dual.cycles == pytest.approx(42_271, rel=1e-4)
    assert dual.cycles < plain.cycles


@given(st.sampled_from(sorted(DESIGNS)), sizes, sizes, sizes, st.sampled_from([1.0, 0.5, 1 / 3, 0.25, 0.1]))
def test_no_design_beats_its_multiply_adds(design, m, k, n, density):
    made = run(design, m, k, n, density)
    assert made.cycles >= made.macs / 1024 - 1
    assert made.macs >= m * k * n * min(density, 1) * 0.999 or design == "TC"
    assert all(joules >= 0 for level, joules in made.level_j.items() if level != "register")


@given(st.sampled_from(sorted(DESIGNS)), sizes, sizes, sizes)
def test_sparser_weights_never_take_longer(design, m, k, n):
    """Whatever k: padding it to the multiple of a step can cost more than the zeros save, and then they run dense."""
    cycles = [run(design, m, k, n, density).cycles for density in (1.0, 0.5, 0.25)]
    assert cycles == sorted(cycles, reverse=True)


@given(st.sampled_from(sorted(DESIGNS)), st.lists(st.tuples(sizes, sizes, sizes), min_size=1, max_size=5))
def test_arrays_and_numbers_agree_to_the_bit(design, shapes):
    for density in (1.0, 0.5, 0.3333):
        whole = run(design, *np.array(shapes).T, density, 0.5)
        for i, shape in enumerate(shapes):
            one = run(design, *shape, density, 0.5)
            assert (whole.cycles[i], whole.macs[i], whole.joules[i]) == (one.cycles, one.macs, one.joules)


@pytest.mark.parametrize(
    ("shape", "weights", "inputs", "cycles"),
    [(LAYER, 0.25, 0.44, 37_083), (LAYER, 1.0, 0.44, 78_059), (WIDE, 0.25, 0.56, 17_980), (WIDE, 0.3333, 0.56, 25_852)],
)
def test_dual_sparsity_is_within_ten_percent(shape, weights, inputs, cycles):
    assert run_dual(*shape, weights, inputs).cycles == pytest.approx(cycles, rel=0.1)


@given(sizes, sizes, sizes, st.floats(0.01, 1), st.floats(0.01, 1))
def test_dual_sparsity_never_skips_more_than_the_zeros(m, k, n, weights, inputs):
    made = run_dual(m, k, n, weights, inputs)
    assert made.cycles >= made.macs / 1024 - 1


def test_an_unknown_design_is_named():
    with pytest.raises(UserError, match="did you mean STC"):
        run("STCC", 1, 1, 1, 1.0)


def test_weights_that_nearly_fill_the_buffer_are_halved_where_that_is_faster():
    """A longer reduction is halved anyway; the shorter one, kept whole, would read its weights again and again."""
    for density in (1.0, 0.5):
        shorter, longer = (run("STC_flexible", 5606, inner, 177, density).cycles for inner in (88, 176))
        assert shorter <= longer
