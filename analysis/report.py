"""The report of a study: what was asked, the answer, tables, figures, failures, and how to run it again.

`gather` turns the store's runs into tidy tables; `write` draws them. Quality and CPU time are measured; FLOPs, bytes
and the time and energy on a device are modelled from the plans that the runs really followed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from hwmodel.device import Device

from . import page, plots
from .answers import Answer, axes, comparisons, condition_table, leaders, verdicts
from .page import Column, Section
from .pricing import device_rows
from .statistics import Comparison
from .store import Record, Store, write_safely
from .study import Study, Task
from .tradeoff import pareto
from .work import job_of

COSTS = ("train_flops", "inference_flops", "stored_bytes", "train_seconds")
ACCOUNTS = ("train_flops_forward_sparse", "train_flops_forward_and_dgrad_sparse", "train_flops_half")


@dataclass(frozen=True)
class Finding:
    """One task's results: a row a run, a row a condition, modelled costs, and comparisons where the task is ranked."""

    task: Task
    rows: pd.DataFrame
    table: pd.DataFrame
    costs: pd.DataFrame
    compared: list[Comparison]

    @property
    def by(self) -> list[str]:
        """The columns that name a condition."""
        return axes(self.task)


@dataclass(frozen=True)
class Findings:
    """Everything a report shows."""

    study: Study
    tasks: list[Finding]
    answers: list[Answer]
    records: list[Record]


def gather(study: Study, rows: pd.DataFrame, store: Store, devices: Sequence[Device]) -> Findings:
    """The findings of a study from a row for each of its finished runs, priced on `devices`."""
    parts = [(task, rows[rows["task"] == task.name]) for task in study.task]
    found = [_finding(task, part, store, devices) for task, part in parts if len(part)]
    return Findings(study, found, verdicts(study, rows), store.records())


def write(findings: Findings, out: Path, *, commands: Sequence[str]) -> Path:
    """Write `report.html`, and every figure as PNG with its CSV, into `out`; the path of the page."""
    figures = out / "figures"
    sections = [section for f in findings.tasks for section in _task_sections(f, figures)]
    html = page.page(
        findings.study.question,
        page.items(answer_lines(findings)),
        [*_claims(findings.answers), *sections, _runs(findings), _environment(findings, out), _again(commands)],
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
        Column("train_seconds", "CPU time of training (s)", "{:.2f}", "measured"),
        *(Column(f"training {d}", f"training on {d} (s)", "{:.3g}", "modelled") for d in devices),
        *(Column(f"inference {d}", f"inference on {d} (s)", "{:.2e}", "modelled") for d in devices),
    ]


def _finding(task: Task, rows: pd.DataFrame, store: Store, devices: Sequence[Device]) -> Finding:
    by = axes(task)
    firsts = rows.drop_duplicates(by)
    parts = [
        device_rows(job_of(store.run(row["run"])), devices).assign(**{axis: row[axis] for axis in by})
        for row in firsts.to_dict("records")
    ]
    costs = pd.concat(parts, ignore_index=True)
    wide = costs.assign(column=costs["what"] + " " + costs["device"]).pivot_table(
        index=by, columns="column", values="time_s", sort=False
    )
    table = condition_table(task, rows, [*COSTS, *ACCOUNTS]).merge(wide.reset_index(), on=by)
    return Finding(task, rows, table, costs, comparisons(task, rows) if task.ranked else [])


def _task_sections(f: Finding, figures: Path) -> list[Section]:
    note = "Means over seeds. Measured on this machine; modelled from the operations that ran."
    body = page.table(f.table, columns(f), f"{f.task.title}. {note}")
    sections = [Section(f.task.title, body + _pictures(f, figures))]
    if f.task.ranked:
        sections.append(Section(f"Which recipes differ: {f.task.title}", _compared(f)))
    return sections


def _pictures(f: Finding, figures: Path) -> str:
    task, name = f.task, f.task.name
    labels = {
        task.metric: task.quality,
        "train_flops": "training FLOPs",
        "inference_flops": "inference FLOPs",
    }
    drawn = [
        (
            plots.quality(f.rows, value=task.metric, axis_label=labels[task.metric]),
            f"{name}-quality",
            f.rows,
            "Every seed, its mean and 95 % interval. The line is dense.",
        )
    ]
    for cost in ("train_flops", "inference_flops"):
        points = f.table.assign(front=pareto(f.table, cost=cost, value="mean", better=task.better))
        picture = plots.tradeoff(points, cost=cost, value=task.metric, labels=labels, source="modelled")
        drawn.append(
            (picture, f"{name}-{cost}", points, f"{task.quality} against {labels[cost]}, with the Pareto front.")
        )
    times = f.costs[f.costs["what"] == "inference"]
    times = times.assign(condition=[" ".join(map(str, key)) for key in zip(*(times[a] for a in f.by), strict=True)])
    picture = plots.bars(times, value="time_s", axis_label="one inference (s)", source="modelled")
    drawn.append((picture, f"{name}-devices", times, "Modelled time of one inference on each device."))
    return "".join(page.figure(plots.save(picture, figures, stem, rows), text) for picture, stem, rows, text in drawn)


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


def _environment(findings: Findings, out: Path) -> Section:
    done = next((r for r in findings.records if r.state == "done"), None)
    text = (out / "runs" / done.name / "env.json").read_text(encoding="utf-8") if done else json.dumps({})
    return Section("Environment", page.paragraph("Of the first finished run:") + page.code(text))


def _again(commands: Sequence[str]) -> Section:
    return Section("How to run it again", page.code("\n".join(commands)))
