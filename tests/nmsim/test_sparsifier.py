"""What a sparsifier does to parameters, site by site and step by step."""

from dataclasses import replace

import numpy as np
import pytest

from hwmodel.errors import UserError
from hwmodel.pattern import DENSE, FanIn, Pattern, Unstructured
from hwmodel.workload import SitePlan
from nmsim.compressed import NMMatrix, decompress
from nmsim.layers import Param
from nmsim.recipes import RECIPES, Recipe
from nmsim.rules.site import MASK, SECOND_MOMENT_FROZEN
from nmsim.rules.structures import obeys
from nmsim.schedules import Constant
from nmsim.sparsifier import Sparsifier, executed

UP, DOWN = "block0.mlp.up", "block0.mlp.down"


def params(*, width: int = 32, hidden: int = 64, seed: int = 0) -> list[Param]:
    rng = np.random.default_rng(seed)
    shapes = {"block0.attn.q": (width, width), UP: (hidden, width), DOWN: (width, hidden)}
    made = [Param(name, rng.standard_normal(shape).astype(np.float32)) for name, shape in shapes.items()]
    return [*made, Param(f"{UP}.bias", np.zeros(hidden, np.float32))]


def make(
    recipes: dict[str, Recipe], *, weights: list[Param] | None = None, **options
) -> tuple[Sparsifier, list[Param]]:
    weights = weights or params()
    return Sparsifier(recipes, weights, np.random.default_rng(0), **options), weights


def recipe(name: str, pattern: str = "1:8", **options) -> Recipe:
    return RECIPES[name](Pattern.parse(pattern), **({"steps": 100} | options))


def named(weights: list[Param], name: str) -> Param:
    return next(param for param in weights if param.name == name)


def test_the_first_matching_glob_wins_and_the_rest_stay_dense() -> None:
    sparsifier, weights = make({"*.up": recipe("ste", "1:4"), "*.mlp.*": recipe("ste", "2:8")})
    sparsifier.before_forward(0)
    masks = sparsifier.masks()
    assert masks[UP].mean() == masks[DOWN].mean() == 0.25
    assert obeys(masks[UP], Pattern(1, 4), 1)
    assert not obeys(masks[DOWN], Pattern(1, 4), 1)
    assert named(weights, "block0.attn.q").fwd is named(weights, "block0.attn.q").value
    assert sparsifier.plan(0)["block0.attn.q"] == SitePlan()


def test_vectors_are_never_sparse() -> None:
    sparsifier, _ = make({"*": recipe("ste")})
    sparsifier.before_forward(0)
    assert f"{UP}.bias" not in sparsifier.masks()


@pytest.mark.parametrize("step", [0, 95])
@pytest.mark.parametrize(
    "name", ["ste", "sdgf_stepwise", "mdgf_linear", "transposable", "rigl", "s_ste", "bi_mask", "slope"]
)
def test_operands_follow_from_the_mask_in_both_executions(name: str, step: int) -> None:
    dense, masked = make({"*.mlp.*": recipe(name)})
    packed, compressed = make({"*.mlp.*": recipe(name)}, execution="compressed")
    dense.before_forward(step)
    packed.before_forward(step)
    plan = packed.plan(step)
    for a, b in zip(masked[:-1], compressed[:-1], strict=True):
        for one, other, structure in [(a.fwd, b.fwd, plan[a.name].fprop), (a.bwd, b.bwd, plan[a.name].dgrad)]:
            assert isinstance(other, NMMatrix) == (isinstance(structure, Pattern) and not structure.is_dense)
            assert np.array_equal(one, decompress(other) if isinstance(other, NMMatrix) else other)


def test_what_kernels_cannot_use_runs_dense() -> None:
    wide, fan_in, loose = Pattern(16, 512), FanIn(0.5), Unstructured(0.5)
    assert executed(SitePlan(wide, fan_in, loose, dy=Pattern(1, 2))) == SitePlan()
    assert executed(SitePlan(Pattern(2, 4))) == SitePlan(Pattern(2, 4))


