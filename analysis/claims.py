"""The exact claims of the papers that a simulator must reproduce to the digit, each computed by this project's code.

The paper is arXiv 2402.04744 unless a claim names another. A claim whose published form is a defect of the released
code is answered with the defect and what is done here instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from hwmodel.errors import UserError
from hwmodel.pattern import FanIn, Pattern
from nmsim.masks import topk_mask
from nmsim.recipes import RECIPES
from nmsim.rules.gradient import SRSTE, StraightThrough
from nmsim.rules.selection import active_neurons
from nmsim.rules.site import MASK, Site
from nmsim.rules.structures import fan_in
from nmsim.schedules import Cubic

from . import accounts, scaling
from .errata import transposable_masks

EPOCHS = 350
STEPS_PER_EPOCH = 313
"""ImageNet-1K's 1,281,167 images in batches of 4,096, as in the paper's ViT-Base runs."""


@dataclass(frozen=True)
class Check:
    """One published value beside the value computed here, both as text."""

    what: str
    published: str
    computed: str

    @property
    def agrees(self) -> bool:
        """Whether both are the same to the published digit."""
        return self.published == self.computed


@dataclass(frozen=True)
class ExactClaim:
    """A claim about numbers, with every check of it."""

    number: str
    statement: str
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> str:
        """Reproduced, or which checks are not."""
        wrong = [check.what for check in self.checks if not check.agrees]
        return "reproduced" if not wrong else f"differs: {', '.join(wrong)}"


def exact_claims() -> list[ExactClaim]:
    """All sixteen, in the order of `CLAIMS`."""
    return [ExactClaim(f"a{i}", statement, tuple(checks())) for i, (statement, checks) in enumerate(CLAIMS, start=1)]


def digits(what: str, published: str, value: float) -> Check:
    """A check with `value` rounded to as many digits as `published` shows."""
    mantissa, _, exponent = published.partition("e")
    decimals = len(mantissa.partition(".")[2])
    shown = f"{value:.{decimals}e}" if exponent else f"{value:,.{decimals}f}"
    return Check(what, published, shown)


def _operations() -> Iterator[Check]:
    whole = accounts.products(accounts.VIT_BASE)
    yield digits("one projection", "2,774,532,096", whole.at("*.attn.q").flops)
    yield digits("one attention product", "708,083,712", whole.at("*.attn.scores").flops)
    yield digits("one FF layer", "11,098,128,384", whole.at("*.mlp.up").flops)
    yield digits("attention, GFLOP", "12.51", whole.at("*.attn.*").flops / 1e9)
    yield digits("FF, GFLOP", "22.196", whole.at(accounts.FEED_FORWARD).flops / 1e9)
    yield digits("all, GFLOP", "34.71", whole.flops / 1e9)


def _totals() -> Iterator[Check]:
    for target, published in zip(
        accounts.TARGETS[1:], ("23.61", "18.06", "15.29", "13.90", "13.21", "12.69"), strict=True
    ):
        yield digits(target, published, accounts.flops(accounts.VIT_BASE, target) / 1e9)


def _shares() -> Iterator[Check]:
    shares = accounts.shares(accounts.VIT_BASE)
    for name, published in (("einsum", "4"), ("projections", "32"), ("feed_forward", "64")):
        yield digits(f"{name}, %", published, 100 * shares[name])
    kept = accounts.parameters(accounts.VIT_BASE, "dense"), accounts.parameters(accounts.VIT_BASE, "2:4")
    feed_forward = 2 * (kept[0] - kept[1])
    yield digits("projections, M", "28.31", (kept[0] - feed_forward) / 1e6)
    yield digits("FF, M", "56.62", feed_forward / 1e6)


def _headline() -> Iterator[Check]:
    sparse, half, dense = (
        (accounts.flops(accounts.VIT_BASE, t), accounts.parameters(accounts.VIT_BASE, t))
        for t in ("1:16", "2:4", "dense")
    )
    yield digits("FLOPs, 1:16 over 2:4", "0.5887", sparse[0] / half[0])
    yield digits("parameters, 1:16 over 2:4", "0.5625", sparse[1] / half[1])
    yield digits("FLOPs, 1:16 over dense", "0.4005", sparse[0] / dense[0])
    yield digits("parameters saved against dense, %", "62.5", 100 * (1 - sparse[1] / dense[1]))


def _decay() -> Iterator[Check]:
    for beta, step in ((1e-3, 1000), (2e-4, 5000), (1e-4, 10_000), (2e-5, 50_000)):
        recipe = RECIPES["mdgf_linear"](Pattern(1, 8), beta=beta)
        zero = next(j for j in range(step - 2, step + 3) if recipe.leak(j) == 0)
        yield digits(f"linear, beta {beta:g}: D = 0 at step", f"{step:,}", zero)
    recipe = RECIPES["mdgf_exponential"](Pattern(1, 8), beta=1e-4)
    for epoch, published in ((10, "0.731"), (50, "0.209"), (100, "0.0437"), (350, "1.75e-05")):
        yield digits(f"exponential, beta 1e-4: D at epoch {epoch}", published, recipe.leak(epoch * STEPS_PER_EPOCH))


def _stages(name: str, target: Pattern, **options: int) -> str:
    """The structures of a recipe over 350 epochs without dense or fine-tune phase, each with its first epoch."""
    recipe = RECIPES[name](target, steps=EPOCHS, dense=0.0, fine_tune=0.0, **options)
    held = [str(recipe.structure(epoch)) for epoch in range(EPOCHS)]
    return ", ".join(f"{i} {now}" for i, now in enumerate(held) if i == 0 or held[i - 1] != now)


def _stepwise() -> Iterator[Check]:
    published = {
        Pattern(1, 8): "0 7:8, 87 4:8, 175 2:8, 262 1:8",
        Pattern(1, 32): "0 31:32, 58 16:32, 116 8:32, 175 4:32, 233 2:32, 291 1:32",
    }
    for target, stages in published.items():
        yield Check(f"{target}: first epoch and pattern of each stage", stages, _stages("sdgf_stepwise", target))


def _geometric() -> Iterator[Check]:
    published = {8: "0 8:64, 87 4:32, 175 2:16, 262 1:8", 16: "0 16:128, 70 8:64, 140 4:32, 210 2:16, 280 1:8"}
    for k, stages in published.items():
        yield Check(f"1:8, k = {k}", stages, _stages("sdgf_geometric", Pattern(1, 8), k=k))


def _masks() -> Iterator[Check]:
    scores = np.random.default_rng(0).standard_normal((64, 768))
    kept = {int(n) for n in topk_mask(scores, Pattern(2, 8)).reshape(-1, 8).sum(axis=1)}
    yield Check("ones in each block of 8, 2:8", "[2]", str(sorted(kept)))
    yield Check("blocks of 512 at d_in = 768 (the released code lets them cross rows)", "refused", _wrapped(scores))


def _wrapped(scores: np.ndarray) -> str:
    try:
        topk_mask(scores, Pattern(1, 512))
    except UserError:
        return "refused"
    return "a mask"


def _gradients() -> Iterator[Check]:
    rng = np.random.default_rng(0)
    value, g = rng.standard_normal((2, 8, 16))
    mask = topk_mask(np.abs(value), Pattern(2, 4))
    site = Site("w", value, {MASK: mask}, Pattern(2, 4), 1, 0)
    seen, expected = g.copy(), g + 2e-4 * ~mask * value
    SRSTE()(seen, site, ())
    yield Check("SR-STE: distance from g + 2e-4 (1 - mask) w", "0", f"{np.abs(seen - expected).max():g}")
    seen = g.copy()
    StraightThrough()(seen, site, ())
    yield Check("MdGf and SdGf: distance from g", "0", f"{np.abs(seen - g).max():g}")


def _offset() -> Iterator[Check]:
    steps, dense = 1000, 0.1
    first = int(dense * steps)
    recipe = RECIPES["mdgf_linear"](Pattern(1, 8), steps=steps, dense=dense, beta=1e-3)
    j = round((1 - recipe.leak(first)) / 1e-3)
    yield Check("j of D at the first sparse step after a dense phase of 10 % of 1,000", "0", str(j))
    yield Check("the released code's j there (its offset divides a share by 100)", "99", str(first - int(first / 100)))


def _metadata() -> Iterator[Check]:
    for pattern, bits in ((Pattern(2, 4), "0.750"), (Pattern(8, 16), "0.875")):
        yield digits(f"{pattern}, code bits a weight", bits, pattern.code_bits / pattern.m)
    yield digits("2:4, index bits a weight", "1.0", Pattern(2, 4).n * Pattern(2, 4).index_bits / 4)


def _mask_counts() -> Iterator[Check]:
    yield digits("2:4 masks of an 8 x 8 block, 6^16", "2,821,109,907,456", math.comb(4, 2) ** 16)
    yield digits(
        "4:8 by the printed formula, 8! 7! 6! 5!", "17,557,585,920,000", math.prod(map(math.factorial, (8, 7, 6, 5)))
    )
    yield digits("transposable 2:4, 4 x 4", "90", transposable_masks(2, 4))
    yield digits("transposable 4:8, 8 x 8", "116,963,796,250", transposable_masks(4, 8))


def _pruning_cost() -> Iterator[Check]:
    for sparsity, published in ((0.5, "1.375"), (0.75, "2.125"), (0.875, "3.625")):
        yield digits(f"training cost multiplier at {sparsity}", published, float(scaling.cost_multiplier(sparsity)))
    cubic = Cubic(0.0, 0.8, 100)
    yield digits("cubic to 0.8 at half of its steps", "0.7000", cubic(50))
    yield digits("the same one step later, as JaxPruner counts", "0.7059", cubic(51))


def _scaling_law() -> Iterator[Check]:
    rng = np.random.default_rng(0)
    vit = scaling.fit(scaling.published_points("vit"), scaling.OBJECTIVES["vit"], rng).law
    units = (
        vit.a_s * 1e6**-vit.b_n,
        vit.b_s,
        vit.c_s * 1e6**-vit.b_n,
        vit.b_n,
        (vit.a_d / 1e9) ** vit.b_d,
        vit.b_d,
        vit.c,
    )
    names = ("a_s", "b_s", "c_s", "b_n", "a_d^b_d", "b_d", "c")
    printed = ("1.305", "0.8210", "2.075", "0.3922", "0.2782", "0.8898", "4.517")
    for name, published, value in zip(names, printed, units, strict=True):
        yield digits(f"ViT {name} (parameters in millions, examples in billions)", published, value)
    points, objective = scaling.published_points("t5"), scaling.OBJECTIVES["t5"]
    yield digits(
        "T5 Huber loss at the notebook's coefficients", "7.60e-06", objective.of(scaling.NOTEBOOK["t5"], points)
    )
    yield digits("T5 Huber loss at the optimum", "4.8801e-06", scaling.fit(points, objective, rng).objective)


def _kao() -> Iterator[Check]:
    decay = RECIPES["kao_mask_decay"](Pattern(1, 16), steps=1600, dense=0.0, fine_tune=0.0, weight=0.05)
    for updates, published in ((0, "1.00"), (4, "0.80"), (15, "0.25"), (16, "0.00")):
        yield digits(f"D after {updates} updates, weight 0.05", published, decay.leak(100 * updates))
    structure = RECIPES["kao_structure_decay"](Pattern(1, 16), steps=1600, dense=0.0, fine_tune=0.0).structure
    kept = [round(16 * structure(step).density) for step in range(1600)]
    yield Check("kept of 16 at 1:16", "16, 15, 4, 2, 1", ", ".join(map(str, dict.fromkeys(kept))))


def _srigl() -> Iterator[Check]:
    rows, cols, density = 64, 256, 0.1
    yield digits("fan-in of a 64 x 256 layer at 90 %: floor(1,638.4) // 64", "25", fan_in(FanIn(density), rows, cols))
    salient = np.array([30] * 32 + [7] * 16 + [6] * 16)
    kept = int(active_neurons(salient, density, (rows, cols), gamma=0.3).sum())
    yield digits("neurons kept with 30, 7 and 6 salient weights: threshold max(1, int(0.3 x 25)) = 7", "48", kept)


CLAIMS: tuple[tuple[str, Callable[[], Iterable[Check]]], ...] = (
    ("ViT-Base operation FLOPs (Tables 17 and 18)", _operations),
    ("Totals by target, GFLOP (Table 18; 13.20 at 1:32 is a slip for 13.21)", _totals),
    ("Shares of FLOPs and parameters (Table 1)", _shares),
    ("1:16 against 2:4 and dense: FLOPs and parameters (Table 18)", _headline),
    ("Decay D(j) of MdGf-Linear and MdGf-Exponential (section 3; 313 steps an epoch)", _decay),
    ("Stages of SdGf-Stepwise over 350 epochs (Figure 6)", _stepwise),
    ("Stages of SdGf-Geometric over 350 epochs, k of the code and of the text (section 3)", _geometric),
    ("Exactly n ones in every block along a row", _masks),
    ("Gradient of SR-STE (arXiv 2102.04010), and of MdGf and SdGf", _gradients),
    ("The decay starts when the dense phase ends, not at 0.99 of it as in the released code", _offset),
    ("Mask and structure decay of arXiv 2209.07617, after its released code", _kao),
    ("Bits of metadata", _metadata),
    ("Number of masks (arXiv 2102.08124 and the true count)", _mask_counts),
    ("Cost of gradual pruning, and its cubic (arXiv 2309.08520, 2304.14082)", _pruning_cost),
    ("Scaling law (arXiv 2309.08520)", _scaling_law),
    ("Fan-in and ablation threshold of SRigL (arXiv 2305.02299)", _srigl),
)
