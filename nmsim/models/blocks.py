"""Attention, feed-forward layers and the pre-norm residual stack that all transformers here are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from hwmodel.networks import TransformerConfig
from nmsim import functional
from nmsim.functional import Rows, Vector
from nmsim.kernels import pointwise
from nmsim.kernels.scratch import recycled
from nmsim.layers import Build, Fan, Linear, Norm, Param


@dataclass
class Noise:
    """The generator of dropout and stochastic depth; None while a model is evaluated."""

    rng: np.random.Generator | None = None


@dataclass
class Sight:
    """Which positions of a sequence may be seen: the first limits[b] of sequence b, and none later if `causal`."""

    limits: Int[np.ndarray, " batch"]
    causal: bool = False

    @property
    def batch(self) -> int:
        """Sequences."""
        return len(self.limits)


@dataclass
class Context:
    """What a stack's attention looks at: its own stream and, in a decoder, a memory with its gradient."""

    own: Sight
    memory: Rows = field(default_factory=lambda: np.empty((0, 0), np.float32))
    memory_sight: Sight = field(default_factory=lambda: Sight(np.empty(0, np.int64)))
    dmemory: Rows = field(default_factory=lambda: np.empty((0, 0), np.float32))


Stream = Float[np.ndarray, "_ d"]
"""Queries, or the keys and values of another number of tokens."""


@runtime_checkable
class Part(Protocol):
    """A branch of the residual stack; the bias of its last layer is added where the branches join."""

    out: Linear

    def forward(self, h: Rows, context: Context) -> Rows:
        """The branch without its last bias."""
        ...

    def backward(self, dy: Rows, context: Context) -> Rows:
        """Gradient of `h`."""
        ...

    def linears(self) -> tuple[Linear, ...]:
        """Its linear layers in the order of the forward pass, which hold all its parameters."""
        ...


class Attention:
    """Multi-head attention with queries of one stream and keys and values of another (arXiv 1706.03762)."""

    def __init__(self, site: str, config: TransformerConfig, build: Build) -> None:
        width, biased = config.width, config.bias
        self.site, self.count = site, config.heads
        self.q, self.k, self.v, self.out = (
            Linear.create(f"{site}.{name}", width, width, build, biased=biased) for name in "qkvo"
        )

    def attend(self, streams: Sequence[Stream], sight: Sight) -> Rows:
        """Attention of queries over the keys and values of their sequence, without the output's bias."""
        q, k, v = (functional.heads(x, sight.batch, self.count) for x in streams)
        y, p = functional.attention(q, k, v, sight.limits, causal=sight.causal, site=self.site)
        self._saved = q, k, v, p
        return self.out.product(y)

    def attend_backward(self, dy: Rows, gradients: Sequence[Stream], sight: Sight) -> None:
        """Put the gradients of queries, keys and values into the arrays given."""
        q, k, v, p = self._saved
        del self._saved
        dout = functional.heads(self.out.product_backward(dy), sight.batch, self.count)
        dq, dk, dv = (functional.heads(x, sight.batch, self.count) for x in gradients)
        functional.attention_backward(dout, q, k, v, p, into=(dq, dk, dv), causal=sight.causal, site=self.site)

    def linears(self) -> tuple[Linear, ...]:
        """Queries, keys, values, output."""
        return self.q, self.k, self.v, self.out


class SelfAttention(Attention):
    """Attention of a stream to itself."""

    def __init__(self, site: str, config: TransformerConfig, build: Build) -> None:
        super().__init__(site, config, build)
        self._seen = Fan(self.q, self.k, self.v)

    def forward(self, h: Rows, context: Context) -> Rows:
        """`attend` with the stream as its own memory."""
        return self.attend(self._seen.forward(h), context.own)

    def backward(self, dy: Rows, context: Context) -> Rows:
        """Gradient of the stream in all three roles."""
        self.attend_backward(dy, self._seen.gradients(len(dy)), context.own)
        return self._seen.backward()


class CrossAttention(Attention):
    """Attention of a decoder's stream to the encoder's output."""

    def __init__(self, site: str, config: TransformerConfig, build: Build) -> None:
        super().__init__(site, config, build)
        self._asking, self._seen = Fan(self.q), Fan(self.k, self.v)

    def forward(self, h: Rows, context: Context) -> Rows:
        """`attend` to the context's memory."""
        streams = [*self._asking.forward(h), *self._seen.forward(context.memory)]
        return self.attend(streams, context.memory_sight)

    def backward(self, dy: Rows, context: Context) -> Rows:
        """Gradient of the stream; that of the memory is added to the context."""
        gradients = [*self._asking.gradients(len(dy)), *self._seen.gradients(len(context.memory))]
        self.attend_backward(dy, gradients, context.memory_sight)
        context.dmemory += self._seen.backward()
        return self._asking.backward()


