"""Weight files damaged at random: bytes, lengths, fields of headers, parts of one file in another."""

from __future__ import annotations

import json
import signal
import tracemalloc
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from weightfiles import save, sparse

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.codecs import CODECS
from nmsim.formats.decoded import open_dense
from nmsim.formats.detect import look
from nmsim.formats.exchange import Encode, copy_file, decode_file, encode_file
from nmsim.formats.memory import Memory
from nmsim.formats.pruning import Choice, by_magnitude, misfit, prune_file
from nmsim.formats.shards import open_weights
from nmsim.formats.tensors import Source

SECONDS = 20
ENOUGH_BYTES = 1 << 17  # what Python's objects take for any file
GROWTH = 10  # copies of the file and of what it stands for: text, JSON, masks of a byte a weight
HOSTILE = [
    -1,
    0,
    1,
    2,
    3,
    7,
    8,
    1 << 31,
    1 << 32,
    1 << 62,
    1 << 63,
    1 << 64,
    10**30,
    1.5,
    True,
    None,
    "",
    "F32",
    "I64",
    "BOOL",
    "x" * 300,
    [],
    {},
    [[]],
    [1, 2],
    "\u0000",
    "2:4",
]


def seeds(folder: Path) -> list[tuple[str, bytes]]:
    """(ending, content) of one good file of every format."""
    rng, pattern = np.random.default_rng(0), Pattern(1, 2)
    tensors = {
        "a.weight": sparse(rng, (32, 128), pattern, np.dtype(np.float32)),
        "b": sparse(rng, (32, 64), Pattern(2, 4), np.dtype(np.float16)),
        "n": np.ones(3),
    }
    choices = {"a.weight": Encode(1, pattern), "b": Encode(1, Pattern(2, 4))}
    found = [save(folder / "dense.safetensors", tensors, {"format": "pt"})]
    with Memory(tensors, "x") as source:
        for codec in CODECS.values():
            encode_file(source, folder / f"{codec.name}.safetensors", codec, choices, len_of)
            found.append(folder / f"{codec.name}.safetensors")
        copy_file(source, folder / "dense.onnx", len_of)
    (folder / "m.index.json").write_text('{"weight_map": {"a.weight": "dense.safetensors", "b": "dense.safetensors"}}')
    found += [folder / "dense.onnx", folder / "m.index.json"]
    return [
        ("".join(path.suffixes[-2:]) if path.suffix == ".json" else path.suffix, path.read_bytes()) for path in found
    ]


def len_of(nbytes: int) -> None:
    """Ignore progress."""


def mutated(rng: np.random.Generator, pool: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """A file of the pool with one to four kinds of damage."""
    ending, content = pool[rng.integers(len(pool))]
    if ending == ".safetensors" and rng.random() < 0.5:
        return ending, _data(rng, content)
    changes = [_bytes, _bytes, _cut, _grow, _length, _splice] + ([_field] * 6 if ending == ".safetensors" else [])
    for _ in range(rng.integers(1, 5)):
        content = changes[rng.integers(len(changes))](rng, content, pool)
    return ending, content


def _bytes(rng, content, pool):
    damaged = bytearray(content)
    limit = len(damaged) if rng.random() < 0.5 else min(len(damaged), 600)  # headers are at the front
    for place in rng.integers(0, max(1, limit), rng.integers(1, 9)):
        damaged[place : place + 1] = bytes([rng.integers(256)])
    return bytes(damaged)


def _data(rng, content):
    """Other bytes behind a header that stays good: what the encodings themselves must notice."""
    damaged, begin = bytearray(content), 8 + int.from_bytes(content[:8], "little")
    for place in rng.integers(begin, len(damaged), rng.integers(1, 5)):
        damaged[place] = rng.integers(256)
    return bytes(damaged)


def _cut(rng, content, pool):
    return content[: rng.integers(0, len(content) + 1)]


def _grow(rng, content, pool):
    place = int(rng.integers(0, len(content) + 1))
    return content[:place] + rng.bytes(int(rng.integers(1, 64))) + content[place:]


def _length(rng, content, pool):
    length = int(rng.integers(0, 2 * len(content) + 2)) if rng.random() < 0.7 else int(rng.integers(0, 1 << 63))
    return length.to_bytes(8, "little") + content[8:]


def _splice(rng, content, pool):
    other = pool[rng.integers(len(pool))][1]
    return content[: rng.integers(0, len(content) + 1)] + other[rng.integers(0, len(other) + 1) :]


def _field(rng, content, pool):
    """Another value somewhere in the header's JSON, under a header length that fits."""
    length = int.from_bytes(content[:8], "little")
    try:
        table = json.loads(content[8 : 8 + length])
        _poke(rng, table)
        text = json.dumps(table).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError, OverflowError):
        return content
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _poke(rng, table):
    while True:
        keys = list(table) if isinstance(table, dict) else list(range(len(table)))
        if not keys:
            return
        key = keys[rng.integers(len(keys))]
        inner = table[key]
        if isinstance(inner, str) and inner.startswith("{") and rng.random() < 0.8:
            nested = json.loads(inner)
            _poke(rng, nested)
            table[key] = json.dumps(nested)
            return
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.2:
            table[key] = HOSTILE[rng.integers(len(HOSTILE))]
            return
        table = inner


