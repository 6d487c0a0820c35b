"""Bytes that a training run holds at once, by kind, and whether they fit a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from hwmodel.device import Device
from hwmodel.errors import InfeasibleError
from hwmodel.footprint import operand_bytes
from hwmodel.networks import DecoderConfig, EncoderDecoderConfig, NetworkConfig, network_nodes
from hwmodel.nodes import Linear
from hwmodel.pattern import DENSE, Pattern
from hwmodel.workload import DENSE_PLAN, Operand, Plan

MASTER_BYTES = 4
MOMENTS = 2

# A kept weight in nmsim: 5 bytes itself, 6 in the layout of each product that reads it, 2 in that of its gradient.
COMPRESSED_BYTES = 5 + 2 * 6 + 2

Held = Literal["formats", "dense", "compressed"]


def training_bytes(
    config: NetworkConfig, batch: int, plan: Plan, *, tokens: int, bits: int = 32, held: Held = "formats"
) -> dict[str, int]:
    """Bytes of a training run by kind, activations and working copies at `bits`, all else in float32.

    masters, gradients, moments: one, one and two float32 values a parameter. copies: the weights as products read them,
    dense or compressed; none for dense float32, which reads the masters. masks: one bit a weight of every sparse site.
    activations: what the backward pass needs of the forward one, nothing recomputed.

    That is `held` "formats", the device's. "dense" and "compressed" are what a run of nmsim itself holds in that
    execution: a byte a weight of masks, and copies that are dense, or compressed with the layouts of its kernels.
    """
    nodes = network_nodes(config, batch, tokens)
    total = sum(node.parameters for node in nodes)
    sites = [node for node in nodes if isinstance(node, Linear) and plan[node.site] != DENSE_PLAN]
    sparse = sum(node.d_in * node.d_out for node in sites)
    compressed = sum(_copies(node, plan, bits, held) for node in sites)
    dense = 0 if bits == MASTER_BYTES * 8 else (total - sparse) * bits // 8
    return {
        "masters": MASTER_BYTES * total,
        "gradients": MASTER_BYTES * total,
        "moments": MASTER_BYTES * MOMENTS * total,
        "copies": dense + compressed,
        "masks": sparse // 8 if held == "formats" else sparse,
        "activations": sum(node.saved for node in nodes) * bits // 8,
    }


def _copies(node: Linear, plan: Plan, bits: int, held: Held) -> int:
    """Bytes of a site's operands: one copy where both products read the same positions."""
    here = plan[node.site]
    forward = Operand(node.d_out, node.d_in, bits, here.fprop, here.axis)
    backward = Operand(node.d_out, node.d_in, bits, here.dgrad, here.dgrad_axis)
    return sum(_held_bytes(operand, held) for operand in dict.fromkeys((forward, backward)))


def _held_bytes(operand: Operand, held: Held) -> int:
    if held == "compressed" and isinstance(operand.structure, Pattern) and not operand.structure.is_dense:
        return round(operand.elements * operand.structure.density) * COMPRESSED_BYTES
    return operand_bytes(operand if held == "formats" else replace(operand, structure=DENSE))


def inference_bytes(config: NetworkConfig, batch: int, plan: Plan, *, tokens: int, bits: int = 16) -> dict[str, int]:
    """Bytes of an inference by kind: weights as products read them, and keys and values of `tokens` positions.

    An encoder keeps none: no later position will read them.
    """
    nodes = network_nodes(config, batch, tokens)
    linear = [node for node in nodes if isinstance(node, Linear)]
    stored = sum(
        operand_bytes(Operand(node.d_out, node.d_in, bits, plan[node.site].fprop, plan[node.site].axis))
        for node in linear
        if not node.tied
    )
    other = sum(node.parameters for node in nodes) - sum(node.d_in * node.d_out for node in linear if not node.tied)
    keeps = isinstance(config, (DecoderConfig, EncoderDecoderConfig))
    cached = keeps * sum(node.t * node.d_out for node in linear if node.site.endswith((".k", ".v")))
    return {"weights": stored + other * bits // 8, "keys_and_values": cached * bits // 8}


def check_fits(what: str, needed: Mapping[str, int], device: Device) -> None:
    """Raise `InfeasibleError` with the missing amount where the bytes exceed the device's memory."""
    total, capacity = sum(needed.values()), device.memory.capacity_bytes
    if total > capacity:
        largest = max(needed, key=lambda kind: needed[kind])
        raise InfeasibleError(
            f"{what} needs {total / 1e9:.1f} GB on {device.name}, which has {capacity / 1e9:.1f} GB: "
            f"{(total - capacity) / 1e9:.1f} GB too much, most of it {largest}; take a smaller batch or another device"
        )
