"""Language modelling, byte by byte: the text that ships with Python, the King James Bible, or a file of the user's."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from hwmodel.errors import UserError
from nmsim.data.dataset import DataSet, Manifest, Text, sha256_of
from nmsim.data.places import KJV, LICENCES, find, read_bytes
from nmsim.data.sword import verses

SPLIT_RULE = "first 90 % of the bytes train, next 5 % validation, last 5 % test"


def load_pydoc(*, context: int = 128) -> DataSet:
    """Python's help topics, 0.5 MB of English.

    They ship with CPython and differ between its versions.
    """
    from pydoc_data.topics import topics  # noqa: PLC0415 -- half a megabyte, wanted only here

    return _split(
        "\n".join(topics[name] for name in sorted(topics)).encode(),
        context,
        name="pydoc",
        source="pydoc_data.topics of CPython",
        version=platform.python_version(),
    )


def load_kjv(*, context: int = 128) -> DataSet:
    """The King James Bible, 4.2 MB of English, one verse a line."""
    folder = find("kjv")
    text = "\n".join(verse for verse in verses(folder / KJV) if verse)
    return _split(text.encode(), context, name="kjv", source="Debian sword-text-kjv", version="14.3")


def load_text(*, path: str, context: int = 128) -> DataSet:
    """Your own text file, as bytes."""
    return _split(read_bytes(Path(path)), context, name="text", source=Path(path).name, version="")


def _split(text: bytes, context: int, *, name: str, source: str, version: str) -> DataSet:
    if context < 1:
        raise UserError(f"data {name}: context={context}; needs at least 1")
    tokens = np.frombuffer(text, np.uint8)
    cuts = [len(tokens) * 90 // 100, len(tokens) * 95 // 100]
    train, validation, test = np.split(tokens, cuts)
    return DataSet(
        "text",
        Text(train, context, stride=1),
        Text(validation, context, stride=context),
        Text(test, context, stride=context),
        symbols=tuple(map(chr, range(256))),
        source_symbols=tuple(map(chr, range(256))),
        manifest=Manifest(name, source, version, sha256_of(text), SPLIT_RULE, LICENCES[name]),
    )
