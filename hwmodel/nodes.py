"""The parts of a network as sizes: each knows its parameters, its forward operations and those of its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hwmodel.pattern import Structure
from hwmodel.workload import Elementwise, Gemm, Op, Operand, Phase, Plan, projection


@dataclass(frozen=True)
class Linear:
    """y = x @ w.T + b with x [t, d_in] and w [d_out, d_in].

    A `first` layer of a model has no input gradient. A `tied` one owns no weight (the embedding table serves it).
    One that shares its input with another site (keys and values with queries) doesn't keep it a second time.
    """

    site: str
    t: int
    d_in: int
    d_out: int
    bias: bool = True
    first: bool = False
    tied: bool = False
    shares_input: bool = False

    @property
    def parameters(self) -> int:
        """Weights and biases that this site owns."""
        return (0 if self.tied else self.d_in * self.d_out) + (self.d_out if self.bias else 0)

    @property
    def saved(self) -> int:
        """Values kept for the backward pass: the input."""
        return 0 if self.shares_input else self.t * self.d_in

    def fprop(self, plan: Plan, bits: int) -> tuple[Op, ...]:
        """The product with the transposed weight, and the bias."""
        weight = self._weight(plan[self.site].fprop, plan[self.site].axis, bits)
        return (projection(self.site, self.t, weight), *self._bias("fprop", bits))

    def backward(self, plan: Plan, bits: int) -> tuple[Op, ...]:
        """Input gradient dy @ w (unless first), weight gradient dy.T @ x, and the sum of dy for the bias."""
        here = plan[self.site]
        dy = Operand(self.t, self.d_out, bits, here.dy, here.dy_axis)
        x = Operand(self.t, self.d_in, bits)
        dw = self._weight(here.wgrad, here.axis, bits)
        ops: list[Op] = [Gemm(self.site, "wgrad", dy.transposed(), x, dw), *self._bias("wgrad", bits)]
        if not self.first:
            weight = self._weight(here.dgrad, here.dgrad_axis, bits)
            ops.insert(0, Gemm(self.site, "dgrad", Operand(self.t, self.d_out, bits), weight, x))
        return tuple(ops)

    def _weight(self, structure: Structure, axis: int, bits: int) -> Operand:
        return Operand(self.d_out, self.d_in, bits, structure, axis)

    def _bias(self, phase: Phase, bits: int) -> tuple[Op, ...]:
        if not self.bias:
            return ()
        kind = "bias" if phase == "fprop" else "bias_gradient"
        return (elementwise(f"{self.site}.bias", phase, kind, self.t * self.d_out, bits),)


@dataclass(frozen=True)
class Product:
    """out = a @ b of two activations, a [rows, inner], b [inner, cols], `repeat` times (batch * heads).

    Backward, both in phase dgrad: da = dout @ b.T, then db = a.T @ dout, the latter written for b.T (keys as stored)
    where `b_stored_transposed`: d(b.T) = dout.T @ a.
    """

    site: str
    rows: int
    inner: int
    cols: int
    repeat: int
    b_stored_transposed: bool = False

    parameters = 0

    @property
    def saved(self) -> int:
        """Values kept for the backward pass: both operands."""
        return self.repeat * self.inner * (self.rows + self.cols)

    def fprop(self, plan: Plan, bits: int) -> tuple[Op, ...]:  # noqa: ARG002 (activations obey no plan)
        """The product itself."""
        return (self._gemm("fprop", self.rows, self.inner, self.cols, bits),)

    def backward(self, plan: Plan, bits: int) -> tuple[Op, ...]:  # noqa: ARG002 (activations obey no plan)
        """The gradients of both operands."""
        da = self._gemm("dgrad", self.rows, self.cols, self.inner, bits)
        if self.b_stored_transposed:
            return (da, self._gemm("dgrad", self.cols, self.rows, self.inner, bits))
        return (da, self._gemm("dgrad", self.inner, self.rows, self.cols, bits))

    def _gemm(self, phase: Phase, rows: int, inner: int, cols: int, bits: int) -> Gemm:
        a, b, out = Operand(rows, inner, bits), Operand(inner, cols, bits), Operand(rows, cols, bits)
        return Gemm(self.site, phase, a, b, out, self.repeat)


@dataclass(frozen=True)
class Pointwise:
    """A pass over `elements` values of a `kind` in `POINTWISE`, with `parameters` of its own (a norm, a table)."""

    site: str
    kind: str
    elements: int
    parameters: int = 0

    @property
    def saved(self) -> int:
        """Values kept for the backward pass: the input where the gradient needs it."""
        return POINTWISE[self.kind].saved * self.elements

    def fprop(self, plan: Plan, bits: int) -> tuple[Op, ...]:  # noqa: ARG002 (activations obey no plan)
        """The pass."""
        return (elementwise(self.site, "fprop", self.kind, self.elements, bits),)

    def backward(self, plan: Plan, bits: int) -> tuple[Op, ...]:  # noqa: ARG002 (activations obey no plan)
        """The pass of its gradient."""
        return (elementwise(self.site, "dgrad", f"{self.kind}_gradient", self.elements, bits),)


Node = Linear | Product | Pointwise


class _Work(NamedTuple):
    """Per element: operations, values read or written, values kept; the latter two are what time depends on."""

    flops: float
    streams: float
    saved: int = 0


POINTWISE = {
    "bias": _Work(1, 2),
    "bias_gradient": _Work(1, 1),
    "layernorm": _Work(5, 2, 1),
    "layernorm_gradient": _Work(8, 3),
    "rmsnorm": _Work(4, 2, 1),
    "rmsnorm_gradient": _Work(6, 3),
    "gelu": _Work(8, 2, 1),
    "gelu_gradient": _Work(10, 3),
    "relu": _Work(1, 2, 1),
    "relu_gradient": _Work(1, 3),
    "tanh": _Work(8, 2, 1),
    "tanh_gradient": _Work(3, 3),
    "swiglu": _Work(6, 3, 2),
    "swiglu_gradient": _Work(10, 5),
    "softmax": _Work(5, 2),
    "softmax_gradient": _Work(4, 3),
    "add": _Work(1, 3),
    "add_gradient": _Work(1, 3),
    "mean": _Work(1, 1),
    "mean_gradient": _Work(1, 1),
    "rotary": _Work(6, 2),
    "rotary_gradient": _Work(6, 2),
    "embed": _Work(0, 2),
    "embed_gradient": _Work(1, 3),
    "cross_entropy": _Work(5, 1, 1),
    "cross_entropy_gradient": _Work(2, 2),
    "adamw": _Work(14, 7),
    "clip": _Work(2, 1),
    "select": _Work(4, 1),
    "compress": _Work(1, 1),
}
"""Work of one element by kind, counted from the formulas in `nmsim.functional` and `nmsim.optim`: a norm takes the five
operations that timm counts; AdamW reads value, gradient and two moments and writes three of them. Masks and compressed
copies add their own bytes (`networks.train_step`)."""


def elementwise(
    site: str, phase: Phase, kind: str, elements: int, bits: int, *, extra_bytes: float = 0.0
) -> Elementwise:
    """The operation of a `kind` over `elements` values of `bits`, with `extra_bytes` beyond its streams."""
    work = POINTWISE[kind]
    moved = work.streams * elements * bits / 8 + extra_bytes
    return Elementwise(site, phase, kind, elements, work.flops, moved)
