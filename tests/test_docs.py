"""What the pages say works: their Python runs, their console sessions run, and every other command is understood.

In `console` blocks a line after `$` is run; commands in `sh` blocks are only parsed, because they take long or need more
machines. A `toml` block that starts with `# NAME.toml` is that file. The Python blocks of one page share their names, like the cells of a notebook.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pages
import pytest
from nmsim_analysis.cli import app

NMSIM = str(Path(sys.executable).with_name("nmsim"))


def in_docs(*languages):
    return [page for page in pages.PAGES if page.name != "README.md" and pages.blocks(page, *languages)]


def title(value):
    return value.name if isinstance(value, Path) else " ".join(value)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("page", in_docs("python"), ids=title)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages.write_files(page, tmp_path)
    script = tmp_path / "page.py"
    script.write_text("\n".join(pages.blocks(page, "python")), encoding="utf-8")
    runpy.run_path(str(script))


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("page", in_docs("console"), ids=title)
def test_the_console_sessions_of_a_page_run(page, tmp_path):
    pages.write_files(page, tmp_path)
    for words in pages.commands(page, "console"):
        words[0] = NMSIM if words[0] == "nmsim" else words[0]
        done = subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@pytest.mark.parametrize(
    "words",
    [words for page in pages.PAGES for words in pages.commands(page, "sh") if words[0].endswith("nmsim")],
    ids=title,
)
def test_a_command_of_a_page_is_understood(words):
    app().parse_args(words[1:], exit_on_error=False, print_error=False)
