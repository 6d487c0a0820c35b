"""ONNX graphs: their initialisers as weights, the axis each product sums over, and dense initialisers out.

A runtime that uses 2:4 (TensorRT with `--sparsity=enable`) finds the pattern in dense initialisers by itself. ONNX's
sparse initialisers do not help it, and none are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hwmodel.errors import UserError, shown
from nmsim.formats import onnx_data
from nmsim.formats.beside import replacing
from nmsim.formats.dtypes import CODES
from nmsim.formats.safetensors import mapped
from nmsim.formats.tensors import Sink, Source, TensorSpec

try:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import helper, numpy_helper
    from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data
except ImportError:
    raise UserError("ONNX files need the package onnx: pip install 'nmsim[onnx]'") from None

_MAX_BYTES = 2_000_000_000  # protobuf holds 2 GiB in one message
_OPSET = 17


class OnnxSource(Source):
    """The initialisers of a graph that have a dtype of weight files.

    Those that the graph holds itself are in memory, which is 2 GB at most; those in files beside it are mapped.
    """

    def __init__(self, path: Path) -> None:
        self.model = _load(path)
        self._tensors = {tensor.name: tensor for tensor in self.model.graph.initializer if _dtype(tensor) in CODES}
        self.specs = {name: TensorSpec(_dtype(t), tuple(t.dims)) for name, t in self._tensors.items()}
        self.metadata = {entry.key: entry.value for entry in self.model.metadata_props}
        self.files = {path.name: tuple(self.specs)}
        self._axes = _reduction_axes(self.model)
        self._path = path
        for name, tensor in self._tensors.items():
            _check_bytes(tensor, self.specs[name], path)
        places = {name: onnx_data.place_of(tensor, self.specs[name], path) for name, tensor in self._tensors.items()}
        self._places = {name: place for name, place in places.items() if place is not None}
        with ExitStack() as stack:
            files = sorted({place.file for place in self._places.values()})
            self._open = {file: stack.enter_context(file.open("rb")) for file in files}
            self._close = stack.pop_all()

    def close(self) -> None:
        """Close the files beside the graph; tensors already read stay valid."""
        self._close.close()

    def reduction_axis(self, name: str) -> int | None:
        """The axis that the MatMul or Gemm reading this initialiser sums over; None if there is no such node."""
        return self._axes.get(name)

    def read(self, name: str) -> np.ndarray:
        """The whole tensor, read-only."""
        if name in self._places:
            return self._mapped(name, 0, self.specs[name].nbytes).reshape(self.specs[name].shape)
        try:
            values = numpy_helper.to_array(self._tensors[name])
        except (ValueError, TypeError, OSError) as error:
            raise UserError(f"{self._path}: tensor {shown(name)}: {error}") from None
        return values

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` along the first axis, read-only."""
        if name not in self._places:
            return self.read(name)[start:stop]
        spec = self.specs[name]
        block = self._mapped(name, start * spec.row_bytes, (stop - start) * spec.row_bytes)
        return block.reshape(stop - start, *spec.shape[1:])

    def _mapped(self, name: str, first: int, nbytes: int) -> np.ndarray:
        place = self._places[name]
        return mapped(self._open[place.file], place.file, place.begin + first, nbytes).view(self.specs[name].dtype)


def _load(path: Path) -> Any:
    """The model; of weights that it keeps in files beside it, only those of types that weight files don't have."""
    try:
        model = onnx.load(path, load_external_data=False)
        _check_names(model, path)
        for tensor in model.graph.initializer:
            if uses_external_data(tensor) and _dtype(tensor) not in CODES:
                load_external_data_for_tensor(tensor, str(path.parent))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or path}: no such file") from None
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise UserError(f"{path}: not a readable ONNX model: {' '.join(str(error).split())[:160]}") from None
    return model


def _check_names(model: Any, path: Path) -> None:
    """Refuse names that are bytes (protobuf's answer to what is not UTF-8) or occur twice, and negative sizes."""
    seen: set[str] = set()
    for tensor in model.graph.initializer:
        if not isinstance(tensor.name, str) or tensor.name in seen:
            raise UserError(f"{path}: initialiser {tensor.name!r}: its name is not text or occurs twice")
        if any(size < 0 for size in tensor.dims):
            raise UserError(f"{path}: tensor {shown(tensor.name)}: a size is negative")
        seen.add(tensor.name)


