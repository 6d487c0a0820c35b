"""The empirical claims of the papers, each set beside what the study's runs show, or refused with the reason.

A claim about ImageNet, GLUE, WMT or a model that does not fit this scale is not testable here. Where a smaller setting
asks the same question, its paired differences are given with their intervals and no verdict: verdicts belong to the
hypotheses that the study registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .accounts import TARGETS
from .evidence import ACCOUNT_NAMES, LENGTHS, Evidence
from .published import cell, table
from .trends import THIRDS

NOT_TESTABLE = "not testable here"
EXPLORATORY = "exploratory"


@dataclass(frozen=True)
class Reply:
    """What this study says of a claim."""

    verdict: str
    text: str


@dataclass(frozen=True)
class TrendClaim:
    """A published trend, with the figures it was published with."""

    number: str
    statement: str
    reply: Reply


def trend_claims(evidence: Evidence) -> list[TrendClaim]:
    """All twelve."""
    return [TrendClaim(f"b{i}", statement, reply(evidence)) for i, (statement, reply) in enumerate(CLAIMS, start=1)]


def _explored(evidence: Evidence, first: str, second: str, why: str) -> Reply:
    """The improvements in both grids, beside the reason why the published numbers themselves are out of reach."""
    texts = [text for task in ("vision-grid", "language-grid") if (text := evidence.gains(task, first, second))]
    if not texts:
        return Reply(NOT_TESTABLE, f"{why}; no finished runs of {first} and {second}.")
    gains = f"{first} over {second}, paired over seeds with 95 % intervals"
    return Reply(EXPLORATORY, f"{why}. Here, {gains}: {'; '.join(texts)}.")


def _ordering(evidence: Evidence) -> Reply:
    targets = [f"{pattern} FF" for pattern in TARGETS[1:]]
    gaps = [cell("table2", t, "mdgf_exponential") - cell("table2", t, "sr_ste") for t in targets]
    published = ", ".join(f"{target} {gap:+.2f}" for target, gap in zip(targets, gaps, strict=True))
    return _explored(evidence, "mdgf_exponential", "sr_ste", f"ImageNet is out of reach; published gaps {published}")


def _hill(evidence: Evidence) -> Reply:
    return _explored(evidence, "sr_ste", "dense", "ImageNet is out of reach; published +2.39 at 1:4, -3.33 at 1:32")


def _halvings(evidence: Evidence) -> Reply:
    if evidence.falls.empty:
        return Reply(NOT_TESTABLE, "no finished run of SdGf-Stepwise with evaluations on both sides of a boundary")
    worst = (table("figure6_jumps")["before"] - table("figure6_jumps")["after"]).max()
    means = evidence.falls.groupby(["task", "reached"], sort=False)["fall"].agg(["mean", "sem", "count"])
    parts = [f"{task} to {reached} {m:+.3f} ± {e:.3f} (n={n:.0f})" for (task, reached), (m, e, n) in _items(means)]
    return Reply(
        EXPLORATORY,
        f"Published falls up to {worst:.2f} points. Between the evaluations around each change: {'; '.join(parts)}.",
    )


def _variance(evidence: Evidence) -> Reply:
    texts = [text for task in evidence.tasks if (text := _noise(evidence.gradients, task))]
    if not texts:
        return Reply(NOT_TESTABLE, "no finished runs of SR-STE and MdGf-Exponential recorded gradient statistics.")
    published = "Published: variance 2.9 to 3.3 early, below 1 from step 10,500; second moment 2.1 late"
    return Reply(
        EXPLORATORY, f"SR-STE over MdGf-Exponential, by thirds of training. {published}. Here: {'; '.join(texts)}."
    )


def _noise(gradients: pd.DataFrame, task: str) -> str:
    """The ratio of both statistics at the task's sparsest pattern, as text; "" where a recipe has none."""
    if gradients.empty:
        return ""
    mine = gradients[gradients["task"] == task].set_index(["pattern", "recipe"]).drop(columns="task").astype(float)
    both = [p for p in mine.index.unique("pattern") if {(p, "sr_ste"), (p, "mdgf_exponential")} <= set(mine.index)]
    if not both:
        return ""
    ratio = (mine.loc[(both[-1], "sr_ste")] / mine.loc[(both[-1], "mdgf_exponential")]).dropna()
    parts = {
        what: [ratio[f"{name} {third}"] for third in THIRDS if f"{name} {third}" in ratio]
        for what, name in (("variance", "gradient_magnitude_variance"), ("second moment", "second_moment_norm"))
    }
    shown = [f"{what} {', '.join(f'{v:.2f}' for v in values)}" for what, values in parts.items() if values]
    return f"{task} at {both[-1]}: {' and '.join(shown)}" if shown else ""


