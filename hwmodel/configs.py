"""Shapes of networks as frozen dataclasses. The simulator builds models from them, the cost model prices them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hwmodel.errors import UserError

LARGEST = 2**31 - 1
"""The largest size of a layer."""
Activation = Literal["gelu", "relu", "swiglu"]
Norm = Literal["layernorm", "rmsnorm"]
Position = Literal["learned", "rotary", "relative"]


@dataclass(frozen=True)
class MLPConfig:
    """A multi-layer perceptron: `depth` hidden layers of `width`, then a classifier."""

    inputs: int = 40
    width: int = 128
    depth: int = 2
    classes: int = 10
    activation: Literal["gelu", "relu"] = "relu"
    dropout: float = 0.0
    bias: bool = True

    def __post_init__(self) -> None:
        _check_positive(self, ("inputs", "width", "depth", "classes"))
        _check_rates(self, ("dropout",))

    @property
    def tokens(self) -> int:
        """Positions of one example: 1."""
        return 1


@dataclass(frozen=True)
class TransformerConfig:
    """What every transformer here shares: a stack of attention and feed-forward blocks, normalised before each.

    `ff_width = 0` stands for 4 * width and `kv_heads = 0` for as many as `heads`; read `hidden` and `kv_width`.
    """

    depth: int = 2
    width: int = 64
    heads: int = 4
    kv_heads: int = 0
    ff_width: int = 0
    activation: Activation = "gelu"
    norm: Norm = "layernorm"
    position: Position = "learned"
    bias: bool = True
    dropout: float = 0.0
    stochastic_depth: float = 0.0

    def __post_init__(self) -> None:
        _check_positive(self, ("depth", "width", "heads"))
        _check_at_least(self, ("ff_width", "kv_heads"), 0)
        _check_rates(self, ("dropout", "stochastic_depth"))
        _check_multiple("width", self.width, "heads", self.heads)
        if self.kv_heads:
            _check_multiple("heads", self.heads, "kv_heads", self.kv_heads)

    @property
    def hidden(self) -> int:
        """Width inside the feed-forward layer."""
        return self.ff_width or 4 * self.width

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Width of all keys (or values) together: less than `width` where several heads share a key."""
        return (self.kv_heads or self.heads) * self.head_width

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer multiplies two projections (site `mlp.gate` beside `mlp.up`)."""
        return self.activation == "swiglu"


@dataclass(frozen=True)
class ViTConfig(TransformerConfig):
    """A vision transformer. One row of 40 values in patches of 4 is `image=(1, 40), patch=(1, 4), channels=1`."""

    image: tuple[int, int] = (28, 28)
    patch: tuple[int, int] = (4, 4)
    channels: int = 1
    classes: int = 10
    pool: Literal["mean", "class"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, ("channels", "classes"))
        for size, step in zip(self.image, self.patch, strict=True):
            _check_multiple("image", size, "patch", step)

    @property
    def patches(self) -> int:
        """Patches of one image."""
        return (self.image[0] // self.patch[0]) * (self.image[1] // self.patch[1])

    @property
    def patch_width(self) -> int:
        """Values of one patch."""
        return self.patch[0] * self.patch[1] * self.channels

    @property
    def tokens(self) -> int:
        """Positions of one example: the patches, and the class token where there is one."""
        return self.patches + (self.pool == "class")


@dataclass(frozen=True)
class TokenConfig(TransformerConfig):
    """What the transformers over sequences of tokens share."""

    vocab: int = 256
    context: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, ("vocab", "context"))

    @property
    def tokens(self) -> int:
        """Positions of one example (of each side, where there are two) at full length."""
        return self.context


@dataclass(frozen=True)
class DecoderConfig(TokenConfig):
    """A causal language model. With `tied_embeddings` the head multiplies by the embedding table."""

    tied_embeddings: bool = True


@dataclass(frozen=True)
class EncoderConfig(TokenConfig):
    """A bidirectional encoder with BERT's embeddings (token, position, segment, then a norm) and its pooler."""

    segments: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, ("segments",))


@dataclass(frozen=True)
class EncoderDecoderConfig(TokenConfig):
    """A sequence-to-sequence transformer: `depth` encoder and `depth` decoder blocks, one vocabulary for both sides."""

    context: int = 64
    tied_embeddings: bool = True


@dataclass(frozen=True)
class SwinV2Config:
    """A Swin V2 transformer (arXiv 2111.09883): stages of windowed attention; each next stage halves the image."""

    image: int = 256
    patch: int = 4
    channels: int = 3
    width: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: int = 8
    position_width: int = 512
    classes: int = 1000

    def __post_init__(self) -> None:
        _check_positive(self, ("image", "patch", "channels", "width", "window", "position_width", "classes"))
        if len(self.depths) != len(self.heads):
            raise UserError(f"depths {self.depths} and heads {self.heads}: give one number of each a stage")
        _check_multiple("image", self.image, "patch * window", self.patch * self.window)

    @property
    def tokens(self) -> int:
        """Positions of one example in the first stage."""
        return (self.image // self.patch) ** 2


NetworkConfig = MLPConfig | ViTConfig | DecoderConfig | EncoderConfig | EncoderDecoderConfig | SwinV2Config


def _check_positive(config: object, fields: Iterable[str]) -> None:
    _check_at_least(config, fields, 1)


def _check_at_least(config: object, fields: Iterable[str], least: int) -> None:
    for name in fields:
        value = getattr(config, name)
        if value < least:
            raise UserError(f"{name} = {value}: needs at least {least}")
        if value > LARGEST:
            raise UserError(f"{name} = {value}: needs at most {LARGEST}")


def _check_rates(config: object, fields: Iterable[str]) -> None:
    for name in fields:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise UserError(f"{name} = {value:g}: needs a share of at least 0 and below 1")


def _check_multiple(name: str, value: int, of: str, step: int) -> None:
    if step < 1 or value % step:
        raise UserError(f"{name} = {value} is not a multiple of {of} = {step}")
