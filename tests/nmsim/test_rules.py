"""Rules against plain loops and the figures of their papers."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodel.pattern import DENSE, FanIn, Pattern, Unstructured
from nmsim.rules.gradient import SRSTE, ChainRule, Masked, StraightThrough
from nmsim.rules.outputs import Sampler, mvue
from nmsim.rules.scores import Gradient, Learned, Magnitude, Random, Saliency
from nmsim.rules.selection import DropGrow, NeuronDropGrow, TopK, Transposable, active_neurons
from nmsim.rules.site import GRADIENT, MASK, SCALE, SEED, Site
from nmsim.rules.spread import ErdosRenyi, OverModel
from nmsim.rules.structures import best_mask, fan_in, kept_count, obeys
from nmsim.rules.view import Bidirectional, DoublePrune
from nmsim.rules.weight import GONE, Hard, Leak, Power, Shrink, SoftThreshold
from nmsim.schedules import Constant, Linear


def site(shape=(16, 32), structure=Pattern(1, 8), *, seed=0, axis=1, step=0, masked=True, dtype=np.float32) -> Site:
    rng = np.random.default_rng(seed)
    value = rng.standard_normal(shape).astype(dtype)
    made = Site("here", value, {SEED: np.array(seed)}, structure, axis, step)
    made.slots[GRADIENT] = rng.standard_normal(shape).astype(dtype)
    if masked:
        made.slots[MASK] = best_mask(np.abs(value), structure, axis)
    return made


structures = st.sampled_from(
    [Pattern(1, 8), Pattern(2, 4), Pattern(3, 8), DENSE, FanIn(0.25), FanIn(0.1), Unstructured(0.2)]
)


@given(structures, st.integers(0, 1), st.integers(0, 9))
def test_the_best_mask_obeys_its_structure_and_no_swap_improves_it(structure, axis: int, seed: int) -> None:
    here = site(structure=structure, axis=axis, seed=seed)
    mask, scores = here.mask, np.abs(here.value)
    assert obeys(mask, structure, axis)
    if isinstance(structure, Unstructured):
        assert mask.sum() == kept_count(structure, mask.size)
        assert scores[mask].min() >= scores[~mask].max()
    if isinstance(structure, FanIn):
        assert set(mask.sum(axis=axis)) == {fan_in(structure, mask.shape[1 - axis], mask.shape[axis])}


def test_a_short_last_group_keeps_its_best_n() -> None:
    mask = best_mask(np.array([[1.0, 5, 2, 3, 9, 7, 8]]), Pattern(2, 4), 1)
    assert mask.tolist() == [[False, True, False, True, True, False, True]]


@pytest.mark.parametrize("structure", [Pattern(1, 8), FanIn(0.25), Unstructured(0.2)])
def test_a_mask_with_one_weight_more_does_not_obey(structure) -> None:
    mask = site(structure=structure).mask.copy()
    mask.flat[np.flatnonzero(~mask)[0]] = True
    assert not obeys(mask, structure, 1)


def test_scores_are_their_formulas() -> None:
    here = site()
    assert np.array_equal(Magnitude()(here), np.abs(here.value))
    assert np.array_equal(Gradient()(here), np.abs(here.gradient))
    assert np.array_equal(Saliency()(here), np.abs(here.value * here.gradient))
    del here.slots[GRADIENT]
    assert np.array_equal(Saliency()(here), np.abs(here.value))


def test_random_scores_depend_on_seed_and_step_alone() -> None:
    draws = [Random()(site(seed=seed, step=step)) for seed, step in [(0, 0), (0, 0), (1, 0), (0, 1)]]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert not np.array_equal(draws[0], draws[3])


def test_learned_scores_fall_where_the_loss_falls_with_the_weight() -> None:
    here, g = site(), site().gradient
    before = Learned(0.1)(here)
    Learned(0.1).learn(here, g)
    after, live = Learned(0.1)(here), here.mask
    assert np.array_equal(np.sign(before[live] - after[live]), np.sign(here.value * g)[live])
    assert (after[~live] == -np.inf).all()


def test_one_threshold_over_the_model_keeps_its_largest_weights() -> None:
    sites = [site((8, 16), Unstructured(0.25), seed=i) for i in range(3)]
    sites[1].value *= 100
    masks = TopK(spread=OverModel()).choose(sites)
    assert [int(mask.sum()) for mask in masks] == [1, 96, 1]


def test_erdos_renyi_densities_follow_the_shapes_and_are_capped() -> None:
    shapes = [(4, 4), (16, 64), (64, 64)]
    sites = [site(shape, Unstructured(0.1), masked=False) for shape in shapes]
    masks = TopK(Random(), ErdosRenyi()).choose(sites)
    total = 0.1 * sum(np.prod(shape) for shape in shapes)
    scale = (total - 16) / (80 + 128)
    assert masks[0].all()
    assert [int(mask.sum()) for mask in masks[1:]] == [int(80 * scale), int(128 * scale)]


@pytest.mark.parametrize("grow", [Random(), Gradient()])
@pytest.mark.parametrize("structure", [Unstructured(0.2), FanIn(0.25), Pattern(4, 8)])
def test_an_exchange_drops_the_smallest_and_grows_as_many(structure, grow) -> None:
    select = DropGrow(grow, Constant(0.5))
    here = site(structure=structure, masked=False)
    here.slots[MASK] = select.choose([here])[0]
    new = select.choose([here])[0]
    dropped, grown = here.mask & ~new, new & ~here.mask
    assert obeys(new, structure, 1)
    assert dropped.sum() == grown.sum() > 0
    if isinstance(structure, Unstructured):
        assert np.abs(here.value)[dropped].max() < np.abs(here.value)[here.mask & new].min()
    if isinstance(structure, Unstructured) and isinstance(grow, Gradient):
        assert np.abs(here.gradient)[grown].min() > np.abs(here.gradient)[~here.mask & ~new].max()


def test_srigl_fan_in_is_the_published_integer() -> None:
    # papers: k = int(numel (1 - S)) // (neurons - ablated), threshold max(1, int(gamma k0)).
    assert fan_in(FanIn(0.1), 10, 77) == int(770 * 0.1) // 10 == 7
    salient = np.array([9, 0, 3, 5, 4])
    assert active_neurons(salient, 0.5, (5, 10), 0.9).tolist() == [True, False, False, True, True]
    assert active_neurons(salient, 0.5, (5, 10), 0.01).tolist() == [True, False, True, True, True]
    # From 1 on gamma is a number of weights.
    assert active_neurons(salient, 0.5, (5, 10), 1.0).tolist() == [True, False, True, True, True]


def test_srigl_lowers_its_threshold_until_the_weights_fit() -> None:
    # 25 weights need at least three neurons of ten inputs, whatever the threshold says.
    assert active_neurons(np.array([9, 0, 3, 1, 0]), 0.5, (5, 10), 0.95).sum() == 3


def test_srigl_ablates_neurons_and_hands_their_weights_to_the_others() -> None:
    select = NeuronDropGrow(Constant(0.3), 0.9)
    here = site((8, 32), FanIn(0.25), masked=False)
    here.slots[MASK] = select.choose([here])[0]
    here.value[:2] *= 1e-3
    here.gradient[:2] *= 1e-3
    counts = select.choose([here])[0].sum(axis=1)
    live = counts[counts > 0]
    assert (counts[:2] == 0).all()
    assert set(live) == {int(8 * 32 * 0.25) // len(live)}


def test_a_transposable_mask_obeys_both_axes() -> None:
    mask = Transposable().choose([site((32, 32), Pattern(2, 4))])[0]
    assert obeys(mask, Pattern(2, 4), 0)
    assert obeys(mask, Pattern(2, 4), 1)
    assert Transposable().choose([site(structure=DENSE)])[0].all()


def test_a_leak_interpolates_between_the_mask_and_the_weight() -> None:
    here = site()
    half = Leak(Constant(0.5))(here.value, here)
    assert np.array_equal(half, np.where(here.mask, here.value, here.value * np.float32(0.5)))
    assert np.array_equal(Leak(Constant(0.0))(here.value, here), Hard()(here.value, here))
    assert Leak(Constant(1.0))(here.value, here) is here.value
    assert Leak(Linear(1.0, 0.0, 4)).leak(1) == 0.75


@given(st.integers(0, 20), st.sampled_from([Pattern(2, 4), Pattern(1, 8), Pattern(3, 8)]))
def test_the_soft_threshold_is_the_largest_pruned_magnitude(seed: int, pattern: Pattern) -> None:
    here = site(structure=pattern, seed=seed, dtype=np.float64)
    soft = SoftThreshold()(here.value, here)
    scale = float(here.slots[SCALE])
    for row, seen in zip(here.value, soft, strict=True):
        for g in range(0, len(row), pattern.m):
            group = np.abs(row[g : g + pattern.m])
            threshold = np.sort(group)[pattern.m - pattern.n - 1]
            expected = np.sign(row[g : g + pattern.m]) * np.maximum(group - threshold, 0) * scale
            np.testing.assert_allclose(seen[g : g + pattern.m], expected, atol=1e-14)
    plain = soft / scale
    assert scale == pytest.approx(float((here.value * plain).sum() / (plain**2).sum()))


def test_shrinking_touches_pruned_masters_alone_and_zero_prunes_for_good() -> None:
    here, before = site(), site()
    Shrink(Constant(0.5)).settle(here)
    assert np.array_equal(here.value, np.where(before.mask, before.value, before.value * np.float32(0.5)))
    GONE.settle(here)
    assert np.array_equal(here.value, Hard()(before.value, before))
    assert (GONE.leak(0), Shrink(Constant(0.5)).leak(0)) == (0, 1)


def test_power_starts_at_the_initial_weight() -> None:
    here, rule = site(dtype=np.float64), Power(2.0)
    before = here.value.copy()
    rule.start(here)
    np.testing.assert_allclose(rule(here.value, here), before, rtol=1e-14)


@pytest.mark.parametrize(
    "rules", [(Hard(),), (Leak(Constant(0.3)),), (Power(2.0), Hard()), (Power(3.0), Leak(Constant(0.5)))]
)
def test_the_chain_rule_is_the_derivative_of_what_the_forward_product_sees(rules) -> None:
    here, cotangent = site(dtype=np.float64), np.random.default_rng(1).standard_normal((16, 32))
    direction = np.random.default_rng(2).standard_normal((16, 32))

    def seen(value):
        moved = Site("here", value, here.slots, here.structure, 1, 0)
        for rule in rules:
            value = rule(value, moved)
        return float((cotangent * value).sum())

    g = cotangent.copy()
    ChainRule()(g, here, rules)
    eps = 1e-6
    slope = (seen(here.value + eps * direction) - seen(here.value - eps * direction)) / (2 * eps)
    assert slope == pytest.approx(float((g * direction).sum()), rel=1e-6)


def test_gradient_rules_are_their_formulas() -> None:
    here = site()
    for rule, expected in [
        (StraightThrough(), here.gradient),
        (Masked(), np.where(here.mask, here.gradient, 0)),
        (SRSTE(2e-4), here.gradient + np.float32(2e-4) * ~here.mask * here.value),
    ]:
        g = here.gradient.copy()
        rule(g, here, (Hard(),))
        np.testing.assert_allclose(g, expected, rtol=1e-6)


def test_views_prune_along_the_other_axis() -> None:
    here = site((16, 16), Pattern(2, 4))
    seen = Hard()(here.value, here)
    double = DoublePrune().choose(here)
    assert obeys(double, Pattern(2, 4), 0)
    assert not (double & ~here.mask).any()
    assert np.array_equal(Bidirectional().choose(here), best_mask(np.abs(here.value), Pattern(2, 4), 0))
    assert np.abs(seen)[double].sum() > 0.8 * np.abs(seen).sum()


def exact_mean(group, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the sampler over a fine grid of its uniform draw."""
    u = (np.arange(200_000) + 0.5) / 200_000
    draws = mvue(np.tile(group, (len(u), 1)), n, u)
    return draws.mean(axis=0), draws.var(axis=0)


