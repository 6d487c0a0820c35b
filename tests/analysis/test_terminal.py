"""Tables on a terminal show every number whole, however narrow it is."""

from __future__ import annotations

import pandas as pd
import pytest
from nmsim_analysis import terminal
from nmsim_analysis.page import Column
from rich.console import Console

ROWS = pd.DataFrame({"recipe": ["mdgf_exponential", "ste"], **{f"c{i}": [f"{i}00.25 / 9.5"] * 2 for i in range(9)}})
COLUMNS = [Column("recipe", "recipe"), *(Column(f"c{i}", f"device-{i}\nms / µs", source="modelled") for i in range(9))]


@pytest.mark.parametrize(("width", "parts"), [(200, 1), (80, 3)])
def test_a_table_wider_than_the_terminal_comes_in_parts_with_the_names_of_its_rows(width, parts, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "console", lambda: Console(width=width))
    terminal.show_table(ROWS, COLUMNS, "A question?")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert out.count("mdgf_exponential") == parts
    assert out.count("A question?") == 1
    assert all(out.count(f"{i}00.25 / 9.5") == 2 for i in range(9))
    assert out.count("modelled") == 9
