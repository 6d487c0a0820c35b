"""The model card of the hardware model: every number of every device and library, with its source, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hwmodel.device import CERTAINTIES, Device, shipped_devices
from hwmodel.fits import shipped_fits
from hwmodel.processor import BOUNDS

from . import markdown
from .page import Column

NUMBERS = (
    Column("number", "number, unit in its name"),
    Column("value", "value", "{:g}"),
    Column("certainty", "certainty"),
    Column("source", "source"),
)
MEANINGS = (
    Column("constant", "constant"),
    Column("meaning", "meaning"),
    Column("lower", "from", "{:g}"),
    Column("upper", "to", "{:g}"),
)
FITS = (
    Column("library", "library"),
    Column("device", "device"),
    Column("dtype", "type"),
    Column("numbers", "numbers", "{:d}"),
    Column("rows", "rows", "{:d}"),
    Column("median_percent", "median error %", "{:.1f}"),
    Column("p90_percent", "90th percentile %", "{:.1f}"),
    Column("constants", "constants"),
    Column("source", "source"),
)


def model_card() -> str:
    """The whole page."""
    return "\n\n".join(_parts()) + "\n"


def _parts() -> Iterator[str]:
    yield "# The model card: every constant with its source"
    yield "Written from the device files and fits of the package. How the numbers are used is in [](hardware-model.md)."
    yield "\n".join(f"- **{certainty}**: {meaning}" for certainty, meaning in CERTAINTIES.items())
    yield "## Fitted constants"
    meanings = [
        {"constant": key, "lower": low, "upper": up, "meaning": text} for key, (low, up, text) in BOUNDS.items()
    ]
    yield markdown.table(pd.DataFrame(meanings), MEANINGS)
    yield "Each fit with its error on the rows that it was fitted to, in absolute percent of the measured time."
    fits = [
        vars(fit)
        | {"numbers": fit.numbers, "constants": ", ".join(f"{key} {value:g}" for key, value in fit.constants.items())}
        for fit in shipped_fits()
    ]
    yield markdown.table(pd.DataFrame(fits), FITS)
    yield "## Devices"
    for device in shipped_devices():
        yield from _device(device)


def _device(device: Device) -> Iterator[str]:
    yield f"### {device.name}"
    yield f"{device.summary}. Family `{device.family}`."
    yield markdown.table(pd.DataFrame([{"number": key} | vars(s) for key, s in device.sources.items()]), NUMBERS)
