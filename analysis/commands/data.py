"""`nmsim data`: which data sets there are, whether they are here, and what brings those that are not."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import asdict, dataclass
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Column, Table

from nmsim.data.fetch import fetch as fetch_set
from nmsim.data.places import LICENCES, SOURCES, is_here
from nmsim.data.registry import LOADERS, loader


@dataclass(frozen=True)
class Row:
    """One data set; `command` brings it, and is empty where nothing needs to be brought."""

    name: str
    summary: str
    here: bool
    licence: str
    command: str
    options: str


def data(
    *,
    fetch: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """List the data sets, or fetch some of them into the user's cache folder.

    Args:
        fetch: Names of sets to fetch; "all" for every set that is not in the package.
        as_json: Print JSON.
    """
    for name in SOURCES if "all" in fetch else fetch:
        if not is_here(name) or name not in SOURCES:
            fetch_set(name)
    rows = [_row(name) for name in sorted(LOADERS)]
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
        return
    table = Table(Column("data set", no_wrap=True), "what it is", "licence", Column("here", no_wrap=True), box=None)
    for row in rows:
        table.add_row(row.name, row.summary, row.licence, "yes" if row.here else f"no: {row.command}")
    Console().print(table)


def _row(name: str) -> Row:
    function = loader(name)
    return Row(
        name,
        summary=(inspect.getdoc(function) or "").splitlines()[0],
        here=is_here(name),
        licence=LICENCES[name],
        command=f"nmsim data --fetch {name}" if name in SOURCES else "",
        options=", ".join(inspect.signature(function).parameters),
    )
