"""The README's promises: its commands, its script and its table of recipes are the project's own."""

from __future__ import annotations

import re
import subprocess
import sys

import pages
import pytest

from nmsim.recipes import RECIPES

README = pages.ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", (pages.ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.slow
@pytest.mark.compiled
def test_the_script_runs_and_is_short(tmp_path):
    (script,) = pages.blocks(README, "python")
    assert len([line for line in script.splitlines() if line.strip()]) <= 15
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_table_of_recipes_is_the_registry():
    assert set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)) == set(RECIPES)


def test_make_demo_and_make_test_are_the_two_commands():
    named = {words[1] for words in pages.commands(README, "sh") if words[0] == "make"}
    assert {"demo", "test"} <= named <= TARGETS
