"""One self-contained HTML page: text, sortable tables and figures with their data; nothing is fetched, ever.

The page's own policy forbids every request. Tables sort by buttons, so a keyboard and a screen reader can use them;
without JavaScript the page still reads and prints.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pandas as pd

Source = Literal["", "measured", "modelled"]
SHORT = 24  # characters of a cell that are never broken into lines
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Column:
    """A column of a table: the key in the rows, its heading with the unit, how to write a number, and its source.

    A number is shown multiplied by `factor`, the column's units in one of the row's.
    """

    key: str
    heading: str
    form: str = "{}"
    source: Source = ""
    factor: float = 1.0

    def text(self, value: Any) -> str:
        """`value` as shown; a number that is not there is a dash."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "–"
        return self.form.format(value if self.factor == 1 else self.factor * value)


@dataclass(frozen=True)
class Section:
    """A headed part of the page; `body` is HTML."""

    heading: str
    body: str

    @property
    def anchor(self) -> str:
        """Name of the section in links."""
        return "".join(c if c.isalnum() else "-" for c in self.heading.lower())


def page(title: str, answer: str, sections: Sequence[Section]) -> str:
    """The whole page: the question as `title`, then the `answer` (HTML), links to the sections, and the sections."""
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.heading)}</a></li>' for s in sections)
    parts = "".join(f'<section id="{s.anchor}"><h2>{escape(s.heading)}</h2>{s.body}</section>' for s in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_asset('page.css')}</style></head><body>"
        f'<a class="skip" href="#main">Skip to the results</a><main id="main"><h1>{escape(title)}</h1>'
        f'<div class="answer">{answer}</div><nav aria-label="Contents"><ul>{links}</ul></nav>{parts}</main>'
        f"<script>{_asset('page.js')}</script></body></html>\n"
    )


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def items(texts: Sequence[str]) -> str:
    """A list of plain texts."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def code(text: str) -> str:
    """Commands or data, as they are."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def table(rows: pd.DataFrame, columns: Sequence[Column], caption: str) -> str:
    """A table that sorts by any column; headings say which columns are measured and which modelled."""
    head = "".join(
        f'<th scope="col" class="{_kind(rows, c)}"><button type="button">{escape(c.heading)}</button>'
        f"<small>{c.source}</small></th>"
        for c in columns
    )
    body = "".join(f"<tr>{''.join(_cell(row, c) for c in columns)}</tr>" for row in rows.to_dict("records"))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _kind(rows: pd.DataFrame, column: Column) -> str:
    """The classes of a column's heading: its source, and whether it holds texts, which start at the left."""
    texts = column.key in rows and rows[column.key].map(lambda value: isinstance(value, str)).any()
    return f"{column.source} text".strip() if texts else column.source


def figure(picture: Path, caption: str) -> str:
    """The PNG at `picture`, inside the page, with its caption and the CSV beside it as a link that holds the data."""
    image = base64.b64encode(picture.read_bytes()).decode()
    data = base64.b64encode(picture.with_suffix(".csv").read_bytes()).decode()
    name = picture.with_suffix(".csv").name
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{image}"><figcaption>{escape(caption)} '
        f'<a class="data" download="{name}" href="data:text/csv;base64,{data}">Data ({name})</a></figcaption></figure>'
    )


def _cell(row: dict[Any, Any], column: Column) -> str:
    value = row.get(column.key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="{column.source}" data-value="{value}">{escape(column.text(value))}</td>'
    text = column.text(value)
    return f'<td class="text{" short" if len(text) <= SHORT else ""}">{escape(text)}</td>'


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
