"""The roofline of one core of this machine, measured: its multiply-add peak and the bandwidth of each memory level."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from nmsim.kernels import host, limits
from nmsim.kernels.scratch import aligned

LEVELS = {"L1": 16 << 10, "L2": 256 << 10, "L3": 8 << 20, "DRAM": 256 << 20}
"""A working set that fits each level of a current processor, in bytes."""


def peak_flops_per_s(dtype: type = np.float32) -> float:
    """Multiply-adds of one core in registers alone, two operations each, per second."""
    width = host.vector_bytes() // np.dtype(dtype).itemsize
    run, turns = limits.multiply_adder(width), 1_000_000
    out = aligned((limits.CHAINS * width,), dtype)
    out[:] = 0.5
    run(out, 1)
    flops: int = 2 * turns * limits.CHAINS * width
    return flops / _fastest(lambda: run(out, turns))


def bandwidths() -> pd.DataFrame:
    """Bytes a second that one core reads from each memory level: columns level, working_set_bytes, bytes_per_s."""
    width = host.vector_bytes() // 4
    rows, step = [], limits.CHAINS * width
    read, out = limits.reader(width), aligned((step,), np.float32)
    out[:] = 0
    for level, size in LEVELS.items():
        array = aligned((size // 4 // step * step,), np.float32)
        array[:] = 0
        turns = max(1, (64 << 20) // size)
        read(out, array, 1)
        rows.append((level, array.nbytes, turns * array.nbytes / _fastest(partial(read, out, array, turns))))
    return pd.DataFrame(rows, columns=["level", "working_set_bytes", "bytes_per_s"])


def _fastest(action: Callable[[], object], repetitions: int = 7) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)
