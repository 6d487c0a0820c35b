"""What this machine offers, as Numba will compile for it."""

from functools import cache
from pathlib import Path

from llvmlite import binding
from numba import config


@cache
def vector_bytes():
    """Bytes of the widest vector with fused multiply-add that Numba compiles for: 64, 32 or 16."""
    features = config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    enabled = set(features.split(","))
    if "+avx512f" in enabled:
        return 64
    return 32 if {"+avx2", "+fma"} <= enabled else 16


def accumulators():
    """Registers for sums: 16 of 32, or 8 where AVX2 has 16 in all."""
    return 8 if vector_bytes() == 32 else 16


def table_registers(itemsize):
    """Registers that one permute instruction can pick single elements from: 2 with AVX-512, 1 with AVX2, else 0."""
    return {64: 2, 32: 1 if itemsize == 4 else 0, 16: 0}[vector_bytes()]


@cache
def first_cache_bytes():
    """Bytes of the first-level data cache; 32 KiB where the system does not say."""
    size = Path("/sys/devices/system/cpu/cpu0/cache/index0/size")
    try:
        return int(size.read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 32 * 1024