def test_calling_twice_at_a_step_changes_nothing() -> None:
    for name in ("soft_shrinkage", "rigl", "random_ste"):
        sparsifier, weights = make({"*.mlp.*": recipe(name)})
        sparsifier.before_forward(0)
        before = [(p.value.copy(), np.array(p.fwd)) for p in weights[:-1]]
        sparsifier.before_forward(0)
        for param, (value, seen) in zip(weights[:-1], before, strict=True):
            assert np.array_equal(param.value, value)
            assert np.array_equal(param.fwd, seen)


def test_masks_move_only_when_they_are_refreshed() -> None:
    sparsifier, weights = make({"*.mlp.*": recipe("ste", refresh=3)})
    seen = []
    for step in range(7):
        sparsifier.before_forward(step)
        seen.append(sparsifier.masks()[UP].copy())
        assert sparsifier.plan(step).refreshed == ({UP, DOWN} if step % 3 == 0 else set())
        named(weights, UP).value[:] = np.random.default_rng(step).standard_normal((64, 32))
    assert [bool((seen[i] != seen[i + 1]).any()) for i in range(6)] == [False, False, True, False, False, True]


def test_returning_weights_start_at_zero_with_a_fresh_optimiser() -> None:
    sparsifier, weights = make({UP: recipe("rigl", refresh=1)})
    up = named(weights, UP)
    sparsifier.before_forward(0)
    first = up.slots[MASK].copy()
    up.slots["adam.mean"] = np.ones_like(up.value)
    up.grad = np.random.default_rng(1).standard_normal(up.value.shape).astype(np.float32)
    sparsifier.after_backward(0)
    assert not up.grad[~first].any()
    sparsifier.before_forward(1)
    grown = up.slots[MASK] & ~first
    assert grown.any()
    assert not up.value[grown].any()
    assert not up.slots["adam.mean"][grown].any()
    assert up.slots["adam.mean"][~grown].all()


def test_the_second_moment_is_frozen_from_the_switch_on() -> None:
    sparsifier, weights = make({UP: recipe("step", dense=0.02)})
    for step in range(4):
        sparsifier.before_forward(step)
        assert (SECOND_MOMENT_FROZEN in named(weights, UP).slots) == (step >= 2)


def test_the_seed_decides_random_masks_site_by_site() -> None:
    masks = []
    for seed in (0, 0, 1):
        sparsifier = Sparsifier({"*.mlp.*": recipe("static_random")}, params(), np.random.default_rng(seed))
        sparsifier.before_forward(0)
        masks.append(sparsifier.masks())
    assert np.array_equal(masks[0][UP], masks[1][UP])
    assert not np.array_equal(masks[0][UP], masks[2][UP])
    assert not np.array_equal(masks[0][UP].ravel(), masks[0][DOWN].ravel())


def test_a_weight_that_serves_two_sites_has_one_mask() -> None:
    weights = params()
    sparsifier = Sparsifier({"*.mlp.*": recipe("ste")}, [*weights, weights[1]], np.random.default_rng(0))
    sparsifier.before_forward(0)
    assert set(sparsifier.masks()) == {UP, DOWN}


def test_a_global_threshold_leaves_each_site_its_own_density() -> None:
    weights = params()
    named(weights, UP).value *= 1.5
    sparsifier, _ = make({"*.mlp.*": recipe("global_magnitude", refresh=1)}, weights=weights)
    sparsifier.before_forward(90)
    plan, masks = sparsifier.plan(90), sparsifier.masks()
    assert plan[UP].fprop == Unstructured(float(masks[UP].mean()))
    assert plan[UP].fprop.density > 2 * plan[DOWN].fprop.density
    assert masks[UP].sum() + masks[DOWN].sum() == 2 * 2048 // 8


# Remainders and refusals ------------------------------------------------------------------------------------------


def test_all_sites_that_a_pattern_does_not_fit_are_named_at_once() -> None:
    with pytest.raises(
        UserError, match=r"up: d_in=30 is not a multiple of m=8; .*down: d_in=60 is .* m=8; choose"
    ) as error:
        make({"*.mlp.*": recipe("ste")}, weights=params(width=30, hidden=60))
    assert "\n" not in str(error.value)


def test_a_recipe_with_masks_along_both_axes_needs_both_lengths() -> None:
    for name in ("transposable", "bi_mask", "slope"):
        with pytest.raises(UserError, match=r"up: d_out=60 is not a multiple of m=8"):
            make({"*.up": recipe(name)}, weights=params(hidden=60))