@pytest.mark.parametrize(
    ("group", "n"), [([3.0, -1.0], 1), ([1.0, 2, -3, 4], 2), ([0.0, 0, 5, 0], 2), ([9.0, 1, 1, 1], 2)]
)
def test_sampled_gradients_are_unbiased_and_sparse(group, n: int) -> None:
    mean, _ = exact_mean(np.array(group), n)
    np.testing.assert_allclose(mean, group, atol=2e-4)
    draws = mvue(np.tile(np.array(group), (999, 1)), n, np.linspace(0, 1, 999, endpoint=False))
    assert ((draws != 0).sum(axis=1) <= n).all()


def test_one_of_two_has_the_published_variance() -> None:
    # arXiv 2203.10991: the variance of a 1:2 choice is 2 |a b|.
    _, variance = exact_mean(np.array([3.0, -1.0]), 1)
    assert variance.sum() == pytest.approx(2 * 3 * 1, rel=1e-4)


def test_two_of_four_has_the_least_variance_of_all_inclusion_probabilities() -> None:
    group = np.array([1.0, 2, 3, 4])
    _, variance = exact_mean(group, 2)
    grid = np.linspace(0.05, 1, 40)
    best = min(
        float((group**2 * (1 / np.array(p) - 1)).sum())
        for p in itertools.product(grid, repeat=4)
        if abs(sum(p) - 2) < 0.02
    )
    assert variance.sum() <= best * 1.02


