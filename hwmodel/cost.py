"""The price of a workload on a device: seconds, joules, bytes and FLOPs, and what bounds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from hwmodel.device import DTYPE_BITS, Device
from hwmodel.engines import Estimate, Product, Routine, abilities, estimate, price_pass
from hwmodel.errors import UserError, unknown
from hwmodel.execution import Kind, execution, with_bits
from hwmodel.fits import Fit
from hwmodel.libraries import LIBRARIES, Library
from hwmodel.transfer import dense_name
from hwmodel.workload import Elementwise, Gemm, MaskStatistics, Op, Phase, Workload


@dataclass(frozen=True)
class Cost:
    """What a workload costs on a device. Costs add, and multiply by a number of times.

    seconds, joules: modelled. bytes: moved between main memory and the chip. flops: executed (a product that can't use
    its sparsity executes the dense ones). bound: "launch", "compute" or "memory", the largest part of the time.
    library, dtype: the kernels and types used. launch_s, compute_s, memory_s, tail_s: parts of the time; compute and
    memory overlap, and the tail is the share of compute in which cores wait for the last wave. waves: rounds of tiles,
    one a core. memory_levels_s: seconds that each level of memory is busy; they overlap too. joules_of: the energy by
    operation and level.
    """

    seconds: float = 0.0
    joules: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0
    bound: str = ""
    library: str = ""
    dtype: str = ""
    launch_s: float = 0.0
    compute_s: float = 0.0
    memory_s: float = 0.0
    tail_s: float = 0.0
    waves: float = 0.0
    memory_levels_s: dict[str, float] = field(default_factory=dict)
    joules_of: dict[str, float] = field(default_factory=dict)

    def __add__(self, other: Cost) -> Cost:
        launch, compute = self.launch_s + other.launch_s, self.compute_s + other.compute_s
        memory = self.memory_s + other.memory_s
        return Cost(
            self.seconds + other.seconds,
            self.joules + other.joules,
            self.bytes + other.bytes,
            self.flops + other.flops,
            bound_of(launch, compute, memory),
            _joined(self.library, other.library),
            _joined(self.dtype, other.dtype),
            launch,
            compute,
            memory,
            self.tail_s + other.tail_s,
            self.waves + other.waves,
            _summed(self.memory_levels_s, other.memory_levels_s),
            _summed(self.joules_of, other.joules_of),
        )

    def __mul__(self, times: int) -> Cost:
        return Cost(
            self.seconds * times,
            self.joules * times,
            self.bytes * times,
            self.flops * times,
            self.bound,
            self.library,
            self.dtype,
            self.launch_s * times,
            self.compute_s * times,
            self.memory_s * times,
            self.tail_s * times,
            self.waves * times,
            {level: seconds * times for level, seconds in self.memory_levels_s.items()},
            {level: joules * times for level, joules in self.joules_of.items()},
        )

    @property
    def macs(self) -> float:
        """Multiply-adds executed, half the FLOPs."""
        return self.flops / 2


NO_MASKS: Mapping[str, MaskStatistics] = MappingProxyType({})
PREFERRED = ("fp32", "fp16", "bf16", "int8", "fp8", "fp4")


def price(
    workload: Workload,
    device: Device,
    *,
    library: str = "best",
    dtype: str = "auto",
    masks: Mapping[str, MaskStatistics] = NO_MASKS,
    fits: Sequence[Fit] = (),
) -> Cost:
    """What the workload costs on the device, operation by operation; equal ones, as of equal blocks, are priced once.

    `library` "best" takes the fastest of the device's libraries for each product. `dtype` "auto" takes the device's
    type of the operands' width; a named type prices the products with values of its width (passes keep their bytes).
    `masks` are statistics of a run's real masks by site, for engines that wait for the fullest row.
    `fits` are constants of your own (`hwmodel.fits.read_fits`), which go before the shipped ones.
    Raises `UserError` for a library or type that the device doesn't have.
    """
    alike: dict[tuple[Any, ...], list[Op]] = {}
    for op in workload:
        alike.setdefault((op.sizes, (op.site, op.phase) if op.site in masks else ""), []).append(op)
    together = (replace(ops[0], times=sum(op.times for op in ops)) for ops in alike.values())
    costs = (price_op(op, device, library=library, dtype=dtype, masks=masks, fits=fits) for op in together)
    return sum(costs, Cost())


def price_op(
    op: Op,
    device: Device,
    *,
    library: str = "best",
    dtype: str = "auto",
    masks: Mapping[str, MaskStatistics] = NO_MASKS,
    fits: Sequence[Fit] = (),
) -> Cost:
    """What one operation costs on the device."""
    if isinstance(op, Elementwise):
        return _cost(price_pass(device, op, fits)) * op.times
    used = type_of(device, op.a.bits) if dtype == "auto" else dtype
    device.peak(used)
    gemm = with_bits(op, DTYPE_BITS[used])
    fullest = _fullest(masks[op.site], op.phase) if op.site in masks else 0.0
    chosen = kernels(gemm, device, used, library)
    estimates = [_estimate(gemm, device, Routine(kernel, used, fits), fullest) for kernel in chosen]
    return _cost(min(estimates, key=lambda made: float(made.time.total))) * op.times


def kernels(gemm: Gemm, device: Device, dtype: str, library: str = "best") -> list[Library]:
    """The libraries to choose from for a product: those of the device that can use its sparsity, and the dense one.

    A named library is taken alone where it can use the product's sparsity; where it can't, the dense one runs.
    Raises `UserError` for a library that the device doesn't have.
    """
    known = libraries_of(device)
    if library == "best":
        names = device.libraries or (device.name,)
    elif library in known:
        names = (library,)
    else:
        raise UserError(f"{device.name}: {unknown('library', library, known)}")
    able = abilities(device.engine, device, dtype)
    useful = [known[name] for name in names if not execution(gemm, known[name].kind, able).is_dense]
    dense = known[dense_name(device)] if device.libraries else known[device.name]
    return useful if useful and library != "best" else [*useful, dense]


def libraries_of(device: Device) -> dict[str, Library]:
    """The libraries that may be asked for by name: those of the processor's platform, or the accelerator itself."""
    if not device.libraries:
        kind: Kind = "skipping" if getattr(device.engine, "unstructured", False) else "hardware"
        return {device.name: Library(device.name, "host", kind, (), ())}
    platform = LIBRARIES[dense_name(device)].platform
    return {name: lib for name, lib in LIBRARIES.items() if lib.platform == platform and lib.kind != "pass"}


