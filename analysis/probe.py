"""This machine's processor as a device: one core's multiply-add rate and memory bandwidth, probed in two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import threadpoolctl

from hwmodel.device import Device, Peak, Source, load_device

SIDE = 512
BYTES = 64 * 2**20


def probe(seconds: float = 2.0) -> Device:
    """The shipped `cpu` device with the float32 rate and the bandwidth of one core of this machine, measured now.

    The rate is that of a dense product of 512 x 512 matrices, the bandwidth that of copying 64 MiB (read and
    written); each is the best of the repetitions that fit into half of `seconds`.
    """
    a, b, out = (np.ones((SIDE, SIDE), np.float32) for _ in range(3))
    source, target = (np.ones(BYTES // 8) for _ in range(2))
    with threadpoolctl.threadpool_limits(1):
        rate = 2 * SIDE**3 / _fastest(lambda: np.matmul(a, b, out=out), seconds / 2)
        bandwidth = 2 * BYTES / _fastest(lambda: np.copyto(target, source), seconds / 2)
    return _device(rate, bandwidth)


def _fastest(action: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest repetition."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best


def _device(rate: float, bandwidth: float) -> Device:
    base = load_device("cpu")
    measured = {
        "peaks.fp32.dense_flops_per_s": Source(rate, f"probe: {SIDE}^3 product on one thread", "measured"),
        "memory.bandwidth_bytes_per_s": Source(
            bandwidth, f"probe: copy of {BYTES >> 20} MiB on one thread", "measured"
        ),
    }
    return replace(
        base,
        name="this-cpu",
        summary="One core of this machine, as probed.",
        memory=replace(base.memory, bandwidth_bytes_per_s=bandwidth),
        peaks={"fp32": Peak(rate)},
        sources=base.sources | measured,
    )
