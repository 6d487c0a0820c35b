"""Strict reading of TOML: what is wrong is named with its file, its key and the cure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from hwmodel.errors import UserError, unknown
from hwmodel.pattern import Pattern
from hwmodel.toml import build, read_toml


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0


@dataclass(frozen=True)
class Outer:
    steps: int
    pattern: Pattern = Pattern(2, 4)
    kind: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    shape: tuple[int, ...] = ()
    sparsity: tuple[Inner, ...] = ()


def test_nested_tables_become_dataclasses() -> None:
    table = {"steps": 3, "pattern": "1:8", "inner": {"rate": 2}, "shape": [4, 5], "sparsity": [{"rate": 0.5}]}
    assert build(Outer, table, "run.toml") == Outer(3, Pattern(1, 8), "a", Inner(2.0), (4, 5), (Inner(0.5),))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"stpes": 3}, ["run.toml", "stpes", "did you mean steps"]),
        ({}, ["run.toml", "missing key steps", "int"]),
        ({"steps": "3"}, ["run.toml: steps", "str", "int"]),
        ({"steps": True}, ["run.toml: steps", "bool", "int"]),
        ({"steps": 3, "inner": {"rat": 1}}, ["run.toml: inner", "rat", "did you mean rate"]),
        ({"steps": 3, "pattern": "4:2"}, ["run.toml: pattern", "4:2"]),
        ({"steps": 3, "kind": "c"}, ["run.toml: kind", "c", "known: a, b"]),
        ({"steps": 3, "sparsity": [{"rate": "x"}]}, ["run.toml: sparsity[0]: rate", "float"]),
    ],
)
def test_a_wrong_key_or_type_is_named(table: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        build(Outer, table, "run.toml")
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.toml: no such file"):
        read_toml(tmp_path / "no.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("steps = = 3")
    with pytest.raises(UserError, match=r"broken\.toml: not valid TOML.*line 1"):
        read_toml(broken)


def test_the_nearest_name_comes_before_the_full_list() -> None:
    assert str(unknown("device", "a10", ["a100", "v100"])) == (
        'unknown device "a10"; did you mean a100? (known: a100, v100)'
    )
