"""What a data set is: three fixed splits, what their numbers mean, and a manifest that says where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Integer, Shaped

from hwmodel.errors import UserError

Kind = Literal["sequence", "image", "text", "pairs"]
Batch = tuple[np.ndarray, ...]
PAD, BEGIN, END = 0, 1, 2
SPECIAL_SYMBOLS = ("<pad>", "<begin>", "<end>")


@dataclass(frozen=True)
class Manifest:
    """Where a data set came from; stored with each run, so that a result can be traced to its bytes.

    Attributes:
        source: The package, program or file that the data came from.
        version: The version of that source.
        sha256: Hash of the raw files, or of the generated arrays.
        split: The rule that decides which example is in which split.
        licence: The licence of the data.
    """

    name: str
    source: str
    version: str
    sha256: str
    split: str
    licence: str

    def as_dict(self) -> dict[str, str]:
        """The manifest as a table for a run's folder."""
        return asdict(self)


@runtime_checkable
class Split(Protocol):
    """One of the three parts of a data set."""

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def take(self, indices: Int[np.ndarray, " batch"]) -> Batch:
        """The examples at `indices` as the arrays of one batch."""
        ...

    def first(self, count: int) -> Split:
        """The first `count` examples, or all where there are fewer."""
        ...


@dataclass(frozen=True)
class Examples:
    """Labelled examples; a batch is (inputs, labels)."""

    inputs: Shaped[np.ndarray, "count ..."]
    targets: Int[np.ndarray, " count"]

    def __post_init__(self) -> None:
        """Keep both arrays from being written to: a loaded set is shared."""
        freeze(self.inputs, self.targets)

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.targets)

    def take(self, indices: Int[np.ndarray, " batch"]) -> Batch:
        """(inputs [batch, ...], labels [batch])."""
        return self.inputs[indices], self.targets[indices]

    def first(self, count: int) -> Examples:
        """The first `count` examples, or all where there are fewer."""
        return Examples(self.inputs[:count], self.targets[:count])


@dataclass(frozen=True)
class Text:
    """A stream of tokens, in windows that start every `stride` tokens; a batch is (tokens, the tokens that follow)."""

    tokens: Shaped[np.ndarray, " count"]
    context: int
    stride: int

    def __post_init__(self) -> None:
        """Refuse a text that holds no whole window."""
        freeze(self.tokens)
        if len(self.tokens) <= self.context:
            raise UserError(
                f"a split of {len(self.tokens)} tokens holds no window of context={self.context}; "
                "use a longer text or a shorter context"
            )

    def __len__(self) -> int:
        """How many windows there are."""
        return (len(self.tokens) - 1 - self.context) // self.stride + 1

    def take(self, indices: Int[np.ndarray, " batch"]) -> Batch:
        """(tokens [batch, context], next tokens [batch, context])."""
        places = indices[:, None] * self.stride + np.arange(self.context + 1)
        windows = self.tokens[places].astype(np.int64)
        return windows[:, :-1], windows[:, 1:]

    def first(self, count: int) -> Text:
        """The first `count` windows, or all where there are fewer."""
        return replace(self, tokens=self.tokens[: (count - 1) * self.stride + self.context + 1])


@dataclass(frozen=True)
class Pairs:
    """Source and target sequences, padded with `PAD`; a target starts with `BEGIN` and ends with `END`.

    A batch is (source, target as the decoder reads it, target as it must predict it).
    """

    source: Shaped[np.ndarray, "count source_length"]
    target: Shaped[np.ndarray, "count target_length"]

    def __post_init__(self) -> None:
        """Keep both arrays from being written to: a loaded set is shared."""
        freeze(self.source, self.target)

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.source)

    def take(self, indices: Int[np.ndarray, " batch"]) -> Batch:
        """(source [batch, s], decoder input [batch, t], decoder target [batch, t])."""
        target = self.target[indices].astype(np.int64)
        return self.source[indices].astype(np.int64), target[:, :-1], target[:, 1:]

    def first(self, count: int) -> Pairs:
        """The first `count` pairs, or all where there are fewer."""
        return Pairs(self.source[:count], self.target[:count])


@dataclass(frozen=True)
class DataSet:
    """Three fixed splits of one kind.

    Attributes:
        kind: "sequence" (inputs [count, length]), "image" ([count, height, width]), "text" or "pairs".
        symbols: The name of each output: a class, a byte, or a symbol of the target language.
        source_symbols: The name of each input symbol; empty where inputs are numbers.
    """

    kind: Kind
    train: Split
    validation: Split
    test: Split
    symbols: tuple[str, ...]
    manifest: Manifest
    source_symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a split without examples: none could be trained on, or judged by."""
        empty = [name for name in ("train", "validation", "test") if not len(getattr(self, name))]
        if empty:
            raise UserError(f"data {self.manifest.name}: its {empty[0]} split is empty; give it more examples")

    @property
    def outputs(self) -> int:
        """How many classes there are, or how large the target vocabulary is."""
        return len(self.symbols)

    def judged_on(self, count: int) -> DataSet:
        """The same data with no more than `count` examples to evaluate on."""
        return replace(self, validation=self.validation.first(count), test=self.test.first(count))


def freeze(*arrays: np.ndarray) -> None:
    """Make arrays read-only."""
    for array in arrays:
        array.flags.writeable = False


def pad(sequences: Sequence[Sequence[int]], dtype: type[np.integer]) -> Shaped[np.ndarray, "count longest"]:
    """Sequences of symbols as rows of one array, filled with `PAD` on the right."""
    rows = np.full((len(sequences), max(map(len, sequences))), PAD, dtype)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows


def symbols_of(tokens: Integer[np.ndarray, " t"]) -> list[int]:
    """The symbols of one target up to its first `END`, without the special ones."""
    kept: list[int] = []
    for token in tokens.tolist():
        if token == END:
            break
        if token not in (PAD, BEGIN):
            kept.append(token)
    return kept


def sha256_of(*parts: bytes | np.ndarray) -> str:
    """Hash of bytes and of arrays, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
