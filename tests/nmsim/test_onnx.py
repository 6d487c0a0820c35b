"""ONNX graphs: weights in and out, inside and beside; the axis of a product; damage named."""

from __future__ import annotations

import numpy as np
import pytest
from weightfiles import checkpoint, nothing, same

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.detect import look
from nmsim.formats.exchange import copy_file
from nmsim.formats.memory import Memory
from nmsim.formats.shards import open_weights

P24 = Pattern(2, 4)


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
    with pytest.raises(UserError, match=r"tensor w: shape \[1000, 1000\] of float32 needs 4000000 bytes, .* has 4"):
        open_weights(tmp_path / "a.onnx")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_, np.complex64, np.uint64, np.float64])
def test_initialisers_that_are_lists_of_numbers_are_read(dtype, tmp_path):
    onnx = pytest.importorskip("onnx")
    values = np.arange(6).reshape(2, 3).astype(dtype)
    kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = onnx.helper.make_tensor("w", kind, values.shape, values.reshape(-1).tolist())
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor])), tmp_path / "a.onnx")
    with open_weights(tmp_path / "a.onnx") as source:
        assert np.array_equal(source.read("w"), values)
