"""Constants of a library on a device: its own fit, or the fit of another device carried over.

A library that was never timed on a device takes its constants from the first device that its file names as `like` it
and on which the library was timed; a fit of the same type goes before one of the same units (matrix units or plain
lanes) and that before any other. Costs are carried over in proportion to the dense kernels' cost on both devices, or,
for kernels on plain lanes that wait for loads, in proportion to the lanes of a core. The launch, the host's time and
the bandwidth share are those of this device's own dense kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hwmodel.device import Device, Processor, load_device
from hwmodel.fits import Fit
from hwmodel.libraries import LIBRARIES, Library
from hwmodel.processor import BOUNDS, Constants

ASSUMED = {
    "host_s": 5e-6,
    "launch_s": 5e-6,
    "mac_cost": 1.15,
    "step_cost": 0.05,
    "gather_cost": 10.0,
    "window_bytes": 1e3,
    "bandwidth_share": 0.8,
}
"""Where no device was timed: a kernel at 87 % of peak and 80 % of bandwidth, launched in 5 us."""
UNUSED = {"host_s": 0.0, "launch_s": 0.0, "mac_cost": 1.0, "step_cost": 0.0, "gather_cost": 0.0, "window_bytes": 1.0}
"""What a constant is for a library that doesn't have it."""
SHARED = ("host_s", "launch_s", "bandwidth_share")
PLAIN_LANES = ("fp32", "fp64")
"""Types that run on plain lanes; all others run on matrix units."""
CARRIED = ("mac_cost", "step_cost", "gather_cost")


class Known(NamedTuple):
    """Constants, and how they are known: "fitted", "carried over from DEVICE" or "assumed"."""

    constants: Constants
    basis: str


def constants_of(library: Library, device: Device, dtype: str, fits: Sequence[Fit]) -> Known:
    """The constants of a library on a device and type, from the best of `fits`."""
    own = find(fits, library.name, device.name, dtype)
    dense = find(fits, dense_name(device), device.name, dtype)
    shared = {} if dense is None else {name: dense.constants[name] for name in SHARED if name in dense.constants}
    if own is not None:
        return Known(_filled(library, shared | own.constants), "fitted")
    donor = _donor(library, device, dtype, fits)
    if donor is None:
        return Known(_filled(library, shared), "assumed")
    bound_by_loads = library.kind in ("vector", "unstructured")
    theirs = _timed(donor, device)
    ratio = _lane_ratio(device, dtype, donor, theirs) if bound_by_loads else _dense_ratio(dense, donor, theirs, fits)
    carried = {
        name: value * ratio if name in CARRIED else value
        for name, value in donor.constants.items()
        if name not in shared
    }
    return Known(_filled(library, shared | carried), f"carried over from {donor.device}")


def launched_by(device: Device, constants: Constants) -> Constants:
    """The constants of a kernel among others: the start of one is the device's, not that of a harness's loop."""
    assert isinstance(device.engine, Processor), f"{device.name} has no cores"  # noqa: S101 (fits are of processors)
    return constants._replace(host_s=0.0, launch_s=device.engine.launch_s)


def find(fits: Sequence[Fit], library: str, device: str, dtype: str) -> Fit | None:
    """The fit of exactly that library, device and type."""
    return next((f for f in fits if (f.library, f.device, f.dtype) == (library, device, dtype)), None)


def dense_name(device: Device) -> str:
    """The dense library of a processor."""
    return next(name for name in device.libraries if LIBRARIES[name].kind == "dense")


def _donor(library: Library, device: Device, dtype: str, fits: Sequence[Fit]) -> Fit | None:
    """The fit that stands in for one of the library on the device and type; the first one where none is better.

    No rate of the device has a say: with one, more bandwidth could turn to a worse fit and so be slower.
    """
    order = {name: i for i, name in enumerate((device.name, *device.like))}

    def rank(fit: Fit) -> tuple[bool, bool, int]:
        units = (fit.dtype in PLAIN_LANES) == (dtype in PLAIN_LANES)
        return fit.dtype != dtype, not units, order.get(fit.device, len(order))

    return min((fit for fit in fits if fit.library == library.name), key=rank, default=None)


def _timed(fit: Fit, device: Device) -> Device:
    """The device that a fit is of: this one, which may be of a user's file, or one of the catalogue."""
    return device if fit.device == device.name else load_device(fit.device)


def _lane_ratio(device: Device, dtype: str, donor: Fit, theirs: Device) -> float:
    """FLOPs a core and cycle at peak on this device over those on the donor.

    A kernel that waits for its loads does as much a core and cycle on both, so its cost over peak grows with the lanes.
    """
    return _lanes(device, dtype) / _lanes(theirs, donor.dtype)


def _lanes(device: Device, dtype: str) -> float:
    assert isinstance(device.engine, Processor), f"{device.name} has no cores"  # noqa: S101 (fits are of processors)
    return device.peak(dtype).dense_flops_per_s / (device.engine.cores_count * device.engine.clock_hz)


def _dense_ratio(dense: Fit | None, donor: Fit, theirs: Device, fits: Sequence[Fit]) -> float:
    """Cost of a dense multiply-add on this device over that on the donor; 1 where either was not timed."""
    base = find(fits, dense_name(theirs), donor.device, donor.dtype)
    if dense is None or base is None:
        return 1.0
    return dense.constants["mac_cost"] / base.constants["mac_cost"]


def _filled(library: Library, known: dict[str, float]) -> Constants:
    """All constants: those known, the library's fixed ones, what was assumed of its free ones; within their bounds."""
    values = UNUSED | {name: ASSUMED[name] for name in (*library.free, "bandwidth_share")}
    values |= {name: value for name, value in known.items() if name in library.free or name == "bandwidth_share"}
    bounded = {
        name: min(max(value, BOUNDS[name][0]), BOUNDS[name][1])
        for name, value in values.items()
        if name in library.free
    }
    return Constants(**(values | bounded | library.fixed))
