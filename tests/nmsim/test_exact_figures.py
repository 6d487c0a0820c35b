"""Figures of the literature to the digit, each from the code that a run uses and from an independent count.

What the cost model gives to the digit is in tests/hwmodel and tests/analysis/test_published.py; schedules and intervals
are in test_recipes.py.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hwmodel.footprint import matrix_bytes
from hwmodel.networks import ViTConfig, inference, plan_of, weights
from hwmodel.pattern import DENSE, Pattern
from hwmodel.workload import SitePlan, Workload
from nmsim.layers import Param
from nmsim.masks import topk_mask, transposable_mask
from nmsim.recipes import RECIPES
from nmsim.rules.site import MASK
from nmsim.sparsifier import Sparsifier

VIT_BASE = ViTConfig(depth=12, width=768, heads=12, image=(224, 224), patch=(16, 16), channels=3, classes=1000)
STEPS = 40


def block_flops(target: Pattern) -> float:
    """FLOPs of the blocks' products for one image, with the feed-forward layers at `target`."""
    plan = plan_of(VIT_BASE, {"*.mlp.*": SitePlan(fprop=target)})
    return Workload(inference(VIT_BASE, 1, tokens=196, plan=plan).at("block*").gemms).flops


def block_weights(target: Pattern) -> float:
    sizes = {site: d_out * d_in for site, (d_out, d_in) in weights(VIT_BASE).items() if site.startswith("block")}
    return sum(size * (target.density if ".mlp." in site else 1) for site, size in sizes.items())


def test_shares_of_vit_base_are_those_of_table_1() -> None:
    """arXiv 2402.04744, table 1: 4, 32 and 64 % of the FLOPs; 28.31 and 56.62 M weights."""
    products = Workload(inference(VIT_BASE, 1, tokens=196).at("block*").gemms)
    einsum = sum(products.at(f"*.attn.{name}").flops for name in ("scores", "attend"))
    feed_forward = products.at("*.mlp.*").flops
    projections = products.flops - einsum - feed_forward
    assert [round(100 * part / products.flops, 2) for part in (einsum, projections, feed_forward)] == [
        4.08,
        31.97,
        63.95,
    ]
    saved_by_half = block_weights(DENSE) - block_weights(Pattern(2, 4))
    assert (block_weights(DENSE) - 2 * saved_by_half, 2 * saved_by_half) == (28_311_552, 56_623_104)


def test_one_of_sixteen_saves_41_percent_against_two_of_four_and_60_against_dense() -> None:
    """arXiv 2402.04744, table 18; the text's "60 % and 30 % fewer than 2:4" do not follow from it."""
    sparse, half = Pattern(1, 16), Pattern(2, 4)
    assert round(block_flops(sparse) / block_flops(half), 4) == 0.5887
    assert round(block_flops(sparse) / block_flops(DENSE), 4) == 0.4005
    assert block_weights(sparse) / block_weights(half) == 0.5625
    assert block_weights(sparse) / block_weights(DENSE) == 0.375


def seen_gradients(name: str, step: int) -> tuple[np.ndarray, np.ndarray, Param]:
    """The raw gradient of a step, what the optimiser sees of it, and the weight."""
    rng = np.random.default_rng(step)
    weight = Param("site", rng.standard_normal((16, 64)).astype(np.float32))
    sparsifier = Sparsifier({"*": RECIPES[name](Pattern(1, 8), steps=STEPS)}, [weight], rng)
    sparsifier.before_forward(step)
    raw = rng.standard_normal((16, 64)).astype(np.float32)
    weight.grad[...] = raw
    sparsifier.after_backward(step)
    return raw, weight.grad, weight


@pytest.mark.parametrize("name", ["mdgf_linear", "mdgf_exponential", "sdgf_stepwise", "sdgf_geometric", "sdgf_mdgf"])
def test_decay_recipes_leave_the_gradient_alone_in_every_phase(name: str) -> None:
    """arXiv 2402.04744, figure 2: w <- w - rate * g, for pruned and kept weights alike."""
    for step in range(STEPS):
        raw, seen, _ = seen_gradients(name, step)
        assert np.array_equal(seen, raw), step


def test_sr_ste_adds_two_parts_in_ten_thousand_of_pruned_weights() -> None:
    """arXiv 2102.04010, eq. 9, and the default of its released code: g + 2e-4 (1 - mask) w."""
    for step in range(STEPS):
        raw, seen, weight = seen_gradients("sr_ste", step)
        pull = np.float32(2e-4) * np.where(weight.slots[MASK], 0, weight.value)
        np.testing.assert_allclose(seen, raw + pull, rtol=1e-6, atol=0)
        assert np.array_equal(seen[weight.slots[MASK]], raw[weight.slots[MASK]])


@pytest.mark.parametrize(
    ("pattern", "code", "index"),
    [(Pattern(2, 4), 0.75, 1.0), (Pattern(4, 8), 0.875, 1.5), (Pattern(8, 16), 0.875, 2.0)],
)
def test_bits_of_metadata_a_weight(pattern: Pattern, code: float, index: float) -> None:
    """arXiv 2507.03052: 0.75 bit a weight at 2:4 and 0.875 at 8:16 as a number; 1 bit at 2:4 as two-bit positions."""
    size = 64 * 64
    values = size * pattern.n // pattern.m * 2
    for layout, bits in (("code", code), ("index", index)):
        assert 8 * (matrix_bytes(64, 64, pattern, 16, layout) - values) / size == bits
    choices = math.comb(pattern.m, pattern.n)
    assert math.ceil(math.log2(choices)) / pattern.m == code


def distinct(blocks: np.ndarray) -> set[bytes]:
    return {block.tobytes() for block in blocks}


@pytest.mark.parametrize(("pattern", "count"), [(Pattern(2, 4), 6), (Pattern(4, 8), 70)])
def test_every_mask_of_a_group_is_chosen_for_some_scores(pattern: Pattern, count: int) -> None:
    scores = np.random.default_rng(0).random((3000, pattern.m))
    assert len(distinct(topk_mask(scores, pattern))) == math.comb(pattern.m, pattern.n) == count


def test_masks_of_an_8_by_8_block_are_as_many_as_published() -> None:
    """arXiv 2102.08124: 6 masks a group of 2:4, so 6^16 of a block of 8 x 8."""
    groups = distinct(topk_mask(np.random.default_rng(0).random((500, 4)), Pattern(2, 4)))
    assert len(groups) ** (8 * 8 // 4) == 2_821_109_907_456


@pytest.mark.compiled
def test_all_90_transposable_masks_of_two_of_four_are_chosen_for_some_scores() -> None:
    """arXiv 2102.08124's formula, 4! 3!, counts 144 by orders of choice; 90 masks exist."""
    rows = [np.isin(range(4), kept) for kept in itertools.combinations(range(4), 2)]
    feasible = {
        np.stack(four).tobytes() for four in itertools.product(rows, repeat=4) if (np.sum(four, axis=0) == 2).all()
    }
    scores = np.random.default_rng(0).random((4 * 9000, 4))
    chosen = distinct(transposable_mask(scores, Pattern(2, 4)).reshape(-1, 4, 4))
    assert len(feasible) == 90
    assert feasible <= chosen
