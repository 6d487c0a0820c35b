"""The price of one product on each kind of engine. Sizes are plain numbers or arrays of them alike.

A `Product` is [lines, inner] x [inner, others], `repeat` times, run as a `Choice` says; an `Estimate` is its price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np

from hwmodel.device import Device, Engine, MatrixEngine, Processor, SystolicArray, TensorCore
from hwmodel.energy import accelerator_joules, processor_joules
from hwmodel.execution import Abilities, Choice
from hwmodel.fits import Fit, shipped_fits
from hwmodel.libraries import LIBRARIES, Library, pass_library
from hwmodel.matrix_engine import engine_cycles, expected_imbalance
from hwmodel.pattern import Pattern, Unstructured
from hwmodel.processor import Constants, Machine, Seconds, Work, pass_seconds, product_seconds
from hwmodel.stc import MACS_PER_CYCLE, run
from hwmodel.systolic import systolic_cycles
from hwmodel.transfer import constants_of, dense_name, launched_by
from hwmodel.workload import Elementwise

STC_PATTERNS = (Pattern(2, 4), Pattern(2, 6), Pattern(2, 8))
FUSED = ("bias",)
"""Kinds of pointwise operation that a product's kernel does on its way out, at no cost of their own."""


class Product(NamedTuple):
    """Sizes of a product, the bytes that it moves in all, the width of its values and how it runs.

    `fullest` is the share kept of the fullest line of a real mask; 0 stands for what is expected of a random one.
    """

    lines: Any
    inner: Any
    others: Any
    repeat: Any
    bytes: Any
    bits: int
    choice: Choice
    fullest: float = 0.0

    @property
    def macs(self) -> Any:
        """Multiply-adds that are executed."""
        return self.lines * self.inner * self.others * self.repeat * self.choice.density


class Routine(NamedTuple):
    """A library's kernel for a type; an accelerator is its own library. `fits` go before the shipped constants."""

    library: Library
    dtype: str
    fits: Sequence[Fit] = ()


@dataclass(frozen=True)
class Estimate:
    """The price of one operation, with the parts of its time; FLOPs are those executed.

    `joules_of` are joules by operation and level, `memory_s` the seconds of each level of memory.
    """

    time: Seconds
    memory_s: dict[str, Any]
    joules_of: dict[str, Any]
    bytes: Any
    flops: Any
    library: str
    dtype: str

    @property
    def joules(self) -> Any:
        """Energy of all operations and levels."""
        return sum(self.joules_of.values())


@singledispatch
def abilities(engine: Engine, device: Device, dtype: str) -> Abilities:
    """What the device offers sparse kernels of a type."""
    raise TypeError(f"{type(engine).__name__} is not an engine of {device.name} for {dtype}")


@abilities.register
def _(engine: Processor, device: Device, dtype: str) -> Abilities:  # noqa: ARG001 (one signature)
    peak = device.peak(dtype)
    return Abilities((peak.pattern,) if peak.is_sparse else (), device.axes)


@abilities.register
def _(engine: SystolicArray, device: Device, dtype: str) -> Abilities:  # noqa: ARG001 (one signature)
    return Abilities(engine.patterns, device.axes)


@abilities.register
def _(engine: MatrixEngine, device: Device, dtype: str) -> Abilities:  # noqa: ARG001 (one signature)
    return Abilities(engine.patterns, device.axes)


@abilities.register
def _(engine: TensorCore, device: Device, dtype: str) -> Abilities:  # noqa: ARG001 (one signature)
    return Abilities(STC_PATTERNS, device.axes)


@singledispatch
def estimate(engine: Engine, device: Device, product: Product, routine: Routine) -> Estimate:
    """The price of a product run by a routine of the device."""
    raise TypeError(f"{type(engine).__name__} prices no {product} of {device.name} by {routine}")


@estimate.register
def _(engine: Processor, device: Device, product: Product, routine: Routine) -> Estimate:
    peak, library = device.peak(routine.dtype).dense_flops_per_s, routine.library
    machine = Machine(engine.cores_count, peak, device.memory.bandwidth_bytes_per_s, device.memory.cache_bytes)
    lines, inner, others, repeat, moved, _, choice, _ = product
    work = Work(lines, inner, others, repeat, choice.density, moved, float(library.reuse))
    constants = _constants(device, routine)
    time = product_seconds(work, library.kernel_of(routine.dtype), machine, constants)
    flops = 2 * product.macs
    joules = processor_joules(time.total, flops / peak, moved, device.power_w, device.memory.energy_j_per_byte)
    return Estimate(time, {"main": time.memory}, joules, moved, flops, library.name, routine.dtype)


