"""Networks as workloads: the operations of an inference or of a training step, from shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Literal

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
from hwmodel.errors import UserError
from hwmodel.footprint import operand_bytes
from hwmodel.nodes import Linear, Node, elementwise
from hwmodel.stacks import Call, nodes
from hwmodel.workload import Elementwise, Op, Operand, Plan, SitePlan, Workload

__all__ = [
    "ALL_DENSE",
    "DecoderConfig",
    "EncoderConfig",
    "EncoderDecoderConfig",
    "MLPConfig",
    "NetworkConfig",
    "SwinV2Config",
    "TransformerConfig",
    "ViTConfig",
    "inference",
    "network_nodes",
    "parameters",
    "plan_of",
    "train_step",
    "training_run",
    "weights",
]

ALL_DENSE = Plan()


def inference(
    config: NetworkConfig,
    batch: int,
    *,
    tokens: int,
    context: int = 0,
    phase: Literal["prefill", "decode"] = "prefill",
    plan: Plan = ALL_DENSE,
    bits: int = 32,
) -> Workload:
    """The operations of one inference over `batch` sequences of `tokens` positions after `context` cached ones.

    Prefill computes all positions at once. Decode computes one after another, each attending to all before it; in a
    sequence-to-sequence model the source (as long as the model's context) was encoded before. Scores of causal
    attention are counted in full, as in published accounts.
    """
    _check_sizes(batch=batch, tokens=tokens)
    if context < 0:
        raise UserError(f"context = {context}: needs at least 0")
    if not isinstance(config, (DecoderConfig, EncoderDecoderConfig)):
        if phase == "decode":
            raise UserError(f"{type(config).__name__} computes all positions at once: no decode; take prefill")
        if context:
            raise UserError(f"context = {context}: {type(config).__name__} caches no earlier positions; leave it out")
    if phase == "prefill":
        return _forward(config, Call(batch, tokens, tokens, context), plan, bits)
    return _decoded(config, Call(batch, 1, config.tokens, context, encode=False), tokens, plan, bits)


def train_step(config: NetworkConfig, batch: int, plan: Plan = ALL_DENSE, *, tokens: int, bits: int = 32) -> Workload:
    """The operations of one training step: forward, backward, masks and compressed copies, clipping and AdamW.

    Activations have `bits`; masters, gradients and moments are float32. The first layer has no input gradient.
    """
    _check_sizes(batch=batch, tokens=tokens)
    parts = nodes(config, Call(batch, tokens, tokens))
    forward = [op for node in parts for op in node.fprop(plan, bits)]
    backward = [op for node in reversed(parts) for op in node.backward(plan, bits)]
    return Workload((*_sparsify(parts, plan, bits), *forward, *_loss(parts, bits), *backward, *_update(parts)))


def training_run(
    config: NetworkConfig, batch: int, plans: Iterable[tuple[Plan, int]], *, tokens: int, bits: int = 32
) -> Workload:
    """The operations of a whole run that followed each of `plans` for a number of steps."""
    counted: dict[tuple[frozenset[tuple[str, SitePlan]], frozenset[str]], tuple[Plan, int]] = {}
    for plan, taken in plans:
        key = (frozenset(plan.sites.items()), plan.refreshed)
        counted[key] = (plan, counted.get(key, (plan, 0))[1] + taken)
    steps = (train_step(config, batch, plan, tokens=tokens, bits=bits) * times for plan, times in counted.values())
    return Workload(tuple(op for step in steps for op in step))


def parameters(config: NetworkConfig) -> int:
    """Parameters of the network, each shared one once."""
    return sum(node.parameters for node in _whole(config))


def weights(config: NetworkConfig) -> dict[str, tuple[int, int]]:
    """Shape [d_out, d_in] of the weight of every linear site, in the order of the forward pass."""
    return {node.site: (node.d_out, node.d_in) for node in _whole(config) if isinstance(node, Linear)}


def plan_of(config: NetworkConfig, sites: Mapping[str, SitePlan]) -> Plan:
    """The `Plan` in which each linear site follows the first shell pattern of `sites` that matches it.

    Raises `UserError` for a pattern that matches no site.
    """
    known = weights(config)
    for glob in sites:
        if not any(fnmatchcase(site, glob) for site in known):
            raise UserError(f'"{glob}" matches no site (sites: {", ".join(list(known)[:12])}, ...)')
    firsts = {site: next((plan for glob, plan in sites.items() if fnmatchcase(site, glob)), None) for site in known}
    return Plan({site: plan for site, plan in firsts.items() if plan is not None})


def network_nodes(config: NetworkConfig, batch: int, tokens: int) -> tuple[Node, ...]:
    """The parts of the network, in the order of its forward pass, for a batch of sequences."""
    return nodes(config, Call(batch, tokens, tokens))


def _whole(config: NetworkConfig) -> tuple[Node, ...]:
    return network_nodes(config, 1, config.tokens)


def _forward(config: NetworkConfig, call: Call, plan: Plan, bits: int) -> Workload:
    return Workload(tuple(op for node in nodes(config, call) for op in node.fprop(plan, bits)))


def _decoded(config: NetworkConfig, call: Call, tokens: int, plan: Plan, bits: int) -> Workload:
    """Positions one after another, the first being `call`: parts that keep their sizes, then those that grow."""
    positions = (nodes(config, one) for one in (call, replace(call, context=call.context + 1)))
    pairs = list(zip(*positions, strict=True))
    same = Workload(tuple(op for node, later in pairs if node == later for op in node.fprop(plan, bits)))
    growing: dict[tuple[Node, Node], list[str]] = {}
    for node, later in pairs:
        if node != later:
            growing.setdefault((replace(node, site=""), replace(later, site="")), []).append(node.site)
    grown = (
        (op, sites)
        for (first, second), sites in growing.items()
        for node in _grown(first, second, tokens)
        for op in node.fprop(plan, bits)
    )
    return same * tokens + Workload(tuple(replace(op, site=site) for op, sites in grown for site in sites))


def _grown(first: Node, second: Node, tokens: int) -> Iterator[Node]:
    """A part at each of `tokens` positions: its sizes grow in equal steps, as the first two tell."""
    steps = {
        name: later - size
        for (name, size), later in zip(vars(first).items(), vars(second).values(), strict=True)
        if size != later
    }
    for i in range(tokens):
        yield replace(first, **{name: getattr(first, name) + i * step for name, step in steps.items()})


def _sparsify(parts: tuple[Node, ...], plan: Plan, bits: int) -> tuple[Op, ...]:
    """Choosing masks anew where the plan says so, and compressing each sparse weight, which changes every step."""
    made: list[Op] = []
    for node in parts:
        if isinstance(node, Linear) and node.site in plan.sites:
            if node.site in plan.refreshed:
                elements = node.d_in * node.d_out
                made.append(elementwise(node.site, "update", "select", elements, 32, extra_bytes=elements / 8))
            made += [_compression(node, operand) for operand in _sparse_operands(node, plan[node.site], bits)]
    return tuple(made)


def _sparse_operands(node: Linear, here: SitePlan, bits: int) -> list[Operand]:
    """The compressed weights of a site: one where both products read the same positions along the same axis."""
    forward = Operand(node.d_out, node.d_in, bits, here.fprop, here.axis)
    backward = Operand(node.d_out, node.d_in, bits, here.dgrad, here.dgrad_axis)
    return [operand for operand in dict.fromkeys((forward, backward)) if not operand.is_dense]


def _compression(node: Linear, operand: Operand) -> Elementwise:
    return elementwise(
        node.site, "update", "compress", operand.elements, 32, extra_bytes=operand_bytes(operand) + operand.elements / 8
    )


def _loss(parts: tuple[Node, ...], bits: int) -> tuple[Op, ...]:
    """Cross-entropy over the outputs of the last linear site, and its gradient."""
    last = next(node for node in reversed(parts) if isinstance(node, Linear))
    outputs = last.t * last.d_out
    return (
        elementwise("loss", "fprop", "cross_entropy", outputs, bits),
        elementwise("loss", "dgrad", "cross_entropy_gradient", outputs, bits),
    )


def _update(parts: tuple[Node, ...]) -> tuple[Op, ...]:
    """Global-norm clipping and AdamW over all parameters, in float32."""
    total = sum(node.parameters for node in parts)
    return (elementwise("clip", "update", "clip", total, 32), elementwise("optimizer", "update", "adamw", total, 32))


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise UserError(f"{name} = {value}: needs at least 1")
