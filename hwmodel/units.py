"""Units in the names of keys: `clock_mhz = 1410` in a file is `clock_hz = 1.41e9` inside."""

from __future__ import annotations

UNITS: dict[str, tuple[str, float]] = {
    "s": ("s", 1.0),
    "us": ("s", 1e-6),
    "ns": ("s", 1e-9),
    "hz": ("hz", 1.0),
    "mhz": ("hz", 1e6),
    "ghz": ("hz", 1e9),
    "bytes": ("bytes", 1.0),
    "kib": ("bytes", 2.0**10),
    "mib": ("bytes", 2.0**20),
    "gib": ("bytes", 2.0**30),
    "mb": ("bytes", 1e6),
    "gb": ("bytes", 1e9),
    "bytes_per_s": ("bytes_per_s", 1.0),
    "gb_per_s": ("bytes_per_s", 1e9),
    "bytes_per_cycle": ("bytes_per_cycle", 1.0),
    "flops_per_s": ("flops_per_s", 1.0),
    "gflops_per_s": ("flops_per_s", 1e9),
    "tflops_per_s": ("flops_per_s", 1e12),
    "macs_per_cycle": ("macs_per_cycle", 1.0),
    "w": ("w", 1.0),
    "j": ("j", 1.0),
    "pj": ("j", 1e-12),
    "j_per_byte": ("j_per_byte", 1.0),
    "pj_per_byte": ("j_per_byte", 1e-12),
    "count": ("count", 1.0),
    "share": ("share", 1.0),
}
"""Suffix of a key -> suffix and factor in SI. A size in gb is decimal, one in gib binary."""


def split_unit(key: str) -> tuple[str, str]:
    """The quantity and the (longest) unit of a key: "bandwidth_gb_per_s" -> ("bandwidth", "gb_per_s").

    A key without a unit gives itself and "".
    """
    parts = key.split("_")
    for i in range(1, len(parts)):
        unit = "_".join(parts[i:])
        if unit in UNITS:
            return "_".join(parts[:i]), unit
    return key, ""


def to_si(key: str, value: float) -> tuple[str, float]:
    """A key and value in SI: ("clock_mhz", 1410) -> ("clock_hz", 1.41e9). A key without a unit stays as it is."""
    quantity, unit = split_unit(key)
    if not unit:
        return key, value
    si, factor = UNITS[unit]
    return f"{quantity}_{si}", value * factor


def units_like(key: str) -> list[str]:
    """The units in which the quantity of an SI key may be given: "clock_hz" -> ["hz", "mhz", "ghz"]."""
    _, si = split_unit(key)
    return [unit for unit, (base, _) in UNITS.items() if base == si]
