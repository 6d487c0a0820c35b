"""Markdown of a table, with the columns of the page and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .page import Column


def table(rows: pd.DataFrame, columns: Sequence[Column]) -> str:
    """The rows as a Markdown table; headings say which columns are measured and which modelled."""
    headings = [" ".join(f"{c.heading} ({c.source})".split()) if c.source else c.heading for c in columns]
    lines = [headings, ["---"] * len(columns)]
    lines += [[_cell(column, row[column.key]) for column in columns] for row in rows.to_dict("records")]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(column: Column, value: object) -> str:
    return " ".join(column.text(value).replace("|", "\\|").split())
