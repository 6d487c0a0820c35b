"""Latency of one kernel on a processor whose cores compute tiles: GPUs and CPUs. Plain numbers or arrays alike.

t = launch + max(waves 2 tile_rows tile_cols inner (mac_cost d + step_cost) / (peak / cores), bytes / (share bandwidth))

with waves = ceil(tiles / cores), d the density that the kernel executes, and the best tile of the library's list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Seconds(NamedTuple):
    """Parts of one kernel's time. `compute` holds `tail`, the share of it in which cores wait for the last wave."""

    launch: Any
    compute: Any
    memory: Any
    tail: Any

    @property
    def total(self) -> Any:
        """Launch, then compute and memory traffic side by side."""
        return self.launch + np.maximum(self.compute, self.memory)


class Machine(NamedTuple):
    """A processor's cores, its dense peak rate and its memory's."""

    cores: Any
    flops_per_s: Any
    bytes_per_s: Any


class Work(NamedTuple):
    """`repeat` products [rows, inner] @ [inner, cols] that execute a share `density` and move `bytes` in all."""

    rows: Any
    inner: Any
    cols: Any
    repeat: Any
    density: Any
    bytes: Any


class Constants(NamedTuple):
    """What is fitted of a library on a device and type.

    launch_s: floor of one kernel, seconds.
    mac_cost: time of one executed multiply-add over its time at peak, at least 1.
    step_cost: the same for what every position of the dense product costs although it is skipped, at least 0.
    bandwidth_share: share of peak bandwidth that the kernel reaches, in (0, 1].
    """

    launch_s: Any
    mac_cost: Any
    step_cost: Any
    bandwidth_share: Any


def product_seconds(work: Work, tiles: Sequence[tuple[int, int]], machine: Machine, constants: Constants) -> Seconds:
    """Time of the products on a processor, with the best of the library's tiles."""
    rows, inner, cols, repeat, density, moved_bytes = work
    cores, flops_per_s, bytes_per_s = machine
    step = 2.0 * inner * (constants.mac_cost * density + constants.step_cost)
    compute = np.inf
    for tile_rows, tile_cols in tiles:
        count = np.ceil(rows / tile_rows) * np.ceil(cols / tile_cols) * repeat
        waves = np.ceil(count / cores)
        compute = np.minimum(compute, waves * (tile_rows * tile_cols * cores) * step / flops_per_s)
    ideal = rows * cols * repeat * step / flops_per_s
    memory = moved_bytes / (constants.bandwidth_share * bytes_per_s)
    return Seconds(constants.launch_s, compute, memory, compute - np.minimum(compute, ideal))
