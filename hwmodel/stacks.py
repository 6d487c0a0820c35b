"""The nodes of a network in the order of its forward pass, from its config and the sizes of one call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

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
from hwmodel.nodes import Linear, Node, Pointwise, Product
from hwmodel.swin import swin_nodes

RELATIVE_BUCKETS = 32  # T5, arXiv 1910.10683, section 2.1


@dataclass(frozen=True)
class Call:
    """Sizes of one call: `batch` sequences, `tokens` new positions each, `context` earlier ones held in a cache.

    `encode` is False while a sequence-to-sequence model decodes: `source` positions were encoded before.
    """

    batch: int
    tokens: int
    source: int
    context: int = 0
    encode: bool = True

    @property
    def rows(self) -> int:
        """New positions of the whole batch."""
        return self.batch * self.tokens


@singledispatch
def nodes(config: NetworkConfig, call: Call) -> tuple[Node, ...]:  # noqa: ARG001 (the signature of every case below)
    """The nodes of the network in the order of its forward pass."""
    raise TypeError(f"{type(config).__name__} is not a network config")


@nodes.register
def _(config: MLPConfig, call: Call) -> tuple[Node, ...]:
    made: list[Node] = []
    d_in = config.inputs
    for i in range(config.depth):
        made.append(Linear(f"layer{i}", call.rows, d_in, config.width, config.bias, first=i == 0))
        made.append(Pointwise(f"layer{i}.act", config.activation, call.rows * config.width))
        d_in = config.width
    return (*made, Linear("head", call.rows, d_in, config.classes, config.bias))


@nodes.register
def _(config: ViTConfig, call: Call) -> tuple[Node, ...]:
    patches = call.tokens - (config.pool == "class")
    extra = config.width if config.pool == "class" else 0
    stem = (
        Linear("patch", call.batch * patches, config.patch_width, config.width, first=True),
        Pointwise("position", "add", call.rows * config.width, call.tokens * config.width + extra),
    )
    pool = (Pointwise("pool", "mean", call.rows * config.width),) if config.pool == "mean" else ()
    head = Linear("head", call.batch, config.width, config.classes)
    return (*stem, *_blocks("", config, call), _norm("norm", config, call.rows), *pool, head)


@nodes.register
def _(config: DecoderConfig, call: Call) -> tuple[Node, ...]:
    head = Linear("head", call.rows, config.width, config.vocab, bias=False, tied=config.tied_embeddings)
    stem = (_table("embed", config.vocab, config, call.rows), *_position("", config, call))
    return (*stem, *_blocks("", config, call), _norm("norm", config, call.rows), head)


@nodes.register
def _(config: EncoderConfig, call: Call) -> tuple[Node, ...]:
    stem = (
        _table("embed", config.vocab, config, call.rows),
        *_position("", config, call),
        _table("segment", config.segments, config, call.rows),
        _norm("embed.norm", config, call.rows),
    )
    pooler = (
        Linear("pooler", call.batch, config.width, config.width, config.bias),
        Pointwise("pooler.act", "tanh", call.batch * config.width),
    )
    return (*stem, *_blocks("", config, call), *pooler)


@nodes.register
def _(config: EncoderDecoderConfig, call: Call) -> tuple[Node, ...]:
    source = Call(call.batch, call.source, call.source)
    encoder = (
        _table("embed", config.vocab, config, source.rows),
        *_position("encoder.", config, source),
        *_blocks("encoder.", config, source),
        _norm("encoder.norm", config, source.rows),
    )
    decoder = (
        Pointwise("decoder.embed", "embed", call.rows * config.width),
        *_position("decoder.", config, call),
        *_blocks("decoder.", config, call, cross=True),
        _norm("decoder.norm", config, call.rows),
        Linear("head", call.rows, config.width, config.vocab, bias=False, tied=config.tied_embeddings),
    )
    return (*encoder, *decoder) if call.encode else decoder


@nodes.register
def _(config: SwinV2Config, call: Call) -> tuple[Node, ...]:
    return swin_nodes(config, call.batch)


def _blocks(prefix: str, config: TransformerConfig, call: Call, *, cross: bool = False) -> tuple[Node, ...]:
    return tuple(node for i in range(config.depth) for node in _block(f"{prefix}block{i}", config, call, cross=cross))


def _block(site: str, config: TransformerConfig, call: Call, *, cross: bool) -> tuple[Node, ...]:
    attended = call.context + call.tokens
    parts = [_attention(f"{site}.attn", config, call, attended, call.tokens)]
    if cross:
        parts.append(_attention(f"{site}.cross", config, call, call.source, call.source if call.encode else 0))
    parts.append(_feed_forward(f"{site}.mlp", config, call.rows))
    made: list[Node] = []
    for i, part in enumerate(parts, 1):
        residual = Pointwise(f"{site}.add{i}", "add", call.rows * config.width)
        made += [_norm(f"{site}.norm{i}", config, call.rows), *part, residual]
    return tuple(made)


def _attention(site: str, config: TransformerConfig, call: Call, keys: int, projected: int) -> tuple[Node, ...]:
    """Queries of the new positions over `keys` positions, of which `projected` ones are computed now."""
    width, heads, bias = config.width, config.heads, config.bias
    made: list[Node] = [Linear(f"{site}.q", call.rows, width, width, bias)]
    if projected:
        rows, own = call.batch * projected, site.endswith("attn")
        made.append(Linear(f"{site}.k", rows, width, config.kv_width, bias, shares_input=own))
        made.append(Linear(f"{site}.v", rows, width, config.kv_width, bias, shares_input=True))
    if config.position == "rotary":
        made.append(Pointwise(f"{site}.rotary", "rotary", call.rows * (width + config.kv_width)))
    repeat = call.batch * heads
    return (
        *made,
        Product(f"{site}.scores", call.tokens, config.head_width, keys, repeat, b_stored_transposed=True),
        Pointwise(f"{site}.softmax", "softmax", repeat * call.tokens * keys),
        Product(f"{site}.attend", call.tokens, keys, config.head_width, repeat),
        Linear(f"{site}.o", call.rows, width, width, bias),
    )


def _feed_forward(site: str, config: TransformerConfig, rows: int) -> tuple[Node, ...]:
    width, hidden, bias = config.width, config.hidden, config.bias
    gate = (Linear(f"{site}.gate", rows, width, hidden, bias, shares_input=True),) if config.gated else ()
    return (
        Linear(f"{site}.up", rows, width, hidden, bias),
        *gate,
        Pointwise(f"{site}.act", config.activation, rows * hidden),
        Linear(f"{site}.down", rows, hidden, width, bias),
    )


def _norm(site: str, config: TransformerConfig, rows: int) -> Pointwise:
    vectors = 2 if config.norm == "layernorm" and config.bias else 1
    return Pointwise(site, config.norm, rows * config.width, vectors * config.width)


def _table(site: str, entries: int, config: TransformerConfig, rows: int) -> Pointwise:
    return Pointwise(site, "embed", rows * config.width, entries * config.width)


def _position(
    prefix: str, config: DecoderConfig | EncoderConfig | EncoderDecoderConfig, call: Call
) -> tuple[Node, ...]:
    """Learned positions are a table over the context; relative ones a bias of each head on the first scores."""
    if config.position == "learned":
        return (Pointwise(f"{prefix}position", "add", call.rows * config.width, config.context * config.width),)
    if config.position == "relative":
        pairs = config.heads * call.tokens * (call.context + call.tokens)
        return (Pointwise(f"{prefix}position", "embed", pairs, RELATIVE_BUCKETS * config.heads),)
    return ()
