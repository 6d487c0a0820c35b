"""Whether a device's sparse units take a weight, with the rule that decides, and the padding that its shape costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from hwmodel.device import Device, Engine, MatrixEngine, Processor, SystolicArray, TensorCore
from hwmodel.engines import STC_PATTERNS
from hwmodel.libraries import LIBRARIES
from hwmodel.pattern import DENSE, Pattern
from hwmodel.workload import Operand

ALIGNMENT = {8: (32, 32), 16: (16, 16), 32: (32, 32)}
"""Rows and columns of a sparse operand must be multiples of these on CUDA: cuSPARSELt for 8 and 16 bits, CUTLASS for 32
(PyTorch 2.15, `torch/sparse/semi_structured.py`)."""


@dataclass(frozen=True)
class Eligibility:
    """The verdict for one weight: `rule` decided it, `padded` is the shape [rows, cols] that the kernels want."""

    eligible: bool
    rule: str
    padded: tuple[int, int]


def eligibility(weight: Operand, device: Device, dtype: str) -> Eligibility:
    """Whether `device` runs a weight [d_out, d_in] sparse in `dtype`; groups along d_in are axis 1, the reduction."""
    shape = (weight.rows, weight.cols)
    refusal = _refusal(weight, device, dtype)
    if refusal:
        return Eligibility(eligible=False, rule=refusal, padded=shape)
    rows, cols = _multiples(weight, device)
    padded = (-(-shape[0] // rows) * rows, -(-shape[1] // cols) * cols)
    if padded != shape:
        return Eligibility(eligible=True, rule=f"padded to multiples of {rows} x {cols}", padded=padded)
    return Eligibility(eligible=True, rule=f"{device.name} runs {weight.structure} in {dtype}", padded=shape)


def _refusal(weight: Operand, device: Device, dtype: str) -> str:
    """The first rule that keeps a weight dense, or "": dtype, pattern, axis, length."""
    pattern, along = weight.structure, "reduction" if weight.axis == 1 else "output"
    if dtype not in device.peaks:
        return f"dtype: {device.name} has no {dtype}"
    if weight.is_dense or not isinstance(pattern, Pattern):
        return f"pattern: {pattern} is not n:m with n < m"
    units = _units(device.engine, device, dtype)
    if not units:
        return f"device: {device.name} has no sparse units for {dtype}"
    if not any(unit.contains(pattern) for unit in units):
        return f"pattern: {pattern} is not contained in {' or '.join(map(str, units))}"
    if along not in device.axes:
        return f"axis: groups run along d_out, and {device.name} uses groups along the reduction"
    length = weight.cols if weight.axis == 1 else weight.rows
    return f"length: {length} is not a multiple of m={pattern.m}" if length % pattern.m else ""


def _multiples(weight: Operand, device: Device) -> tuple[int, int]:
    on_cuda = any(LIBRARIES[name].platform == "cuda" for name in device.libraries)
    return ALIGNMENT.get(weight.bits, (1, 1)) if on_cuda else (1, 1)


@singledispatch
def _units(engine: Engine, device: Device, dtype: str) -> tuple[Pattern, ...]:  # noqa: ARG001 (the signature of every case below)
    """The patterns that the sparse units of a device run in a type; `DENSE`, which contains all, for any pattern."""
    raise TypeError(f"{type(engine).__name__} is not an engine")


@_units.register
def _(engine: Processor, device: Device, dtype: str) -> tuple[Pattern, ...]:  # noqa: ARG001 (the common signature)
    if any(LIBRARIES[name].kind == "groups" for name in device.libraries):
        return (DENSE,)
    peak = device.peak(dtype)
    return (peak.pattern,) if peak.is_sparse else ()


@_units.register
def _(engine: SystolicArray, device: Device, dtype: str) -> tuple[Pattern, ...]:  # noqa: ARG001 (the common signature)
    return engine.patterns


@_units.register
def _(engine: MatrixEngine, device: Device, dtype: str) -> tuple[Pattern, ...]:  # noqa: ARG001 (the common signature)
    return (DENSE,) if engine.unstructured else engine.patterns


@_units.register
def _(engine: TensorCore, device: Device, dtype: str) -> tuple[Pattern, ...]:  # noqa: ARG001 (the common signature)
    return STC_PATTERNS if engine.design != "TC" else ()
