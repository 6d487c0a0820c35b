"""Reader of the SWORD project's zText modules: compressed books of verses, found through two index files."""

from __future__ import annotations

import html
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from hwmodel.errors import UserError
from nmsim.data.places import read_bytes

VERSE = struct.Struct("<IIH")  # block, offset in the block, length
BLOCK = struct.Struct("<III")  # offset in the file, compressed size, size
NOTES = re.compile(r"<(note|title)\b.*?</\1>", re.DOTALL)
TAGS = re.compile(r"<[^>]*>")


def verses(module: Path) -> list[str]:
    """All verse slots of a module, both testaments, as plain text; a heading's slot is "".

    Two modules with one versification have the same slots, so that verses align by index.
    """
    return [verse for part in ("ot", "nt") for verse in _testament(module / part)]


def _testament(stem: Path) -> Iterator[str]:
    index = read_bytes(stem.with_suffix(".bzv"))
    blocks = _blocks(stem)
    for slot, (block, offset, length) in enumerate(_records(VERSE, index, stem.with_suffix(".bzv"))):
        if not length:
            yield ""
            continue
        if block >= len(blocks) or offset + length > len(blocks[block]):
            raise UserError(f"{stem}.bzv: slot {slot} points outside block {block}; bring the file again")
        yield plain(blocks[block][offset : offset + length].decode("utf-8", "replace"))


def _blocks(stem: Path) -> list[bytes]:
    packed = read_bytes(stem.with_suffix(".bzz"))
    records = _records(BLOCK, read_bytes(stem.with_suffix(".bzs")), stem.with_suffix(".bzs"))
    try:
        return [zlib.decompress(packed[offset : offset + size]) for offset, size, _ in records]
    except zlib.error as error:
        raise UserError(f"{stem}.bzz: damaged: {error}; bring the file again") from None


def _records(record: struct.Struct, content: bytes, path: Path) -> list[tuple[int, ...]]:
    if len(content) % record.size:
        raise UserError(f"{path}: {len(content)} bytes, not a multiple of {record.size}; bring the file again")
    return list(record.iter_unpack(content))


def plain(marked: str) -> str:
    """A verse without notes, headings, tags and paragraph marks."""
    text = TAGS.sub("", NOTES.sub("", marked))
    return " ".join(html.unescape(text).replace("¶", " ").split())
