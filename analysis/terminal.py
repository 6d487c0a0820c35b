"""Tables for people on the terminal, from the same columns as the page's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import pandas as pd
from rich.console import Console
from rich.table import Table

from .page import Column

PIPED_WIDTH = 200


def show_table(rows: pd.DataFrame, columns: Sequence[Column], title: str) -> None:
    """Print a table to stdout; headings say which columns are measured and which modelled.

    A table wider than the terminal is printed in parts, each with the leading columns that name its rows.
    """
    made = console()
    for number, part in enumerate(_parts(rows, columns, made.width)):
        made.print(_table(rows, part, title if number == 0 else ""))


def _table(rows: pd.DataFrame, columns: Sequence[Column], title: str) -> Table:
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        heading = f"{column.heading}\n[dim]{column.source}[/dim]" if column.source else column.heading
        table.add_column(heading, justify="left" if rows[column.key].dtype.kind not in "iuf" else "right")
    for row in rows.to_dict("records"):
        table.add_row(*(column.text(row[column.key]) for column in columns))
    return table


def _parts(rows: pd.DataFrame, columns: Sequence[Column], width: int) -> list[list[Column]]:
    """The columns in parts that fit into `width`, the leading ones of no source in each."""
    names = list(takewhile(lambda column: not column.source, columns))
    room = width - 1 - sum(_width(rows, column) for column in names)
    parts: list[list[Column]] = [[]]
    for column in columns[len(names) :]:
        if parts[-1] and sum(_width(rows, other) for other in [*parts[-1], column]) > room:
            parts.append([])
        parts[-1].append(column)
    return [[*names, *part] for part in parts]


def _width(rows: pd.DataFrame, column: Column) -> int:
    """The characters that a column takes with its margins and one border."""
    texts = [column.heading, column.source, *map(column.text, rows[column.key])]
    return 3 + max(len(line) for text in texts for line in text.split("\n"))


def show_lines(lines: Sequence[str]) -> None:
    """Print sentences to stdout."""
    for line in lines:
        console().print(line, markup=False, highlight=False, soft_wrap=True)


def console() -> Console:
    """A console as wide as the terminal; piped output is not folded."""
    made = Console()
    return made if made.is_terminal else Console(width=PIPED_WIDTH)
