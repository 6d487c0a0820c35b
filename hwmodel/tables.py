"""CSV tables whose columns and numbers are checked, with the row and column of what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hwmodel.errors import UserError


def read_table(path: Path, columns: Sequence[str], numbers: Sequence[str], *, may_lack: bool = False) -> pd.DataFrame:
    """The table of a CSV file that may begin with comment lines; `numbers` as floats, all else as text.

    Raises `UserError` for a file that is no CSV table, a missing column, or a value that is not a number, with its line
    and column. With `may_lack` an empty cell is NaN. `attrs["line"]` is the line of the first row.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            header = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), lines))
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skiprows=header)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of an existing one") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV table: {error}") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(f"{path}: missing column {missing[0]} (needs: {', '.join(columns)})")
    for name in numbers:
        read = pd.to_numeric(table[name], errors="coerce").astype(float)
        wrong = read.isna() & ((table[name] != "") | (not may_lack))
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise UserError(f'{path}: row {header + row + 2}, column {name}: "{table[name].iloc[row]}" is not a number')
        table[name] = read
    table.attrs["line"] = header + 2
    return table


def refuse(path: Path, table: pd.DataFrame, column: str, wrong: pd.Series[bool], why: str) -> None:
    """Raise `UserError` with the line and the value of the first row of a read table that is `wrong` in a column."""
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        line = table.attrs["line"] + row
        raise UserError(f"{path}: row {line}, column {column}: {table[column].iloc[row]:g} {why}")
