"""The report of a study: what was asked, the answer, tables, figures, failures, and how to run it again.

Quality and CPU time are measured; FLOPs, bytes and the time and energy on a device are modelled from the plans that the
runs really followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from hwmodel.pattern import Pattern

from . import page, plots
from .answers import Answer, leader, leaders
from .figures import figures
from .findings import Finding, Findings
from .page import Column, Section
from .store import Store, write_safely
from .study import cells
from .tradeoff import budgets
from .transferred import TARGETS

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def write(findings: Findings, out: Path, *, commands: Sequence[str]) -> Path:
    """Write `report.html`, and every figure as PNG with its CSV, into `out`; the path of the page.

    The runs are those under `out`/runs.
    """
    store = Store(out / "runs")
    sections = [section for f in findings.tasks for section in _task_sections(f, store, out / "figures")]
    html = page.page(
        findings.study.question,
        page.items(answer_lines(findings)),
        [*_claims(findings.answers), *sections, _runs(findings), _environment(findings, store), _again(commands)],
    )
    write_safely(out / "report.html", html.encode())
    return out / "report.html"


def answer_lines(findings: Findings) -> list[str]:
    """The answer in sentences: verdicts first, then the leaders of every ranked task, then what failed."""
    lines = [f"{a.hypothesis.claim}: {a.verdict} at this scale." for a in findings.answers]
    ranked = [f for f in findings.tasks if f.task.ranked]
    for f in findings.tasks:
        if f.task.ranked:
            told = _ranked(f)
            lines += told if len(ranked) == 1 else [f"{f.task.title}. {sentence}" for sentence in told]
        else:
            lines.append(f"{f.task.title}: an illustration over few seeds; its recipes are not ranked.")
    return lines + _incomplete(findings)


def _incomplete(findings: Findings) -> list[str]:
    """How many runs failed, and how many of the study, where there is one, have not finished."""
    failed = [r for r in findings.records if r.state in ("failed", "corrupt")]
    told = [f"{len(failed)} of {len(findings.records)} runs failed; see Runs."] if failed else []
    asked = all(task.run for task in findings.study.task)
    wanted = {cell.name for cell in cells(findings.study)} if asked else set()
    missing = wanted - {r.name for r in findings.records if r.state == "done"}
    if missing:
        told.append(f"{len(missing)} of {len(wanted)} runs of the study have not finished; the tables hold the others.")
    return told


def _ranked(f: Finding) -> list[str]:
    """For each pattern, the sparsest first, what leads and what it gains over dense; then what could be seen."""
    *led, resolution = leaders(f.task, f.table, f.compared)
    patterns = [pattern for pattern in f.table["pattern"].unique() if pattern != "dense"]
    told = {p: " ".join([sentence, *_gains(f, p)]) for p, sentence in zip(patterns, led, strict=True)}
    return [*(told[p] for p in sorted(patterns, key=lambda p: Pattern.parse(p).density)), resolution]


def _gains(f: Finding, pattern: str) -> Iterator[str]:
    """What the leader of a pattern gains over dense at the shapes of the first published model, in a sentence."""
    best = leader(f.task, f.table, pattern)["recipe"]
    mine = f.transferred[(f.transferred["pattern"] == pattern) & (f.transferred["recipe"] == best)]
    if not mine.empty:
        model = mine["model"].iloc[0]
        gains = mine[mine["model"] == model].pivot_table(index="device", columns="what", values="gain", sort=False)
        told = (
            f"{g.inference:.2f} in inference and {g.training:.2f} in training on {g.Index}" for g in gains.itertuples()
        )
        yield f"Times dense speed at the size of {model}, on the same sites (modelled, transferred): {'; '.join(told)}."


def _task_sections(f: Finding, store: Store, folder: Path) -> list[Section]:
    title = f.task.title
    note = "Means over seeds. Measured on this machine; modelled from the operations that ran."
    body = page.table(f.table, _columns(f), f"{title}. {note}")
    drawn = [page.figure(plots.save(d.figure, folder, d.stem, d.rows), d.caption) for d in figures(f, store)]
    sections = [Section(title, body + "".join(drawn))]
    sections.append(Section(f"What a budget buys: {title}", _budgets(f)))
    if f.task.ranked:
        sections.append(Section(f"Which recipes differ: {title}", _compared(f)))
    sections.append(Section(f"On devices: {title}", _on_devices(f)))
    if not f.transferred.empty:
        sections.append(Section(f"At full size (modelled, transferred): {title}", _transferred(f)))
    return [*sections, Section(f"Layers: {title}", _layers(f))]


def _columns(f: Finding) -> list[Column]:
    """The columns of a task's table of conditions, with units and sources."""
    return [
        *(Column(axis, axis) for axis in f.by),
        Column("mean", f.task.quality, "{:.3f}", "measured"),
        Column("error", "± standard error", "{:.3f}", "measured"),
        Column("count", "seeds", "{:d}"),
        Column("train_flops", "training GFLOP", "{:.4g}", "modelled", 1e-9),
        Column("inference_flops", "inference MFLOP", "{:.3g}", "modelled", 1e-6),
        Column("stored_bytes", "stored kB", "{:,.1f}", "modelled", 1e-3),
        Column("cpu_s", "CPU time of training (s)", "{:.2f}", "measured"),
    ]


