"""Configs of named public models."""

from __future__ import annotations

from hwmodel.configs import DecoderConfig, EncoderConfig, EncoderDecoderConfig, NetworkConfig, SwinV2Config, ViTConfig
from hwmodel.errors import unknown


def _vit(width: int, depth: int, heads: int) -> ViTConfig:
    """A vision transformer at 224 x 224 in patches of 16 (arXiv 2010.11929, Table 1; DeiT for Ti and S)."""
    return ViTConfig(
        width=width,
        depth=depth,
        heads=heads,
        image=(224, 224),
        patch=(16, 16),
        channels=3,
        classes=1000,
        pool="class",
    )


MODELS: dict[str, NetworkConfig] = {
    "vit-ti": _vit(192, 12, 3),
    "vit-s": _vit(384, 12, 6),
    "vit-b": _vit(768, 12, 12),
    "vit-l": _vit(1024, 24, 16),
    "swin-v2-t": SwinV2Config(width=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24)),
    "swin-v2-b": SwinV2Config(width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
    "bert-base": EncoderConfig(depth=12, width=768, heads=12, vocab=30522, context=512),
    "t5-base": EncoderDecoderConfig(
        depth=12,
        width=768,
        heads=12,
        activation="relu",
        norm="rmsnorm",
        position="relative",
        bias=False,
        vocab=32128,
        context=512,
    ),
    "gpt2-small": DecoderConfig(depth=12, width=768, heads=12, vocab=50257, context=1024, bias=False),
    "llama-7b": DecoderConfig(
        depth=32,
        width=4096,
        heads=32,
        ff_width=11008,
        activation="swiglu",
        norm="rmsnorm",
        position="rotary",
        bias=False,
        vocab=32000,
        context=2048,
        tied_embeddings=False,
    ),
}
"""GPT-2 small without biases, as nanoGPT counts it; the others as published."""


def model_named(name: str) -> NetworkConfig:
    """The config of a public model ("vit-b"). Raises `UserError` for an unknown name."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]
