"""The dual-side sparse tensor core (arXiv 2104.01234 in the Sparseloop artefact): outer products that skip zeros.

A column of weights meets a row of activations. Both are bitmaps; an outer product of 8 x 8 positions is skipped in
blocks, so that each side takes whole steps of its lanes: E[ceil(kept of 8 / lanes)] with `kept` binomial. The share of
cycles that issue work, one number, was fitted on the eight reference points (they are met within 8 %).
Levels count as in `hwmodel.stc`: one register read and write, two latches for each multiply-add, and metadata of one
bit a position.
"""

from __future__ import annotations

import math

from hwmodel.stc import (
    DESIGNS,
    LATCH_PJ,
    MACS_PER_CYCLE,
    MEMORY_PJ_PER_WORD,
    METADATA_READ_PJ,
    METADATA_WRITE_PJ,
    REGISTER_READ_PJ,
    REGISTER_WRITE_PJ,
    ROW_BYTES,
    Run,
)

POSITIONS = 8
WEIGHT_LANES, INPUT_LANES = 4, 2
ISSUE_SHARE = 0.976
COLUMN_TILE, ROW_TILE = 64, 128


def run_dual(m: int, k: int, n: int, weight_density: float, activation_density: float) -> Run:
    """The product [m, k] @ [k, n] with both operands unstructured; k is padded as in the artefact's flexible design."""
    flexible = DESIGNS["STC_flexible"]
    multiple, _ = flexible.steps.get(flexible.runs(weight_density), (1, 0))
    k = -(-k // multiple) * multiple
    effective = _steps(weight_density, WEIGHT_LANES) * _steps(activation_density, INPUT_LANES)
    cycles = math.ceil(m * k * n * effective / MACS_PER_CYCLE / ISSUE_SHARE)
    macs = m * k * n * weight_density * activation_density
    weights, inputs = m * k * weight_density, k * n * activation_density
    a, b = weights * max(1, n / COLUMN_TILE), inputs * max(1, m / ROW_TILE)
    bits = (m * k * max(1, n / COLUMN_TILE) + k * n * max(1, m / ROW_TILE), m * k + k * n)
    core = DESIGNS["STC"]
    levels = {
        "mac": macs * core.mac_pj,
        "latch": 2 * macs * LATCH_PJ,
        "register": macs * (REGISTER_READ_PJ + REGISTER_WRITE_PJ),
        "buffer": ((a + b) * core.row_read_pj + (weights + inputs) * core.row_write_pj) / ROW_BYTES
        + (bits[0] * METADATA_READ_PJ + bits[1] * METADATA_WRITE_PJ) / 64,
        "memory": (weights + inputs + m * n) * MEMORY_PJ_PER_WORD,
    }
    return Run(cycles, 0, macs, a, b, weights + inputs + m * n, {level: pj * 1e-12 for level, pj in levels.items()})


def _steps(density: float, lanes: int) -> float:
    """Expected share of a side's lane steps that are taken: E[ceil(kept / lanes)] lanes / positions."""
    taken = (
        math.comb(POSITIONS, kept) * density**kept * (1 - density) ** (POSITIONS - kept) * -(-kept // lanes)
        for kept in range(POSITIONS + 1)
    )
    return sum(taken) * lanes / POSITIONS
