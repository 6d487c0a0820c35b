"""Parameters, and layers as pairs of a forward and a backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from jaxtyping import Float

from nmsim.compressed import NMMatrix
from nmsim.gemm import Weight

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
        grad_like: None, or an `NMMatrix` at whose kept positions alone the gradient is computed; `grad` is 0 elsewhere.
        x, dy: What is done to the input and to the output gradient of a linear layer before its products.
        frozen_from: Step from which Adam's second moment and its bias correction stay as they are (recipes set it).
        slots: Arrays that the optimiser and the recipe keep for this parameter; checkpoints hold them.
    """

    def __init__(self, name: str, value: Array) -> None:
        self.name = name
        self.value = np.ascontiguousarray(value)
        self.grad = np.zeros_like(self.value)
        self.grad_like: NMMatrix | None = None
        self.x: Callable[[Array], Array] = identity
        self.dy: Callable[[Array], Array] = identity
        self.frozen_from = math.inf
        self.slots: dict[str, np.ndarray] = {}
        self._fwd: Weight | None = None
        self._bwd: Weight | None = None

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
