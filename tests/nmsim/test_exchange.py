"""Checkpoints out and in again: every format, shards, ONNX; names, axes and bytes kept; mistakes named, nothing written."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from weightfiles import CHOICES, checkpoint, nothing, same, save

from hwmodel.errors import UserError
from hwmodel.footprint import matrix_bytes
from hwmodel.pattern import Pattern
from nmsim.formats.codecs import CODECS
from nmsim.formats.converted import Converted
from nmsim.formats.dtypes import bits, named
from nmsim.formats.exchange import Encode, copy_file, decode_file, encode_file
from nmsim.formats.header import header_bytes
from nmsim.formats.initial import initial_values
from nmsim.formats.interop import from_scipy, to_scipy
from nmsim.formats.memory import Memory
from nmsim.formats.pruning import by_magnitude
from nmsim.formats.rewrite import chosen
from nmsim.formats.safetensors import Reader

BF16 = np.dtype(ml_dtypes.bfloat16)
P24 = Pattern(2, 4)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_a_checkpoint_comes_back_from_every_format(name, tmp_path):
    tensors = checkpoint()
    path = save(tmp_path / "a.safetensors", tensors, {"format": "pt"})
    with Reader(path) as source:
        report = encode_file(source, tmp_path / "b.safetensors", CODECS[name], CHOICES, nothing)
    reasons = {row.name: row.reason for row in report}
    fits = name in ("sparse-bitmask", "scipy")
    assert reasons["block0.mlp.up.weight"] == reasons["block0.mlp.down"] == ""
    assert fits == (reasons["dense.weight"] == "")
    with Reader(tmp_path / "b.safetensors") as source:
        assert source.metadata["format"] == "pt"
        decoded = decode_file(source, tmp_path / "c.safetensors", nothing)
    assert len(decoded) == 2 + fits
    same(tmp_path / "c.safetensors", tensors)


@pytest.mark.parametrize(
    ("name", "layout", "besides"),
    [
        ("torch-semi-structured", "index", 0),
        ("cutlass-sm80", "index", 0),
        ("nm", "index", 0),
        ("nm-bitmask", "bitmask", 0),
        ("sparse-24-bitmask", "bitmask", 16),
        ("sparse-bitmask", "bitmask", 16 + 8 * 64),
        ("scipy", "csr", 16),
        ("dense", "dense", 0),
    ],
)
def test_a_file_is_as_large_as_its_matrices_and_its_header(name, layout, besides, tmp_path):
    """Besides, some formats hold a tensor with the shape (16 bytes), and one where each row begins."""
    rng = np.random.default_rng(0)
    w = {f"layer{i}": by_magnitude("", rng.standard_normal((64, 128)).astype(BF16), P24) for i in range(3)}
    with Memory(w, "x") as source:
        if name == "dense":
            copy_file(source, tmp_path / "b.safetensors", nothing)
        else:
            encode_file(source, tmp_path / "b.safetensors", CODECS[name], dict.fromkeys(w, Encode(1, P24)), nothing)
    with Reader(tmp_path / "b.safetensors") as reader:
        header = len(header_bytes(reader.specs, reader.metadata))
    expected = header + 3 * (matrix_bytes(64, 128, P24, 16, layout) + besides)
    assert (tmp_path / "b.safetensors").stat().st_size == expected


def test_a_file_of_compressed_tensors_is_read_without_our_metadata(tmp_path):
    """Written out from the format's description: keys without ".weight", shape [2, 1], LSB-first mask."""
    rng = np.random.default_rng(5)
    w = np.where(np.tile([True, False, True, False], (8, 4)), rng.uniform(1, 2, (8, 16)), 0).astype(np.float32)
    parts = {
        "q.shape": np.array([[8], [16]], np.int64),
        "q.compressed": w[w != 0].reshape(8, 8),
        "q.bitmask": np.packbits(w != 0, axis=-1, bitorder="little"),
    }
    safetensors.numpy.save_file(parts, tmp_path / "a.safetensors")
    with Reader(tmp_path / "a.safetensors") as source:
        assert decode_file(source, tmp_path / "b.safetensors", nothing) == ["q.weight"]
    same(tmp_path / "b.safetensors", {"q.weight": w})


def test_pytorch_can_rebuild_what_we_export(tmp_path):
    torch = pytest.importorskip("torch")
    conversions = pytest.importorskip("torch.sparse._semi_structured_conversions")
    rng = np.random.default_rng(6)
    w = by_magnitude("w", rng.standard_normal((64, 128)).astype(np.float16), P24)
    with Memory({"q.weight": w}, "x") as source:
        encode_file(
            source, tmp_path / "a.safetensors", CODECS["torch-semi-structured"], {"q.weight": Encode(1, P24)}, nothing
        )
    parts = {name: torch.from_numpy(a) for name, a in safetensors.numpy.load_file(tmp_path / "a.safetensors").items()}
    dense = conversions.sparse_semi_structured_to_dense_cutlass(parts["q.packed"], parts["q.meta"])
    assert np.array_equal(dense.numpy(), w)


def damage(path, change):
    """Rewrite a file with other tensors or metadata."""
    with Reader(path) as reader:
        tensors, metadata = {name: reader.read(name).copy() for name in reader.specs}, dict(reader.metadata)
    change(tensors, metadata)
    save(path, tensors, metadata)


