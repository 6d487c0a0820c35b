"""`nmsim recipes`: the recipes of the package or one of your own, with their axes, and the check of their contract."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import asdict, dataclass, fields
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Column, Table

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.recipes import RECIPES, Recipe, find

from ..terminal import PIPED_WIDTH, show_lines

AXES = [field for field in fields(Recipe) if field.name != "name"]


@dataclass(frozen=True)
class Row:
    """One recipe: what it is, its options with their defaults, and the axes on which it differs from plain STE."""

    name: str
    summary: str
    options: dict[str, str]
    axes: dict[str, str]


def recipes(
    *names: str,
    pattern: str = "1:8",
    steps: int = 1000,
    check: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """List the training recipes and what each one does.

    Args:
        names: Recipes to list, or file.py:function for one of your own; all of the package without any.
        pattern: The target n:m that the axes are shown for.
        steps: The length of the run that the axes are shown for.
        check: Put each recipe through the contract that every recipe keeps, on a small run.
        as_json: Print JSON.
    """
    target = Pattern.parse(pattern)
    rows = [_row(name, target, steps) for name in names or RECIPES]
    checked = names or tuple(RECIPES) if check else ()
    _check(checked)
    if as_json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
        return
    table = Table(
        Column("recipe", no_wrap=True), "what it is", "options", f"axes at {target} in {steps} steps", box=None
    )
    for row in rows:
        options = "\n".join(f"{name}={default}" for name, default in row.options.items())
        table.add_row(row.name, row.summary, options, "\n".join(f"{name}: {rule}" for name, rule in row.axes.items()))
    table.caption = "every recipe that chooses masks at intervals also takes refresh and freeze, and every one axis"
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
    show_lines([f"{name} keeps the contract of recipes." for name in checked])


def _row(name: str, pattern: Pattern, steps: int) -> Row:
    function = find(name)
    made = function(pattern, steps=steps)
    options = {p.name: _default(p) for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    return Row(name, (inspect.getdoc(function) or "").partition("\n")[0], options, _axes(made))


def _default(parameter: inspect.Parameter) -> str:
    """An option's default as it is written in a run file; "from steps" where the length of the run decides."""
    return "from steps" if parameter.default is None else str(parameter.default)


def _axes(recipe: Recipe) -> dict[str, str]:
    values = {field.name: getattr(recipe, field.name) for field in AXES}
    return {field.name: str(values[field.name]) for field in AXES if values[field.name] != field.default}


def _check(names: tuple[str, ...]) -> None:
    from nmsim.testing import check_recipe  # noqa: PLC0415 (it compiles kernels, which a list does not need)

    for name in names:
        try:
            check_recipe(find(name))
        except AssertionError as error:
            raise UserError(f"{name} breaks the contract: {error}") from None
