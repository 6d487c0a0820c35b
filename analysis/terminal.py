"""Tables for people on the terminal, from the same columns as the page's."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

from .page import Column

PIPED_WIDTH = 200


def show_table(rows: pd.DataFrame, columns: Sequence[Column], title: str) -> None:
    """Print a table to stdout; headings say which columns are measured and which modelled."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        heading = f"{column.heading}\n[dim]{column.source}[/dim]" if column.source else column.heading
        table.add_column(heading, justify="left" if rows[column.key].dtype.kind not in "iuf" else "right")
    for row in rows.to_dict("records"):
        table.add_row(*(column.text(row[column.key]) for column in columns))
    _console().print(table)


def show_lines(lines: Sequence[str]) -> None:
    """Print sentences to stdout."""
    for line in lines:
        _console().print(line, markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    """A console as wide as the terminal; piped output is not folded."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_WIDTH)
