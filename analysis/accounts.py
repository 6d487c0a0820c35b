"""The account of FLOPs and parameters in arXiv 2402.04744 (Table 1 and appendix D), from the cost model's shapes.

It counts the projections, the attention products and the FF layers of the blocks, for one image, two FLOPs a
multiply-add; no patch embedding, head, softmax, norm, bias or class token.
"""

from __future__ import annotations

from hwmodel.networks import ViTConfig, inference, plan_of, weights
from hwmodel.pattern import DENSE, Pattern
from hwmodel.workload import SitePlan, Workload

VIT_BASE = ViTConfig(depth=12, width=768, heads=12, image=(224, 224), patch=(16, 16), channels=3, classes=1000)
VIT_LARGE = ViTConfig(depth=24, width=1024, heads=16, image=(224, 224), patch=(16, 16), channels=3, classes=1000)
TARGETS = ("dense", "2:4", "1:4", "1:8", "1:16", "1:32", "1:128")
FEED_FORWARD = "*.mlp.*"


def products(config: ViTConfig, pattern: Pattern = DENSE) -> Workload:
    """The counted products of one image, with the FF layers at `pattern`."""
    plan = plan_of(config, {FEED_FORWARD: SitePlan(fprop=pattern)})
    return Workload(inference(config, 1, tokens=config.tokens, plan=plan).at("block*").gemms)


def flops(config: ViTConfig, target: str) -> float:
    """FLOPs of the counted products with the FF layers at `target`, such as "1:16" or "dense"."""
    return products(config, Pattern.parse(target)).flops


def parameters(config: ViTConfig, target: str) -> float:
    """Non-zero weights of the blocks with the FF layers at `target`; biases are not counted."""
    density = Pattern.parse(target).density
    shapes = {site: d_out * d_in for site, (d_out, d_in) in weights(config).items() if site.startswith("block")}
    return sum(size * (density if ".mlp." in site else 1) for site, size in shapes.items())


def shares(config: ViTConfig) -> dict[str, float]:
    """Share of the dense FLOPs of the attention products, the projections and the FF layers, as Table 1 groups them."""
    parts = {
        "einsum": ("*.attn.scores", "*.attn.attend"),
        "projections": tuple(f"*.attn.{name}" for name in "qkvo"),
        "feed_forward": (FEED_FORWARD,),
    }
    whole = products(config)
    return {name: sum(whole.at(glob).flops for glob in globs) / whole.flops for name, globs in parts.items()}