class FeedForward:
    """down(activation(up(h)))."""

    def __init__(self, site: str, config: TransformerConfig, build: Build) -> None:
        self.up = Linear.create(f"{site}.up", config.width, config.hidden, build, biased=config.bias)
        self.out = Linear.create(f"{site}.down", config.hidden, config.width, build, biased=config.bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, h: Rows, context: Context) -> Rows:  # noqa: ARG002 - a Part takes a context
        """The branch without the last bias."""
        y, self._derivative = self.activation(self.up.product(h), self.up.bias.value)
        return self.out.product(y)

    def backward(self, dy: Rows, context: Context) -> Rows:  # noqa: ARG002 - a Part takes a context
        """Gradient of `h`."""
        dy = self.out.product_backward(dy)
        dy = functional.activation_backward(dy, self._derivative, self.up.bias.grad)
        del self._derivative
        return self.up.product_backward(dy)

    def linears(self) -> tuple[Linear, ...]:
        """Up, then down."""
        return self.up, self.out


ACTIVATIONS = {"gelu": functional.gelu, "relu": functional.relu}


class Branch:
    """A part with the noise on what it adds to the stream: dropout of values, stochastic depth of whole sequences.

    What survives is divided by its probability (arXiv 1207.0580; arXiv 1603.09382).
    """

    def __init__(self, part: Part, noise: Noise, *, dropout: float, depth: float) -> None:
        self.part, self.noise, self.dropout, self.depth = part, noise, dropout, depth
        self._none = np.zeros_like(part.out.bias.value)

    def forward(self, h: Rows, context: Context) -> tuple[Rows, Vector]:
        """What the branch adds to the stream, and the bias still to be added."""
        y = self.part.forward(h, context)
        self._factor = _factor(y, context.own.batch, self.noise, self.dropout, self.depth)
        if self._factor is None:
            return y, self.part.out.bias.value
        y += self.part.out.bias.value
        y *= self._factor
        return y, self._none

    @property
    def dbias(self) -> Vector:
        """Where the gradient of the bias that `forward` returned goes."""
        return self.part.out.bias.grad if self._factor is None else np.empty_like(self._none)

    def backward(self, dx: Rows, context: Context) -> Rows:
        """Gradient of `h` from that of the stream."""
        if self._factor is None:
            return self.part.backward(dx, context)
        dy = dx * self._factor
        pointwise.add_columns(dy, self.part.out.bias.grad)
        return self.part.backward(dy, context)


def dropped(shape: tuple[int, ...], rate: float, rng: np.random.Generator, dtype: np.dtype) -> Float[np.ndarray, ...]:
    """Factors that are 0 with probability `rate` and else 1 / (1 - rate)."""
    kept: Float[np.ndarray, ...] = (rng.random(shape, np.float32) >= rate).astype(dtype) / dtype.type(1 - rate)
    return kept


def _factor(y: Rows, batch: int, noise: Noise, dropout: float, depth: float) -> Float[np.ndarray, "t _"] | None:
    if noise.rng is None or not (dropout or depth):
        return None
    kept = dropped((batch, 1), depth, noise.rng, y.dtype).repeat(len(y) // batch, axis=0)
    return kept * dropped(y.shape, dropout, noise.rng, y.dtype) if dropout else kept


class Stack:
    """The residual stream: x += part(norm(x)) for every part, and a norm at the end (arXiv 2002.04745, figure 1b)."""

    def __init__(self, branches: Sequence[Branch], norms: Sequence[Norm]) -> None:
        self.branches, self.norms = branches, norms

    def forward(self, x: Rows, context: Context) -> Rows:
        """The normalised stream behind the last part."""
        h = self.norms[0].forward(x)
        for branch, norm in zip(self.branches, self.norms[1:], strict=True):
            y, bias = branch.forward(h, context)
            x, h = norm.forward_sum(x, y, bias)
        return h

    def backward(self, dh: Rows, context: Context) -> Rows:
        """Gradient of the stream before the first part."""
        dx: Rows = recycled(dh.shape, dh.dtype)
        dx.fill(0)
        for branch, norm in zip(reversed(self.branches), reversed(self.norms[1:]), strict=True):
            norm.backward(dh, dx, branch.dbias)
            dh = branch.backward(dx, context)
        self.norms[0].backward(dh, dx, np.empty_like(dx[0]))
        return dx

    def linears(self) -> Iterator[Linear]:
        """The linear layers of all parts."""
        return chain.from_iterable(branch.part.linears() for branch in self.branches)

    def params(self) -> Iterator[Param]:
        """Norm and part in turn."""
        for norm, branch in zip(self.norms, self.branches, strict=False):
            yield from norm.params()
            yield from chain.from_iterable(layer.params() for layer in branch.part.linears())
        yield from self.norms[-1].params()


def stack(prefix: str, config: TransformerConfig, build: Build, noise: Noise, *, cross: bool = False) -> Stack:
    """The blocks of one encoder or decoder. Stochastic depth rises linearly to its rate at the last block."""
    branches, norms = [], []
    for i in range(config.depth):
        site = f"{prefix}block{i}"
        parts: list[Part] = [SelfAttention(f"{site}.attn", config, build)]
        parts += [CrossAttention(f"{site}.cross", config, build)] if cross else []
        parts += [FeedForward(f"{site}.mlp", config, build)]
        depth = config.stochastic_depth * (i + 1) / config.depth
        branches += [Branch(part, noise, dropout=config.dropout, depth=depth) for part in parts]
        norms += [Norm(f"{site}.norm{j + 1}", config.width, build, biased=config.bias) for j in range(len(parts))]
    return Stack(branches, [*norms, Norm(f"{prefix}norm", config.width, build, biased=config.bias)])
