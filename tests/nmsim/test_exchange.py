"""Checkpoints out and in again: every format, shards, ONNX; names, axes and bytes kept; mistakes named, nothing written."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from weightfiles import save, sparse

from hwmodel.errors import UserError
from hwmodel.footprint import matrix_bytes
from hwmodel.pattern import Pattern
from nmsim.formats.codecs import CODECS
from nmsim.formats.converted import Converted
from nmsim.formats.detect import look
from nmsim.formats.dtypes import bits, named
from nmsim.formats.exchange import Encode, copy_file, decode_file, encode_file
from nmsim.formats.header import header_bytes
from nmsim.formats.initial import initial_values
from nmsim.formats.interop import from_scipy, to_scipy
from nmsim.formats.memory import Memory
from nmsim.formats.pruning import Choice, by_magnitude, prune_file
from nmsim.formats.rewrite import check_target, chosen
from nmsim.formats.safetensors import Reader
from nmsim.formats.shards import Shards, open_weights

BF16 = np.dtype(ml_dtypes.bfloat16)
P24 = Pattern(2, 4)


def nothing(nbytes):
    pass


def checkpoint():
    rng = np.random.default_rng(0)
    return {
        "block0.mlp.up.weight": sparse(rng, (64, 128), P24, BF16),
        "block0.mlp.down": np.ascontiguousarray(sparse(rng, (64, 128), P24, BF16).T),
        "dense.weight": rng.standard_normal((32, 64)).astype(np.float16),
        "norm.weight": np.ones(7, np.float32),
        "steps": np.array(3, np.int64),
    }


CHOICES = {"block0.mlp.up.weight": Encode(1, P24), "block0.mlp.down": Encode(0, P24), "dense.weight": Encode(1, P24)}


def same(path, tensors):
    with open_weights(path) as source:
        assert source.specs.keys() == tensors.keys()
        for name, values in tensors.items():
            assert source.specs[name].dtype == values.dtype
            assert source.read(name).shape == values.shape
            assert source.read(name).tobytes() == values.tobytes()


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


def test_an_onnx_graph_has_a_valid_gemm_for_every_matrix_and_its_bytes_come_back(tmp_path):
    onnx = pytest.importorskip("onnx")
    tensors = checkpoint()
    with Memory(tensors, "x") as source:
        copy_file(source, tmp_path / "a.onnx", nothing)
    onnx.checker.check_model(tmp_path / "a.onnx", full_check=True)
    same(tmp_path / "a.onnx", tensors)
    with open_weights(tmp_path / "a.onnx") as source:
        assert source.reduction_axis("block0.mlp.up.weight") == 1
        assert source.reduction_axis("norm.weight") is None
        assert look(source, "block0.mlp.up.weight", 1).obeys(P24)


@pytest.mark.parametrize(
    ("operator", "attributes", "place", "axis"),
    [
        ("MatMul", {}, 1, 0),
        ("MatMul", {}, 0, 1),
        ("Gemm", {"transB": 1}, 1, 1),
        ("Gemm", {}, 1, 0),
        ("Gemm", {"transA": 1}, 0, 0),
    ],
)
def test_the_axis_that_a_product_sums_over_is_read_from_the_graph(operator, attributes, place, axis, tmp_path):
    onnx = pytest.importorskip("onnx")
    names = ["x", "x"]
    names[place] = "w"
    weight = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 4])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4, 4])
    node = onnx.helper.make_node(operator, names, ["y"], **attributes)
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out], [weight])), tmp_path / "a.onnx"
    )
    with open_weights(tmp_path / "a.onnx") as source:
        assert source.reduction_axis("w") == axis


def test_a_graph_of_more_than_one_message_keeps_its_weights_beside_and_they_come_back(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    monkeypatch.setattr("nmsim.formats.onnx_io._MAX_BYTES", 100)
    tensors, first, second = checkpoint(), tmp_path / "a.onnx", tmp_path / "b.onnx"
    with Memory(tensors, "x") as source:
        copy_file(source, first, nothing)
    with open_weights(first) as source:
        copy_file(source, second, nothing)
        block = source.rows("block0.mlp.up.weight", 2, 5)
    np.testing.assert_array_equal(block, tensors["block0.mlp.up.weight"][2:5])
    for path in (first, second):
        assert (tmp_path / f"{path.name}.data").stat().st_size >= sum(a.nbytes for a in tensors.values())
        onnx.checker.check_model(path, full_check=True)
        same(path, tensors)
    with open_weights(first) as source, pytest.raises(UserError, match=r"b\.onnx: exists, and a graph with its data"):
        copy_file(source, second, nothing)
    second.unlink()
    with open_weights(first) as source, pytest.raises(UserError, match=r"b\.onnx\.data: exists"):
        copy_file(source, second, nothing)


def onnx_with_external_data(path, name, location="a.bin", **entries):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.TensorProto(name=name, data_type=1, dims=[2, 2], data_location=1)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])), path)


def test_weights_beside_an_onnx_file_are_read_once_its_names_are_checked(tmp_path):
    (tmp_path / "a.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    path = tmp_path / "a.onnx"
    onnx_with_external_data(path, "weight")
    with open_weights(path) as source:
        assert source.read("weight").tolist() == [[0, 1], [2, 3]]
    path.write_bytes(path.read_bytes().replace(b"weight", b"w\xffight"))
    with pytest.raises(UserError, match="its name is not text"):
        open_weights(path)
    for location in ("gone.bin", "../a.bin", "/etc/passwd"):
        onnx_with_external_data(path, "weight", location)
        with pytest.raises(UserError, match=r"a\.onnx: tensor weight is in "):
            open_weights(path)
    for entries in ({"offset": "4"}, {"length": "12"}, {"offset": "-4"}, {"offset": "x"}):
        onnx_with_external_data(path, "weight", **entries)
        with pytest.raises(UserError, match="do not hold its 16 bytes"):
            open_weights(path)


KILLED = """
import os, signal, sys
from pathlib import Path
from nmsim.formats.exchange import copy_file
from nmsim.formats.shards import Shards

