"""Networks as workloads: the operations of an inference or of a training step, from shapes alone."""

from __future__ import annotations

from hwmodel.configs import (
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    MLPConfig,
    NetworkConfig,
    SwinV2Config,
    TransformerConfig,
    ViTConfig,
)

__all__ = [
    "DecoderConfig",
    "EncoderConfig",
    "EncoderDecoderConfig",
    "MLPConfig",
    "NetworkConfig",
    "SwinV2Config",
    "TransformerConfig",
    "ViTConfig",
]
