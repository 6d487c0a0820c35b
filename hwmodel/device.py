"""Devices: what a file in `devices/` says about one, in SI units, with a source and a certainty for every number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from hwmodel.errors import UserError, unknown
from hwmodel.execution import Along
from hwmodel.libraries import LIBRARIES
from hwmodel.pattern import DENSE, Pattern
from hwmodel.toml import build, read_toml
from hwmodel.units import split_unit, to_si, units_like

T = TypeVar("T")
Certainty = Literal["published", "recalled", "approximate", "assumed", "measured", "fitted"]
CERTAINTIES = {
    "published": "read in the named public source",
    "recalled": "the vendor's datasheet figure, not read again for this file",
    "approximate": "sources differ or round; good to a few percent",
    "assumed": "a choice of this project, with its reason as the source",
    "measured": "timed on the machine itself",
    "fitted": "chosen to meet measured kernels; one more of the numbers of every library that is fitted on the device",
}


DTYPE_BITS = {
    "fp64": 64,
    "fp32": 32,
    "tf32": 32,
    "fp16": 16,
    "bf16": 16,
    "fp16/fp16": 16,
    "fp8": 8,
    "int8": 8,
    "fp4": 4,
}


@dataclass(frozen=True)
class Source:
    """Where one number of a device file comes from, and how sure it is (a key of `CERTAINTIES`)."""

    value: float
    source: str
    certainty: Certainty


@dataclass(frozen=True)
class Peak:
    """Peak rate of one type, dense and on sparse units, where the sparse units run what `pattern` contains.

    A MAC is two FLOPs; the sparse peak counts the FLOPs of the dense product that it replaces.
    """

    dense_flops_per_s: float
    sparse_flops_per_s: float = 0.0
    pattern: Pattern = DENSE

    @property
    def is_sparse(self) -> bool:
        """Whether there are sparse units for this type."""
        return self.sparse_flops_per_s > 0


@dataclass(frozen=True)
class Memory:
    """Main memory and the cache before it."""

    capacity_bytes: float
    bandwidth_bytes_per_s: float
    cache_bytes: float
    energy_j_per_byte: float


@dataclass(frozen=True)
class Processor:
    """A GPU or CPU: `cores` that each compute tiles of a product.

    `launch_s` is what starting one kernel adds where they run one after another, whichever library they are of.
    """

    cores_count: int
    clock_hz: float
    launch_s: float


@dataclass(frozen=True)
class SystolicArray:
    """`units` arrays of `rows` x `cols` multiply-adders; `patterns` shorten the reduction to what they keep."""

    rows_count: int
    cols_count: int
    units_count: int
    clock_hz: float
    dataflow: Literal["os", "ws", "is"]
    patterns: tuple[Pattern, ...] = ()


@dataclass(frozen=True)
class TensorCore:
    """A sparse tensor core in the sense of Sparseloop (arXiv 2205.05826): one design of `hwmodel.stc`."""

    design: Literal["TC", "STC", "STC_flexible"]
    clock_hz: float


@dataclass(frozen=True)
class MatrixEngine:
    """A matrix engine whose speed follows the sparsest of `patterns` that contains the operand's.

    An engine with `unstructured = true` skips any zero, and waits for its fullest lane: `lanes` rows in lock-step.
    """

    rate_macs_per_cycle: float
    clock_hz: float
    tile_rows_count: int
    tile_cols_count: int
    lanes_count: int
    patterns: tuple[Pattern, ...] = ()
    unstructured: bool = False


Engine = Processor | SystolicArray | TensorCore | MatrixEngine
FAMILIES: dict[str, type[Any]] = {
    "gpu": Processor,
    "cpu": Processor,
    "systolic": SystolicArray,
    "stc": TensorCore,
    "matrix": MatrixEngine,
}


@dataclass(frozen=True)
class Device:
    """One device. `peaks` by type; "fp16/fp16" is fp16 with fp16 accumulation, other types accumulate in fp32 (int32).

    `axes` are the grouped axes that sparse execution exploits: "reduction" (groups along the sum), "output" (groups
    along the other axis of a weight), "result" (only kept positions of a result are computed). `libraries` are the
    kernels that a processor can choose from. `like` are the devices whose fits stand in for a library that was not
    timed here, nearest first; they are named, not computed, so that the choice does not turn with a number above.
    """

    name: str
    family: str
    summary: str
    engine: Engine
    memory: Memory
    peaks: dict[str, Peak]
    power_w: float
    axes: tuple[Along, ...] = ()
    libraries: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    sources: dict[str, Source] = field(default_factory=dict)

    @property
    def fitted(self) -> tuple[str, ...]:
        """The keys of numbers that were chosen to meet measured kernels."""
        return tuple(key for key, source in self.sources.items() if source.certainty == "fitted")

    @property
    def usual_dtype(self) -> str:
        """The type that is priced where none is named: of 16 bits where there is one, as sparse units want it."""
        return next((name for name in ("fp16", "bf16", "fp32") if name in self.peaks), next(iter(self.peaks)))

    def peak(self, dtype: str) -> Peak:
        """The peak of a type. Raises `UserError` with the device's types for another."""
        if dtype not in self.peaks:
            raise UserError(f"{self.name}: {unknown('dtype', dtype, self.peaks)}")
        return self.peaks[dtype]