def _budgets(f: Finding) -> str:
    """The best condition within each share of the dearest one's cost, for three costs."""
    points = f.table.assign(condition=f.names(f.table))
    costs = {
        "train_flops": "training FLOPs",
        "inference_flops": "FLOPs of one inference",
        "stored_bytes": "bytes stored",
    }
    parts = [
        budgets(points, cost=cost, value="mean", better=f.task.better, shares=SHARES).assign(cost=name)
        for cost, name in costs.items()
    ]
    shown = [
        Column("cost", "cost"),
        Column("share_percent", "budget (% of the dearest)", "{:.0f}"),
        Column("budget", "budget", "{:.3g}", "modelled"),
        Column("condition", "buys"),
        Column("mean", f.task.quality, "{:.3f}", "measured"),
        Column("error", "± standard error", "{:.3f}", "measured"),
    ]
    text = "The condition with the best mean among those that cost no more; means that seeds can't tell apart included."
    return page.table(pd.concat(parts, ignore_index=True), shown, text)


def _on_devices(f: Finding) -> str:
    text = "One training run, and one inference of one example, with what bounds them. Models this small leave a GPU "
    shown = [
        *(Column(axis, axis) for axis in f.by),
        *_cost_columns({"training": ("training (ms)", 1e3), "inference": ("inference (µs)", 1e6)}),
    ]
    return page.table(_wide(f.costs, f.by), shown, f"{text}waiting for kernels to start.")


def _transferred(f: Finding) -> str:
    sizes = " and ".join(f"{target.model} with {target.batch} examples" for target in TARGETS)
    text = (
        f"The recipes, patterns and sites of {f.task.title} at the shapes of {sizes} at once. Costs only: the quality "
        "above is not that of these models."
    )
    shown = [
        Column("model", "model"),
        *(Column(axis, axis) for axis in f.by),
        *_cost_columns({"training": ("training step (ms)", 1e3), "inference": ("inference (ms)", 1e3)}, gain=True),
    ]
    return page.table(_wide(f.transferred, ["model", *f.by]), shown, text)


