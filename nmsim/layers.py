"""Parameters, and layers as pairs of a forward and a backward pass."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from nmsim import functional, gemm
from nmsim.compressed import NMMatrix, decompress
from nmsim.functional import Normalised, Rows, Vector
from nmsim.gemm import Weight
from nmsim.kernels import embedding, pointwise
from nmsim.kernels.scratch import recycled

Array = Float[np.ndarray, "..."]


def identity(operand: Array) -> Array:
    """The operand itself."""
    return operand


class Param:
    """A trained array, what the products see of it, and what belongs to it.

    Attributes:
        name: The site of a weight; `site.bias` and the like for what stands beside it.
        value: The dense master, C-contiguous; it may be rebound between steps.
        grad: The backward pass adds the raw gradient here.
        blank: Whether who owns the gradients has just zeroed `grad`, so that the first gradient may replace it.
        grad_like: None, or an `NMMatrix` at whose kept positions alone the gradient is computed; `grad` is 0 elsewhere.
        x, dy: What is done to the input of a linear layer, and to the output gradient that `wgrad` sees.
        slots: Arrays that the optimiser and the recipe keep for this parameter; checkpoints hold them.
    """

    def __init__(self, name: str, value: Array) -> None:
        self.name = name
        self.value = np.ascontiguousarray(value)
        self.grad = np.zeros_like(self.value)
        self.blank = False
        self.grad_like: NMMatrix | None = None
        self.x: Callable[[Array], Array] = identity
        self.dy: Callable[[Array], Array] = identity
        self.slots: dict[str, np.ndarray] = {}
        self._fwd: Weight | None = None
        self._bwd: Weight | None = None

    def follow(self, other: Param) -> None:
        """Look exactly like `other` to the products, with a gradient of its own."""
        self.value, self.grad_like, self.x, self.dy = other.value, other.grad_like, other.x, other.dy
        self._fwd, self._bwd = other._fwd, other._bwd

    def take_blank(self) -> bool:
        """Whether `grad` may be replaced; from here on it may not."""
        blank, self.blank = self.blank, False
        return blank

    @property
    def fwd(self) -> Weight:
        """Operand of the forward product: `value` until set."""
        return self.value if self._fwd is None else self._fwd

    @fwd.setter
    def fwd(self, operand: Weight) -> None:
        self._fwd = operand

    @property
    def bwd(self) -> Weight:
        """Operand of the input gradient: `value` until set."""
        return self.value if self._bwd is None else self._bwd

    @bwd.setter
    def bwd(self, operand: Weight) -> None:
        self._bwd = operand


Inputs = Float[np.ndarray, "t d_in"]
Outputs = Float[np.ndarray, "t d_out"]


@runtime_checkable
class Layer(Protocol):
    """A forward pass, and the backward pass that follows it with the same shapes."""

    def forward(self, x: Array, /) -> Array:
        """The output; what the backward pass needs is kept."""
        ...

    def backward(self, dy: Array, /) -> Array:
        """The gradient of the input, from that of the output; adds to the gradients of the parameters."""
        ...

    def params(self) -> Iterator[Param]:
        """The parameters, each once."""
        ...


@dataclass
class Build:
    """What layers are built with: the generator of their first weights, and the type of all arrays."""

    rng: np.random.Generator
    dtype: type[np.floating] = np.float32

    def uniform(self, *shape: int) -> Array:
        """Weights within sqrt(6 / (d_out + d_in)) of 0 (Glorot and Bengio 2010, equation 16)."""
        limit = math.sqrt(6 / sum(shape))
        return self.rng.uniform(-limit, limit, shape).astype(self.dtype)

    def normal(self, *shape: int) -> Array:
        """Weights with a standard deviation of 0.02, as in tables of embeddings since BERT (arXiv 1810.04805)."""
        return (0.02 * self.rng.standard_normal(shape)).astype(self.dtype)

    def constant(self, value: float, size: int) -> Vector:
        """A vector of one value."""
        return np.full(size, value, self.dtype)


class Linear:
    """y = x @ w.T + bias. `product` leaves the bias to a fused pass that follows; without a bias, it stays 0."""

    def __init__(self, weight: Param, *, biased: bool, site: str = "") -> None:
        self.site = site or weight.name
        self.weight = weight
        self.bias = Param(f"{self.site}.bias", np.zeros(weight.value.shape[0], weight.value.dtype))
        self.biased = biased

    @classmethod
    def create(cls, site: str, d_in: int, d_out: int, build: Build, *, biased: bool = True) -> Linear:
        """A layer with a weight of its own."""
        return cls(Param(site, build.uniform(d_out, d_in)), biased=biased)

    def forward(self, x: Inputs) -> Outputs:
        """The product and the bias."""
        y = self.product(x)
        if self.biased:
            y += self.bias.value
        return y

    def backward(self, dy: Outputs) -> Inputs:
        """Gradients of the input, the weight and the bias."""
        self._add_bias_gradient(dy)
        return self.product_backward(dy)

    def first_backward(self, dy: Outputs) -> None:
        """Gradients of weight and bias alone: the first layer of a model has no input gradient."""
        self._add_bias_gradient(dy)
        self.weight_backward(dy)

    def product(self, x: Inputs) -> Outputs:
        """The forward product alone."""
        self.x = self.weight.x(x)
        return gemm.fprop(self.x, self.weight.fwd, site=self.site)

    def product_backward(self, dy: Outputs) -> Inputs:
        """Gradients of the input and the weight."""
        self.weight_backward(dy)
        return gemm.dgrad(dy, self.weight.bwd, site=self.site)

    def weight_backward(self, dy: Outputs) -> None:
        """Gradient of the weight alone, from what its rule makes of the output gradient."""
        weight, blank = self.weight, self.weight.take_blank()
        out = weight.grad if blank else None
        dw = gemm.wgrad(weight.dy(dy), self.x, like=weight.grad_like, site=self.site, out=out)
        if dw is not out:
            weight.grad += dw if isinstance(dw, np.ndarray) else decompress(dw)

    def _add_bias_gradient(self, dy: Outputs) -> None:
        if self.biased:
            pointwise.add_columns(dy, self.bias.grad)

    def params(self) -> Iterator[Param]:
        """Weight, then bias."""
        yield self.weight
        if self.biased:
            yield self.bias


class Fan:
    """Linear layers of one size and one input: one product where their dense operands lie end to end in memory."""

    def __init__(self, *layers: Linear) -> None:
        self.layers, self.biased = layers, layers[0].biased
        self.sites = [layer.site for layer in layers]

    def forward(self, x: Inputs) -> list[Outputs]:
        """The output of every layer."""
        whole = gemm.joined([layer.weight.fwd for layer in self.layers]) if self._is_plain() else None
        if whole is None:
            return [layer.forward(x) for layer in self.layers]
        for layer in self.layers:
            layer.x = x
        y = gemm.fprop_joined(x, whole, self.sites)
        if self.biased:
            y += np.concatenate([layer.bias.value for layer in self.layers])
        return self._parts(y)

    def gradients(self, t: int) -> list[Outputs]:
        """Where `backward` expects the output gradients of `t` rows."""
        weight = self.layers[0].weight.value
        self._dy = recycled((t, len(weight) * len(self.layers)), weight.dtype)
        return self._parts(self._dy)

    def backward(self) -> Inputs:
        """Gradients of the input, the weights and the biases, from what was put into `gradients`."""
        dy = self._dy
        del self._dy  # as large as the activations: not one for every layer at once
        values = gemm.joined([layer.weight.bwd for layer in self.layers]) if self._is_plain() else None
        grads = gemm.joined([layer.weight.grad for layer in self.layers])
        if values is None or grads is None:
            parts = [np.ascontiguousarray(part) for part in self._parts(dy)]
            dxs = [layer.backward(part) for layer, part in zip(self.layers, parts, strict=True)]
            return functools.reduce(operator.iadd, dxs)
        blank = [layer.weight.take_blank() for layer in self.layers]
        dw = gemm.wgrad_joined(dy, self.layers[0].x, self.sites, out=grads if all(blank) else None)
        if dw is not grads:
            grads += dw
        if self.biased:
            total = np.zeros(dy.shape[1], dy.dtype)
            pointwise.add_columns(dy, total)
            for layer, part in zip(self.layers, np.split(total, len(self.layers)), strict=True):
                layer.bias.grad += part
        return gemm.dgrad_joined(dy, values, self.sites)

    def _parts(self, joint: Float[np.ndarray, "t d_outs"]) -> list[Outputs]:
        """The columns of each layer."""
        width = joint.shape[1] // len(self.layers)
        return [joint[:, lo : lo + width] for lo in range(0, joint.shape[1], width)]

    def _is_plain(self) -> bool:
        """Whether nothing is done to the operands, and the whole weight gradient is wanted."""
        weights = [layer.weight for layer in self.layers]
        return all(w.x is identity and w.dy is identity and w.grad_like is None for w in weights)


class Embedding:
    """Rows of a table [entries, width] by token; the table may serve other layers as well."""

    def __init__(self, table: Param) -> None:
        self.table = table

    def forward(self, tokens: Int[np.ndarray, " t"]) -> Rows:
        """The row of every token."""
        self._tokens = tokens
        rows: Rows = self.table.value[tokens]
        return rows

    def backward(self, dy: Rows) -> None:
        """Add every row's gradient to its token's."""
        self.table.blank = False
        embedding.scatter(dy, self._tokens, self.table.grad)

    def params(self) -> Iterator[Param]:
        """The table."""
        yield self.table


class Norm:
    """Layer normalisation of the residual stream, together with the sum that comes before it."""

    def __init__(self, site: str, width: int, build: Build, *, biased: bool) -> None:
        self.gain = Param(site, build.constant(1, width))
        self.shift = Param(f"{site}.bias", build.constant(0, width))
        self.biased = biased
        self._saved: Normalised

    def forward(self, x: Rows) -> Rows:
        """`functional.layer_norm`."""
        y, self._saved = functional.layer_norm(x, self.gain.value, self.shift.value)
        return y

    def forward_sum(self, x: Rows, branch: Rows, bias: Vector) -> tuple[Rows, Rows]:
        """The sum x + branch + bias, and its normalised rows."""
        y, self._saved = functional.add_layer_norm(x, branch, bias, self.gain.value, self.shift.value)
        return self._saved.x, y

    def backward(self, dy: Rows, dx: Rows, dbias: Vector) -> None:
        """Add to `dx` the gradient of the sum, and to `dbias` that of the bias in it."""
        saved = self._saved
        del self._saved  # what backward has used makes room for what it needs
        functional.layer_norm_backward(
            dy, saved, self.gain.value, dx, dgain=self.gain.grad, dshift=self.shift.grad, dbias=dbias
        )

    def params(self) -> Iterator[Param]:
        """Gain, then shift."""
        yield self.gain
        if self.biased:
            yield self.shift
