"""Joules by operation and by level. None of these figures is calibrated against a measured board.

A processor is priced by its board: a share of the power is drawn at rest, another is what the multiply-adds draw at
peak (the split that GenZ uses), and main memory takes its energy a byte. Accelerators are priced by operation tables.
"""

from __future__ import annotations

from typing import Any

REST_SHARE = 0.3  # GenZ, power.py: static
COMPUTE_SHARE = 0.4  # GenZ, power.py: compute at full use

MAC_PJ_45NM = {"int8": 0.3, "fp16": 1.5, "bf16": 1.5, "fp32": 4.6}
"""Multiply plus add at 45 nm, 0.9 V (Horowitz, ISSCC 2014; int8 with a 32-bit addition), pJ."""
SRAM_PJ_PER_BYTE_45NM = 2.5
"""A 32 KB buffer at 45 nm: 20 pJ for 64 bits (Horowitz, ISSCC 2014)."""


def processor_joules(
    seconds: Any, peak_seconds: Any, moved_bytes: Any, power_w: Any, j_per_byte: Any
) -> dict[str, Any]:
    """Energy of one kernel on a board that draws `power_w` at full use and `peak_seconds` of work at its peak rate.

    rest: power rest_share seconds; compute: power compute_share peak_seconds; memory: bytes e_byte.
    """
    return {
        "rest": power_w * (REST_SHARE * seconds),
        "compute": power_w * (COMPUTE_SHARE * peak_seconds),
        "memory": moved_bytes * j_per_byte,
    }


def accelerator_joules(
    executed_macs: Any, moved_bytes: Any, buffer_bytes: Any, dtype: str, j_per_byte: Any
) -> dict[str, Any]:
    """Energy of multiply-adds, buffer traffic and main memory of a 45 nm accelerator."""
    mac = MAC_PJ_45NM.get(dtype, MAC_PJ_45NM["fp16"]) * 1e-12
    return {
        "mac": executed_macs * mac,
        "buffer": buffer_bytes * (SRAM_PJ_PER_BYTE_45NM * 1e-12),
        "memory": moved_bytes * j_per_byte,
    }
