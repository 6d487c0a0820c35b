"""The scaling law: against the published coefficients, against itself, and by the laws that it must obey."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nmsim_analysis import scaling
from nmsim_analysis.scaling import Law, Objective

from hwmodel.errors import UserError

sparsities = st.floats(0.0, 0.99)


@pytest.fixture(scope="module")
def vit():
    return scaling.fit(scaling.published_points("vit"), scaling.OBJECTIVES["vit"], np.random.default_rng(0))


@pytest.fixture(scope="module")
def t5():
    return scaling.fit(scaling.published_points("t5"), scaling.OBJECTIVES["t5"], np.random.default_rng(0))


def normalised(law, parameters, data):
    size = parameters**-law.b_n
    return [law.a_s * size, law.b_s, law.c_s * size, law.b_n, (law.a_d / data) ** law.b_d, law.b_d, law.c]


def test_the_published_tables_are_whole():
    assert len(scaling.published_points("vit")) == 112
    assert len(scaling.published_points("t5")) == 48


def test_the_vit_fit_reproduces_the_notebooks_coefficients_to_four_digits(vit):
    printed = [1.30485411, 0.82101251, 2.07506343, 0.39222675, 0.27818217, 0.88979104, 4.51669257]
    assert normalised(vit.law, 1e6, 1e9) == pytest.approx(printed, rel=1e-4)
    assert vit.objective == pytest.approx(4.92909e-4, rel=1e-6)


def test_the_t5_fit_reaches_the_optimum_that_the_published_one_misses(t5):
    published = scaling.OBJECTIVES["t5"].of(scaling.NOTEBOOK["t5"], scaling.published_points("t5"))
    assert published == pytest.approx(7.6036e-6, rel=1e-4)
    assert t5.objective == pytest.approx(4.8801e-6, rel=1e-5)
    got = [t5.law.a_s, t5.law.b_s, t5.law.c_s, t5.law.b_n, t5.law.a_d, t5.law.b_d, t5.law.c]
    assert got == pytest.approx([10.71, 1.345, 41.62, 0.2317, 6.769e8, 0.3846, 0.8304], rel=5e-4)


def test_nearly_every_start_finds_the_same_t5_optimum(t5):
    assert t5.agreeing >= 8


def test_the_better_t5_fit_extrapolates_worse_to_the_held_out_run(t5):
    args = [scaling.HELD_OUT_T5[name].to_numpy(dtype=float) for name in ("sparsity", "parameters", "data")]
    measured = float(scaling.HELD_OUT_T5["loss"].iloc[0])
    assert t5.law.loss(*args)[0] == pytest.approx(1.4551, abs=5e-5)
    assert scaling.NOTEBOOK["t5"].loss(*args)[0] == pytest.approx(1.4683, abs=5e-5)
    assert abs(t5.law.loss(*args)[0] - measured) > abs(scaling.NOTEBOOK["t5"].loss(*args)[0] - measured)


@pytest.mark.parametrize(("name", "expected"), [("t5", [1.587, 2.160, 2.635]), ("vit", [1.596, 2.172, 2.633])])
def test_capacity_of_the_published_laws(name, expected):
    got = [scaling.PUBLISHED[name].capacity(s) for s in (0.5, 0.75, 0.875)]
    assert got == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [("t5", 1e8, [0.368, 0.559, 0.699, 0.799, 0.869]), ("vit", 1e7, [0.583, 0.872, 0.961, 0.988, 0.997])],
)
def test_optimal_sparsity_of_the_published_laws_grows_with_compute(name, size, expected):
    got = [scaling.PUBLISHED[name].optimal_sparsity(size, 10.0**k) for k in range(9, 14)]
    assert got == pytest.approx(expected, abs=1e-3)


def test_cost_multiplier_is_that_of_gradual_pruning():
    assert [scaling.cost_multiplier(s) for s in (0.0, 0.5, 0.75, 0.875)] == [1, 1.375, 2.125, 3.625]


@given(sparsity=st.floats(0.3, 0.95), size=st.floats(1e6, 1e9))
def test_a_contour_passes_where_its_sparsity_is_optimal(sparsity, size):
    law = scaling.PUBLISHED["t5"]
    assert law.optimal_sparsity(size, law.contour(sparsity, size)) == pytest.approx(sparsity, abs=1e-4)


@given(sparsity=sparsities)
def test_a_dense_model_of_the_capacity_has_the_same_loss(sparsity):
    law = scaling.NOTEBOOK["vit"]
    dense = law.loss(0.0, 1e7 * law.capacity(sparsity), 1e9)
    assert dense == pytest.approx(law.loss(sparsity, 1e7, 1e9), rel=1e-9)


@given(sparsity=sparsities, size=st.floats(1e6, 1e9), data=st.floats(1e7, 1e12))
def test_more_parameters_data_or_sparsity_at_equal_non_zeros_never_hurts(sparsity, size, data):
    law = scaling.PUBLISHED["t5"]
    here = law.loss(sparsity, size, data)
    assert law.loss(sparsity, 2 * size, data) < here
    assert law.loss(sparsity, size, 2 * data) < here
    assert law.loss(sparsity + 0.005, size, data) <= here


def test_no_compute_to_spare_means_no_sparsity():
    law = Law(a_s=0.0, b_s=1.0, c_s=40.0, b_n=0.2, a_d=1e9, b_d=0.3, c=1.0)
    assert law.optimal_sparsity(1e8, 1e10) == 0


def own_runs(law):
    grid = [(s, n, d) for s in (0.0, 0.5, 0.75, 0.9) for n in (1e4, 3e4, 1e5, 1e6) for d in (1e5, 1e6, 4e6)]
    points = pd.DataFrame(grid, columns=["sparsity", "parameters", "data"])
    return points.assign(loss=law.loss(*(points[name].to_numpy() for name in points.columns)))


def test_the_law_behind_own_runs_is_recovered():
    law = Law(a_s=3.0, b_s=0.9, c_s=8.0, b_n=0.3, a_d=4e4, b_d=0.6, c=1.1)
    got = scaling.fit(own_runs(law), Objective(0.001), np.random.default_rng(1)).law
    assert normalised(got, 1e5, 1e6) == pytest.approx(normalised(law, 1e5, 1e6), rel=1e-3)


def test_the_huber_objective_is_quadratic_inside_and_linear_outside_its_threshold():
    law = Law(a_s=0.0, b_s=1.0, c_s=0.0, b_n=0.3, a_d=0.0, b_d=1.0, c=2.0)
    points = pd.DataFrame({"sparsity": [0.0, 0.0], "parameters": [1.0, 1.0], "data": [1.0, 1.0], "loss": [2.05, 3.0]})
    assert Objective(0.1, "difference").of(law, points) == pytest.approx((0.05**2 / 2 + 0.1 * (1.0 - 0.05)) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="data"), "no column data"),
        (lambda p: p[p["sparsity"] < 0.6], "2 values of sparsity"),
        (lambda p: p.iloc[[0, 5, 10, 15, 20, 25, 30]], "seven coefficients need 8"),
        (lambda p: p.assign(sparsity=p["sparsity"] + 0.1), "0 <= sparsity < 1"),
    ],
)
def test_points_that_cannot_determine_the_law_are_refused(change, message):
    points = own_runs(scaling.PUBLISHED["t5"])
    with pytest.raises(UserError, match=message):
        scaling.fit(change(points), Objective(0.001), np.random.default_rng(0))


def test_unknown_data_names_the_known():
    with pytest.raises(UserError, match="did you mean vit"):
        scaling.published_points("vita")