def _constants(device: Device, routine: Routine) -> Constants:
    """The constants behind a price: fitted, but for the launch, which is the device's; harnesses differ in theirs."""
    known = constants_of(routine.library, device, routine.dtype, (*routine.fits, *shipped_fits()))
    return launched_by(device, known.constants)


@estimate.register
def _(engine: SystolicArray, device: Device, product: Product, routine: Routine) -> Estimate:
    inner = np.ceil(product.inner * product.choice.density)
    array, units = (engine.rows_count, engine.cols_count, engine.dataflow), engine.units_count
    lines, others, repeat = product.lines, product.others, product.repeat
    by_product = -(-repeat // units) * systolic_cycles(others, lines, inner, *array)
    by_column = repeat * systolic_cycles(others, -(-lines // units), inner, *array)
    buffered = 2 * product.macs / engine.rows_count * product.bits / 8
    return _accelerated(device, np.minimum(by_product, by_column) / engine.clock_hz, product, buffered, routine.dtype)


@estimate.register
def _(engine: MatrixEngine, device: Device, product: Product, routine: Routine) -> Estimate:
    tile = (engine.tile_rows_count, engine.tile_cols_count)
    shape = (product.lines, product.inner, product.others, product.repeat)
    cycles = engine_cycles(shape, _executed_share(engine, product), tile, engine.rate_macs_per_cycle)
    buffered = 2 * product.macs / engine.tile_rows_count * product.bits / 8
    return _accelerated(device, cycles / engine.clock_hz, product, buffered, routine.dtype)


def _executed_share(engine: MatrixEngine, product: Product) -> Any:
    """Share of the reduction that the lanes go through: as much as the fullest keeps, where any zero is skipped."""
    density, structure = product.choice.density, product.choice.structure
    if not engine.unstructured or density == 1:
        return density
    if product.fullest:
        return product.fullest
    random = isinstance(structure, Unstructured)
    return density * expected_imbalance(product.inner, density, engine.lanes_count) if random else density


@estimate.register
def _(engine: TensorCore, device: Device, product: Product, routine: Routine) -> Estimate:
    shape = (product.lines, product.inner, product.others)
    made, repeat = run(engine.design, *shape, product.choice.density), product.repeat
    compute, buffer = (repeat * cycles / engine.clock_hz for cycles in (made.mac_cycles, made.buffer_cycles))
    levels = {"buffer": buffer, "main": product.bytes / device.memory.bandwidth_bytes_per_s}
    tail = compute - np.minimum(compute, repeat * made.macs / MACS_PER_CYCLE / engine.clock_hz)
    time = Seconds(0.0, compute, np.maximum(levels["buffer"], levels["main"]), tail)
    joules = {level: repeat * joules for level, joules in made.level_j.items()}
    return Estimate(time, levels, joules, product.bytes, 2 * repeat * made.macs, device.name, routine.dtype)


def _accelerated(device: Device, compute: Any, product: Product, buffered: Any, dtype: str) -> Estimate:
    memory = product.bytes / device.memory.bandwidth_bytes_per_s
    ideal = 2 * product.macs / device.peak(dtype).dense_flops_per_s
    time = Seconds(0.0, compute, memory, compute - np.minimum(compute, ideal))
    joules = accelerator_joules(product.macs, product.bytes, buffered, dtype, device.memory.energy_j_per_byte)
    return Estimate(time, {"main": memory}, joules, product.bytes, 2 * product.macs, device.name, dtype)


def price_pass(device: Device, op: Elementwise, fits: Sequence[Fit] = ()) -> Estimate:
    """The price of one pass: launch and bytes on a processor, bytes elsewhere; nothing where it is fused."""
    flops = op.elements * op.flops_per_element
    if op.kind in FUSED:
        return Estimate(Seconds(0.0, 0.0, 0.0, 0.0), {}, {}, 0.0, flops, "", "")
    rate, moved = device.memory.bandwidth_bytes_per_s, op.bytes_moved
    if isinstance(device.engine, Processor):
        library = pass_library(LIBRARIES[dense_name(device)].platform, op.kind)
        time = pass_seconds(moved, rate, _constants(device, Routine(library, device.usual_dtype, fits)))
    else:
        time = Seconds(0.0, 0.0, moved / rate, 0.0)
    joules = processor_joules(time.total, 0.0, moved, device.power_w, device.memory.energy_j_per_byte)
    return Estimate(time, {"main": time.memory}, joules, moved, flops, "", "")