def test_squares_cannot_be_padded_and_all_their_sites_are_named() -> None:
    with pytest.raises(UserError, match=r"up: d_out=60 is .* m=8; .*down: d_in=60 is .* m=8; .* can't be padded"):
        make({"*.mlp.*": recipe("transposable")}, weights=params(hidden=60), remainder="pad")


def test_tokens_that_do_not_fill_groups_of_sampled_gradients_are_refused_at_all_sites() -> None:
    sparsifier, _ = make({"*.mlp.*": recipe("mvue")})
    tokens = {UP: 8, DOWN: 8}
    sparsifier.check_tokens(tokens)
    with pytest.raises(UserError, match=r"up: t=7 is not a multiple of m=2; .*down: t=9 is .*: choose") as error:
        sparsifier.check_tokens({UP: 7, DOWN: 9})
    assert "\n" not in str(error.value)


def test_excluded_sites_stay_dense_and_are_noted() -> None:
    sparsifier, weights = make({"*.mlp.*": recipe("ste")}, weights=params(hidden=60), remainder="exclude")
    sparsifier.before_forward(0)
    assert set(sparsifier.masks()) == {UP}
    assert sparsifier.notes == [f"{DOWN}: d_in=60 is not a multiple of m=8; this site stays dense"]
    assert named(weights, DOWN).fwd is named(weights, DOWN).value


@pytest.mark.parametrize("name", ["ste", "sr_ste", "mdgf_exponential", "static_random", "s_ste", "lbc"])
def test_padded_sites_have_a_shorter_last_group_in_both_executions(name: str) -> None:
    weights = {}
    for execution in ("dense", "compressed"):
        sparsifier, weights[execution] = make(
            {DOWN: recipe(name, fine_tune=1.0, dense=0.0) if name.startswith("mdgf") else recipe(name)},
            weights=params(hidden=60),
            remainder="pad",
            execution=execution,
        )
        sparsifier.before_forward(99)
        assert sparsifier.notes == [f"{DOWN}: d_in=60 is not a multiple of m=8; the last group of each line is shorter"]
        assert obeys(sparsifier.masks()[DOWN], Pattern(1, 8), 1)
    packed = named(weights["compressed"], DOWN).fwd
    assert isinstance(packed, NMMatrix)
    assert np.array_equal(decompress(packed), named(weights["dense"], DOWN).fwd)


def test_wider_patterns_that_do_not_fit_are_noted_and_refused_where_none_fits() -> None:
    sparsifier, _ = make({"*.mlp.*": recipe("sdgf_geometric")})
    assert sparsifier.notes == [
        f"{UP}: lines of 32 are no multiple of m=128; patterns go up to m=32",
        f"{DOWN}: lines of 64 are no multiple of m=128; patterns go up to m=64",
    ]
    with pytest.raises(UserError, match=r"sdgf_geometric: no line is a multiple of m=64.* identical to ste"):
        make({"*.up": recipe("sdgf_geometric", "1:32")})


@pytest.mark.parametrize(
    ("recipes", "options", "message"),
    [
        ({"*.mpl.*": "ste"}, {}, r'"\*.mpl.\*" matches no sparsifiable site \(sites: block0.attn.q, block0.mlp.up'),
        ({"*": "ste"}, {"execution": "packed"}, 'unknown execution "packed"'),
        ({"*": "ste"}, {"remainder": "drop"}, 'unknown remainder "drop"'),
    ],
)
def test_wrong_settings_are_named(recipes, options, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make({glob: recipe(name) for glob, name in recipes.items()}, **options)


def test_own_axes_compose() -> None:
    # A dense input gradient under a sparse forward weight: no recipe of the registry has it.
    mixed = replace(recipe("ste"), structure=Constant(Pattern(2, 4)), axis=0)
    sparsifier, weights = make({UP: mixed}, execution="compressed")
    sparsifier.before_forward(0)
    assert named(weights, UP).fwd.axis == 0
    assert sparsifier.plan(0)[UP] == SitePlan(Pattern(2, 4), Pattern(2, 4), DENSE, axis=0, dgrad_axis=0)