def _fullest(mask: MaskStatistics, phase: Phase) -> float:
    """Share kept of a mask's fullest line: a row of the weight, or a column where the transposed weight multiplies."""
    if phase == "dgrad":
        return mask.kept_per_column_max / mask.rows
    return mask.kept_per_row_max / mask.cols


def _estimate(gemm: Gemm, device: Device, routine: Routine, fullest: float) -> Estimate:
    made = execution(gemm, routine.library.kind, abilities(device.engine, device, routine.dtype))
    sizes = (made.lines, gemm.inner, made.others, gemm.repeat)
    product = Product(*sizes, made.bytes, gemm.a.bits, made.choice, fullest)
    return estimate(device.engine, device, product, routine)


def type_of(device: Device, bits: int) -> str:
    """The device's type for values of `bits`. Raises `UserError` when it has none."""
    for name in PREFERRED:
        if DTYPE_BITS[name] == bits and name in device.peaks:
            return name
    raise UserError(f"{device.name}: no {bits}-bit type (dtypes: {', '.join(device.peaks)}); pass dtype or bits")


def bound_of(launch_s: float, compute_s: float, memory_s: float) -> str:
    """The largest part of the time: "launch", "compute" or "memory"; "" when there is none."""
    parts = {"compute": compute_s, "memory": memory_s, "launch": launch_s}
    largest = max(parts, key=parts.__getitem__)
    return largest if parts[largest] > 0 else ""


def _cost(made: Estimate) -> Cost:
    launch, compute, memory, tail, waves = (float(part) for part in made.time)
    return Cost(
        float(made.time.total),
        float(made.joules),
        float(made.bytes),
        float(made.flops),
        bound_of(launch, compute, memory),
        made.library,
        made.dtype,
        launch,
        compute,
        memory,
        tail,
        waves,
        {level: float(seconds) for level, seconds in made.memory_s.items()},
        {level: float(joules) for level, joules in made.joules_of.items()},
    )


def _summed(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    """The numbers of both sides, those of the same name added."""
    return {name: a.get(name, 0.0) + b.get(name, 0.0) for name in {**a, **b}}


def _joined(a: str, b: str) -> str:
    """Names of both sides, each once, in alphabetical order."""
    names = {name for side in (a, b) for name in side.split(" + ") if name}
    return " + ".join(sorted(names))
