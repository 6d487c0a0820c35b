"""Safetensors files: what is written can be read, here and by the reference library; what is wrong is refused."""

from __future__ import annotations

import errno
import fcntl
import json
import os

import killing
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from weightfiles import save

from hwmodel.errors import UserError
from nmsim.formats import beside
from nmsim.formats.beside import replacing
from nmsim.formats.dtypes import DTYPES, bits
from nmsim.formats.exchange import copy_file
from nmsim.formats.header import header_bytes
from nmsim.formats.safetensors import Reader, writing
from nmsim.formats.tensors import TensorSpec, blocks


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@given(
    tensors=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 5), max_size=3)),
        max_size=6,
    ),
    metadata=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        max_size=3,
    ),
    seed=st.integers(0, 2**32),
)
def test_what_is_written_is_read_back(tensors, metadata, seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    arrays = {
        name: np.frombuffer(rng.bytes(int(np.prod(shape)) * DTYPES[code].itemsize), np.uint8)
        .view(DTYPES[code])
        .reshape(shape)
        for name, (code, shape) in tensors.items()
    }
    path = save(tmp_path_factory.mktemp("w") / "a.safetensors", arrays, metadata)
    with Reader(path) as reader:
        assert reader.metadata == metadata
        assert reader.specs.keys() == arrays.keys()
        for name, values in arrays.items():
            read = reader.read(name)
            assert read.dtype == values.dtype
            assert read.shape == values.shape
            assert read.tobytes() == values.tobytes()


def test_the_reference_library_reads_our_files_and_we_its(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array(7, np.uint8),
        "c": np.ones(3, np.float16),
    }
    theirs = safetensors.numpy.load_file(save(tmp_path / "ours.safetensors", arrays, {"k": "v"}))
    assert {name: values.tobytes() for name, values in theirs.items()} == {n: v.tobytes() for n, v in arrays.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "theirs.safetensors", {"k": "v"})
    assert (tmp_path / "theirs.safetensors").read_bytes() == (tmp_path / "ours.safetensors").read_bytes()


def test_rows_are_blocks_of_the_tensor_and_maps_outlive_the_reader(tmp_path):
    w = np.arange(60, dtype=np.float64).astype(ml_dtypes.bfloat16).reshape(20, 3)
    path = save(tmp_path / "a.safetensors", {"w": w, "odd": np.zeros(3, np.uint8)})
    with Reader(path) as reader:
        middle = reader.rows("w", 7, 12)
    assert np.array_equal(bits(middle), bits(w[7:12]))
    with pytest.raises(ValueError, match="read-only"):
        middle[0, 0] = 0


def test_unaligned_tensors_are_read(tmp_path):
    path = tmp_path / "a.safetensors"
    table = {"byte": entry("U8", (1,), (0, 1)), "w": entry("F32", (2,), (1, 9))}
    path.write_bytes(raw(table, b"\1" + np.array([1.5, 2.5], np.float32).tobytes()))
    with Reader(path) as reader:
        assert reader.read("w").tolist() == [1.5, 2.5]
        assert reader.read("w").flags.aligned


HOSTILE = {
    "empty file": (b"", "longer than the file"),
    "short prefix": (b"\1\0\0", "longer than the file"),
    "header longer than the file": ((1 << 40).to_bytes(8, "little") + b"{}", "longer than the file"),
    "all ones length": (b"\xff" * 8 + b"{}", "longer than the file"),
    "not JSON": (raw(b"PK\3\4 not json"), "not JSON"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "not JSON"),
    "deeply nested": (raw(b"[" * 100_000), "not JSON"),
    "a huge number": (raw(b'{"a": ' + b"9" * 10_000 + b"}"), "not JSON"),
    "a list": (raw([1]), "not a JSON object"),
    "a name twice": (raw(b'{"a": 1, "a": 2}'), "occurs twice"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}}), "must map names to strings"),
    "no dtype": (raw({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "a: needs exactly"),
    "an extra key": (raw({"a": entry() | {"x": 1}}, bytes(8)), "a: needs exactly"),
    "unknown dtype": (raw({"a": entry("F33")}, bytes(8)), 'a: unknown dtype "F33"; did you mean F32?'),
    "dtype of another type": (raw({"a": entry([1])}, bytes(8)), "unknown dtype"),
    "negative size": (raw({"a": entry(shape=(-2,))}, bytes(8)), "a: shape must be"),
    "size that is no integer": (raw({"a": entry(shape=(2.0,))}, bytes(8)), "a: shape must be"),
    "size that is a boolean": (raw({"a": entry(shape=(True,))}, bytes(8)), "a: shape must be"),
    "shape that is text": (raw({"a": entry() | {"shape": "22"}}, bytes(8)), "a: shape must be"),
    "too many dimensions": (raw({"a": entry(shape=[1] * 65, offsets=(0, 4))}, bytes(4)), "at most 64"),
    "product beyond 64 bits": (raw({"a": entry(shape=[1 << 40, 1 << 40])}, bytes(8)), "beyond what can be"),
    "more than can be addressed": (raw({"a": entry(shape=(1 << 62, 0), offsets=(0, 0))}), "beyond what can be"),
    "wrong shape": (raw({"a": entry(shape=(3,))}, bytes(8)), "different number of bytes"),
    "negative offset": (raw({"a": entry(offsets=(-8, 0))}, bytes(8)), "data_offsets must be"),
    "reversed offsets": (raw({"a": entry(offsets=(8, 0))}, bytes(8)), "data_offsets must be"),
    "offset beyond the file": (raw({"a": entry(offsets=(0, 16), shape=(4,))}, bytes(8)), "data_offsets must be"),
    "three offsets": (raw({"a": entry(offsets=(0, 4, 8))}, bytes(8)), "data_offsets must be"),
    "overlap": (raw({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "b: overlaps"),
    "hole": (raw({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "b: leaves a hole"),
    "bytes behind": (raw({"a": entry()}, bytes(9)), "1 bytes after the last tensor"),
    "truncated": (raw({"a": entry()}, bytes(7)), "data_offsets must be"),
    "pickle": (b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.", "longer than the file"),
    "control characters": (raw({"a\n\x1b[2J": entry("X")}, bytes(8)), r"a\n\x1b[2J: unknown dtype"),
    "half a character": (raw({"\ud800": entry()}, bytes(8)), "not Unicode text"),
    "half a character of metadata": (raw({"__metadata__": {"a": "\ud800"}}), "must map names to strings"),
}


def test_a_tensor_without_weights_takes_no_time_however_many_rows_it_claims(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw({"a": entry(shape=(1 << 58, 0), offsets=(0, 0)), "w": entry()}, bytes(8)))
    with Reader(path) as source:
        assert not list(blocks(source.specs["a"]))
        copy_file(source, tmp_path / "b.safetensors", lambda nbytes: None)
    with Reader(tmp_path / "b.safetensors") as copied:
        assert copied.specs["a"].shape == (1 << 58, 0)
        assert copied.read("a").shape == (1 << 58, 0)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_get_one_line(case, tmp_path):
    content, said = HOSTILE[case]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError) as told:
        Reader(path)
    assert said in str(told.value)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_header_beyond_the_limit_is_not_read(tmp_path):
    path = tmp_path / "bad.safetensors"
    with path.open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)
    with pytest.raises(UserError, match="at most 100000000"):
        Reader(path)


@pytest.mark.parametrize(("name", "said"), [("absent.safetensors", "no such file"), (".", "a folder")])
def test_what_is_no_file_is_named(name, said, tmp_path):
    with pytest.raises(UserError, match=said):
        Reader(tmp_path / name)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    path = save(tmp_path / "a.safetensors", {"w": np.zeros((64, 1024), np.float32)})
    with Reader(path) as reader:
        os.truncate(path, 4096)
        with pytest.raises(UserError, match="became shorter"):
            reader.rows("w", 32, 64)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = save(tmp_path / "a.safetensors", {"w": np.ones(3, np.float32)})
    before = path.read_bytes()

    def fail():
        with writing(path, {"w": TensorSpec(np.dtype(np.float32), (3,))}, {}) as writer:
            writer.put("w", np.zeros(3, np.float32))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_tensor_that_was_not_written_is_noticed(tmp_path):
    specs = {"w": TensorSpec(np.dtype(np.float32), (3,))}
    with pytest.raises(AssertionError, match="never written"), writing(tmp_path / "a.safetensors", specs, {}):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("no/a.safetensors", "folder does not exist"),
        ("folder", "folder: a folder; name a file"),
        ("pipe", "pipe: not a regular file"),
        ("x" * 250, r"can't be written \(File name too long\); choose another folder"),
    ],
)
def test_a_place_that_can_not_be_written_is_named_and_left_as_it_is(place, said, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=said):
        save(tmp_path / place, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(UserError, match=r"can't be written \(Permission denied\); choose another folder"):
        save(tmp_path / "a.safetensors", {})


def test_a_full_disk_is_named_with_the_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.safetensors: can't be written \(No space left on device\)"):
        save(tmp_path / "a.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_the_file(tmp_path):
    path = tmp_path / "[a].safetensors"
    abandoned, other = tmp_path / ".[a].safetensors.1.part", tmp_path / ".a.safetensors.1.part"
    abandoned.write_bytes(b"half")
    other.write_bytes(b"of another file")
    save(path, {})
    assert {p.name for p in tmp_path.iterdir()} == {path.name, other.name}
    with replacing(path) as file:  # what a living process writes is left alone
        file.write(b"first")
        abandoned.write_bytes(b"half")
        writer = tmp_path / f".{path.name}.{os.getpid()}.part"
        beside._remove_abandoned(path)
        assert writer.exists()
        assert not abandoned.exists()
    assert path.read_bytes() == b"first"


def test_a_part_that_was_taken_for_abandoned_before_it_was_locked_is_opened_again(tmp_path, monkeypatch):
    path, lock, taken = tmp_path / "a", fcntl.flock, []

    def late(file, operation):
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with replacing(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert taken[0].name.endswith(".part")


KILLED = """
import sys, numpy as np
from pathlib import Path
from killing import survives
from nmsim.formats.safetensors import writing
from nmsim.formats.tensors import TensorSpec

def write():
    with writing(path, {"w": TensorSpec(np.dtype(np.float32), (3, 1000))}, {}) as writer:
        for row in range(3):
            writer.put("w", np.full((1, 1000), row, np.float32), row)

path, old = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes()
for moment in range(1, 1000):
    path.write_bytes(old)
    ended = survives(write, moment)
    print(path.read_bytes().hex())
    if ended:
        break
"""


def test_killed_before_or_after_any_call_that_touches_files_the_old_or_the_new_file_stands(tmp_path):
    path = save(tmp_path / "a.safetensors", {"w": np.ones(3, np.float32)})
    old = path.read_bytes()
    left = [bytes.fromhex(line) for line in killing.run(KILLED, path).splitlines()]
    new = save(path, {"w": np.repeat(np.arange(3, dtype=np.float32), 1000).reshape(3, 1000)}).read_bytes()
    assert left[0] == old
    assert left[-1] == new
    changes = [number for number in range(1, len(left)) if left[number] != left[number - 1]]
    assert len(changes) == 1
    assert changes[0] > 20
    assert set(left) == {old, new}


def test_headers_are_aligned_and_deterministic():
    specs = {"b": TensorSpec(np.dtype(np.float32), (1,)), "a": TensorSpec(np.dtype(np.float32), (2,))}
    assert len(header_bytes(specs, {})) % 8 == 0
    assert header_bytes(specs, {}) == header_bytes(dict(specs), {})
