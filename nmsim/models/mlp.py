"""A multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from jaxtyping import Float

from hwmodel.networks import MLPConfig
from nmsim import functional
from nmsim.functional import Rows
from nmsim.layers import Build, Linear, Param
from nmsim.models.base import own_weights
from nmsim.models.blocks import ACTIVATIONS, Noise, dropped


class MLP:
    """`depth` hidden layers with dropout behind each, then a classifier."""

    def __init__(self, config: MLPConfig, build: Build) -> None:
        sizes = [config.inputs] + [config.width] * config.depth
        self.layers = [
            Linear.create(f"layer{i}", sizes[i], sizes[i + 1], build, biased=config.bias) for i in range(config.depth)
        ]
        self.head = Linear.create("head", config.width, config.classes, build, biased=config.bias)
        self.activation, self.dropout, self.noise = ACTIVATIONS[config.activation], config.dropout, Noise()

    def forward(self, inputs: Float[np.ndarray, "batch ..."]) -> Rows:
        """Logits of a batch; each input is read as one vector."""
        x = inputs.reshape(len(inputs), -1).astype(self.head.weight.value.dtype, copy=False)
        self._derivatives = []
        for layer in self.layers:
            x, derivative = self.activation(layer.product(x), layer.bias.value)
            if self.noise.rng is not None and self.dropout:
                factor = dropped(x.shape, self.dropout, self.noise.rng, x.dtype)
                x *= factor
                derivative *= factor
            self._derivatives.append(derivative)
        return self.head.forward(x)

    def backward(self, dlogits: Rows) -> None:
        """Gradients of all parameters."""
        dx = self.head.backward(dlogits)
        for i in reversed(range(len(self.layers))):
            layer = self.layers[i]
            dx = functional.activation_backward(dx, self._derivatives[i], layer.bias.grad)
            if i > 0:
                dx = layer.product_backward(dx)
            else:
                layer.weight_backward(dx)

    def params(self) -> Iterator[Param]:
        """Layer by layer."""
        return chain.from_iterable(layer.params() for layer in (*self.layers, self.head))

    def linears(self) -> list[Linear]:
        """All layers."""
        return [*self.layers, self.head]

    def sparsifiable(self) -> list[Param]:
        """The weights of all linear layers; a tied head has none of its own."""
        return own_weights(self.linears())