def _refused(why: str) -> Callable[[Evidence], Reply]:
    return lambda _: Reply(NOT_TESTABLE, why)


def _saturation(evidence: Evidence) -> Reply:
    why = "WMT-17 on TPUs is out of reach; published gaps 0.008 at 1:16 to 0.001 at 1:128"
    return _explored(evidence, "sdgf_stepwise 25 %", "sr_ste", why)


def _ste_against_pruning(evidence: Evidence) -> Reply:
    why = "ViT on ImageNet and T5 on C4 at 80 % unstructured sparsity are out of reach; N:M here"
    return _explored(evidence, "ste", "gradual_magnitude", why)


def _equal_flops(evidence: Evidence) -> Reply:
    rivals = ["sdgf_geometric", "sr_ste", "dense"]
    table = evidence.equal_flops
    if table.empty or not set(rivals) <= set(table.columns):
        return Reply(NOT_TESTABLE, "no finished sweep of lengths with sdgf_geometric, sr_ste and dense.")
    task = evidence.tasks[LENGTHS].task
    middle = {name: part.sort_values("flops").iloc[1] for name, part in table.groupby("account", sort=False)}
    parts = [
        f"{text}: {', '.join(f'{float(middle[name][rival]):.3f}' for rival in rivals)}"
        for name, text in ACCOUNT_NAMES.items()
    ]
    published = "Published at 1:8, of one seed: 77.23, 75.21 and 75.57 %"
    here = f"{task.quality} of {', '.join(rivals)} at the training FLOPs of the middle dense run"
    return Reply(
        EXPLORATORY, f"{published}. Here, {task.title}, {here}, by what an account prices: {'; '.join(parts)}."
    )


CLAIMS: tuple[tuple[str, Callable[[Evidence], Reply]], ...] = (
    ("ViT-Base: SR-STE leads at 2:4 and 1:4, MdGf-Exponential from 1:8 on, and the gap grows (Table 2)", _ordering),
    ("Occam's hill: a sparse model beats dense at 1:4 and is level near 1:32 (Table 2)", _hill),
    ("SdGf-Stepwise falls sharply at each halving and recovers in part (Figure 6)", _halvings),
    (
        "SdGf-Geometric collapses at 1:128 (Table 2)",
        _refused("rows of 64 weights hold no group of 128, let alone 16 x 128."),
    ),
    ("SR-STE has the noisier gradients and second moments (Figure 3)", _variance),
    (
        "GLUE: the gain of SdGf-Stepwise grows with the number of sparse tensors (Tables 4 and 12)",
        _refused("needs a T5 pre-trained on C4, and GLUE; the tier full has FF against FF and QKV on the tasks here."),
    ),
    ("WMT: the gap shrinks with sparsity, and accuracy saturates beyond 1:32 (Table 5)", _saturation),
    (
        "A larger decay rate of MdGf-Linear is better at 2:4 and 1:4, worse at 1:8 (Table 11)",
        _refused("this tier runs one decay rate; the tier full has the published ratio of rates as an axis."),
    ),
    (
        "Dense phases of 1.25 to 10 % hardly matter; a longer fine-tune phase costs SdGf-Stepwise (Tables 9, 10)",
        _refused("WMT-17 is out of reach, and this tier runs one dense phase; the tier full has both as axes."),
    ),
    ("At equal training FLOPs SdGf-Geometric at 1:8 beats dense and SR-STE (Figure 4b)", _equal_flops),
    (
        "SRigL: ablating neurons is worth 2.8 to 4.7 points at high sparsity (arXiv 2305.02299)",
        _refused("ResNet-50 and ViT-B/16 on ImageNet; the recipe is here as srigl."),
    ),
    ("Masks by magnitude through STE beat gradual pruning for ViT and T5 (arXiv 2304.14082)", _ste_against_pruning),
)


def _items(frame: pd.DataFrame) -> Iterator[tuple[Any, Any]]:
    return zip(frame.index, frame.to_numpy(), strict=True)