def use(path: Path, out: Path) -> str:
    """Open, look at, decode and prune a file; the line a user is told, "" if all went well.

    Anything but a `UserError` gets out, as does a file that takes too long or more memory than its own size and that of
    what it stands for explain. What is loaded once, such as a kernel for its types, is not held against it.
    """
    said, too_much = _used(path, out)
    if too_much > 0:
        said, too_much = _used(path, out)
    if too_much > 0:
        too_much -= GROWTH * _dense_bytes(path)
    assert too_much <= 0, f"{too_much} bytes too many were allocated for a file of {path.stat().st_size}"
    return said


def _used(path: Path, out: Path) -> tuple[str, int]:
    """What a user is told, and by how many bytes the memory exceeds what is explained."""
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    said, size = [], path.stat().st_size
    for task in (_decode, _prune):
        try:
            with _time_limit(), open_weights(path) as source:
                task(source, out)
            size += out.stat().st_size
            out.unlink()
        except UserError as error:
            said.append(str(error))
        assert not out.exists(), "a refused file was written"
    assert "\n" not in "".join(said), said
    peak = tracemalloc.get_traced_memory()[1] - before
    return "".join(said[:1]), peak - ENOUGH_BYTES - GROWTH * size


def _dense_bytes(path: Path) -> int:
    """Bytes of the matrices that a file stands for though another is refused: sparse rows may be few and long."""
    total = 0
    with suppress(UserError), open_dense(path) as source:
        for name in source.specs:
            with suppress(UserError):
                total += source.read(name).nbytes
    return total


def _decode(source: Source, out: Path) -> None:
    for name, spec in source.specs.items():
        if len(spec.shape) == 2 and spec.dtype.itemsize <= 4:
            look(source, name, int(source.reduction_axis(name) or 0))
    decode_file(source, out, len_of)


def _prune(source: Source, out: Path) -> None:
    choices = {
        name: Choice(Pattern(2, 4), 1, by_magnitude)
        for name, spec in source.specs.items()
        if not misfit(spec, Pattern(2, 4), 1)
    }
    prune_file(source, out, choices, len_of)


@contextmanager
def _time_limit():
    """Of the processor, so that a busy machine or disk is not taken for a hang."""

    def stop(number, frame):
        raise TimeoutError(f"longer than {SECONDS} s")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def attack(folder: Path, count: int, seed: int) -> dict[str, int]:
    """Use `count` damaged files; how many were refused and how many were still good. Raises at the first fault."""
    pool = seeds(folder)
    told = {"refused": 0, "good": 0}
    for number in range(count):
        ending, content = mutated(np.random.default_rng([seed, number]), pool)
        path = folder / f"damaged{ending}"
        path.write_bytes(content)
        try:
            told["refused" if use(path, folder / "out.safetensors") else "good"] += 1
        except BaseException as fault:
            raise AssertionError(f"case {number} of seed {seed}: {type(fault).__name__}: {fault}") from fault
    return told
