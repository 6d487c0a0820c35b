"""The price of one operation on each kind of engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch

from hwmodel.device import Device, Engine, MatrixEngine, Processor, SystolicArray, TensorCore
from hwmodel.energy import accelerator_joules, processor_joules
from hwmodel.errors import UserError
from hwmodel.execution import (
    Execution,
    dense_execution,
    groups_execution,
    hardware_execution,
    sparse_operand,
    unstructured_execution,
)
from hwmodel.libraries import LIBRARIES, Library, library_named, pass_library, shipped_fits
from hwmodel.matrix_engine import engine_cycles, expected_imbalance
from hwmodel.pattern import Pattern
from hwmodel.processor import Machine, Seconds, Work, pass_seconds, product_seconds
from hwmodel.stc import MACS_PER_CYCLE, run
from hwmodel.systolic import systolic_cycles
from hwmodel.transfer import constants_of, dense_name
from hwmodel.workload import Elementwise, Gemm

STC_PATTERNS = (Pattern(2, 4), Pattern(2, 6), Pattern(2, 8))
FUSED = ("bias",)
"""Kinds of pointwise operation that a product's kernel does on its way out, at no cost of their own."""


@dataclass(frozen=True)
class Estimate:
    """The price of one operation, with the parts of its time."""

    time: Seconds
    joules: float
    bytes: float
    flops: float
    library: str
    dtype: str

    @property
    def seconds(self) -> float:
        """Time in all."""
        return float(self.time.total)


@singledispatch
def price_gemm(engine: Engine, device: Device, gemm: Gemm, dtype: str, library: str) -> Estimate:  # noqa: ARG001 (the signature of every case below)
    """The price of a product on a device with that engine; `library` is "best" or a name."""
    raise TypeError(f"{type(engine).__name__} is not an engine")


@price_gemm.register
def _(engine: Processor, device: Device, gemm: Gemm, dtype: str, library: str) -> Estimate:
    names = device.libraries if library == "best" else (_checked(device, library).name,)
    runs = {name: _execution(device, gemm, dtype, LIBRARIES[name]) for name in names}
    usable = {name: run for name, run in runs.items() if not run.is_dense} | {dense_name(device): dense_execution(gemm)}
    if library != "best" and len(usable) > 1:
        del usable[dense_name(device)]
    estimates = [_on_processor(engine, device, gemm, run, (name, dtype)) for name, run in usable.items()]
    return min(estimates, key=lambda estimate: estimate.seconds)


def _checked(device: Device, name: str) -> Library:
    """The library of that name. Raises `UserError` for one of another platform than the device's."""
    library = library_named(name)
    if library.platform != LIBRARIES[dense_name(device)].platform or library.kind == "pass":
        raise UserError(f"{device.name}: no library {name} (libraries: {', '.join(device.libraries)})")
    return library


def _on_processor(engine: Processor, device: Device, gemm: Gemm, run: Execution, kernel: tuple[str, str]) -> Estimate:
    library, dtype = LIBRARIES[kernel[0]], kernel[1]
    peak = device.peak(dtype).dense_flops_per_s
    machine = Machine(engine.cores_count, peak, device.memory.bandwidth_bytes_per_s, device.memory.cache_bytes)
    work = Work(gemm.rows, gemm.inner, gemm.cols, gemm.repeat, run.density, run.bytes, float(library.reuse))
    constants = constants_of(library, device, dtype, shipped_fits()).constants
    time = product_seconds(work, library.tiles_of(dtype), machine, constants, loads_ahead=library.loads_ahead)
    flops = 2 * gemm.dense_macs * run.density
    energy = device.memory.energy_j_per_byte
    joules = processor_joules(time.total, flops / peak, run.bytes, device.power_w, energy)
    return Estimate(time, float(joules), run.bytes, flops, library.name, dtype)


def _execution(device: Device, gemm: Gemm, dtype: str, library: Library) -> Execution:
    if library.kind == "hardware":
        peak = device.peak(dtype)
        return hardware_execution(gemm, (peak.pattern,) if peak.is_sparse else ())
    if library.kind == "unstructured":
        return unstructured_execution(gemm)
    if library.kind == "groups":
        return groups_execution(gemm, device.axes)
    if library.kind in ("selected", "vector"):
        return groups_execution(gemm, ("reduction",))
    return dense_execution(gemm)


