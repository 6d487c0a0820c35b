"""The registry of recipes, how one is made from a pattern and options, and where to find a user's own."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import math
import sys
import traceback
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hwmodel.errors import UserError, unknown
from hwmodel.pattern import Pattern
from hwmodel.toml import convert
from nmsim.recipes.recipe import Recipe
from nmsim.schedules import Every

ENTRY_POINTS = "nmsim.recipes"


@runtime_checkable
class RecipeFunction(Protocol):
    """Makes the recipe of a pattern for a run of `steps` steps."""

    __name__: str
    __doc__: str | None

    def __call__(self, pattern: Pattern, /, *, steps: int | None = None, **options: Any) -> Recipe:
        """The recipe."""
        ...


RECIPES: dict[str, RecipeFunction] = {}
"""Every recipe of the package by its name."""


def recipe(function: Callable[..., Recipe]) -> RecipeFunction:
    """Turn `function(pattern, steps, *, options)` into a recipe function with checked options.

    Every recipe also takes `refresh` (masks are chosen every so many steps), `freeze` (the share of the steps after
    which the mask stays as it is) and `axis` (groups along d_in: 1, or d_out: 0).
    """
    name = function.__name__.rstrip("_")

    @functools.wraps(function)
    def make(pattern: Pattern, /, *, steps: int | None = None, **options: Any) -> Recipe:
        own, common = _split(function, name, options)
        try:
            if own.get("dense") or own.get("fine_tune"):
                given(steps)
            made = function(pattern, steps, **own)
            return replace(_adapted(made, steps, **common), name=name)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None

    make.__name__ = name
    return make


def register(function: Callable[..., Recipe]) -> RecipeFunction:
    """As `recipe`, and enter it in `RECIPES`."""
    made = recipe(function)
    RECIPES[made.__name__] = made
    return made


def _split(
    function: Callable[..., Recipe], name: str, options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the function itself and those that every recipe takes, converted to their types."""
    own = set(inspect.signature(function).parameters) - {"pattern", "steps"}
    hints = {"refresh": int, "freeze": float, "axis": int} | typing.get_type_hints(function)
    for option in options:
        if option not in own | {"refresh", "freeze", "axis"}:
            raise unknown(f"option of {name}", option, own | {"refresh", "freeze", "axis"})
        if option not in hints:
            raise UserError(f"{name}: option {option} has no type; write it as {option}: float = ...")
    converted = {key: convert(value, hints[key], f"{name}: {key}") for key, value in options.items()}
    for option, value in converted.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name}: {option} = {value}; needs a finite number")
    return (
        {key: value for key, value in converted.items() if key in own},
        {key: value for key, value in converted.items() if key not in own},
    )


def _adapted(
    made: Recipe, steps: int | None, *, refresh: int | None = None, freeze: float | None = None, axis: int = 1
) -> Recipe:
    """The recipe with the options that every recipe takes."""
    if axis not in (0, 1):
        raise UserError(f"axis={axis}: groups run along d_in (1) or d_out (0)")
    if refresh is None and freeze is None:
        return replace(made, axis=axis)
    if not isinstance(made.refresh, Every):
        raise UserError("its masks are chosen at fixed steps; leave out refresh and freeze")
    again = made.refresh if refresh is None else replace(made.refresh, k=refresh)
    if freeze is not None:
        again = replace(again, until=round(share(freeze, "freeze") * given(steps)))
    return replace(made, axis=axis, refresh=again)


def given(steps: int | None) -> int:
    """`steps`, which a recipe with phases needs."""
    if steps is None:
        raise UserError("its phases are shares of the run; give steps=")
    if steps < 1:
        raise UserError(f"steps={steps}: needs at least 1")
    return steps


def share(value: float, name: str) -> float:
    """`value`, a share of the steps or of the weights."""
    if not 0 <= value <= 1:
        raise UserError(f"{name}={value:g}: a share lies between 0 and 1")
    return value


def positive(value: float, name: str) -> float:
    """`value`, which a recipe divides by or decays with."""
    if not value > 0:
        raise UserError(f"{name}={value:g}: needs a number above 0")
    return value


def find(name: str) -> RecipeFunction:
    """The recipe function of a name: of this package, of an installed one (an entry point), or `file.py:function`."""
    if name in RECIPES:
        return RECIPES[name]
    path = own_file(name)
    if path is not None:
        return recipe(_foreign(_from_file(path, name.rpartition(":")[2])))
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in installed:
        with _one_line(f"entry point {name}"):
            function = installed[name].load()
        return recipe(_foreign(function))
    raise unknown("recipe", name, RECIPES.keys() | installed.keys())


def own_file(name: str) -> Path | None:
    """The file of a recipe that is named `file.py:function`; None for the name of a recipe."""
    path = name.rpartition(":")[0]
    return Path(path) if path else None


def _from_file(path: Path, attribute: str) -> Callable[..., Recipe]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; a recipe of your own is named file.py:function")
    name = str(path.resolve())  # of no other module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file; a recipe of your own is named file.py:function")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    with _one_line(str(path)):
        spec.loader.exec_module(module)
    functions = {key for key, value in vars(module).items() if inspect.isfunction(value)}
    if attribute not in functions:
        raise UserError(f"{path}: {unknown('function', attribute, functions)}")
    return typing.cast("Callable[..., Recipe]", getattr(module, attribute))


def _foreign(function: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """A user's function, whose mistakes are told in one line."""
    name = function.__name__
    taken = list(inspect.signature(function).parameters)
    if taken[:2] != ["pattern", "steps"]:
        raise UserError(f"{name}({', '.join(taken)}): a recipe takes (pattern, steps, *, options)")

    @functools.wraps(function)
    def checked(pattern: Pattern, steps: int | None, **options: Any) -> Recipe:
        with _one_line("its function fails"):
            made = function(pattern, steps, **options)
        if not isinstance(made, Recipe):
            raise UserError(f"returns {type(made).__name__}; return a Recipe")
        return made

    return checked


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Tell what goes wrong in a user's code in one line, with the place."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = "" if isinstance(error, SyntaxError) else f" ({Path(frame.filename).name}, line {frame.lineno})"
        raise UserError(f"{where}: {type(error).__name__}: {error}{place}".splitlines()[0]) from error
