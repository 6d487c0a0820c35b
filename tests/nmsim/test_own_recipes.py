"""Recipes of one's own: found by file or by entry point, and what is said of mistakes in them."""

from __future__ import annotations

import pytest

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.recipes import RECIPES, find

OWN = """
from nmsim.recipes import Recipe
from nmsim.rules.gradient import SRSTE
from nmsim.schedules import Constant


def doubled(pattern, steps, *, lam: float = 4e-4) -> Recipe:
    return Recipe(structure=Constant(pattern), grad=SRSTE(lam))
"""


def test_a_recipe_of_ones_own_is_found_by_its_file(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    make = find(f"{tmp_path / 'mine.py'}:doubled")
    assert make(Pattern(1, 8), lam=2e-4) == RECIPES["sr_ste"](Pattern(1, 8), steps=350)
    assert make(Pattern(1, 8)).name == "doubled"
    with pytest.raises(UserError, match="unknown option of doubled"):
        make(Pattern(1, 8), mu=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mdgf_linaer", "did you mean mdgf_linear"),
        ("nowhere.py:f", "nowhere.py: no such file"),
        ("{}:halved", "unknown function"),
    ],
)
def test_a_recipe_that_is_nowhere_is_named(tmp_path, name: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(UserError, match=message):
        find(name.format(tmp_path / "mine.py"))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package that offers a recipe by an entry point, and one whose module is missing."""
    (tmp_path / "shared_recipes.py").write_text(OWN)
    metadata = tmp_path / "shared_recipes-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shared-recipes\nVersion: 1.0\n")
    points = "[nmsim.recipes]\ndoubled = shared_recipes:doubled\nlost = lost_recipes:doubled\n"
    (metadata / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_a_recipe_of_an_installed_package_is_found_by_its_name() -> None:
    assert find("doubled")(Pattern(1, 8), lam=2e-4) == RECIPES["sr_ste"](Pattern(1, 8), steps=350)
    with pytest.raises(UserError, match="did you mean doubled"):
        find("doubld")
    with pytest.raises(UserError, match=r"^entry point lost: ModuleNotFoundError: No module named 'lost_recipes'"):
        find("lost")


RULE = """
from __future__ import annotations

from dataclasses import dataclass, replace

from nmsim.recipes import RECIPES
from nmsim.rules.scores import Magnitude
from nmsim.rules.selection import TopK


@dataclass(frozen=True)
class Own(Magnitude):
    share: float = 0.5


def owned(pattern, steps):
    return replace(RECIPES["ste"](pattern), select=TopK(Own()))
"""


def test_a_file_may_hold_rules_of_ones_own(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(RULE)
    assert find(f"{tmp_path / 'mine.py'}:owned")(Pattern(1, 8)).select.score.share == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:", r"^mine.py: SyntaxError: invalid syntax \(mine.py, line 1\)$"),
        ("import nosuch", r"^mine.py: ModuleNotFoundError: No module named 'nosuch' \(mine.py, line 1\)$"),
        ("def f(): ...", r"^f\(\): a recipe takes \(pattern, steps, \*, options\)$"),
        ("def f(pattern, steps): ...", "^f: returns NoneType; return a Recipe$"),
        ("def f(pattern, steps): 1 / 0", r"^f: its function fails: ZeroDivisionError: .* \(mine.py, line 1\)$"),
        ("def f(pattern, steps, *, lam=1): ...", "^f: option lam has no type; write it as lam: float = ...$"),
    ],
)
def test_a_mistake_in_a_recipe_of_ones_own_is_one_line(tmp_path, monkeypatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=message):
        find("mine.py:f")(Pattern(1, 8), **{"lam": 1} if "lam" in text else {})
