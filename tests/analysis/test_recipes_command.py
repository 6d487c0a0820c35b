"""`nmsim recipes`."""

import json

import pytest
from nmsim_analysis.cli import run

from nmsim.recipes import RECIPES

BROKEN = '''
from nmsim.recipes import Recipe
from nmsim.rules.weight import Leak
from nmsim.schedules import Constant


def leaky(pattern, steps):
    """Never sparse, whatever it says."""
    return Recipe(structure=Constant(pattern), weight=(Leak(Constant(0.5)),))
'''


def test_every_recipe_is_listed_with_its_axes(capsys) -> None:
    assert run(["recipes", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == RECIPES.keys()
    assert rows["sr_ste"]["axes"] == {"structure": "1:8", "grad": "SRSTE(lam=0.0002)"}
    assert rows["mdgf_linear"]["options"] == {"dense": "0.0125", "fine_tune": "0.5", "beta": "from steps"}


def test_the_table_shows_the_recipes_that_are_named(capsys) -> None:
    assert run(["recipes", "rigl", "step", "--pattern", "2:4", "--steps", "50"]) == 0
    out = capsys.readouterr().out
    assert "unstructured 0.5" in out
    assert "FreezeAfter(step=15)" in out
    assert "sr_ste" not in out


@pytest.mark.compiled
def test_a_recipe_that_breaks_the_contract_is_one_line(tmp_path, capsys) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    assert run(["recipes", f"{tmp_path / 'mine.py'}:leaky", "--check"]) == 2
    assert "leaky breaks the contract: layer0: a pruned weight is not 0 in the end" in capsys.readouterr().err


@pytest.mark.compiled
def test_a_recipe_that_keeps_the_contract_is_told_so(capsys) -> None:
    assert run(["recipes", "static_random", "--check"]) == 0
    assert "static_random keeps the contract of recipes." in capsys.readouterr().out
    assert run(["recipes", "static_random"]) == 0
    assert "contract" not in capsys.readouterr().out


def test_an_unknown_recipe_names_the_nearest(capsys) -> None:
    assert run(["recipes", "sr_st"]) == 2
    assert "did you mean sr_ste?" in capsys.readouterr().err
