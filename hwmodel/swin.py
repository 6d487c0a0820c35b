"""Swin V2 (arXiv 2111.09883) as nodes: windowed attention with a small network for the positions, and patch merging."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hwmodel.configs import SwinV2Config
from hwmodel.nodes import Linear, Node, Pointwise, Product


@dataclass(frozen=True)
class _Stage:
    """One stage of a Swin transformer for a batch: `side` x `side` positions of `width` in windows."""

    site: str
    batch: int
    side: int
    width: int
    heads: int
    window: int
    position_width: int

    @property
    def rows(self) -> int:
        return self.batch * self.side**2

    @property
    def area(self) -> int:
        return min(self.window, self.side) ** 2


def swin_nodes(config: SwinV2Config, batch: int) -> tuple[Node, ...]:
    """The nodes of a Swin V2 network in the order of its forward pass."""
    side = config.image // config.patch
    rows, width = batch * side**2, config.width
    made: list[Node] = [
        Linear("patch", rows, config.patch**2 * config.channels, width, first=True),
        _norm("patch.norm", rows, width),
    ]
    for i, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
        if i:
            made += _merging(f"stage{i}.merge", batch * (side // 2) ** 2, width)
            side, width = side // 2, 2 * width
        stage = _Stage(f"stage{i}", batch, side, width, heads, config.window, config.position_width)
        made += [node for j in range(depth) for node in _block(stage, f"stage{i}.block{j}")]
    rows = batch * side**2
    pool = Pointwise("pool", "mean", rows * width)
    return (*made, _norm("norm", rows, width), pool, Linear("head", batch, width, config.classes))


def _block(stage: _Stage, site: str) -> Iterator[Node]:
    """Attention and feed-forward layer, each followed by its norm (the "res-post-norm" of Swin V2)."""
    rows, width = stage.rows, stage.width
    yield from _attention(stage, f"{site}.attn")
    yield _norm(f"{site}.norm1", rows, width)
    yield Pointwise(f"{site}.add1", "add", rows * width)
    yield Linear(f"{site}.mlp.up", rows, width, 4 * width)
    yield Pointwise(f"{site}.mlp.act", "gelu", rows * 4 * width)
    yield Linear(f"{site}.mlp.down", rows, 4 * width, width)
    yield _norm(f"{site}.norm2", rows, width)
    yield Pointwise(f"{site}.add2", "add", rows * width)


def _attention(stage: _Stage, site: str) -> Iterator[Node]:
    """Scaled cosine attention within windows; keys have no bias, and each head owns one temperature."""
    rows, width, heads, area = stage.rows, stage.width, stage.heads, stage.area
    repeat = rows // area * heads
    yield from _positions(stage, site)
    yield Linear(f"{site}.q", rows, width, width)
    yield Linear(f"{site}.k", rows, width, width, bias=False, shares_input=True)
    yield Linear(f"{site}.v", rows, width, width, shares_input=True)
    yield Pointwise(f"{site}.cosine", "rmsnorm", 2 * rows * width, heads)
    yield Product(f"{site}.scores", area, width // heads, area, repeat, b_stored_transposed=True)
    yield Pointwise(f"{site}.softmax", "softmax", repeat * area**2)
    yield Product(f"{site}.attend", area, area, width // heads, repeat)
    yield Linear(f"{site}.o", rows, width, width)


def _positions(stage: _Stage, site: str) -> Iterator[Node]:
    """The two-layer network from the (2 w - 1)^2 relative positions of a window to a bias of each head."""
    entries, hidden = (2 * min(stage.window, stage.side) - 1) ** 2, stage.position_width
    yield Linear(f"{site}.position.up", entries, 2, hidden, first=True)
    yield Pointwise(f"{site}.position.act", "relu", entries * hidden)
    yield Linear(f"{site}.position.down", entries, hidden, stage.heads, bias=False)


def _merging(site: str, rows: int, width: int) -> list[Node]:
    """Four neighbours of `width` become one position of twice the width, then its norm."""
    return [Linear(site, rows, 4 * width, 2 * width, bias=False), _norm(f"{site}.norm", rows, 2 * width)]


def _norm(site: str, rows: int, width: int) -> Pointwise:
    return Pointwise(site, "layernorm", rows * width, 2 * width)
