"""`nmsim devices`: what can be priced, where its numbers come from, and the fitted constants with their errors."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from hwmodel.device import CERTAINTIES, Device, load_device, shipped_devices
from hwmodel.fits import shipped_fits
from hwmodel.libraries import KINDS, LIBRARIES
from hwmodel.processor import BOUNDS

from ..terminal import console

TYPES = ("fp16", "fp32")  # one of matrix units, one of plain lanes


def devices(
    name: str = "",
    *,
    fits: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """List the devices; with a name or a file, every number of one with its source; with --fits, the fitted constants.

    Args:
        name: A device or alias, or the path of a device file.
        fits: List the constants of every library on every device and type, with meaning, bounds and errors.
        as_json: Print JSON.
    """
    if fits:
        _fits(as_json=as_json)
    elif name:
        _one(load_device(name), as_json=as_json)
    else:
        _all(as_json=as_json)


def _all(*, as_json: bool) -> None:
    known = shipped_devices()
    if as_json:
        sys.stdout.write(json.dumps([_plain(device) for device in known], indent=1) + "\n")
        return
    table = Table("device", "aliases", "what it is", "types (2:4 marked *)", box=None)
    for device in known:
        types = ", ".join(f"{name}{'*' * peak.is_sparse}" for name, peak in device.peaks.items())
        table.add_row(device.name, ", ".join(device.aliases), device.summary, types)
    console().print(table)


def _one(device: Device, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(_plain(device), indent=1) + "\n")
        return
    table = Table("number", "value", "certainty", "source", title=device.summary, box=None)
    for key, source in device.sources.items():
        table.add_row(key, f"{source.value:g}", source.certainty, source.source)
    made = console()
    made.print(table)
    for certainty, meaning in CERTAINTIES.items():
        made.print(f"{certainty}: {meaning}")


def _plain(device: Device) -> dict[str, object]:
    sources = {key: asdict(source) for key, source in device.sources.items()}
    names = {"name": device.name, "family": device.family, "summary": device.summary, "aliases": list(device.aliases)}
    return names | {"dtypes": list(device.peaks), "libraries": list(device.libraries), "numbers": sources}


def _fits(*, as_json: bool) -> None:
    if as_json:
        bounds = {name: {"lower": low, "upper": up, "meaning": text} for name, (low, up, text) in BOUNDS.items()}
        made = {"constants": bounds, "fits": [asdict(fit) | {"numbers": fit.numbers} for fit in shipped_fits()]}
        sys.stdout.write(json.dumps(made, indent=1) + "\n")
        return
    screen = console()
    for name, (lower, upper, meaning) in BOUNDS.items():
        screen.print(f"{name}: {meaning}; {lower:g} to {upper:g}")
    libraries = Table("library", "runs", "tiles (0: the rows that share a gathered row)", "on plain lanes", box=None)
    for library in LIBRARIES.values():
        tiles = (", ".join(f"{rows}x{cols}" for rows, cols in library.kernel_of(dtype).tiles) for dtype in TYPES)
        libraries.add_row(library.name, KINDS[library.kind], *tiles)
    screen.print(libraries)
    table = Table("library", "device", "type", "numbers", "rows", "median %", "p90 %", "constants", "source", box=None)
    for fit in shipped_fits():
        constants = ", ".join(f"{name} {value:g}" for name, value in fit.constants.items())
        errors = (f"{fit.median_percent:.1f}", f"{fit.p90_percent:.1f}")
        table.add_row(
            fit.library, fit.device, fit.dtype, str(fit.numbers), str(fit.rows), *errors, constants, fit.source
        )
    screen.print(table)