def set_meta(tensors, metadata):
    tensors["block0.mlp.up.meta"].view(np.uint8)[0, 0] = 0x55


def info(**table):
    return lambda tensors, metadata: metadata.update(nmsim=json.dumps(table))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_meta, "block0.mlp.up.weight: row 0, group 0: metadata nibble 5"),
        (info(version=2, tensors={}), "not of version 1"),
        (info(version=1, tensors=[]), "no table of tensors"),
        (info(version=1, tensors={"block0.mlp.up": {"name": 3}}), "block0.mlp.up: its metadata needs a name"),
        (info(version=1, tensors={"block0.mlp.up": {"axis": 7}}), "block0.mlp.up: its metadata needs a name"),
        (info(version=1, tensors={"block0.mlp.up": {"name": "norm.weight"}}), "norm.weight: two tensors would have"),
        (lambda tensors, metadata: metadata.update(nmsim="{"), "is not JSON"),
    ],
)
def test_a_damaged_export_is_named_and_nothing_is_written(change, said, tmp_path):
    path = save(tmp_path / "a.safetensors", checkpoint())
    with Reader(path) as source:
        encode_file(source, tmp_path / "b.safetensors", CODECS["torch-semi-structured"], CHOICES, nothing)
    damage(tmp_path / "b.safetensors", change)
    with Reader(tmp_path / "b.safetensors") as source, pytest.raises(UserError) as told:
        decode_file(source, tmp_path / "c.safetensors", nothing)
    assert said in str(told.value)
    assert {p.name for p in tmp_path.iterdir()} == {"a.safetensors", "b.safetensors"}


def test_two_tensors_of_one_name_are_refused(tmp_path):
    tensors = {"q.weight": checkpoint()["block0.mlp.up.weight"], "q.nm_index": np.zeros(1, np.uint8)}
    with Memory(tensors, "x") as source, pytest.raises(UserError, match=r"q\.nm_index: two tensors"):
        encode_file(source, tmp_path / "b.safetensors", CODECS["nm"], {"q.weight": Encode(1, P24)}, nothing)


@pytest.mark.parametrize("form", ["torch-semi-structured", "sparse-24-bitmask", "nm"])
def test_negative_zeros_without_room_are_told(form, tmp_path):
    signs = np.tile(np.array([1, -1, 0, -0.0], BF16), (64, 32))
    alone = np.tile(np.array([1, 0, 0, -0.0], BF16), (64, 32))
    tensors = {"full.weight": signs, "room.weight": alone}
    with Memory(tensors, "x") as source:
        choices = dict.fromkeys(tensors, Encode(1, P24))
        report = encode_file(source, tmp_path / "a.safetensors", CODECS[form], choices, nothing)
    assert {row.name: row.lost_signs for row in report} == {"full.weight": 64 * 32, "room.weight": 0}


def test_weights_are_rounded_on_the_way_and_overflow_is_named():
    tensors = {"w": np.array([[1.0, 1e-9, 70000.0]], np.float32), "i": np.array([300], np.int32)}
    with Converted(Memory(tensors, "x"), named("bfloat16")) as source:
        assert source.specs["w"].dtype == BF16
        assert source.specs["i"].dtype == np.int32
        assert np.array_equal(bits(source.rows("w", 0, 1)), bits(tensors["w"].astype(BF16)))
    with (
        Converted(Memory(tensors, "x"), named("float16")) as source,
        pytest.raises(UserError, match=r"w: 70000\.0 is too large"),
    ):
        source.read("w")
    with pytest.raises(UserError, match="did you mean bfloat16"):
        named("bfloat61")


def test_scipy_agrees_with_the_matrix():
    w = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32)
    w[:, ::2] = 0
    encoded = CODECS["scipy"].encode(w, P24)
    matrix = to_scipy(encoded)
    assert np.array_equal(matrix.toarray(), w)
    assert np.array_equal(to_scipy(from_scipy(matrix)).toarray(), w)
    assert to_scipy(CODECS["scipy"].encode(w.astype(BF16), P24)).dtype == np.float32


def test_globs_choose_and_a_glob_without_match_is_named():
    names = ["a.up", "a.down", "b.up"]
    assert chosen(names, ("a.*", "b.*"), ("*.down",)) == {"a.up", "b.up"}
    with pytest.raises(UserError, match=r'"c\.\*" matches no tensor'):
        chosen(names, ("c.*",), ())


def test_initial_values_name_every_misfit(tmp_path):
    tensors = {"layer0": np.ones((2, 3), BF16), "head": np.ones((4, 2), np.float32), "extra": np.ones(1, np.float32)}
    path = save(tmp_path / "a.safetensors", tensors)
    with pytest.raises(UserError) as told:
        initial_values(path, {"layer0": (2, 3), "head": (4, 3), "head.bias": (4,)})
    for text in ("extra is no parameter", "head is [4, 2], the model has [4, 3]", "head.bias is missing"):
        assert text in str(told.value)
    del tensors["extra"]
    values = initial_values(save(path, tensors), {"layer0": (2, 3), "head": (4, 2)})
    assert values["layer0"].dtype == np.float32
    assert values["layer0"].flags.writeable
