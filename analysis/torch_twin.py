"""The same transformers and optimiser in PyTorch, as its users write them: what our training step is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- its usual name

from hwmodel.networks import DecoderConfig, ViTConfig
from nmsim.layers import Param
from nmsim.models.base import Model
from nmsim.optim import OptimizerConfig

Tensor = Any
NORM_EPS = 1e-5


class TorchTwin:
    """A ViT or a decoder LM with the weights of one of ours; queries, keys and values are one product."""

    def __init__(self, config: ViTConfig | DecoderConfig, model: Model, optimizer: OptimizerConfig) -> None:
        self.config, self.clip = config, optimizer.clip
        values = {param.name: torch.tensor(param.value) for param in model.params()}
        for site in [f"block{i}.attn" for i in range(config.depth)]:
            for end in ("", ".bias"):
                values[f"{site}.qkv{end}"] = torch.cat([values.pop(f"{site}.{name}{end}") for name in "qkv"])
        self.params = {name: value.requires_grad_() for name, value in values.items()}
        decays = {wanted: [p for p in self.params.values() if (p.ndim > 1) is wanted] for wanted in (True, False)}
        groups = [
            {"params": decays[True], "weight_decay": optimizer.weight_decay},
            {"params": decays[False], "weight_decay": 0.0},
        ]
        betas = (optimizer.beta1, optimizer.beta2)
        self.adamw = torch.optim.AdamW(groups, lr=optimizer.lr, betas=betas, eps=optimizer.eps, fused=True)

    def gradient(self, inputs: Tensor, labels: Tensor) -> float:
        """Fill the gradients; the loss."""
        self.adamw.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self._logits(inputs).flatten(0, -2), labels.flatten())
        loss.backward()
        return float(loss.detach())

    def step(self, inputs: Tensor, labels: Tensor) -> float:
        """One training step; the loss before it."""
        loss = self.gradient(inputs, labels)
        torch.nn.utils.clip_grad_norm_(self.params.values(), self.clip)
        self.adamw.step()
        return loss

    def gradient_of(self, param: Param) -> np.ndarray:
        """What corresponds to the gradient of one of our parameters."""
        *site, name = param.name.removesuffix(".bias").split(".")
        if name not in ("q", "k", "v"):
            return _array(self.params[param.name].grad)
        joint = ".".join([*site, "qkv"]) + param.name.removeprefix(".".join([*site, name]))
        return np.split(_array(self.params[joint].grad), 3)["qkv".index(name)]

    def _logits(self, inputs: Tensor) -> Tensor:
        if isinstance(self.config, ViTConfig):
            x = self._linear("patch", self._patches(self.config, inputs)) + self.params["position"]
            return self._linear("head", self._blocks(x, causal=False).mean(dim=1))
        x = F.embedding(inputs, self.params["embed"]) + self.params["position"][: inputs.shape[1]]
        return F.linear(self._blocks(x, causal=True), self.params["embed" if self.config.tied_embeddings else "head"])

    def _patches(self, config: ViTConfig, images: Tensor) -> Tensor:
        (high, wide), (rows, cols) = config.patch, config.image
        cut = images.reshape(-1, rows // high, high, cols // wide, wide).transpose(2, 3)
        return cut.reshape(len(images), config.patches, config.patch_width)

    def _blocks(self, x: Tensor, *, causal: bool) -> Tensor:
        for i in range(self.config.depth):
            site = f"block{i}"
            x = x + self._attention(f"{site}.attn", self._norm(f"{site}.norm1", x), causal=causal)
            h = F.gelu(self._linear(f"{site}.mlp.up", self._norm(f"{site}.norm2", x)), approximate="tanh")
            x = x + self._linear(f"{site}.mlp.down", h)
        return self._norm("norm", x)

    def _attention(self, site: str, h: Tensor, *, causal: bool) -> Tensor:
        batch, tokens, width = h.shape
        joint = self._linear(f"{site}.qkv", h).view(batch, tokens, 3, self.config.heads, -1)
        q, k, v = joint.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self._linear(f"{site}.o", out.transpose(1, 2).reshape(batch, tokens, width))

    def _linear(self, site: str, x: Tensor) -> Tensor:
        return F.linear(x, self.params[site], self.params.get(f"{site}.bias"))

    def _norm(self, site: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.params[site], self.params[f"{site}.bias"], NORM_EPS)


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.numpy()
    return array
