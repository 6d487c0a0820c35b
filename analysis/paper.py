"""The report of the study of the paper's claims, as Markdown and CSV: verdicts, tables, claims one by one, errata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from . import markdown, plots, published
from .answers import Answer
from .claims import exact_claims
from .errata import errata
from .evidence import ACCOUNT_NAMES, LENGTHS, Evidence, gather_evidence
from .findings import Finding, Findings
from .inside import STATISTICS
from .page import Column
from .report import answer_lines
from .store import Store, write_safely
from .study import cells
from .tradeoff import summarise
from .trend_claims import trend_claims
from .trends import THIRDS

BESIDE = {"vision-grid": ("table2", "ViT-Base, ImageNet-1K, published, top-1 %")}
"""The published table that asks what a task asks; its figures belong to another model and data set."""
FIGURES = "figures"
EQUAL_FLOPS = f"{LENGTHS}-equal-flops"
INSIDE = "## Inside the runs: gradients, second moments and masks"
FALLS = "## Where quality falls when the pattern changes"
EQUAL = "## Quality at equal training FLOPs"
PICTURES = {
    "## Registered hypotheses": {
        "language-1000-quality": "Language, 1:16, 1,000 steps: every seed, mean and 95 % interval",
        "language-4000-quality": "Language, 1:16, 4,000 steps: every seed, mean and 95 % interval",
        "vision-1000-quality": "Fashion-MNIST, 1:32, 1,000 steps: every seed, mean and 95 % interval",
    },
    "## Quality by task": {
        "vision-grid-train_flops": "Fashion-MNIST: accuracy against training FLOPs, with the Pareto front",
        "language-grid-train_flops": "Language: loss against training FLOPs, with the Pareto front",
    },
    INSIDE: {
        "language-4000-gradient_magnitude_variance": "Language, 4,000 steps: gradient variance over training",
        "language-4000-second_moment_norm": "Language, 4,000 steps: norm of the second moment over training",
        "language-4000-mask_flip_rate": "Language, 4,000 steps: mask flips over training",
    },
    FALLS: {
        "vision-boundaries-curves-1-32": "Fashion-MNIST, SdGf-Stepwise to 1:32: accuracy over training",
        "language-boundaries-curves-1-16": "Language, SdGf-Stepwise to 1:16: loss over training",
    },
    EQUAL: {EQUAL_FLOPS: "Language, 1:16: loss against training FLOPs under each account"},
}
"""Figures of the report below each heading, by the stem of their file, with what they show."""


def write_paper(findings: Findings, store: Store, out: Path, *, commands: Sequence[str]) -> Path:
    """Write `paper.md`, `errata.md` and `rows.csv` into `out`; the path of the first."""
    rows = pd.concat([f.rows for f in findings.tasks], ignore_index=True) if findings.tasks else pd.DataFrame()
    write_safely(out / "rows.csv", rows.to_csv(index=False).encode())
    write_safely(out / "errata.md", _errata().encode())
    evidence = gather_evidence(findings, store)
    if not evidence.priced.empty:
        plots.save(_equal_flops(evidence), out / FIGURES, EQUAL_FLOPS, evidence.priced)
    parts = _illustrated(_sections(findings, evidence, store, commands), out)
    write_safely(out / "paper.md", ("\n\n".join(parts) + "\n").encode())
    return out / "paper.md"


def _equal_flops(evidence: Evidence) -> plots.Figure:
    task = evidence.tasks[LENGTHS].task
    rows = evidence.priced.assign(gflop=evidence.priced["flops"] / 1e9)
    labels = {"axis_label": "training (GFLOP)", "quality_label": task.quality}
    return plots.slices(rows, cost="gflop", by="account", **labels)


def _illustrated(parts: Iterator[str], out: Path) -> Iterator[str]:
    """The sections, each heading followed by those of its figures that `out` holds."""
    for part in parts:
        yield part
        drawn = [
            f"![{text}]({FIGURES}/{stem}.png)"
            for stem, text in PICTURES.get(part, {}).items()
            if (out / FIGURES / f"{stem}.png").exists()
        ]
        if drawn:
            yield "\n\n".join(drawn)


def _sections(findings: Findings, evidence: Evidence, store: Store, commands: Sequence[str]) -> Iterator[str]:
    yield f"# {findings.study.question}"
    yield _state(findings)
    yield "## The answer"
    yield "\n".join(f"- {line}" for line in answer_lines(findings))
    yield from _registered(findings.answers)
    yield "## Quality by task"
    for f in findings.tasks:
        yield from _quality(f)
    yield from _inside(evidence)
    yield from _claims(evidence)
    yield "## Errata"
    yield f"[{len(errata())} published figures that do not follow from their own tables](errata.md), with arithmetic."
    yield from _provenance(findings, store, commands)


def _state(findings: Findings) -> str:
    wanted = {cell.name for cell in cells(findings.study)}
    done = wanted & {r.name for r in findings.records if r.state == "done"}
    failed = wanted & {r.name for r in findings.records if r.state in ("failed", "corrupt")}
    note = "complete" if done == wanted else "**incomplete**: the tables hold the finished runs only"
    return f"{len(done)} of {len(wanted)} runs finished, {len(failed)} failed: {note}."


def _registered(answers: Sequence[Answer]) -> Iterator[str]:
    if not answers:
        return
    yield "## Registered hypotheses"
    yield (
        "Registered before the runs. Paired Student's t over seeds, Holm-corrected over this table. An improvement "
        "above the margin supports a claim, one below contradicts it. The last step counts, on the test split."
    )
    rows = [
        {"claim": a.hypothesis.claim, "verdict": a.verdict, "why": a.why}
        | (asdict(a.comparison) if a.comparison else {})
        for a in answers
    ]
    columns = [
        Column("claim", "claim"),
        Column("verdict", "verdict at this scale"),
        Column("difference", "improvement", "{:+.4f}"),
        Column("low", "from", "{:+.4f}"),
        Column("high", "to", "{:+.4f}"),
        Column("margin", "margin", "{:g}"),
        Column("p_holm", "p (Holm)", "{:.3g}"),
        Column("count", "seeds", "{:.0f}"),
        Column("detectable", "smallest detectable", "{:.4f}"),
        Column("why", "why not testable"),
    ]
    frame = pd.DataFrame(rows, columns=[column.key for column in columns])
    yield markdown.table(frame, columns)


def _quality(f: Finding) -> Iterator[str]:
    yield f"### {f.task.title}"
    if not f.task.ranked:
        yield "Exploratory: few seeds, intervals and no verdict."
    yield markdown.table(f.table, _columns(f))
    best = f"best_validation_{f.task.metric}"
    if best in f.rows:
        yield f"The best evaluation of a run, validation split ({f.task.unit}); never mixed with the last step above:"
        table = summarise(f.rows, by=f.by, value=best)
        keys = [Column(axis, axis) for axis in f.by]
        yield markdown.table(table, [*keys, Column("mean", "best", "{:.4f}"), Column("error", "±", "{:.4f}")])
    if f.task.name in BESIDE:
        name, title = BESIDE[f.task.name]
        yield f"{title}; another model and data set, so its figures are not testable here:"
        frame = published.table(name)
        yield markdown.table(frame, [Column(str(key), str(key)) for key in frame.columns])


def _columns(f: Finding) -> list[Column]:
    return [
        *(Column(axis, axis) for axis in f.by),
        Column("mean", f"test {f.task.quality}, last step", "{:.4f}", "measured"),
        Column("error", "± standard error", "{:.4f}"),
        Column("low", "95 % from", "{:.4f}"),
        Column("high", "to", "{:.4f}"),
        Column("count", "seeds", "{:d}"),
        Column("train_flops", "training FLOPs", "{:.3g}", "modelled"),
        Column("inference_flops", "inference FLOPs", "{:.3g}", "modelled"),
        Column("cpu_s", "CPU time of training (s)", "{:.1f}", "measured"),
    ]


def _inside(evidence: Evidence) -> Iterator[str]:
    if not evidence.gradients.empty:
        yield INSIDE
        yield "Means over the FF layers, the seeds and the recorded steps of each third of training."
        keys = [Column(key, key) for key in ("task", "pattern", "recipe")]
        values = [Column(f"{s} {t}", f"{s}, {t} third", "{:.3g}", "measured") for s in STATISTICS for t in THIRDS]
        shown = [c for c in values if c.key in evidence.gradients]
        yield markdown.table(evidence.gradients, [*keys, *shown])
    if not evidence.falls.empty:
        yield FALLS
        keys = [Column(key, key) for key in ("task", "seed", "boundary", "reached")]
        numbers = [Column(key, key, "{:+.4f}") for key in ("before", "after", "fall")]
        yield markdown.table(evidence.falls, [*keys, *numbers])
    if not evidence.equal_flops.empty:
        yield EQUAL
        yield (
            "Test loss (nats a byte), interpolated between the lengths that ran, where each account prices a run: "
            + "; ".join(f"{name}: {text}" for name, text in ACCOUNT_NAMES.items())
            + "."
        )
        keys = [Column("account", "account"), Column("flops", "training FLOPs", "{:.3g}", "modelled")]
        recipes = [Column(str(c), str(c), "{:.4f}", "measured") for c in evidence.equal_flops.columns[2:]]
        yield markdown.table(evidence.equal_flops, [*keys, *recipes])


def _claims(evidence: Evidence) -> Iterator[str]:
    yield "## Claims one by one"
    yield "### Exact claims"
    exact = exact_claims()
    rows = [{"number": c.number, "claim": c.statement, "verdict": c.verdict, "checks": len(c.checks)} for c in exact]
    columns = [Column(key, key) for key in ("number", "claim", "verdict", "checks")]
    yield markdown.table(pd.DataFrame(rows), columns)
    yield "Every check, published and computed:"
    checks: list[dict[str, Any]] = [
        {"number": claim.number} | asdict(check) for claim in exact for check in claim.checks
    ]
    yield markdown.table(
        pd.DataFrame(checks), [Column(key, key) for key in ("number", "what", "published", "computed")]
    )
    yield "### Empirical claims"
    trends = [{"number": c.number, "claim": c.statement, **asdict(c.reply)} for c in trend_claims(evidence)]
    yield markdown.table(pd.DataFrame(trends), [Column(key, key) for key in ("number", "claim", "verdict", "text")])


def _errata() -> str:
    parts = ["# Published figures that do not follow from their own tables"]
    parts += [
        f"**{e.place}**\n\n- printed: {e.printed}\n- follows: {e.follows}\n- arithmetic: {e.arithmetic}"
        for e in errata()
    ]
    return "\n\n".join(parts) + "\n"


def _provenance(findings: Findings, store: Store, commands: Sequence[str]) -> Iterator[str]:
    yield "## How it was run"
    yield "```\n" + "\n".join(commands) + "\n```"
    yield "A row for each run and task is in [rows.csv](rows.csv). Environment of the first finished run:"
    done = next((r for r in findings.records if r.state == "done"), None)
    if done:
        environment = json.loads((store.run(done.name).path / "env.json").read_text(encoding="utf-8"))
        yield "```json\n" + json.dumps(environment, indent=1) + "\n```"
