"""A sequence-to-sequence transformer (arXiv 1706.03762, normalised before each part), and its greedy decoding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from hwmodel.networks import EncoderDecoderConfig
from nmsim.functional import Logits, Memory, Rows
from nmsim.layers import Build, Linear, Param
from nmsim.models.base import TokenStem, check_supported, own_weights, vocabulary_head
from nmsim.models.blocks import Context, Noise, Sight, stack

PAD = 0


class EncoderDecoder:
    """An encoder of the source, and a causal decoder that attends to it; one table of embeddings for both sides."""

    def __init__(self, config: EncoderDecoderConfig, build: Build) -> None:
        check_supported(config)
        self.config, self.noise = config, Noise()
        self.table = Param("embed", build.normal(config.vocab, config.width))
        self.source = TokenStem("encoder.", self.table, config.context, build)
        self.target = TokenStem("decoder.", self.table, config.context, build)
        self.encoder = stack("encoder.", config, build, self.noise)
        self.decoder = stack("decoder.", config, build, self.noise, cross=True)
        self.head = vocabulary_head(config, self.table, build)

    def forward(self, source: Int[np.ndarray, "batch source"], target: Int[np.ndarray, "batch target"]) -> Logits:
        """Logits of the symbol after each of `target`; `source` is padded with 0 on the right, which is not seen."""
        return self.decode(target, *self.encode(source))

    def encode(self, source: Int[np.ndarray, "batch source"]) -> tuple[Rows, Sight]:
        """The memory of a source, and how far it may be seen."""
        sight = Sight(np.maximum((source != PAD).sum(axis=1), 1))
        self._source = Context(sight)
        return self.encoder.forward(self.source.forward(source), self._source), sight

    def decode(self, target: Int[np.ndarray, "batch target"], memory: Memory, sight: Sight) -> Logits:
        """Logits of the symbol after each of `target`."""
        own = Sight(np.full(len(target), target.shape[1]), causal=True)
        self._target = Context(own, memory, sight, np.zeros_like(memory))
        return self.head.forward(self.decoder.forward(self.target.forward(target), self._target))

    def backward(self, dlogits: Logits) -> None:
        """Gradients of all parameters."""
        self.target.backward(self.decoder.backward(self.head.backward(dlogits), self._target))
        self.source.backward(self.encoder.backward(self._target.dmemory, self._source))

    def params(self) -> Iterator[Param]:
        """All parameters; a tied table once."""
        yield self.table
        yield self.source.position
        yield from self.encoder.params()
        yield self.target.position
        yield from self.decoder.params()
        yield from own_weights([self.head])

    def linears(self) -> list[Linear]:
        """Of both stacks and the head."""
        return [*self.encoder.linears(), *self.decoder.linears(), self.head]

    def sparsifiable(self) -> list[Param]:
        """The weights of all linear layers; a tied head has none of its own."""
        return own_weights(self.linears())


def greedy(
    model: EncoderDecoder, source: Int[np.ndarray, "batch source"], *, longest: int, begin: int, end: int
) -> Int[np.ndarray, "batch target"]:
    """The likeliest next symbol again and again, from `begin` until every sequence has its `end` or is `longest`."""
    memory, sight = model.encode(source)
    target = np.full((len(source), 1), begin)
    while target.shape[1] <= longest and not (target == end).any(axis=1).all():
        logits = model.decode(target, memory, sight).reshape(*target.shape, -1)
        target = np.concatenate([target, logits[:, -1].argmax(axis=1)[:, None]], axis=1)
    return target[:, 1:]
