"""What all models share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from hwmodel.errors import UserError
from hwmodel.networks import DecoderConfig, EncoderDecoderConfig, TransformerConfig
from nmsim.functional import Rows
from nmsim.layers import Build, Embedding, Linear, Param
from nmsim.models.blocks import Noise


@runtime_checkable
class Model(Protocol):
    """A network from arrays of a batch to logits; its backward pass is its forward pass read upwards."""

    noise: Noise

    @property
    def forward(self) -> Callable[..., Float[np.ndarray, "t classes"]]:
        """The logits of every example or position, from the arrays of a batch."""
        ...

    def backward(self, dlogits: Float[np.ndarray, "t classes"]) -> None:
        """Add the gradient of every parameter, from that of the logits."""
        ...

    def params(self) -> Iterator[Param]:
        """All parameters, each once, in the order of the forward pass."""
        ...

    def linears(self) -> list[Linear]:
        """The linear layers, in the order of the forward pass."""
        ...

    def sparsifiable(self) -> list[Param]:
        """The weights of the linear layers, which recipes may prune; a table of embeddings is none."""
        ...


def check_supported(config: TransformerConfig) -> None:
    """Raise `UserError` for what the cost model prices and the simulator does not train."""
    wanted = {"norm": "layernorm", "position": "learned", "kv_heads": 0}
    for name, only in wanted.items():
        value = getattr(config, name)
        if value != only:
            raise UserError(f"model: {name} = {value} can be priced but not trained; use {only}")
    if config.gated:
        raise UserError(f"model: activation = {config.activation} can be priced but not trained; use gelu or relu")


class TokenStem:
    """The embedding of every token plus that of its position."""

    def __init__(self, prefix: str, table: Param, context: int, build: Build) -> None:
        self.embed = Embedding(table)
        self.position = Param(f"{prefix}position", build.normal(context, table.value.shape[1]))

    def forward(self, tokens: Int[np.ndarray, "batch length"]) -> Rows:
        """The stream [batch * length, width]. Raises `UserError` for sequences longer than the positions."""
        self._shape = tokens.shape
        if tokens.shape[1] > len(self.position.value):
            context = len(self.position.value)
            raise UserError(f"model: sequences of {tokens.shape[1]} tokens; context = {context} is too short for them")
        x = self.embed.forward(tokens.ravel())
        self._split(x)[:] += self.position.value[: tokens.shape[1]]
        return x

    def backward(self, dx: Rows) -> None:
        """Gradients of both tables."""
        self.embed.backward(dx)
        self.position.grad[: self._shape[1]] += self._split(dx).sum(axis=0)

    def _split(self, x: Rows) -> Float[np.ndarray, "batch length width"]:
        return x.reshape(*self._shape, -1)


def vocabulary_head(config: DecoderConfig | EncoderDecoderConfig, table: Param, build: Build) -> Linear:
    """The product with the embedding table where embeddings are tied, else a layer of its own; without a bias."""
    weight = table if config.tied_embeddings else Param("head", build.uniform(config.vocab, config.width))
    return Linear(weight, biased=False, site="head")


def own_weights(linears: Iterable[Linear]) -> list[Param]:
    """The weights that belong to linear layers alone, and not to a table of embeddings."""
    return [layer.weight for layer in linears if layer.weight.name == layer.site]
