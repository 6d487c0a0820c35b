"""Figures as functions of rows, for print and the colour-blind: measured solid, modelled dashed, labels at the data.

Colours are Okabe and Ito's eight and two more; every condition also has its own marker, so that nothing rests on colour
alone.
matplotlib is imported when a figure is drawn, through its object interface: no global state, no window.
"""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import numpy as np
import pandas as pd

from .store import write_safely
from .tradeoff import summarise

Figure = Any  # matplotlib.figure.Figure, whose import costs a second and is paid when a figure is drawn
Axes = Any  # matplotlib.axes.Axes

COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00", "#7F7F7F", "#882255")
MARKERS = ("s", "o", "^", "D", "v", "P", "X", "*", "p", "<")
CROWD = 12
"""Points beyond which only those of the front are named at the point, and the others by a legend."""
Source = Literal["measured", "modelled"]
PALETTE = 128
HIGH = 40  # letters of a label beside a panel
WIDE = 8.0  # inches of panels side by side: a figure much wider is scaled down on a page, its letters with it
LETTER, LINE = 4.5, 8.0  # points that a letter and a line of a label take
LINES: dict[Source, str] = {"measured": "-", "modelled": "--"}


def styles(names: Sequence[Hashable]) -> dict[Hashable, dict[str, str]]:
    """A colour and a marker for dense and each of `names`, the same for the same order of names."""
    names = list(dict.fromkeys(["dense", *names]))
    looks = [{"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]} for i in range(len(names))]
    return dict(zip(names, looks, strict=True))


def quality(rows: pd.DataFrame, *, value: str, axis_label: str, reference: str = "dense") -> Figure:
    """Every seed as a dot, and its mean with the 95 % interval, by recipe, one panel a pattern.

    `rows` has the columns recipe, pattern, seed and `value`; the mean of `reference` is a line in every panel.
    """
    patterns = [p for p in rows["pattern"].unique() if p != "dense"] or ["dense"]
    recipes = [r for r in rows["recipe"].unique() if r != reference] or [reference]
    figure, panels = _panels(len(patterns), width=3.6, height=0.42 * len(recipes) + 1.4)
    look = styles(list(dict.fromkeys([reference, *recipes])))
    line = rows.loc[rows["recipe"] == reference, value].mean()
    for panel, pattern in zip(panels, patterns, strict=True):
        panel.axvline(line, color=COLOURS[0], linewidth=1)
        panel.annotate(f"{reference} ", (line, -0.7), ha="right", va="center", fontsize=8)
        cell = rows[rows["pattern"] == pattern]
        for place, recipe in enumerate(recipes):
            seeds = cell.loc[cell["recipe"] == recipe, value]
            panel.plot(seeds, np.full(len(seeds), place), ".", color=look[recipe]["color"], alpha=0.45)
        for _, s in summarise(cell, by=["recipe"], value=value).iterrows():
            place = recipes.index(s["recipe"])
            reach = [[s["mean"] - s["low"]], [s["high"] - s["mean"]]]
            panel.errorbar(s["mean"], place, xerr=reach, capsize=3, **look[s["recipe"]])
        panel.set(title=pattern, xlabel=f"{axis_label}\n(measured)", ylim=(len(recipes) - 0.5, -1))
        panel.set_yticks(range(len(recipes)), recipes)
    return figure


def tradeoff(
    rows: pd.DataFrame, *, cost: str, axis_label: str, quality_label: str, source: Source, by: str = ""
) -> Figure:
    """Quality against cost, a point a condition with its interval, and the Pareto front as a line.

    `rows` has the columns recipe, condition, `cost`, mean, low, high and front; a panel for each value of column `by`.
    Where points crowd, those of one recipe are joined and named by a legend, and only the front's are named in full.
    """
    parts = dict(iter(rows.groupby(by, sort=False))) if by else {"": rows}
    crowded = max(map(len, parts.values())) > CROWD or len(parts) > 1
    figure, panels = _panels(len(parts), width=7 if len(parts) == 1 else 3.4, height=4.2 if len(parts) == 1 else 3.2)
    look = styles(list(rows["recipe"].unique()))
    for panel, (title, part) in zip(panels, parts.items(), strict=True):
        for _, row in part.iterrows():
            reach = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
            panel.errorbar(row[cost], row["mean"], yerr=reach, capsize=2, elinewidth=0.8, **look[row["recipe"]])
        if crowded:
            for recipe, points in part.groupby("recipe", sort=False):
                panel.plot(points[cost], points["mean"], color=look[recipe]["color"], linewidth=0.6, alpha=0.6)
        front = part[part["front"]].sort_values(cost)
        panel.plot(front[cost], front["mean"], LINES[source], color="0.6", zorder=0)
        panel.set(title=title, xlabel=f"{axis_label}\n({source})")
        panel.margins(x=0.12)
        _label_points(panel, front if crowded else part, cost)
    _label_left(panels, quality_label)
    if crowded:
        _legend(figure, look, rows["recipe"])
    return figure


def curves(
    rows: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str,
    labels: Mapping[str, str],
    log: Literal["", "y", "xy"] = "",
    source: Source = "measured",
) -> Figure:
    """The mean of `y` over seeds against `x`, a line a condition with a band of ± one standard error, named at its end.

    `rows` has the columns `x`, `y` and `by`, a row a seed and a point.
    """
    figure, (panel,) = _panels(1, width=7, height=4.2)
    names = list(rows[by].unique())
    look = styles(names)
    ends = []
    for name in names:
        line = rows[rows[by] == name].groupby(x)[y].agg(["mean", "sem"])
        every = max(1, len(line) // 8)
        panel.plot(line.index, line["mean"], LINES[source], markersize=4, markevery=every, **look[name])
        panel.fill_between(
            line.index, line["mean"] - line["sem"], line["mean"] + line["sem"], color=look[name]["color"], alpha=0.2
        )
        ends.append((float(line.index[-1]), float(line["mean"].iloc[-1]), str(name), look[name]["color"]))
    panel.set(xlabel=labels[x], ylabel="\n".join(wrap(labels[y], HIGH)), yscale="log" if log else "linear")
    panel.set_xscale("log" if log == "xy" else "linear")
    low, high = panel.get_ylim()
    if log and high < 10 * low:  # no power of ten to write
        panel.yaxis.set_minor_formatter("{x:.3g}")
        panel.yaxis.set_major_formatter("{x:.3g}")
    _label_ends(panel, ends)
    return figure


def contours(
    rows: pd.DataFrame, points: pd.DataFrame, *, x: str, y: str, level: str, labels: Mapping[str, str]
) -> Figure:
    """Lines along which a share is `level`, named at their ends, over the measured points; both axes are logarithmic.

    `rows` has the columns `x`, `y` and `level`; `points` has `x` and `y`.
    """
    figure, (panel,) = _panels(1, width=7, height=4.2)
    panel.plot(points[x], points[y], "o", color="0.7", markersize=4)
    panel.set(xlabel=labels[x], ylabel=labels[y], xscale="log", yscale="log")
    ends = []
    for value, colour in zip(rows[level].unique(), COLOURS[1:], strict=False):
        line = rows[rows[level] == value]
        panel.plot(line[x], line[y], LINES["modelled"], color=colour)
        ends.append((float(line[x].iloc[-1]), float(line[y].iloc[-1]), f"{100 * float(value):g} %", colour))
    _label_ends(panel, ends)
    return figure


def slices(rows: pd.DataFrame, *, cost: str, by: str, axis_label: str, quality_label: str) -> Figure:
    """Quality with its intervals against a modelled cost, a line a recipe, one panel for each value of column `by`.

    `rows` has the columns `by`, recipe, `cost`, mean, low and high.
    """
    parts = dict(iter(rows.groupby(by, sort=False)))
    figure, panels = _panels(len(parts), width=3.4, height=3.2)
    look = styles(list(rows["recipe"].unique()))
    for panel, (title, part) in zip(panels, parts.items(), strict=True):
        for recipe, points in part.groupby("recipe", sort=False):
            line = points.sort_values(cost)
            reach = [line["mean"] - line["low"], line["high"] - line["mean"]]
            style = {"markersize": 5, "elinewidth": 0.8, "capsize": 2, "linestyle": LINES["modelled"]}
            panel.errorbar(line[cost], line["mean"], yerr=reach, **style, **look[recipe])
        panel.set_title("\n".join(wrap(str(title), 34)), fontsize=8)
        panel.set(xlabel=f"{axis_label}\n(modelled)")
    _label_left(panels, quality_label)
    _legend(figure, look, rows["recipe"])
    return figure


def bars(rows: pd.DataFrame, *, value: str, axis_label: str, source: Source) -> Figure:
    """Bars of `value` by condition, one panel a device; modelled bars are hatched and dashed.

    `rows` has the columns device, condition and `value`.
    """
    devices = list(rows["device"].unique())
    conditions = list(rows["condition"].unique())
    figure, panels = _panels(len(devices), width=2.2, height=0.32 * len(conditions) + 1.2)
    for panel, device in zip(panels, devices, strict=True):
        part = rows[rows["device"] == device].set_index("condition")[value].reindex(conditions)
        panel.barh(conditions, part, color="#DDDDDD", edgecolor="black", linestyle=LINES[source])
        for place, number in enumerate(part):
            panel.annotate(f" {number:,.4g}", (number, place), va="center", fontsize=8)
        panel.set(title=device, xlabel=f"{axis_label}\n({source})", xlim=(0, 1.4 * part.max()))
        panel.set_ylim(len(conditions) - 0.5, -0.5)
    return figure


def save(figure: Figure, folder: Path, name: str, rows: pd.DataFrame) -> Path:
    """Write `name.png` and, beside it, the rows behind it as `name.csv`; the path of the figure."""
    from PIL import Image  # noqa: PLC0415 - comes with matplotlib, see Figure

    drawn, picture = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=160)
    # Lines and letters need few colours; a palette makes the file three times smaller.
    Image.open(drawn).convert("RGB").quantize(PALETTE).save(picture, format="png", optimize=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_safely(folder / f"{name}.csv", rows.to_csv(index=False).encode())
    write_safely(folder / f"{name}.png", picture.getvalue())
    return folder / f"{name}.png"


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels that share their vertical axis, in as many rows as keep it within `WIDE`."""
    from matplotlib import figure as drawing  # noqa: PLC0415 - see Figure

    down = -(-count // max(1, int(WIDE / width)))
    across = -(-count // down)
    figure = drawing.Figure(figsize=(width * across + 1.6, height * down), layout="constrained")
    grid: list[Any] = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    for unused in grid[count:]:
        unused.remove()
    panels = grid[:count]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="0.92", linewidth=0.8)
        panel.set_axisbelow(True)
    return figure, panels


def _label_left(panels: Sequence[Axes], label: str) -> None:
    """The name of the shared vertical axis, once in each row of panels."""
    for panel in panels:
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel(label)


def _legend(figure: Figure, look: Mapping[Hashable, Mapping[str, str]], names: pd.Series) -> None:
    """A line of markers and `names` below the panels."""
    from matplotlib import lines  # noqa: PLC0415 - see Figure

    marks = [
        lines.Line2D([], [], linestyle="", label=str(name), color=look[name]["color"], marker=look[name]["marker"])
        for name in names.unique()
    ]
    columns = max(1, int(figure.get_figwidth() / 1.7))
    figure.legend(handles=marks, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _label_points(panel: Axes, rows: pd.DataFrame, cost: str) -> None:
    """A name beside every point, moved up where it would cover another name, on a rim that keeps bars off it."""
    from matplotlib import patheffects  # noqa: PLC0415 - see Figure

    panel.figure.draw_without_rendering()  # the layout and the limits decide where points lie
    rim = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    taken: list[tuple[float, float, float]] = []
    for _, row in rows.sort_values("mean").iterrows():
        text = row["condition"]
        x, y = panel.transData.transform((row[cost], row["mean"])) * 72 / panel.figure.dpi
        end, place = x + LETTER * len(text), float(y) + 3
        while any(left < end and x < right and abs(place - other) < LINE for left, right, other in taken):
            place += 1
        taken.append((float(x), float(end), place))
        style = {"textcoords": "offset points", "fontsize": 7, "path_effects": rim}
        panel.annotate(text, (row[cost], row["mean"]), xytext=(5, place - y), **style)


def _label_ends(panel: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Names at the right end of their lines, moved apart where they would overlap."""
    panel.figure.draw_without_rendering()  # the layout and the limits decide where lines end
    low, high = panel.get_ylim()
    scale = panel.transData
    step, last = 11.0, -np.inf
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        pixel = float(scale.transform((x, y))[1]) * 72 / panel.figure.dpi
        shift = max(0.0, last + step - pixel)
        last = pixel + shift
        panel.annotate(
            f" {name}", (x, y), xytext=(3, shift), textcoords="offset points", color=colour, va="center", fontsize=8
        )
    panel.set_ylim(low, high)
