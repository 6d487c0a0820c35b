"""What the commands on weight files share: progress in bytes, the choice of tensors, rows for people or programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from nmsim.formats.rewrite import chosen
from nmsim.formats.tensors import Source

Axis = Literal["auto", "0", "1"]


@contextmanager
def progress(title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A function that advances a bar of bytes, with speed and time left, on a terminal; silent when piped."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    bar = Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    with bar:
        task = bar.add_task(title, total=total_bytes)
        yield lambda nbytes: bar.advance(task, nbytes)


def matrices(source: Source, include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """The 2-D tensors among those that the globs choose, in file order."""
    names = chosen(list(source.specs), tuple(include), tuple(exclude))
    return [name for name, spec in source.specs.items() if name in names and len(spec.shape) == 2]


def axis_of(source: Source, name: str, axis: Axis) -> int | None:
    """The axis that groups run along: what the user says, or what the product with this weight sums over."""
    return source.reduction_axis(name) if axis == "auto" else int(axis)


def show(rows: Sequence[Any], columns: dict[str, Callable[[Any], str]], summary: str) -> None:
    """Print a table of one row an item, and a closing line. Names are shown as they are, never as markup."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text(text(row)) for text in columns.values()))
    console = Console()
    wide = console if console.is_terminal else Console(width=240)
    wide.print(table)
    wide.print(summary, markup=False, highlight=False, soft_wrap=True)


def print_json(table: dict[str, Any]) -> None:
    """Print JSON for programs."""
    sys.stdout.write(json.dumps(table, indent=2) + "\n")
