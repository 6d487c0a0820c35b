"""Fitted constants of libraries: the shipped ones, and files of a user's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from hwmodel.device import Device, load_device
from hwmodel.errors import UserError, unknown
from hwmodel.libraries import LIBRARIES, library_named
from hwmodel.processor import BOUNDS
from hwmodel.toml import build, read_toml


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

    @property
    def numbers(self) -> int:
        """Numbers chosen to meet the rows: constants, tiles, and those of the device's file that were fitted too."""
        return LIBRARIES[self.library].numbers(self.dtype) + len(load_device(self.device).fitted)


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
    """The fits that come with the package: of this project's own host, and of published tables."""
    data = files("hwmodel").joinpath("data")
    return tuple(fit for name in ("host_fits.toml", "fits.toml") for fit in read_fits(Path(str(data.joinpath(name)))))


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
