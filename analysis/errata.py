"""Published figures that do not follow from their own tables, each with the arithmetic done here.

The paper is arXiv 2402.04744 (CPAL 2025) unless an entry names another. Exact FLOPs and parameters come from the cost
model, every other number from `published`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import factorial, prod

import numpy as np
import pandas as pd

from . import accounts, scaling
from .published import cell, table

GLUE = ("cola", "mnli_m", "mnli_mm", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")


@dataclass(frozen=True)
class Erratum:
    """One figure or statement: where it stands, what is printed, what its own tables give, and how."""

    place: str
    printed: str
    follows: str
    arithmetic: str


def errata() -> list[Erratum]:
    """Every entry: headlines, tables, figures, then other papers."""
    return [
        erratum
        for group in (_savings, _headlines, _cost_tables, _quality_tables, _figures, _statements, _other_papers)
        for erratum in group()
    ]


def _savings() -> Iterator[Erratum]:
    place = "sections 5.1 and 7: MdGf-Exponential at 1:16 against SR-STE at 2:4"
    for printed, count, unit in (
        ("60 % fewer inference FLOPs", accounts.flops, 1e9),
        ("30 % fewer parameters", accounts.parameters, 1e6),
    ):
        sparse, half, dense = (count(accounts.VIT_BASE, target) / unit for target in ("1:16", "2:4", "dense"))
        yield Erratum(
            place,
            printed,
            f"{1 - sparse / half:.2%} fewer than 2:4; {1 - sparse / dense:.2%} fewer than dense",
            f"1 - {sparse:.4f} / {half:.4f} = {1 - sparse / half:.4f}; "
            f"1 - {sparse:.4f} / {dense:.4f} = {1 - sparse / dense:.4f} (Table 18 and Table 1, exact)",
        )


def _headlines() -> Iterator[Erratum]:
    vit = table("table2").set_index("target")
    gaps = vit["mdgf_exponential"] - vit["sr_ste"]
    yield Erratum(
        "abstract: gain on vision",
        "up to 2 %",
        f"the largest gap of Table 2 is {gaps.max():+.3f} points, at {gaps.idxmax()}; the smallest {gaps.min():+.3f}",
        ", ".join(f"{target} {gap:+.3f}" for target, gap in gaps.items()),
    )
    speed = table("table8").set_index("gpu")
    yield Erratum(
        "section 7: end-to-end speed-up",
        "up to 3.38x",
        f"the largest cell of Table 8 is {speed.to_numpy().max():.3f}x, on V100 at 1:32",
        ", ".join(f"{target} {cell('table8', 'V100', target):.3f}" for target in accounts.TARGETS[1:]),
    )
    share = accounts.shares(accounts.VIT_LARGE)["feed_forward"]
    limit = 1 / (1 - share)
    yield Erratum(
        "Table 8 against the FLOP account",
        f"speed-ups up to {speed.to_numpy().max():.3f}x with only the FF layers sparse",
        f"if time followed FLOPs, free FF layers would give {limit:.2f}x; "
        f"{int((speed.to_numpy() > limit).sum())} of {speed.size} cells lie above",
        f"FF share of ViT-Large {share:.4f}; 1 / (1 - {share:.4f}) = {limit:.3f}",
    )


def _cost_tables() -> Iterator[Erratum]:
    exact = {target: accounts.flops(accounts.VIT_BASE, target) / 1e9 for target in accounts.TARGETS}
    wrong = [t for t, g in exact.items() if abs(cell("table18", t, "total_gflop") - g) > 0.005]
    yield Erratum(
        "Table 18: totals",
        ", ".join(f"{cell('table18', t, 'total_gflop'):.2f} at {t}" for t in wrong),
        ", ".join(f"{exact[t]:.2f} at {t}" for t in wrong),
        "; ".join(f"{t}: {g:.4f}" for t, g in exact.items()) + " (GFLOP; every other total agrees to the digit)",
    )
    feed_forward = accounts.products(accounts.VIT_BASE).at(accounts.FEED_FORWARD).flops
    yield Erratum(
        "Table 18 against Table 1: FLOPs of the dense FF layers",
        "22.19 G in Table 18, 22.20 G in Table 1",
        f"{feed_forward / 1e9:.2f} G",
        f"2 FLOPs x 196 x 768 x 3072 x 2 layers x 12 blocks = {feed_forward:,.0f}",
    )
    yield Erratum(
        "Table 1: units",
        "(T)FLOPS and MB",
        "GFLOP of one image, and millions of parameters",
        f"projections 12 x 4 x 768^2 = {12 * 4 * 768**2:,}; FF 12 x 2 x 768 x 3072 = {12 * 2 * 768 * 3072:,}",
    )


def _quality_tables() -> Iterator[Erratum]:
    swin = table("table3").set_index("target").loc[["1:4 FF", "1:8 FF"]]
    yield Erratum(
        "section 5, SwinV2: best recipe at 1:4 and 1:8",
        "SdGf-Geometric",
        "MdGf-Exponential in both",
        "; ".join(f"{t}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()) for t, row in swin.iterrows()),
    )
    stepwise = cell("table4", "1:32 FF", "sdgf_stepwise")
    yield Erratum(
        "Table 7: GLUE at 1:32 FF",
        f"MdGf-Exponential {cell('table7', 'mdgf_exponential', 'overall')}",
        f"{stepwise} is SdGf-Stepwise in Table 4, which has no MdGf column",
        f"Table 4, 1:32 FF: sr_ste {cell('table4', '1:32 FF', 'sr_ste')}, sdgf_stepwise {stepwise}, "
        f"sdgf_geometric {cell('table4', '1:32 FF', 'sdgf_geometric')}",
    )
    yield _labels_of_table_12()
    yield _weights_of_glue()


def _labels_of_table_12() -> Erratum:
    rows = table("table12")
    overall = rows[(rows["recipe"] == "MDGF-Stepwise") & (rows["dense_steps"] == 10_000)]["overall"].tolist()
    return Erratum(
        "Table 12: recipe names",
        "MDGF-Stepwise, MDGF-Geometric",
        "they are the SdGf rows of Table 4",
        f"Stepwise overall: Table 12 {sorted(overall)}; Table 4 {sorted(table('table4')['sdgf_stepwise'].tolist())}",
    )


def _weights_of_glue() -> Erratum:
    rows = table("table12")
    once = rows.assign(mnli=rows[["mnli_m", "mnli_mm"]].mean(axis=1)).drop(columns=["mnli_m", "mnli_mm"])
    nine = (rows["overall"] - rows[list(GLUE)].mean(axis=1)).abs().max()
    eight = rows["overall"] - once[["mnli", *GLUE[:1], *GLUE[3:]]].mean(axis=1)
    return Erratum(
        "Tables 4 and 12: overall GLUE score",
        "the GLUE score",
        "the mean of nine columns, MNLI twice among them; with MNLI once it is "
        f"{eight.min():.2f} to {eight.max():.2f} lower",
        f"over {len(rows)} rows the score is within {nine:.3f} of the mean of nine columns (rounding)",
    )


def _figures() -> Iterator[Erratum]:
    yield _second_moment()
    yield _gradient_variance()
    yield _flop_axis()
    yield Erratum(
        "Figure 4(a): curve MdGf-Exponential",
        f"{cell('table2', '2:4 FF', 'mdgf_linear')} at 50 % and {cell('table2', '1:8 FF', 'sdgf_geometric')} at 87.5 %",
        f"{cell('table2', '2:4 FF', 'mdgf_exponential')} and {cell('table2', '1:8 FF', 'mdgf_exponential')}",
        "the plotted values are MdGf-Linear at 2:4 and SdGf-Geometric at 1:8 in Table 2",
    )
    yield _iso_flop_arrow()
    yield _iso_flop_price()
    yield _wrong_panel()
    yield _mixed_epochs()


def _second_moment() -> Erratum:
    norm = table("figure3a")["mdgf_exponential"].to_numpy()
    steps = table("figure3a")["step"].to_numpy()
    low = norm.argmin()
    return Erratum(
        "section 4: AdamW second moment of MdGf",
        "steadily decreases",
        f"Figure 3(a) rises from {norm[low]:.3f} at step {steps[low]:,} to {norm[-1]:.3f} at step {steps[-1]:,}",
        f"{norm[-1]:.3f} / {norm[low]:.3f} = {norm[-1] / norm[low]:.2f}",
    )


def _gradient_variance() -> Erratum:
    curves = table("figure3b")
    ratio = (curves["sr_ste"] / curves["mdgf_exponential"]).to_numpy()
    steps = curves["step"].to_numpy()
    crossed = steps[1:][ratio[1:] < 1][0]
    return Erratum(
        "section 4: gradient variance of SR-STE against MdGf-Exponential",
        "Figure 3(b) as evidence that SR-STE has the noisier gradients",
        f"only before step {crossed:,}; from there on SR-STE has the lower variance, and the figure ends at 13,000",
        "SR-STE / MdGf: " + ", ".join(f"{step:,}: {value:.2f}" for step, value in zip(steps, ratio, strict=True)),
    )


def _flop_axis() -> Erratum:
    plotted = table("figure4a").set_index("target")["flop_reduction"]
    dense = accounts.flops(accounts.VIT_BASE, "dense")
    exact = {target: dense / accounts.flops(accounts.VIT_BASE, target) for target in plotted.index}
    return Erratum(
        "Figure 4(a), right axis: reduction in inference FLOPs",
        ", ".join(f"{target} {value:.3f}" for target, value in plotted.items()),
        ", ".join(f"{target} {value:.3f}" for target, value in exact.items()),
        f"Table 18: 34.7106 / total; at 1:128 that is {exact['1:128']:.3f} against {plotted['1:128']:.3f}",
    )


def _iso_flop_arrow() -> Erratum:
    end = cell("figure4b", "dense", "final")
    near = [cell("figure4b", "sdgf_geometric", f"x_{accuracy}") for accuracy in ("75.5", "77")]
    x = np.interp(end, [75.5, 77.0], near)
    return Erratum(
        "Figure 4(b): training FLOPs saved at equal quality",
        "37.8 %",
        f"{100 - x:.0f} %: SdGf-Geometric reaches the dense end value at {x:.0f} % of the axis",
        f"dense ends at {end}; SdGf-Geometric passes 75.5 at {near[0]} % and 77 at {near[1]} %; between them {x:.1f} %",
    )


def _iso_flop_price() -> Erratum:
    r = accounts.flops(accounts.VIT_BASE, "1:8") / accounts.flops(accounts.VIT_BASE, "dense")
    return Erratum(
        "Figure 4(b): price of an epoch",
        "dense, SR-STE and SdGf-Geometric at equal training FLOPs",
        "SR-STE is priced like dense and SdGf-Geometric at 0.727 of it, although both are 1:8 from the first step",
        f"the curves end at epochs 190.5, 190.5, 262: 190.5 / 262 = {190.5 / 262:.3f}; with r = {r:.4f} (Table 18) "
        f"(1 + r) / 2 = {(1 + r) / 2:.3f}, (2 + r) / 3 = {(2 + r) / 3:.3f}, (1 + 2 r) / 3 = {(1 + 2 * r) / 3:.3f}",
    )


def _wrong_panel() -> Erratum:
    curves = table("figure6")
    end = curves[(curves["run"] == "1:32 SdGf-G") & (curves["epoch"] == 351)]["top1_percent"].item()
    return Erratum(
        "Figure 6, panel 1:32: curve SdGf-Geometric",
        f"ends at {end:.2f}",
        f"Table 2 has {cell('table2', '1:32 FF', 'sdgf_geometric'):.3f} at 1:32; {end:.2f} is its 1:16 value",
        f"Table 2, 1:16 FF, sdgf_geometric: {cell('table2', '1:16 FF', 'sdgf_geometric'):.3f}",
    )


def _mixed_epochs() -> Erratum:
    rows = table("figure6_epochs")
    printed = pd.Series([cell("table2", *pair) for pair in zip(rows["target"], rows["recipe"], strict=True)])
    users = {name: sorted(set(rows["recipe"][(rows[name] - printed).abs() < 0.005])) for name in ("last", "best")}
    return Erratum(
        "Table 2: epoch of the printed accuracy",
        "one column of accuracies",
        f"the last epoch for {', '.join(users['last'])}; the best epoch for {', '.join(users['best'])}",
        "; ".join(
            f"{row['target']} {row['recipe']}: printed {value}, "
            + ", ".join(f"{name} {row[name]}" for name in ("last", "best") if pd.notna(row[name]))
            for (_, row), value in zip(rows.iterrows(), printed, strict=True)
        ),
    )


def _statements() -> Iterator[Erratum]:
    yield Erratum(
        "section 3: stages of SdGf-Geometric",
        "k M / 2^d : k N / 2^d",
        "k N / 2^d : k M / 2^d, n and m exchanged",
        f"at 1:8 with k = 16 and d = 0 the formula says {16 * 8}:{16 * 1}, more than there are; the example "
        f"says {16 * 1}:{16 * 8}",
    )
    yield Erratum(
        "Table 15 against Figure 7: length of T5X fine-tuning",
        "100,000 steps",
        "Figure 7 shows 50,000",
        f"its axis runs from 1.00 M to 1.05 M steps: {1_050_000 - 1_000_000:,}",
    )
    yield Erratum(
        "Table 19: third GPU",
        "GH200 in the table, H100 in the text",
        "one of the two names is wrong; the table alone has the numbers",
        ", ".join(f"{target} {cell('table19', 'GH200', target):.2f}" for target in accounts.TARGETS[2:]),
    )


def _other_papers() -> Iterator[Erratum]:
    for n, m in ((2, 4), (4, 8)):
        formula = prod(factorial(m - i) for i in range(n))
        yield Erratum(
            f"arXiv 2102.08124: number of transposable {n}:{m} masks of one {m} x {m} block",
            f"{formula:,}",
            f"{transposable_masks(n, m):,}",
            f"counted row by row over column sums; the printed product lets a column hold more than {n}",
        )
    yield _t5_fit()


@cache
def transposable_masks(n: int, m: int) -> int:
    """Number of m x m binary matrices with exactly n ones in every row and every column, counted row by row."""
    rows = [tuple(int(i in kept) for i in range(m)) for kept in itertools.combinations(range(m), n)]
    counts = {(0,) * m: 1}
    for _ in range(m):
        following: dict[tuple[int, ...], int] = {}
        for (sums, ways), row in itertools.product(counts.items(), rows):
            new = tuple(sorted(a + b for a, b in zip(sums, row, strict=True)))
            if new[-1] <= n:
                following[new] = following.get(new, 0) + ways
        counts = following
    return counts[(n,) * m]


def _t5_fit() -> Erratum:
    points, objective = scaling.published_points("t5"), scaling.OBJECTIVES["t5"]
    best = scaling.fit(points, objective, np.random.default_rng(0))
    printed = objective.of(scaling.NOTEBOOK["t5"], points)
    return Erratum(
        "arXiv 2309.08520: coefficients of the T5 law",
        f"Huber loss {printed:.4g} (b_s {scaling.PUBLISHED['t5'].b_s}, b_d {scaling.PUBLISHED['t5'].b_d})",
        f"the minimum is {best.objective:.4g} (b_s {best.law.b_s:.3f}, b_d {best.law.b_d:.4f}); "
        f"{best.agreeing} of {best.starts} starts find it",
        f"1 - {best.objective:.4g} / {printed:.4g} = {1 - best.objective / printed:.1%} lower; "
        "the published optimiser stops at a gradient of 1e-5, of a loss near 1e-6",
    )
