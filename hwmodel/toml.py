"""TOML files into frozen dataclasses, strictly: a wrong key or type is named with its file and the cure."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from hwmodel.errors import UserError, unknown
from hwmodel.pattern import Pattern

T = TypeVar("T")


def read_toml(path: str | Path) -> dict[str, Any]:
    """The table of a TOML file. Raises `UserError` for a missing file or a syntax error, with the line."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None


def build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """The dataclass `cls` from `table`; nested dataclasses from nested tables, tuples from arrays, patterns from "2:4".

    Unknown keys, missing keys and wrong types raise `UserError` with `where` (a file), the dotted key and the cure.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            error = unknown("key", key, fields)
            raise UserError(f"{where}: {error}")
    hints = typing.get_type_hints(cls)
    values = {key: convert(value, hints[key], f"{where}: {key}") for key, value in table.items()}
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: missing key {missing[0]} ({_type_name(hints[missing[0]])})")
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def convert(value: Any, expected: Any, where: str) -> Any:
    """`value` as the annotated type `expected`; an int serves where a float is expected, nothing else is coerced."""
    if expected is Any:
        return value
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, typing.get_args(expected), where)
    if origin is typing.Literal:
        return _convert_literal(value, typing.get_args(expected), where)
    if origin is tuple and isinstance(value, list):
        return _convert_tuple(value, typing.get_args(expected), where)
    if origin is dict and isinstance(value, Mapping):
        item = typing.get_args(expected)[1]
        return {key: convert(v, item, f"{where}.{key}") for key, v in value.items()}
    if dataclasses.is_dataclass(expected) and isinstance(value, Mapping):
        return build(expected, value, where)  # type: ignore[arg-type]
    return _convert_plain(value, expected, where)


def _convert_literal(value: Any, allowed: tuple[Any, ...], where: str) -> Any:
    if value not in allowed:
        raise UserError(f"{where}: {unknown('value', str(value), dict.fromkeys(map(str, allowed)))}")
    return value


def _convert_plain(value: Any, expected: Any, where: str) -> Any:
    if expected is Pattern and isinstance(value, str):
        try:
            return Pattern.parse(value)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected is Path and isinstance(value, str):
        return Path(value)
    plain = typing.get_origin(expected) or expected
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise UserError(f"{where}: {value!r} is {type(value).__name__}; needs {_type_name(expected)}")
    return value


def _convert_union(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    for choice in choices:
        try:
            return convert(value, choice, where)
        except UserError:
            continue
    raise UserError(f"{where}: {value!r} is {type(value).__name__}; needs {' or '.join(map(_type_name, choices))}")


def _convert_tuple(value: list[Any], items: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if len(items) == 2 and items[1] is ...:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise UserError(f"{where}: {len(value)} values; needs {len(items)}")
    return tuple(convert(v, item, f"{where}[{i}]") for i, (v, item) in enumerate(zip(value, items, strict=True)))


def _type_name(expected: Any) -> str:
    return getattr(expected, "__name__", str(expected))
