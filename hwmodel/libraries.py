"""Kernel libraries: the sparsity each uses, its tiles, and its fitted constants on a device and type."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from hwmodel.device import Device, load_device
from hwmodel.errors import UserError, unknown
from hwmodel.execution import Kind
from hwmodel.processor import BOUNDS
from hwmodel.toml import build, read_toml

KINDS = {
    "dense": "every product, dense",
    "hardware": "patterns that the sparse units' own (2:4) contains",
    "selected": "V:N:M, 2 of 4 selected columns of m, shared by V rows, on sparse units",
    "vector": "N:M whose positions are shared by vectors of outputs",
    "unstructured": "any mask of one operand",
    "skipping": "any mask of one operand, in its smallest layout",
    "groups": "any N:M mask",
    "pass": "pointwise and row-wise passes",
}
LOADS_AHEAD = ("dense", "hardware", "selected", "vector")


@dataclass(frozen=True)
class Library:
    """One library of kernels on a platform. `tiles` are the same on every device; 0 rows stand for the reuse of a row.

    `vector_tiles` are those of its kernels without matrix units (fp32), where they differ.

    `free` names the constants that are fitted; the others keep their `fixed` value. Tiles and free constants together
    are the numbers of the library on a device and type: at most six. `power_of_two` kernels pad n to a power of two.
    """

    name: str
    platform: Literal["cuda", "rocm", "host"]
    kind: Kind
    tiles: tuple[tuple[int, int], ...]
    free: tuple[str, ...]
    fixed: dict[str, float] = field(default_factory=dict)
    vector_tiles: tuple[tuple[int, int], ...] = ()
    reuse: int = 1
    power_of_two: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def loads_ahead(self) -> bool:
        """Whether its kernels fetch the next operands while they compute."""
        return self.kind in LOADS_AHEAD

    def tiles_of(self, dtype: str) -> tuple[tuple[int, int], ...]:
        """The tiles that its kernels for a type choose from."""
        return self.vector_tiles if self.vector_tiles and dtype == "fp32" else self.tiles

    @property
    def numbers(self) -> int:
        """Numbers that describe it on one device and type: fitted constants and tiles."""
        return len(self.free) + len(self.tiles) + len(self.vector_tiles)


_DENSE = ("host_s", "launch_s", "mac_cost", "bandwidth_share")
_SMALL_TILE = ((32, 64),)
LIBRARIES = {
    library.name: library
    for library in (
        Library("cuBLAS", "cuda", "dense", ((64, 128),), _DENSE, vector_tiles=_SMALL_TILE, aliases=("cuBLASLt",)),
        Library("rocBLAS", "rocm", "dense", _SMALL_TILE, _DENSE),
        Library("hipBLASLt", "rocm", "dense", _SMALL_TILE, _DENSE),
        Library("cuSPARSELt", "cuda", "hardware", ((256, 128),), ("host_s", "launch_s", "mac_cost", "bandwidth_share")),
        Library("hipSPARSELt", "rocm", "hardware", _SMALL_TILE, _DENSE),
        Library(
            "Spatha",
            "cuda",
            "selected",
            ((0, 64),),
            ("launch_s", "mac_cost", "step_cost", "gather_cost", "bandwidth_share"),
            {"window_bytes": 1e12},
            reuse=128,
            aliases=("VENOM",),
        ),
        Library(
            "NM-SpMM", "cuda", "vector", ((32, 32),), ("launch_s", "mac_cost", "step_cost", "bandwidth_share"), reuse=32
        ),
        Library(
            "nmSPARSE",
            "cuda",
            "vector",
            ((32, 32),),
            ("launch_s", "mac_cost", "step_cost", "bandwidth_share"),
            reuse=32,
            power_of_two=True,
        ),
        Library(
            "Sputnik",
            "cuda",
            "unstructured",
            ((32, 32),),
            ("launch_s", "mac_cost", "step_cost", "gather_cost", "window_bytes"),
        ),
        Library(
            "CLASP",
            "cuda",
            "unstructured",
            ((32, 32),),
            ("launch_s", "mac_cost", "step_cost", "gather_cost"),
            {"window_bytes": 1e12},
            reuse=8,
        ),
        Library("NumPy", "host", "dense", ((16, 16),), _DENSE),
        Library("nmsim", "host", "groups", ((16, 16),), ("launch_s", "mac_cost", "step_cost", "bandwidth_share")),
        Library("nmsim passes", "host", "pass", (), ("launch_s", "bandwidth_share")),
        Library("PyTorch softmax", "cuda", "pass", (), ("host_s", "launch_s", "bandwidth_share")),
        Library("PyTorch layernorm", "cuda", "pass", (), ("host_s", "launch_s", "bandwidth_share")),
        Library("PyTorch gelu", "cuda", "pass", (), ("host_s", "launch_s", "bandwidth_share")),
    )
}
ALIASES = {alias: library.name for library in LIBRARIES.values() for alias in library.aliases}


@dataclass(frozen=True)
class Fit:
    """Constants of a library on a device and type, fitted to `rows` measurements, with their errors in percent."""

    library: str
    device: str
    dtype: str
    constants: dict[str, float]
    rows: int
    median_percent: float
    p90_percent: float
    source: str


def library_named(name: str) -> Library:
    """The library of that name or alias. Raises `UserError` for another."""
    name = ALIASES.get(name, name)
    if name not in LIBRARIES:
        raise unknown("library", name, LIBRARIES)
    return LIBRARIES[name]


def pass_library(platform: str, kind: str) -> Library:
    """The library of a pointwise or row-wise operation: softmax and norms have kernels of their own on a GPU."""
    if platform == "host":
        return LIBRARIES["nmsim passes"]
    family = next((name for name in ("softmax", "norm") if name in kind), "gelu").replace("norm", "layernorm")
    return LIBRARIES[f"PyTorch {family}"]


def read_fits(path: Path, own: Sequence[Device] = ()) -> list[Fit]:
    """The fits of a file that `nmsim calibrate` wrote; `own` are devices of a user's files, which it may name too.

    Raises `UserError` for a file without fits, an unknown library, device or type, and for a constant that is missing,
    unknown or outside its bounds.
    """
    table = read_toml(path)
    entries = table.get("fit")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: no [[fit]]; nmsim calibrate writes such files")
    fits = [build(Fit, entry, f"{path}: fit[{i}]") for i, entry in enumerate(entries)]
    for i, fit in enumerate(fits):
        try:
            _check(fit, own)
        except UserError as error:
            raise UserError(f"{path}: fit[{i}]: {error}") from None
    return fits


def _check(fit: Fit, own: Sequence[Device]) -> None:
    library = library_named(fit.library)
    device = next((device for device in own if device.name == fit.device), None) or load_device(fit.device)
    device.peak(fit.dtype)
    missing = [name for name in library.free if name not in fit.constants]
    if missing:
        raise UserError(f"{fit.library}: missing constant {missing[0]} (needs: {', '.join(library.free)})")
    for name, value in fit.constants.items():
        if name not in BOUNDS:
            raise unknown("constant", name, BOUNDS)
        lower, upper, _ = BOUNDS[name]
        if not lower * 0.999 <= value <= upper * 1.001:
            raise UserError(f"{fit.library}: {name} = {value:g} is outside {lower:g} to {upper:g}")


@cache
def shipped_fits() -> tuple[Fit, ...]:
    """The fits that come with the package."""
    return tuple(read_fits(Path(str(files("hwmodel").joinpath("data").joinpath("fits.toml")))))


def write_fits(fits: Iterable[Fit], path: Path) -> None:
    """Write fits as a file that `read_fits` reads, each with its errors and source."""
    path.write_text("\n".join(map(_entry, fits)), encoding="utf-8")


def _entry(fit: Fit) -> str:
    constants = ", ".join(f"{name} = {value:g}" for name, value in fit.constants.items())
    names = ("library", "device", "dtype", "source")
    lines = [f"{name} = {json.dumps(getattr(fit, name))}" for name in names]
    counts = (
        f"rows = {fit.rows}",
        f"median_percent = {fit.median_percent:.1f}",
        f"p90_percent = {fit.p90_percent:.1f}",
    )
    return "\n".join(("[[fit]]", *lines, *counts, f"constants = {{ {constants} }}", ""))
