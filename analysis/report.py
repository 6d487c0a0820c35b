"""The report of a study: what was asked, the answer, tables, figures, failures, and how to run it again.

Quality and CPU time are measured; FLOPs, bytes and the time and energy on a device are modelled from the plans that the
runs really followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from . import page, plots
from .answers import Answer, leaders
from .figures import figures
from .findings import Finding, Findings
from .page import Column, Section
from .store import Store, write_safely


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
    for f in findings.tasks:
        if f.task.ranked:
            lines += [f"{f.task.title}. {sentence}" for sentence in leaders(f.task, f.table, f.compared)]
        else:
            lines.append(f"{f.task.title}: an illustration over few seeds; its recipes are not ranked.")
    failed = [r for r in findings.records if r.state in ("failed", "corrupt")]
    return lines + ([f"{len(failed)} of {len(findings.records)} runs failed; see Runs."] if failed else [])


def columns(finding: Finding) -> list[Column]:
    """The columns of a task's table of conditions, with units and sources."""
    task = finding.task
    devices = list(dict.fromkeys(finding.costs["device"]))
    return [
        *(Column(axis, axis) for axis in finding.by),
        Column("mean", task.quality, "{:.3f}", "measured"),
        Column("error", "± standard error", "{:.3f}", "measured"),
        Column("count", "seeds", "{:d}"),
        Column("train_flops", "training FLOPs", "{:.3g}", "modelled"),
        Column("inference_flops", "inference FLOPs", "{:.3g}", "modelled"),
        Column("stored_bytes", "stored (bytes)", "{:,.0f}", "modelled"),
        Column("cpu_s", "CPU time of training (s)", "{:.2f}", "measured"),
        *(Column(f"training {d}", f"training on {d} (s)", "{:.3g}", "modelled") for d in devices),
        *(Column(f"inference {d}", f"inference on {d} (s)", "{:.2e}", "modelled") for d in devices),
    ]


def _task_sections(f: Finding, store: Store, folder: Path) -> list[Section]:
    note = "Means over seeds. Measured on this machine; modelled from the operations that ran."
    body = page.table(f.table, columns(f), f"{f.task.title}. {note}")
    for drawn in figures(f, store):
        body += page.figure(plots.save(drawn.figure, folder, drawn.stem, drawn.rows), drawn.caption)
    sections = [Section(f.task.title, body)]
    if f.task.ranked:
        sections.append(Section(f"Which recipes differ: {f.task.title}", _compared(f)))
    return [*sections, Section(f"Layers: {f.task.title}", _layers(f))]


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
    unit = f.task.unit
    return page.table(
        rows,
        [
            Column("first", "recipe"),
            Column("second", "against"),
            Column("difference", f"difference ({unit})", "{:+.3f}", "measured"),
            Column("low", "interval from", "{:+.3f}", "measured"),
            Column("high", "to", "{:+.3f}", "measured"),
            Column("p_holm", "p (Holm)", "{:.2g}"),
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
        Column("p_holm", "p (Holm)", "{:.2g}"),
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
