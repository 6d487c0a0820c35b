"""Will a layer gain from N:M on a device? One verdict a layer, with the rule, the padding and a plain sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hwmodel.cost import DTYPE_BITS, Cost, price
from hwmodel.device import Device
from hwmodel.engines import abilities
from hwmodel.execution import container
from hwmodel.libraries import LIBRARIES
from hwmodel.networks import NetworkConfig, weights
from hwmodel.pattern import DENSE, Pattern
from hwmodel.workload import Gemm, Operand, Workload

ALIGNMENT_BYTES = 32
"""Rows of operands of sparse units are padded to this many bytes (cuSPARSELt: 16 values of 16 bits)."""


@dataclass(frozen=True)
class Verdict:
    """What a pattern does for one weight [d_out, d_in] on a device.

    reduction: the axis along which groups must run. padding: positions added to d_in. gain: dense over sparse time.
    rule: why it is eligible or not. sentence: what to expect and, where it loses, why.
    """

    site: str
    d_out: int
    d_in: int
    reduction: str
    pattern: Pattern
    eligible: bool
    rule: str
    padding: int
    gain: float
    sentence: str


def check_network(config: NetworkConfig, pattern: Pattern, device: Device, *, tokens: int, dtype: str) -> list[Verdict]:
    """A verdict for every linear layer of a network that computes `tokens` positions at once."""
    return check_weights(weights(config), pattern, device, tokens=tokens, dtype=dtype)


def check_weights(
    shapes: Mapping[str, tuple[int, int]], pattern: Pattern, device: Device, *, tokens: int, dtype: str
) -> list[Verdict]:
    """A verdict for every weight of `shapes`, site -> (d_out, d_in). Raises `UserError` for a type the device lacks."""
    device.peak(dtype)
    return [_verdict(site, *shape, pattern, device, tokens, dtype) for site, shape in shapes.items()]


def _verdict(  # noqa: PLR0917 (a private record of one row)
    site: str, d_out: int, d_in: int, pattern: Pattern, device: Device, tokens: int, dtype: str
) -> Verdict:
    padding = _padding(d_in, pattern, dtype)
    rule, runs_as = _rule(pattern, device, dtype)
    if runs_as == DENSE:
        return Verdict(site, d_out, d_in, "d_in", pattern, False, rule, padding, 1.0, f"runs dense: {rule}")
    dense = _cost((tokens, d_in, d_out), DENSE, device, dtype)
    sparse = _cost((tokens, d_in + padding, d_out), pattern, device, dtype)
    gain = dense.seconds / sparse.seconds
    sentence = _sentence(gain, sparse, tokens)
    return Verdict(site, d_out, d_in, "d_in", pattern, True, rule, padding, gain, sentence)


def _padding(d_in: int, pattern: Pattern, dtype: str) -> int:
    """Positions that make d_in a multiple of m and of the units' alignment."""
    aligned = ALIGNMENT_BYTES * 8 // DTYPE_BITS[dtype]
    step = math.lcm(pattern.m, aligned)
    return -d_in % step


def _rule(pattern: Pattern, device: Device, dtype: str) -> tuple[str, Pattern]:
    """Why a pattern can be used on a device, and the pattern that its units then run; DENSE where it can't."""
    able = abilities(device.engine, device, dtype)
    found = container(pattern, able.supported)
    if not found.is_dense:
        return f"{found} units run {pattern}, which {found} contains", found
    if "nmsim" in device.libraries or getattr(device.engine, "unstructured", False):
        return f"its kernels skip the zeros of {pattern}", pattern
    if not able.supported:
        return f"{device.name} has no sparse units for {dtype}", DENSE
    return f"{pattern} is not contained in {', '.join(map(str, able.supported))}", DENSE


def _cost(shape: tuple[int, int, int], pattern: Pattern, device: Device, dtype: str) -> Cost:
    tokens, d_in, d_out = shape
    weight = Operand(d_out, d_in, structure=pattern)
    gemm = Gemm("layer", "fprop", Operand(tokens, d_in), weight.transposed(), Operand(tokens, d_out))
    library = "best" if pattern.is_dense else _sparse_library(device)
    return price(Workload((gemm,)), device, dtype=dtype, library=library)


def _sparse_library(device: Device) -> str:
    """The device's library for N:M, whether or not it pays."""
    return next((name for name in device.libraries if LIBRARIES[name].kind in ("hardware", "groups")), "best")


def _sentence(gain: float, sparse: Cost, tokens: int) -> str:
    """What to expect, from what bounds the sparse kernel."""
    if gain > 1:
        return f"{gain:.2f} times as fast, {sparse.bound}-bound at {tokens} tokens"
    reasons = {
        "launch": "the launch takes most of the time: more tokens a call would help",
        "memory": "it waits for memory, and the activations are as large as before: more tokens a call would help",
        "compute": "its larger tiles fill the cores badly on this shape: more tokens or outputs would help",
    }
    return f"{1 / gain:.2f} times as slow: {reasons[sparse.bound]}"
