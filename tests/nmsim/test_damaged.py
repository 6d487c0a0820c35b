"""Damaged files, a few of them; `make fuzz` tries a hundred thousand."""

from __future__ import annotations

from damaged import attack


def test_damaged_files_get_one_line_or_a_good_answer(tmp_path):
    told = attack(tmp_path, 500, 12345)
    assert told["refused"] > 150
    assert told["good"] > 50