def write(target, moment):
    calls = 0
    def count(frame, event, called):
        nonlocal calls
        if event in ("c_call", "c_return") and called.__module__ in ("io", "_io", "posix", None):
            calls += 1
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)
    with Shards(Path(sys.argv[1])) as source:
        sys.setprofile(count)
        copy_file(source, target, lambda _: None)
        sys.setprofile(None)
    os._exit(0)

for moment in range(1, 3000, 7):
    target = Path(sys.argv[2]) / str(moment) / "model.safetensors.index.json"
    child = os.fork() or write(target, moment)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def test_shards_that_were_killed_in_the_writing_have_no_index_and_their_source_stands(tmp_path):
    tensors = {"a": np.arange(12.0).reshape(3, 4), "b": np.ones(5, np.float32)}
    index = shards(tmp_path / "old", {"one.safetensors": {"a": tensors["a"]}, "two.safetensors": {"b": tensors["b"]}})
    before = {path.name: path.read_bytes() for path in index.parent.iterdir()}
    subprocess.run([sys.executable, "-c", KILLED, index, tmp_path / "new"], check=True)
    assert {path.name: path.read_bytes() for path in index.parent.iterdir()} == before
    written = sorted((tmp_path / "new").iterdir(), key=lambda folder: int(folder.name))
    whole = [(folder / index.name).exists() for folder in written]
    assert whole.count(False) > 20
    assert whole == sorted(whole)
    for folder in itertools.compress(written, whole):
        same(folder / index.name, tensors)


def test_a_damaged_onnx_file_is_named(tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "a.onnx").write_bytes(b"\xff" * 64)
    with pytest.raises(UserError, match=r"a\.onnx: not a readable ONNX model"):
        open_weights(tmp_path / "a.onnx")
    with pytest.raises(UserError, match="no such file"):
        open_weights(tmp_path / "b.onnx")


def test_an_initialiser_whose_bytes_do_not_fit_is_named(tmp_path):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1000, 1000], raw_data=b"1234")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])), tmp_path / "a.onnx")
    with open_weights(tmp_path / "a.onnx") as source, pytest.raises(UserError, match="tensor w"):
        source.read("w")


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