@price_gemm.register
def _(engine: SystolicArray, device: Device, gemm: Gemm, dtype: str, library: str) -> Estimate:
    run = hardware_execution(gemm, engine.patterns)
    inner = math.ceil(gemm.inner * run.density)
    cycles = unit_cycles(gemm, inner, engine)
    macs = gemm.dense_macs * run.density
    buffered = 2 * macs / engine.rows_count * gemm.a.bits / 8
    _check_library(device, library)
    return _accelerated(device, float(cycles) / engine.clock_hz, macs, run, (buffered, dtype))


@price_gemm.register
def _(engine: MatrixEngine, device: Device, gemm: Gemm, dtype: str, library: str) -> Estimate:
    run = unstructured_execution(gemm) if engine.unstructured else hardware_execution(gemm, engine.patterns)
    imbalance = expected_imbalance(gemm.inner, run.density, engine.lanes_count)
    tile = (engine.tile_rows_count, engine.tile_cols_count)
    shape = (gemm.rows, gemm.inner, gemm.cols, gemm.repeat)
    cycles = engine_cycles(shape, run.density, tile, engine.rate_macs_per_cycle, imbalance)
    macs = gemm.dense_macs * run.density
    buffered = 2 * macs / engine.tile_rows_count * gemm.a.bits / 8
    _check_library(device, library)
    return _accelerated(device, float(cycles) / engine.clock_hz, macs, run, (buffered, dtype))


@price_gemm.register
def _(engine: TensorCore, device: Device, gemm: Gemm, dtype: str, library: str) -> Estimate:
    execution = hardware_execution(gemm, STC_PATTERNS)
    operand = sparse_operand(gemm)
    sizes = (operand.rows, operand.cols, gemm.rows + gemm.cols - operand.rows)
    made = run(engine.design, *sizes, execution.density)
    compute = gemm.repeat * made.cycles / engine.clock_hz
    memory = execution.bytes / device.memory.bandwidth_bytes_per_s
    ideal = gemm.repeat * made.macs / MACS_PER_CYCLE / engine.clock_hz
    _check_library(device, library)
    time = Seconds(0.0, 0.0, compute, memory, compute - min(compute, ideal))
    joules = gemm.repeat * made.joules
    return Estimate(time, joules, execution.bytes, 2 * gemm.repeat * made.macs, device.name, dtype)


def unit_cycles(gemm: Gemm, inner: int, engine: SystolicArray) -> float:
    """Cycles of the slowest of the arrays, which share the products out or, where better, each product's columns."""
    units, size = engine.units_count, (engine.rows_count, engine.cols_count, engine.dataflow)
    by_product = -(-gemm.repeat // units) * systolic_cycles(gemm.rows, gemm.cols, inner, *size)
    by_column = gemm.repeat * systolic_cycles(gemm.rows, -(-gemm.cols // units), inner, *size)
    return float(min(by_product, by_column))


def _accelerated(device: Device, compute_s: float, macs: float, run: Execution, buffer: tuple[float, str]) -> Estimate:
    buffered, dtype = buffer
    memory = run.bytes / device.memory.bandwidth_bytes_per_s
    ideal = 2 * macs / device.peak(dtype).dense_flops_per_s
    time = Seconds(0.0, 0.0, compute_s, memory, max(0.0, compute_s - ideal))
    joules = accelerator_joules(macs, run.bytes, buffered, dtype, device.memory.energy_j_per_byte)
    return Estimate(time, joules, run.bytes, 2 * macs, device.name, dtype)


def _check_library(device: Device, library: str) -> None:
    """Accelerators have no choice of kernels: their name stands for the library. Raises `UserError` for another."""
    if library not in ("best", device.name):
        raise UserError(f"{device.name}: no library {library} (libraries: {device.name})")


def price_elementwise(device: Device, op: Elementwise, dtype: str) -> Estimate:
    """The price of a pointwise operation: launch and bytes on a processor, bytes elsewhere; nothing where fused."""
    if op.kind in FUSED:
        return Estimate(Seconds(0.0, 0.0, 0.0, 0.0, 0.0), 0.0, 0.0, op.flops, "", dtype)
    rate, moved = device.memory.bandwidth_bytes_per_s, op.bytes_moved * op.repeat
    if isinstance(device.engine, Processor):
        library = pass_library(LIBRARIES[dense_name(device)].platform, op.kind)
        timed = "fp16" if "fp16" in device.peaks else "fp32"
        constants = constants_of(library, device, timed, shipped_fits()).constants
        time = Seconds(*(part * op.repeat for part in pass_seconds(op.bytes_moved, rate, constants)))
    else:
        time = Seconds(0.0, 0.0, 0.0, moved / rate, 0.0)
    joules = float(processor_joules(time.total, 0.0, moved, device.power_w, device.memory.energy_j_per_byte))
    return Estimate(time, joules, moved, op.flops, "", dtype)
