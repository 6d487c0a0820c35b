"""What a command prints as JSON."""

from __future__ import annotations

import json

from nmsim_analysis import cli


def told(capsys, *tokens):
    """The JSON that a command prints."""
    assert cli.run([*map(str, tokens), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def rows(table, key="name"):
    return {row[key]: row for row in table["tensors"]}