def test_blocks_of_gradients_are_sampled_apart_and_alike_when_repeated() -> None:
    dy = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
    sampler = Sampler(Pattern(1, 2), "here", seed=3, step=7)
    first = sampler(dy)
    assert np.array_equal(first, sampler(dy))
    assert first.dtype == np.float32
    assert ((first.reshape(4, 2, 6) != 0).sum(axis=1) <= 1).all()
    assert not np.array_equal(first != 0, sampler(dy[::-1].copy())[::-1] != 0)


def test_tokens_that_do_not_fill_groups_are_named() -> None:
    with pytest.raises(ValueError, match=r"block0: t=7 tokens .* m=2; choose a batch"):
        Sampler(Pattern(1, 2), "block0", 0, 0)(np.ones((7, 2), np.float32))


@pytest.mark.parametrize("n", [1, 700, 1023])
def test_a_whole_matrix_is_a_group_whose_ties_keep_the_lower_index(n: int) -> None:
    scores = np.random.default_rng(0).integers(0, 5, (32, 32)).astype(np.float32)
    order = sorted(range(1024), key=lambda i: (-scores.flat[i], i))[:n]
    mask = best_mask(scores, Unstructured(n / 1024), 1)
    assert np.flatnonzero(mask).tolist() == sorted(order)
