"""A vision transformer (arXiv 2010.11929), for images and for sequences of numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from hwmodel.networks import ViTConfig
from nmsim.functional import Rows
from nmsim.kernels.scratch import recycled
from nmsim.layers import Build, Linear, Param
from nmsim.models.base import check_supported, own_weights
from nmsim.models.blocks import Context, Noise, Sight, stack

Tokens = Float[np.ndarray, "batch tokens width"]


class ViT:
    """Patches, learned positions, a stack, and a linear head on the mean of the tokens or on a class token."""

    def __init__(self, config: ViTConfig, build: Build) -> None:
        check_supported(config)
        self.config, self.noise = config, Noise()
        self.patch = Linear.create("patch", config.patch_width, config.width, build)
        self.position = Param("position", build.normal(config.tokens, config.width))
        self.first = Param("class", build.constant(0, config.width))
        self.stack = stack("", config, build, self.noise)
        self.head = Linear.create("head", config.width, config.classes, build)

    def forward(self, images: Float[np.ndarray, "batch ..."]) -> Rows:
        """Logits of a batch of images [batch, height, width], with a last axis of channels where there are several."""
        batch, config = len(images), self.config
        x = self.patch.forward(self._patches(images)).reshape(batch, config.patches, config.width)
        if config.pool == "class":
            x = np.concatenate([np.broadcast_to(self.first.value, (batch, 1, config.width)), x], axis=1)
        x += self.position.value
        self._context = Context(Sight(np.full(batch, config.tokens)))
        h = self.stack.forward(x.reshape(-1, config.width), self._context)
        return self.head.forward(self._pool(h.reshape(x.shape)))

    def backward(self, dlogits: Rows) -> None:
        """Gradients of all parameters."""
        config = self.config
        dh = self._pool_backward(self.head.backward(dlogits))
        dx = self.stack.backward(dh.reshape(-1, config.width), self._context).reshape(dh.shape)
        self.position.grad += dx.sum(axis=0)
        if config.pool == "class":
            self.first.grad += dx[:, 0].sum(axis=0)
            dx = np.ascontiguousarray(dx[:, 1:])
        self.patch.first_backward(dx.reshape(-1, config.width))

    def params(self) -> Iterator[Param]:
        """All parameters."""
        yield from self.patch.params()
        if self.config.pool == "class":
            yield self.first
        yield self.position
        yield from self.stack.params()
        yield from self.head.params()

    def linears(self) -> list[Linear]:
        """Of patches, blocks and head."""
        return [self.patch, *self.stack.linears(), self.head]

    def sparsifiable(self) -> list[Param]:
        """The weights of all linear layers; a tied head has none of its own."""
        return own_weights(self.linears())

    def _patches(self, images: Float[np.ndarray, "batch ..."]) -> Rows:
        (high, wide), (rows, cols) = self.config.patch, self.config.image
        cut = images.reshape(len(images), rows // high, high, cols // wide, wide * self.config.channels)
        flat = cut.transpose(0, 1, 3, 2, 4).reshape(-1, self.config.patch_width)
        return np.ascontiguousarray(flat, dtype=self.head.weight.value.dtype)

    def _pool(self, h: Tokens) -> Rows:
        return np.ascontiguousarray(h[:, 0]) if self.config.pool == "class" else h.mean(axis=1)

    def _pool_backward(self, dy: Rows) -> Tokens:
        dh: Tokens = recycled((len(dy), self.config.tokens, self.config.width), dy.dtype)
        if self.config.pool == "class":
            dh.fill(0)
            dh[:, 0] = dy
        else:
            dh[:] = (dy / dy.dtype.type(self.config.tokens))[:, None]
        return dh
