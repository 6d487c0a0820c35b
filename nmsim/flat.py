"""The arrays of many parameters end to end, so that one pass serves them all."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from nmsim.layers import Param

ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vector register."""

Array = Float[np.ndarray, "..."]
Vector = Float[np.ndarray, " size"]


class Flat:
    """Values and gradients of `params` in two aligned vectors, of which each parameter's arrays become views.

    Matrices come first, so that those that decay are one range. What lies between two parameters stays 0.
    """

    def __init__(self, params: Iterable[Param]) -> None:
        self.params = sorted(params, key=lambda param: param.value.ndim < 2)
        self.dtype = self.params[0].value.dtype
        step = ALIGNMENT // self.dtype.itemsize
        sizes = [math.ceil(param.value.size / step) * step for param in self.params]
        ends = np.cumsum(sizes).tolist()
        self.size = ends[-1]
        self.starts = [end - size for end, size in zip(ends, sizes, strict=True)]
        self.value, self.grad = self.vector(), self.vector()
        self._values, self._grads = self.views(self.value), self.views(self.grad)
        self.gather()

    def vector(self) -> Vector:
        """A vector of zeros of this layout, aligned."""
        raw = np.zeros(self.size * self.dtype.itemsize + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        vector: Vector = raw[start : start + self.size * self.dtype.itemsize].view(self.dtype)
        return vector

    def slot(self, name: str) -> Vector:
        """The vector of a slot that every parameter has; made of what they hold already, and of zeros."""
        vector = self.vector()
        for param, view in zip(self.params, self.views(vector), strict=True):
            if name in param.slots:
                view[...] = param.slots[name]
            param.slots[name] = view
        return vector

    def gather(self) -> None:
        """Take in every value or gradient that was bound to another array since."""
        for param, value, grad in zip(self.params, self._values, self._grads, strict=True):
            if param.value is not value:
                value[...] = param.value
                param.value = value
            if param.grad is not grad:
                grad[...] = param.grad
                param.grad = grad

    def clear_gradients(self) -> None:
        """Zero all gradients, before a backward pass fills them."""
        self.grad.fill(0)
        for param in self.params:
            param.blank = True

    def views(self, vector: Vector) -> list[Array]:
        """The array of each parameter in a vector of this layout."""
        return [
            vector[start : start + param.value.size].reshape(param.value.shape)
            for param, start in zip(self.params, self.starts, strict=True)
        ]
