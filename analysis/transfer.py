"""What the commands on weight files share: progress in bytes, the choice of tensors, rows for people or programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from hwmodel.errors import shown
from nmsim.formats.rewrite import chosen
from nmsim.formats.tensors import Source

Axis = Literal["auto", "0", "1"]
NO_PRODUCT = "not the weight of a MatMul or Gemm; --axis 0 or 1 takes it all the same"
_WIDE = 1000
_FEW = 3


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


def axis_of(source: Source, name: str, axis: Axis | Literal[0, 1]) -> int | None:
    """The axis that groups run along: what the user says, or what the product with this weight sums over."""
    return source.reduction_axis(name) if axis == "auto" else int(axis)


def show(rows: Sequence[Any], columns: dict[str, Callable[[Any], str]], *closing: str) -> None:
    """Print a table of one line a row, and closing lines. Names are shown as they are, never as markup."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text(shown(text(row))) for text in columns.values()))
    console = Console(width=_WIDE)  # a row that is wider than the terminal is better than one in pieces
    console.print(table)
    for line in closing:
        console.print(shown(line), markup=False, highlight=False, soft_wrap=True)


def grouped(reasons: Mapping[str, str]) -> list[str]:
    """A line for every reason with how many names have it, and the first few of them."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return [f"{len(those)} left dense ({reason}): {_listed(those)}" for reason, those in names.items()]


def counted(matrices: int) -> str:
    """How many matrices, in words."""
    return f"{matrices} matri{'x' if matrices == 1 else 'ces'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_FEW], *(["..."] if len(names) > _FEW else [])])


def print_json(table: dict[str, Any]) -> None:
    """Print JSON for programs."""
    sys.stdout.write(json.dumps(table, indent=2) + "\n")