def _check_bytes(tensor: Any, spec: TensorSpec, path: Path) -> None:
    """Refuse a tensor whose shape needs other bytes than the graph holds for it, before they are allocated."""
    if tensor.data_location == onnx_data.EXTERNAL:
        return
    if tensor.HasField("raw_data"):
        held = len(tensor.raw_data)
    else:
        parts = 2 if spec.dtype.kind == "c" else 1
        held = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))) * spec.dtype.itemsize // parts
    if held != spec.nbytes:
        shape = f"shape {list(spec.shape)} of {spec.dtype.name}"
        raise UserError(f"{path}: tensor {shown(tensor.name)}: {shape} needs {spec.nbytes} bytes, the graph has {held}")


def _dtype(tensor: Any) -> np.dtype[Any]:
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except KeyError:
        return np.dtype(object)


def _reduction_axes(model: Any) -> dict[str, int]:
    axes: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm") and len(node.input) >= 2:
            flags = {a.name: a.i for a in node.attribute}
            axes[node.input[0]] = 0 if flags.get("transA") else 1
            axes[node.input[1]] = 1 if flags.get("transB") else 0
    return axes


class OnnxWriter:
    """Fills the initialisers of a graph in memory."""

    def __init__(self, model: Any, specs: Mapping[str, TensorSpec]) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._specs = specs
        self._data = {name: bytearray(spec.nbytes) for name, spec in specs.items()}

    def put(self, name: str, values: np.ndarray, start: int = 0) -> None:
        """Write `values` at row `start` of the tensor `name`."""
        begin = start * self._specs[name].row_bytes
        self._data[name][begin : begin + values.nbytes] = values.tobytes()

    def finish(self) -> None:
        """Hand the bytes to the graph."""
        for name, data in self._data.items():
            tensor = self._tensors[name]
            fresh = onnx.TensorProto(name=name, data_type=tensor.data_type, dims=tensor.dims, raw_data=bytes(data))
            tensor.CopyFrom(fresh)


@contextmanager
def writing(path: Path, model: Any, specs: Mapping[str, TensorSpec]) -> Iterator[Sink]:
    """A writer of the initialisers `specs` of `model`, which takes the place of `path` when the block ends well.

    More than one message holds goes into a file beside it.
    """
    if sum(spec.nbytes for spec in specs.values()) > _MAX_BYTES:
        with onnx_data.writing(path, model, specs) as beside:
            yield beside
        return
    writer = OnnxWriter(model, specs)
    yield writer
    writer.finish()
    with replacing(path) as file:
        file.write(model.SerializeToString())


def graph_of(specs: Mapping[str, TensorSpec]) -> Any:
    """A model with one Gemm, y = x wᵀ, for every matrix w [d_out, d_in], so that groups along d_in are along its sum.

    Other tensors, and matrices of types that Gemm does not take, are initialisers without a node.
    """
    products = {name: spec for name, spec in specs.items() if _is_gemm_weight(spec)}
    graph = helper.make_graph(
        nodes=[helper.make_node("Gemm", [f"{name}.x", name], [f"{name}.y"], name=name, transB=1) for name in products],
        name="weights",
        inputs=[_value(f"{name}.x", spec, spec.shape[1]) for name, spec in products.items()],
        outputs=[_value(f"{name}.y", spec, spec.shape[0]) for name, spec in products.items()],
        initializer=[onnx.TensorProto(name=n, data_type=_code(spec), dims=spec.shape) for n, spec in specs.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="nmsim")


def _is_gemm_weight(spec: TensorSpec) -> bool:
    return len(spec.shape) == 2 and spec.dtype.name in ("float64", "float32", "float16", "bfloat16")


def _value(name: str, spec: TensorSpec, features: int) -> Any:
    return helper.make_tensor_value_info(name, _code(spec), ["t", features])


def _code(spec: TensorSpec) -> int:
    return int(helper.np_dtype_to_tensor_dtype(spec.dtype))
