"""Every recipe against the contract, and the published recipes against their figures."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodel.errors import UserError
from hwmodel.pattern import DENSE, FanIn, Pattern, Unstructured
from hwmodel.workload import SitePlan
from nmsim.recipes import RECIPES, Recipe
from nmsim.recipes.decay import geometric_patterns, kao_patterns, stepwise_patterns
from nmsim.rules.weight import Leak
from nmsim.schedules import Constant
from nmsim.testing import check_recipe
from nmsim.testing.trial import Trial

# Masks that are exchanged or chosen at intervals do so within the short runs of these tests.
OFTEN = {name: {"refresh": 5} for name in ("set", "rigl", "srigl", "global_magnitude", "transposable")}
# fmt: off
REGISTRY = [
    "dense", "static_random", "static_magnitude", "one_shot", "gradual_magnitude", "ste", "random_ste", "sr_ste",
    "mdgf_linear", "mdgf_exponential", "sdgf_stepwise", "sdgf_geometric", "sdgf_mdgf", "mdgf_sr_ste",
    "kao_mask_decay", "kao_structure_decay", "saliency", "global_magnitude", "set", "rigl", "srigl", "ac_dc",
    "transposable", "bi_mask", "slope", "s_ste", "mvue", "step", "powerpropagation", "soft_shrinkage",
    "random_erk", "lbc", "dense_then_ste",
]
# fmt: on


def patterns(text: str) -> list[Pattern]:
    return [Pattern.parse(part) for part in text.split()]


def made(name: str, pattern: str = "1:8", steps: int | None = 350, **options) -> Recipe:
    return RECIPES[name](Pattern.parse(pattern), steps=steps, **options)


def test_the_registry_is_complete() -> None:
    assert sorted(RECIPES) == sorted(REGISTRY)


@pytest.mark.compiled
@pytest.mark.parametrize("name", REGISTRY)
def test_a_recipe_keeps_the_contract(name: str) -> None:
    check_recipe(RECIPES[name], **OFTEN.get(name, {}))


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["sr_ste", "sdgf_stepwise", "bi_mask", "static_random"])
def test_groups_may_run_along_the_outputs(name: str) -> None:
    check_recipe(RECIPES[name], Pattern(2, 4), axis=0)


def final_values(recipe: Recipe, steps: int = 16) -> list[np.ndarray]:
    trial = Trial(recipe)
    trial.run(0, steps)
    return [param.value for param in trial.params]


@pytest.mark.compiled
def test_any_two_recipes_have_different_trajectories() -> None:
    runs = {name: final_values(made(name, steps=16, **OFTEN.get(name, {}))) for name in REGISTRY}
    for first, second in itertools.combinations(REGISTRY, 2):
        same = all(np.array_equal(a, b) for a, b in zip(runs[first], runs[second], strict=True))
        assert not same, (first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (made("sr_ste", lam=0.0), made("ste")),
        (replace(made("ste"), weight=(Leak(Constant(0.0)),)), made("ste")),
        (made("mdgf_sr_ste", lam=0.0, fine_tune=0.25), made("mdgf_exponential", fine_tune=0.25)),
        (made("dense_then_ste", dense=0.0), made("ste")),
        (made("mvue", dy=DENSE), made("ste")),
        (made("s_ste", "8:8", dy=DENSE), made("dense")),
        *((made(name, "8:8"), made("dense")) for name in ("ste", "sr_ste", "mdgf_linear", "sdgf_stepwise", "slope")),
        *(
            (made(name, "8:8"), made("dense"))
            for name in ("rigl", "srigl", "ac_dc", "bi_mask", "lbc", "global_magnitude")
        ),
    ],
    ids=lambda recipe: recipe.name,
)
def test_limiting_cases_are_other_recipes(first: Recipe, second: Recipe) -> None:
    for a, b in zip(final_values(first), final_values(second), strict=True):
        assert np.array_equal(a, b)


# Analytic figures of the published recipes (arXiv 2402.04744, section 3 and figure 6; released code). -----------------


@given(st.integers(0, 109_550), st.sampled_from([1e-3, 2e-4, 1e-4, 2e-5]))
def test_the_leak_with_beta_is_the_printed_formula(j: int, beta: float) -> None:
    linear, exponential = made("mdgf_linear", steps=None, beta=beta), made("mdgf_exponential", steps=None, beta=beta)
    assert linear.leak(j) == pytest.approx(max(1 - beta * j, 0), abs=1e-12)
    assert exponential.leak(j) == math.exp(-beta * j)
    assert linear.structure(j) == exponential.structure(j) == Pattern(1, 8)


@pytest.mark.parametrize(("epoch", "share"), [(10, 0.731), (50, 0.209), (100, 0.0437), (350, 1.75e-5)])
def test_exponential_decay_at_313_steps_an_epoch(epoch: int, share: float) -> None:
    assert made("mdgf_exponential", steps=None, beta=1e-4).leak(313 * epoch) == pytest.approx(share, rel=2e-3)


@pytest.mark.parametrize(("beta", "zero"), [(1e-3, 1000), (2e-4, 5000), (1e-4, 10_000), (2e-5, 50_000)])
def test_linear_decay_reaches_zero_after_one_over_beta_steps(beta: float, zero: int) -> None:
    leak = made("mdgf_linear", steps=None, beta=beta).leak
    assert leak(zero) == pytest.approx(0, abs=1e-12)
    assert leak(zero - 1) > 0


@pytest.mark.parametrize("name", ["mdgf_linear", "mdgf_exponential", "mdgf_sr_ste", "sdgf_mdgf", "kao_mask_decay"])
def test_decay_counts_from_the_end_of_the_dense_phase_and_ends_binary(name: str) -> None:
    recipe = made(name, steps=1000, dense=0.1, fine_tune=0.3)
    assert [recipe.structure(step) for step in (0, 99)] == [DENSE, DENSE]
    assert [recipe.leak(step) for step in (0, 99, 100)] == [1, 1, 1]
    assert 0 < recipe.leak(699) < recipe.leak(300) < 1 or name == "kao_mask_decay"
    assert {recipe.leak(step) for step in range(700, 1001)} == {0}
    assert recipe.structure(1000) == recipe.final == Pattern(1, 8)


def test_default_rates_end_with_the_decay_phase() -> None:
    linear, exponential = made("mdgf_linear", steps=1000), made("mdgf_exponential", steps=1000)
    assert linear.leak(499) == pytest.approx(1 / 488, rel=1e-2)
    assert exponential.leak(749) == pytest.approx(0.01, rel=1e-2)


STEPWISE = {
    "2:4": ("3:4 2:4", [0, 175]),
    "1:4": ("3:4 2:4 1:4", [0, 116, 233]),
    "1:8": ("7:8 4:8 2:8 1:8", [0, 87, 175, 262]),
    "1:16": ("15:16 8:16 4:16 2:16 1:16", [0, 70, 140, 210, 280]),
    "1:32": ("31:32 16:32 8:32 4:32 2:32 1:32", [0, 58, 116, 175, 233, 291]),
    "1:128": ("127:128 64:128 32:128 16:128 8:128 4:128 2:128 1:128", [0, 43, 87, 131, 175, 218, 262, 306]),
}
MEAN_DENSITY = {"2:4": 0.625, "1:4": 0.49929, "1:8": 0.43679, "1:16": 0.375, "1:32": 0.32188, "1:128": 0.24645}


def changes(recipe: Recipe, steps: int) -> dict[int, Pattern]:
    values = [recipe.structure(step) for step in range(steps)]
    return {step: value for step, value in enumerate(values) if step == 0 or value != values[step - 1]}


@pytest.mark.parametrize("target", STEPWISE)
def test_stepwise_intervals_are_those_of_the_published_run(target: str) -> None:
    recipe = made("sdgf_stepwise", target, steps=350, dense=0.0, fine_tune=0.0)
    expected, starts = STEPWISE[target]
    assert changes(recipe, 350) == dict(zip(starts, patterns(expected), strict=True))
    mean = np.mean([recipe.structure(step).density for step in range(350)])
    assert mean == pytest.approx(MEAN_DENSITY[target], abs=1e-5)


@pytest.mark.parametrize(
    ("target", "expected"),
    [("3:8", "7:8 4:8 3:8"), ("2:12", "11:12 6:12 3:12 2:12"), ("1:2", "1:2"), ("3:4", "3:4"), ("1:7", "6:7 3:7 1:7")],
)
def test_stepwise_reaches_targets_that_are_no_power_of_two(target: str, expected: str) -> None:
    assert stepwise_patterns(Pattern.parse(target)) == tuple(patterns(expected))


def test_geometric_lists_are_those_of_the_code_and_of_the_text() -> None:
    recipe = made("sdgf_geometric", steps=350, k=8, dense=0.0, fine_tune=0.0)
    assert changes(recipe, 350) == dict(zip([0, 87, 175, 262], patterns("8:64 4:32 2:16 1:8"), strict=True))
    assert geometric_patterns(Pattern(1, 8), 16) == tuple(patterns("16:128 8:64 4:32 2:16 1:8"))
    assert geometric_patterns(Pattern(2, 4), 8) == tuple(patterns("16:32 8:16 4:8 2:4"))


@pytest.mark.parametrize("k", [0, 1, 3, 12])
def test_geometric_needs_a_power_of_two(k: int) -> None:
    with pytest.raises(UserError, match=rf"sdgf_geometric: k={k}: needs a power of two"):
        made("sdgf_geometric", k=k)


def test_a_wider_pattern_takes_the_largest_k_that_fits_the_line() -> None:
    recipe = made("sdgf_geometric", steps=350, dense=0.0, fine_tune=0.0)
    assert [recipe.at(0, length) for length in (128, 192, 48, 8)] == patterns("16:128 8:64 2:16 1:8")


def test_kao_structures_and_decay_are_those_of_the_released_code() -> None:
    # n = m = 16: 16, 15, 4, 2, 1; D = max(1 - u w, 0), forced to 0 at u = 16.
    assert [pattern.n for pattern in kao_patterns(Pattern(1, 16))] == [16, 15, 4, 2, 1]
    recipe = made("kao_mask_decay", steps=1600, dense=0.0, fine_tune=0.0, weight=1 / 32)
    assert [recipe.leak(100 * u) for u in (0, 1, 15, 16, 17)] == [1, 1 - 1 / 32, 1 - 15 / 32, 0, 0]
    assert [step for step in range(250) if recipe.refreshes(step)] == [0, 100, 200]


def test_gradual_pruning_follows_the_cubic_between_a_quarter_and_three_quarters() -> None:
    recipe = made("gradual_magnitude", "1:16", steps=1000)
    for step in (0, 249, 300, 500, 749, 750, 999):
        clip = min(max((step - 250) / 500, 0), 1)
        density = 1 - (15 / 16) * (1 - (1 - clip) ** 3)
        assert recipe.structure(step).density == pytest.approx(math.ceil(16 * density - 1e-9) / 16)


def test_average_density_of_gradual_pruning_is_the_published_one() -> None:
    # arXiv 2309.08520: the mean sparsity of a cubic from 25 % to 75 % of the run is 0.625 S.
    recipe = made("global_magnitude", "1:8", steps=100_000, refresh=10)
    mean = np.mean([recipe.structure(step).density for step in range(0, 100_000, 10)])
    assert 1 - mean == pytest.approx(0.625 * 7 / 8, abs=1e-3)


def test_ac_dc_alternates_and_ends_compressed() -> None:
    recipe = made("ac_dc", "1:8", steps=1000)
    assert changes(recipe, 1000) | {750: Pattern(1, 8)} == {
        0: DENSE,
        **{100 + 100 * i: Pattern(1, 8) for i in range(7)},
        **{150 + 100 * i: DENSE for i in range(6)},
        750: Pattern(1, 8),
    }


def test_plans_say_what_the_products_are_offered() -> None:
    pattern = Pattern(1, 8)
    both = SitePlan(fprop=pattern, dgrad=pattern)
    assert made("ste").plan(0) == both
    assert made("dense").plan(0) == SitePlan()
    assert made("static_random").plan(0) == replace(both, wgrad=pattern)
    assert made("bi_mask").plan(0) == replace(both, dgrad_axis=0)
    assert made("mvue").plan(0) == replace(both, dy=Pattern(1, 2))
    assert made("mdgf_linear", steps=1000).plan(400) == SitePlan()
    assert made("mdgf_linear", steps=1000).plan(600) == both
    assert made("ste").plan(0, Pattern(2, 8)) == SitePlan(fprop=Pattern(2, 8), dgrad=Pattern(2, 8))


def test_growing_on_the_gradient_wants_it_dense_the_step_before() -> None:
    recipe = made("rigl", steps=1000)
    assert recipe.plan(99).wgrad == DENSE
    assert recipe.plan(100).wgrad == Unstructured(1 / 8)
    assert made("srigl", steps=1000).plan(98).wgrad == FanIn(1 / 8)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_recipe_prints_compares_and_hashes(name: str) -> None:
    recipe = made(name)
    assert recipe == made(name)
    assert hash(recipe) == hash(made(name))
    assert recipe.name == name
    assert "object at" not in repr(recipe)
    assert "arXiv" in (RECIPES[name].__doc__ or "") or name in ("dense", "dense_then_ste", "static_magnitude")


def test_refresh_and_freeze_are_options_of_every_recipe_that_chooses_at_intervals() -> None:
    recipe = made("sr_ste", steps=100, refresh=10, freeze=0.5)
    assert [step for step in range(100) if recipe.refreshes(step)] == [0, 10, 20, 30, 40]
    with pytest.raises(UserError, match="static_random: its masks are chosen at fixed steps; leave out refresh"):
        made("static_random", refresh=10)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sr_ste", {"lambda": 1e-4}, r'unknown option of sr_ste "lambda"'),
        ("sr_ste", {"lam": "much"}, r"sr_ste: lam: 'much' is str; needs float"),
        ("mdgf_linear", {"steps": None}, r"mdgf_linear: its phases are shares of the run; give steps="),
        ("mdgf_linear", {"steps": None, "beta": 0.1, "dense": 0.1}, "give steps="),
        ("ste", {"steps": None, "dense": 0.1}, "give steps="),
        ("one_shot", {"dense": 1.5}, r"one_shot: dense=1.5: a share"),
        ("mdgf_linear", {"dense": 0.8, "fine_tune": 0.5}, "more than the whole run"),
        ("ste", {"axis": 2}, "groups run along d_in"),
        ("mdgf_linear", {"steps": 0}, "steps=0"),
        ("sr_ste", {"lam": math.nan}, "sr_ste: lam = nan; needs a finite number"),
        *((name, {"beta": 0.0}, "beta=0: needs a number above 0") for name in ("mdgf_linear", "mdgf_exponential")),
        ("kao_mask_decay", {"weight": -1.0}, "weight=-1: needs a number above 0"),
        ("powerpropagation", {"alpha": 0.0}, "alpha=0: needs a number above 0"),
        ("ac_dc", {"cycle": -1.0}, "cycle=-1: needs a number above 0"),
        ("set", {"fraction": 2.0}, "fraction=2: a share lies between 0 and 1"),
        ("rigl", {"alpha": 3.0}, "alpha=3: a share lies between 0 and 1"),
        ("srigl", {"alpha": 3.0}, "alpha=3: a share lies between 0 and 1"),
        ("srigl", {"gamma": -1.0}, "gamma=-1: needs a number above 0"),
        ("soft_shrinkage", {"keep": 2.0}, "keep=2: a share lies between 0 and 1"),
        ("lbc", {"rate": -1.0}, "rate=-1: needs a number above 0"),
    ],
)
def test_a_wrong_option_is_one_line_with_the_cure(name: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        made(name, **options)
    assert "\n" not in str(error.value)


def test_recipes_without_phases_need_no_steps() -> None:
    for name in ("dense", "ste", "sr_ste", "random_ste", "static_random", "bi_mask", "mvue", "s_ste", "transposable"):
        assert made(name, steps=None).structure(0) in (Pattern(1, 8), DENSE)


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (replace(made("ste"), weight=(Leak(Constant(0.5)),)), "a pruned weight is not 0"),
        (replace(made("transposable"), select=made("ste").select), "dense|keeps"),
    ],
)
def test_check_recipe_refuses_a_recipe_that_breaks_the_contract(broken: Recipe, law: str) -> None:
    def make(pattern, *, steps=None, **options):
        return broken

    with pytest.raises((AssertionError, UserError), match=law):
        check_recipe(make)
