"""Checkpoints in several files: they stay so, never replace others, and are whole or have no index."""

from __future__ import annotations

import itertools
import json

import killing
import numpy as np
import pytest
from weightfiles import CHOICES, checkpoint, nothing, same, save

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.codecs import CODECS
from nmsim.formats.exchange import decode_file, encode_file
from nmsim.formats.pruning import Choice, by_magnitude, prune_file
from nmsim.formats.rewrite import check_target
from nmsim.formats.shards import Shards

P24 = Pattern(2, 4)


def shards(folder, files):
    folder.mkdir()
    for file, tensors in files.items():
        save(folder / file, tensors)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, tensors in files.items() for name in tensors}}))
    return index


def test_shards_stay_shards(tmp_path):
    tensors = checkpoint()
    names = sorted(tensors)
    files = {
        "model-1.safetensors": {n: tensors[n] for n in names[:2]},
        "model-2.safetensors": {n: tensors[n] for n in names[2:]},
    }
    index = shards(tmp_path / "in", files)
    out = tmp_path / "out" / index.name
    check_target(index, out)
    with Shards(index) as source:
        encode_file(source, out, CODECS["nm"], CHOICES, nothing)
    assert {p.name for p in out.parent.iterdir()} == {*files, index.name}
    with Shards(out) as source:
        decode_file(source, tmp_path / "back" / index.name, nothing)
    same(tmp_path / "back" / index.name, tensors)
    with pytest.raises(UserError, match="name a new folder"):
        check_target(index, out)


def test_shards_are_never_written_over_others(tmp_path):
    """Another name of the index is no other folder: its shards have the names of those that are read."""
    index = shards(tmp_path / "in", {"model-1.safetensors": {"a": np.ones((4, 4), np.float32)}})
    old = (index.parent / "model-1.safetensors").read_bytes()
    with pytest.raises(UserError, match="name a new folder"):
        check_target(index, index.with_name("other.index.json"))
    with Shards(index) as source, pytest.raises(UserError, match=r"model-1\.safetensors: exists"):
        prune_file(source, index.with_name("other.index.json"), {"a": Choice(P24, 1, by_magnitude)}, nothing)
    assert (index.parent / "model-1.safetensors").read_bytes() == old


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a JSON index"),
        ("[]", "needs a weight_map"),
        ('{"weight_map": {"a": "../a.safetensors"}}', "files in the same folder"),
        ('{"weight_map": {"a": 3}}', "files in the same folder"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "no such file"),
        ('{"weight_map": {"b": "a.safetensors"}}', "differ on tensor a"),
    ],
)
def test_a_damaged_index_is_named(text, said, tmp_path):
    save(tmp_path / "a.safetensors", {"a": np.zeros(2, np.float32)})
    index = tmp_path / "m.index.json"
    index.write_text(text)
    with pytest.raises(UserError, match=said):
        Shards(index)


def test_targets_that_would_replace_what_is_read_are_refused(tmp_path):
    path = save(tmp_path / "a.safetensors", {})
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    for target in (path, link, tmp_path / "." / "a.safetensors"):
        with pytest.raises(UserError, match="would replace"):
            check_target(path, target)
    with pytest.raises(UserError, match="shards stay shards"):
        check_target(tmp_path / "m.index.json", tmp_path / "b.safetensors")


KILLED = """
import sys
from pathlib import Path
from killing import survives
from nmsim.formats.exchange import copy_file
from nmsim.formats.shards import Shards

for moment in range(1, 3000, 7):
    target = Path(sys.argv[2]) / str(moment) / "model.safetensors.index.json"
    with Shards(Path(sys.argv[1])) as source:
        if survives(lambda: copy_file(source, target, lambda _: None), moment):
            break
"""


def test_shards_that_were_killed_in_the_writing_have_no_index_and_their_source_stands(tmp_path):
    tensors = {"a": np.arange(12.0).reshape(3, 4), "b": np.ones(5, np.float32)}
    index = shards(tmp_path / "old", {"one.safetensors": {"a": tensors["a"]}, "two.safetensors": {"b": tensors["b"]}})
    before = {path.name: path.read_bytes() for path in index.parent.iterdir()}
    killing.run(KILLED, index, tmp_path / "new")
    assert {path.name: path.read_bytes() for path in index.parent.iterdir()} == before
    written = sorted((tmp_path / "new").iterdir(), key=lambda folder: int(folder.name))
    whole = [(folder / index.name).exists() for folder in written]
    assert whole.count(False) > 20
    assert whole == sorted(whole)
    for folder in itertools.compress(written, whole):
        same(folder / index.name, tensors)