def load_device(device: str | Path) -> Device:
    """The device of a name or alias ("a100"), or of a user's file (a path that ends in .toml).

    Raises `UserError` for an unknown name, and for a missing, negative or unit-less key with its expected unit.
    """
    if str(device).endswith(".toml"):
        return read_device(Path(device))
    known = _shipped()
    if str(device).lower() not in known:
        raise unknown("device", str(device), known)
    return known[str(device).lower()]


def shipped_devices() -> list[Device]:
    """The devices that come with the package, by name."""
    return sorted({device.name: device for device in _shipped().values()}.values(), key=lambda device: device.name)


@cache
def _shipped() -> Mapping[str, Device]:
    found: dict[str, Device] = {}
    for entry in sorted(files("hwmodel").joinpath("devices").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            device = read_device(Path(str(entry)))
            found |= dict.fromkeys((device.name, *device.aliases), device)
    return found


def read_device(path: Path) -> Device:
    """The device of a file, checked key by key."""
    table = read_toml(path)
    sources: dict[str, Source] = {}
    plain = _numbers(table, str(path), "", sources)
    family = plain.get("family")
    if family not in FAMILIES:
        raise UserError(f"{path}: {unknown('family', str(family), FAMILIES)}")
    parts = {"engine": FAMILIES[family], "memory": Memory}
    for key, cls in parts.items():
        plain[key] = _part(cls, plain.get(key, {}), f"{path}: {key}")
    plain["peaks"] = {k: _part(Peak, v, f"{path}: peaks.{k}") for k, v in plain.get("peaks", {}).items()}
    device = _part(Device, plain | {"sources": sources}, str(path))
    _check(device, path)
    return device


def _check(device: Device, path: Path) -> None:
    """Raise `UserError` for types, libraries or sparse peaks that nothing can be priced with."""
    if not device.peaks:
        raise UserError(f"{path}: missing table [peaks.TYPE] (types: {', '.join(DTYPE_BITS)})")
    for dtype, peak in device.peaks.items():
        if dtype not in DTYPE_BITS:
            raise UserError(f"{path}: peaks: {unknown('dtype', dtype, DTYPE_BITS)}")
        if peak.is_sparse == peak.pattern.is_dense:
            raise UserError(f"{path}: peaks.{dtype}: give both the sparse peak and its pattern, or neither")
    for name in device.libraries:
        if name not in LIBRARIES:
            raise UserError(f"{path}: libraries: {unknown('library', name, LIBRARIES)}")
    for name in device.like:
        if not files("hwmodel").joinpath("devices").joinpath(f"{name}.toml").is_file():
            raise UserError(f"{path}: like: {unknown('device', name, _shipped())}")
    kinds = {LIBRARIES[name].kind for name in device.libraries}
    if isinstance(device.engine, Processor) and "dense" not in kinds:
        dense = ", ".join(name for name, library in LIBRARIES.items() if library.kind == "dense")
        raise UserError(f"{path}: libraries = {list(device.libraries)}: needs a dense one ({dense})")


def _numbers(table: Mapping[str, Any], path: str, prefix: str, sources: dict[str, Source]) -> dict[str, Any]:
    """The table with every `{ value, source, certainty }` as a plain number in SI; sources by the dotted file key."""
    plain: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{prefix}{key}"
        if isinstance(value, dict) and "value" in value:
            sources[where] = build(Source, value, f"{path}: {where}")
            si_key, si_value = _checked(key, sources[where].value, f"{path}: {where}")
            plain[si_key] = si_value
        elif isinstance(value, dict):
            plain[key] = _numbers(value, path, f"{where}.", sources)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            raise UserError(f"{path}: {where} = {value}: write {{ value = {value}, source = ..., certainty = ... }}")
        else:
            plain[key] = value
    return plain


def _checked(key: str, value: float, where: str) -> tuple[str, float]:
    if value < 0:
        raise UserError(f"{where} = {value:g}: a negative number; needs one above 0")
    if not 0 < value < math.inf:
        raise UserError(f"{where} = {value:g}: needs a number above 0")
    if key.endswith("_count") and value != int(value):
        raise UserError(f"{where} = {value:g}: a count; needs a whole number")
    si_key, si_value = to_si(key, value)
    return si_key, int(si_value) if si_key.endswith("_count") else si_value


def _part(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """The dataclass `cls` from a table in SI; a missing or unit-less key is named with the units it may have."""
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]  # T is a dataclass of this module
    for key in table:
        quantity, unit = split_unit(key)
        meant = next((name for name in known if split_unit(name)[0] == quantity), key)
        if key not in known and meant == key:
            raise UserError(f"{where}: {unknown('key', key, known)}")
        if key not in known:
            got = f"is given in {unit}" if unit else "has no unit"
            raise UserError(f"{where}: {quantity} {got}; write {' or '.join(_spellings(meant))}")
    for f in known.values():
        if f.name not in table and split_unit(f.name)[1] and not _has_default(f):
            raise UserError(f"{where}: missing key {' or '.join(_spellings(f.name))}")
    return build(cls, table, where)


def _spellings(si_key: str) -> list[str]:
    quantity, _ = split_unit(si_key)
    return [f"{quantity}_{unit}" for unit in units_like(si_key)]


def _has_default(f: Field[Any]) -> bool:
    return f.default is not MISSING or f.default_factory is not MISSING


def cpu_device(
    fma_flops_per_s: float, bytes_per_s: float, *, cores: int = 1, memory_bytes: float = 16e9, name: str = "cpu"
) -> Device:
    """This host: the shipped "cpu" with the measured rate of fused multiply-adds of `cores` and of memory.

    Both rates are those of all `cores` together. Raises `UserError` unless all numbers are above zero.
    """
    for key, value in (("fma_flops_per_s", fma_flops_per_s), ("bytes_per_s", bytes_per_s), ("cores", cores)):
        if value <= 0:
            raise UserError(f"{key} = {value:g}: needs a measured rate above zero")
    base = load_device("cpu")
    probe = {
        key: Source(value, "probe of this machine", "measured")
        for key, value in (
            ("engine.cores_count", cores),
            ("peaks.fp32.dense_flops_per_s", fma_flops_per_s),
            ("memory.bandwidth_bytes_per_s", bytes_per_s),
        )
    }
    return replace(
        base,
        name=name,
        engine=replace(cast("Processor", base.engine), cores_count=cores),
        memory=replace(base.memory, capacity_bytes=memory_bytes, bandwidth_bytes_per_s=bytes_per_s),
        peaks={"fp32": Peak(fma_flops_per_s)},
        sources=base.sources | probe,
    )
