"""What this machine offers, as Numba will compile for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from llvmlite import binding
from numba import config

from hwmodel.errors import UserError

_FORCED: ContextVar[int | None] = ContextVar("vector bytes", default=None)


def vector_bytes():
    """Bytes of the vectors that products use: the widest of this machine, unless `vectors` forces another."""
    forced = _FORCED.get()
    return widest_vector_bytes() if forced is None else forced


@cache
def widest_vector_bytes():
    """Bytes of the widest vector with fused multiply-add that Numba compiles for: 64, 32 or 16."""
    features = config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    enabled = set(features.split(","))
    if "+avx512f" in enabled:
        return 64
    return 32 if {"+avx2", "+fma"} <= enabled else 16


@contextmanager
def vectors(width: int) -> Iterator[None]:
    """Let the products called inside use vectors of `width` bytes: 64 (AVX-512), 32 (AVX2) or 16 (NEON, SSE).

    The setting belongs to the calling thread. Raises `UserError` for a width that this machine does not have.
    """
    widest = widest_vector_bytes()
    offered = [known for known in (16, 32, 64) if known <= widest]
    if width not in offered:
        raise UserError(
            f"vectors of {width} bytes; this machine has {', '.join(map(str, offered))}: choose one of them"
        )
    token = _FORCED.set(width)
    try:
        yield
    finally:
        _FORCED.reset(token)


def accumulators():
    """Registers for the sums of a product: 12 of 32, or 8 where AVX2 has 16 in all."""
    return 8 if vector_bytes() == 32 else 12


def least_lists():
    """Lists that run together at least, though their sums take more registers: two hide each other's starts."""
    return 1 if vector_bytes() == 32 else 2


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