def _wide(costs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """A row a condition and device, with the columns of training and of inference side by side."""
    by = [*keys, "device"]
    sides = {w: costs[costs["what"] == w].drop(columns="what").set_index(by) for w in ("training", "inference")}
    joined = [side.add_prefix(f"{what}_") for what, side in sides.items()]
    return pd.concat(joined, axis=1).reset_index()


def _cost_columns(uses: Mapping[str, tuple[str, float]], *, gain: bool = False) -> Iterator[Column]:
    yield Column("device", "device")
    for use, (heading, factor) in uses.items():
        yield Column(f"{use}_time_s", heading, "{:,.4g}", "modelled", factor)
        if gain:
            yield Column(f"{use}_gain", f"{use}: times dense speed", "{:.2f}", "modelled")
        yield Column(f"{use}_energy_j", f"{use} energy (mJ), uncalibrated", "{:,.3g}", "modelled", 1e3)
        yield Column(f"{use}_bound", f"{use} bound by", source="modelled")


def _layers(f: Finding) -> str:
    shown = [
        Column("site", "site"),
        Column("d_out", "d_out", "{:d}"),
        Column("d_in", "d_in", "{:d}"),
        Column("structure", "final structure"),
        Column("stored_bytes", "stored (bytes)", "{:,.0f}", "modelled"),
        Column("inference_flops", "inference FLOPs", "{:,.0f}", "modelled"),
    ]
    return page.table(f.layers, shown, f"The linear layers of the last condition of the table, {f.layers_of}.")


def _compared(f: Finding) -> str:
    rows = pd.DataFrame(
        [asdict(c) | {"call": "different" if c.distinguished else "not distinguished"} for c in f.compared]
    )
    unit = f.task.difference_unit
    return page.table(
        rows,
        [
            Column("first", "recipe"),
            Column("second", "against"),
            Column("difference", f"difference ({unit})", "{:+.3f}", "measured"),
            Column("low", "interval from", "{:+.3f}", "measured"),
            Column("high", "to", "{:+.3f}", "measured"),
            Column("p_holm", "p (Holm)", "{:.3g}"),
            Column("count", "seeds", "{:d}"),
            Column("detectable", f"smallest detectable ({unit})", "{:.3f}"),
            Column("call", "call"),
        ],
        f"{f.task.title}: paired differences over seeds, Student's t, Holm-corrected over {len(rows)} comparisons. "
        "Different only where the 95 % interval excludes zero.",
    )


def _claims(answers: Sequence[Answer]) -> list[Section]:
    if not answers:
        return []
    rows = pd.DataFrame(
        [
            {"claim": a.hypothesis.claim, "verdict": a.verdict, "why": a.why, "margin": a.hypothesis.margin}
            | (asdict(a.comparison) if a.comparison else {})
            for a in answers
        ]
    )
    shown = [
        Column("claim", "claim, registered before the runs"),
        Column("verdict", "verdict at this scale"),
        Column("difference", "improvement", "{:+.4f}", "measured"),
        Column("low", "interval from", "{:+.4f}", "measured"),
        Column("high", "to", "{:+.4f}", "measured"),
        Column("margin", "margin", "{:g}"),
        Column("p_holm", "p (Holm)", "{:.3g}"),
        Column("count", "seeds", "{:.0f}"),
        Column("detectable", "smallest detectable", "{:.4f}"),
        Column("why", "why not testable"),
    ]
    text = (
        "Paired Student's t over seeds, Holm-corrected over these claims; an improvement above the margin supports one."
    )
    return [Section("Registered claims", page.table(rows, shown, text))]


def _runs(findings: Findings) -> Section:
    rows = pd.DataFrame([{"run": r.name, "state": r.state, "message": r.message} for r in findings.records])
    shown = [Column("run", "run"), Column("state", "state"), Column("message", "message")]
    return Section("Runs", page.table(rows, shown, "Every run of the study by the name of its folder."))


def _environment(findings: Findings, store: Store) -> Section:
    done = next(r for r in findings.records if r.state == "done")
    texts = [(store.run(done.name).path / name).read_text(encoding="utf-8") for name in ("env.json", "manifest.json")]
    about = page.paragraph("Of one finished run: the machine and the software, and where its data came from.")
    return Section("Environment", about + "".join(map(page.code, texts)))


def _again(commands: Sequence[str]) -> Section:
    return Section("How to run it again", page.code("\n".join(commands)))
