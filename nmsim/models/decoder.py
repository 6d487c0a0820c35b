"""A causal language model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from hwmodel.networks import DecoderConfig
from nmsim.functional import Rows
from nmsim.layers import Build, Linear, Param
from nmsim.models.base import TokenStem, check_supported, own_weights, vocabulary_head
from nmsim.models.blocks import Context, Noise, Sight, stack


class DecoderLM:
    """Token and position embeddings, a causal stack, and a head over the vocabulary."""

    def __init__(self, config: DecoderConfig, build: Build) -> None:
        check_supported(config)
        self.noise = Noise()
        self.table = Param("embed", build.normal(config.vocab, config.width))
        self.stem = TokenStem("", self.table, config.context, build)
        self.stack = stack("", config, build, self.noise)
        self.head = vocabulary_head(config, self.table, build)

    def forward(self, tokens: Int[np.ndarray, "batch length"]) -> Rows:
        """Logits of the next token at every position."""
        batch, length = tokens.shape
        self._context = Context(Sight(np.full(batch, length), causal=True))
        return self.head.forward(self.stack.forward(self.stem.forward(tokens), self._context))

    def backward(self, dlogits: Rows) -> None:
        """Gradients of all parameters."""
        self.stem.backward(self.stack.backward(self.head.backward(dlogits), self._context))

    def params(self) -> Iterator[Param]:
        """All parameters; a tied table once."""
        yield self.table
        yield self.stem.position
        yield from self.stack.params()
        yield from own_weights([self.head])

    def linears(self) -> list[Linear]:
        """Of blocks and head."""
        return [*self.stack.linears(), self.head]

    def sparsifiable(self) -> list[Param]:
        """The weights of all linear layers; a tied head has none of its own."""
        return own_weights(self.linears())
