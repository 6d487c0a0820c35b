"""Latency of one kernel on a processor whose cores compute tiles: GPUs and CPUs. Plain numbers or arrays alike.

t       = launch + max(compute, bytes / (bandwidth_share bandwidth))
compute = waves 2 tile_rows tile_cols inner step / (peak / cores),  waves = ceil(tiles / cores), the best tile of a list
          Kernels that adapt turn the tile either way, cut it to a thin result, and let cores that would idle share the
          reduction of a tile, in parts of no fewer than `SHORTEST_PART` positions (split-K).
step    = (executed^4 + step_cost^4)^(1/4), nearly the larger, where the kernel loads ahead while it computes;
          executed + step_cost where not
executed = density (mac_cost + gather_cost miss / reuse),  miss = max(0, 1 - cache / (inner window_bytes))

`density` is the share of the dense multiply-adds that the kernel executes, the peak is the dense one, and `reuse` is
the number of rows that share one gathered row of the dense operand.

A measured table times each kernel in the loop of its own harness, so it is predicted by max(host, t) with the fitted
`host_s` and `launch_s`. A price is of kernels one after another, and its launch is one number of the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Seconds(NamedTuple):
    """Parts of one kernel's time. `compute` holds `tail`, the part in which cores wait for the last wave.

    `waves` are the rounds of tiles, one a core, that a processor goes through.
    """

    launch: Any
    compute: Any
    memory: Any
    tail: Any
    waves: Any = 0.0

    @property
    def total(self) -> Any:
        """Launch, then compute and memory traffic side by side."""
        return self.launch + np.maximum(self.compute, self.memory)


class Machine(NamedTuple):
    """A processor's cores, dense peak rate, memory rate and last cache."""

    cores: Any
    flops_per_s: Any
    bytes_per_s: Any
    cache_bytes: Any


class Work(NamedTuple):
    """`repeat` products [rows, inner] @ [inner, cols] that execute a share `density` and move `bytes` in all."""

    rows: Any
    inner: Any
    cols: Any
    repeat: Any
    density: Any
    bytes: Any
    reuse: Any = 1.0


class Constants(NamedTuple):
    """What is fitted of a library on a device and type; `BOUNDS` says what each number means."""

    host_s: Any
    launch_s: Any
    mac_cost: Any
    step_cost: Any
    gather_cost: Any
    window_bytes: Any
    bandwidth_share: Any


BOUNDS: dict[str, tuple[float, float, str]] = {
    "host_s": (1e-7, 3e-4, "seconds that the host needs to start one kernel, hidden behind a longer one"),
    "launch_s": (1e-7, 2e-4, "seconds of a kernel on the device before and after its tiles"),
    "mac_cost": (1.0, 40.0, "time of an executed multiply-add over its time at the dense peak"),
    "step_cost": (1e-4, 10.0, "the same for a position of the dense product, executed or not"),
    "gather_cost": (1e-2, 300.0, "the same for fetching a row of the dense operand for one kept weight"),
    "window_bytes": (1e1, 1e6, "live bytes of the dense operand for a position of the reduction"),
    "bandwidth_share": (0.1, 1.0, "share of the memory's peak bandwidth that the kernel reaches"),
}
"""Name of a constant -> lower bound, upper bound, meaning."""


def step_time(work: Work, cache_bytes: Any, constants: Constants, *, loads_ahead: bool) -> Any:
    """Time of one position of the dense product over its time at peak."""
    miss = np.maximum(0.0, 1.0 - cache_bytes / (work.inner * constants.window_bytes))
    executed = work.density * (constants.mac_cost + constants.gather_cost * miss / work.reuse)
    if loads_ahead:
        return np.sqrt(np.sqrt(_fourth(executed) + _fourth(constants.step_cost)))
    return executed + constants.step_cost


def _fourth(value: Any) -> Any:
    """The fourth power by products, whose bits are the same for a number and in any array."""
    square = value * value
    return square * square


SHORTEST_PART = 256  # positions of a reduction that fill a kernel's pipeline; fewer are not worth a core


class Kernel(NamedTuple):
    """How a library's kernels work: see the head of this file."""

    tiles: Sequence[tuple[int, int]]
    loads_ahead: bool
    adapts: bool


def product_seconds(work: Work, kernel: Kernel, machine: Machine, constants: Constants) -> Seconds:
    """Time of the products with the best tile; a tile of 0 rows has as many as share a gathered row."""
    step = step_time(work, machine.cache_bytes, constants, loads_ahead=kernel.loads_ahead)
    rate = machine.flops_per_s / 2.0
    positions: Any = np.inf
    waves: Any = 0.0
    for tile_rows, tile_cols in _turned(kernel):
        taken, rounds = _positions(work, tile_rows or work.reuse, tile_cols, kernel, machine)
        waves = np.where(taken < positions, rounds, waves)
        positions = np.minimum(positions, taken)
    compute = positions * step / rate
    ideal = work.rows * work.cols * work.repeat * work.inner * step / rate
    memory = work.bytes / (constants.bandwidth_share * machine.bytes_per_s)
    return Seconds(constants.launch_s, compute, memory, compute - np.minimum(compute, ideal), waves)


def _turned(kernel: Kernel) -> Sequence[tuple[int, int]]:
    """The tiles, also with their sides exchanged where kernels adapt: the transposed product is the same one."""
    if not kernel.adapts:
        return kernel.tiles
    return tuple(dict.fromkeys(side for tile in kernel.tiles for side in (tile, tile[::-1])))


def _positions(work: Work, tile_rows: Any, tile_cols: Any, kernel: Kernel, machine: Machine) -> tuple[Any, Any]:
    """Positions that all cores together go through, idle ones included, until the last tile is done; and the waves."""
    count = np.ceil(work.rows / tile_rows) * np.ceil(work.cols / tile_cols) * work.repeat
    depth = work.inner
    if kernel.adapts:
        tile_rows, tile_cols = np.minimum(tile_rows, work.rows), np.minimum(tile_cols, work.cols)
        shared = np.maximum(1.0, np.floor(machine.cores / count))
        depth = np.maximum(work.inner / shared, np.minimum(work.inner, SHORTEST_PART))
    waves = np.ceil(count / machine.cores)
    return waves * (tile_rows * tile_cols * machine.cores) * depth, waves


def pass_seconds(moved_bytes: Any, bytes_per_s: Any, constants: Constants) -> Seconds:
    """Time of a pointwise or row-wise pass over `moved_bytes`."""
    memory = moved_bytes / (constants.bandwidth_share * bytes_per_s)
    return Seconds(constants.launch_s, 0.0, memory, 0.0)
