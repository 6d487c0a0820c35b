"""Which model a config describes."""

from __future__ import annotations

import numpy as np

from hwmodel.errors import UserError
from hwmodel.networks import DecoderConfig, EncoderDecoderConfig, MLPConfig, NetworkConfig, ViTConfig
from nmsim.layers import Build
from nmsim.models.base import Model
from nmsim.models.decoder import DecoderLM
from nmsim.models.encoder_decoder import EncoderDecoder
from nmsim.models.mlp import MLP
from nmsim.models.vit import ViT


def build_model(config: NetworkConfig, rng: np.random.Generator, dtype: type[np.floating] = np.float32) -> Model:
    """The model of `config` with first weights drawn from `rng`.

    Raises:
        UserError: for a network that can be priced but not trained.
    """
    build = Build(rng, dtype)
    match config:
        case MLPConfig():
            return MLP(config, build)
        case ViTConfig():
            return ViT(config, build)
        case DecoderConfig():
            return DecoderLM(config, build)
        case EncoderDecoderConfig():
            return EncoderDecoder(config, build)
    raise UserError(f"model: {type(config).__name__} can be priced but not trained")
