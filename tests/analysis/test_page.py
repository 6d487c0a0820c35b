"""The page holds everything it shows, escapes what it is given, and sorts numbers as numbers."""

from __future__ import annotations

import re

import pandas as pd
from nmsim_analysis import page


def test_nothing_on_the_page_is_fetched(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    picture.with_suffix(".csv").write_text("x\n1\n")
    html = page.page("Q?", "<p>A.</p>", [page.Section("Results", page.figure(picture, "A figure"))])
    links = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "http:" not in html
    assert "https:" not in html
    assert "default-src 'none'" in html


def test_text_is_escaped():
    rows = pd.DataFrame({"recipe": ["<script>alert(1)</script>"]})
    html = page.table(rows, [page.Column("recipe", "a & b")], "x < y")
    assert "<script>" not in html
    assert "a &amp; b" in html
    assert "x &lt; y" in html


def test_a_table_says_what_is_measured_and_sorts_by_value():
    rows = pd.DataFrame({"recipe": ["ste", "dense"], "seconds": [1234.5, float("nan")]})
    columns = [page.Column("recipe", "recipe"), page.Column("seconds", "time (s)", "{:.0f}", "modelled")]
    html = page.table(rows, columns, "caption")
    assert 'data-value="1234.5">1234<' in html
    assert "<small>modelled</small>" in html
    assert ">–<" in html
    assert html.count("<button") == 2


def test_every_section_can_be_reached():
    html = page.page("Q?", "A", [page.Section("What it costs", ""), page.Section("Runs", "")])
    for anchor in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{anchor}"' in html
