"""`nmsim bench kernels`: the compressed products beside their peers and this machine's limits."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
from cyclopts import Parameter
from cyclopts.types import PositiveInt

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.kernels import host
from nmsim.kernels.jit import COMPILED

from ..environment import environment
from ..kernel_limits import bandwidths, peak_flops_per_s
from ..kernel_timing import Case, Op, Shape, measure
from ..page import Column
from ..plots import save
from ..plots_kernels import roofline
from ..terminal import show_lines, show_table

SHAPES = (
    "2048,768,3072",
    "2048,3072,768",
    "2048,768,768",
    "8192,192,768",
    "4096,64,256",
    "512,4096,4096",
    "1,4096,11008",
    "8,4096,11008",
)
PATTERNS = ("2:4", "4:8", "1:4", "2:8", "1:8", "1:16", "1:32")
OPS: tuple[Op, ...] = ("fprop", "dgrad", "wgrad", "refresh")
SLOWING = ("OPENBLAS_", "MKL_", "NUMBA_", "OMP_")

COLUMNS = (
    Column("shape", "t, d_in, d_out"),
    Column("pattern", "pattern"),
    Column("op", "product"),
    Column("threads", "threads"),
    Column("contender", "by"),
    Column("first_ms", "first call, ms", "{:.2f}", source="measured"),
    Column("median_ms", "repeated, ms", "{:.2f}", source="measured"),
    Column("first_ratio", "first, over NumPy", "{:.2f}", source="measured"),
    Column("ratio", "repeated, over NumPy", "{:.2f}", source="measured"),
    Column("share_of_peak_percent", "% of FMA peak", "{:.0f}", source="measured"),
)


def bench_kernels(
    *,
    shapes: tuple[str, ...] = SHAPES,
    patterns: tuple[str, ...] = PATTERNS,
    ops: tuple[Op, ...] = OPS,
    threads: tuple[PositiveInt, ...] = (1, 2),
    rounds: PositiveInt = 5,
    vectors: int | None = None,
    out: Path | None = None,
    clean: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Time the compressed products against NumPy, SciPy and PyTorch, in turn, and beside this machine's peak.

    Args:
        shapes: Shapes "t,d_in,d_out".
        patterns: Patterns n:m.
        ops: fprop, dgrad, wgrad, and refresh: mask, compression and layouts against a dense layer's three products.
        threads: Numbers of threads, of both pools.
        rounds: Repetitions of each contender; the median counts.
        vectors: Bytes of the vectors that our products use: 64 (AVX-512), 32 (AVX2) or 16; the widest unless given.
        out: Folder for kernels.csv, roofline.csv and roofline.png.
        clean: Start again without the OPENBLAS_, MKL_, NUMBA_ and OMP_ variables that are set.
        as_json: Print JSON.
    """
    if clean and _set_variables():
        _start_again()
    if not COMPILED:
        raise UserError("NUMBA_DISABLE_JIT is set, so there are no kernels to measure; start again with --clean")
    cases = [Case(_shape(s), Pattern.parse(p), op, n) for n in threads for s in shapes for p in patterns for op in ops]
    with host.vectors(host.vector_bytes() if vectors is None else vectors):
        peak, levels = peak_flops_per_s(), bandwidths()
        rows = pd.DataFrame([row for case in cases for row in measure(case, rounds, peak)])
    rows["shape"] = rows[["t", "d_in", "d_out"]].astype(str).agg(", ".join, axis=1)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        rows.drop(columns="shape").to_csv(out / "kernels.csv", index=False)
        save(roofline(rows, levels, peak), out, "roofline", levels.assign(peak_flops_per_s=peak))
    if as_json:
        found = {"environment": environment(), "peak_flops_per_s": peak, "levels": levels.to_dict("records")}
        sys.stdout.write(json.dumps({**found, "rows": rows.to_dict("records")}) + "\n")
    else:
        show_lines([*_notes(), *_limits(peak, levels)])
        show_table(rows, COLUMNS, "Compressed products")


def _shape(text: str) -> Shape:
    try:
        t, d_in, d_out = (int(part) for part in text.split(","))
    except ValueError:
        t = d_in = d_out = 0
    if min(t, d_in, d_out) < 1:
        raise UserError(f'shape "{text}": write t,d_in,d_out, for example 2048,768,3072')
    return t, d_in, d_out


def _set_variables() -> dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(SLOWING)}


def _start_again() -> None:
    """Become the same command in an environment without the variables."""
    kept = {name: value for name, value in os.environ.items() if name not in _set_variables()}
    arguments = [argument for argument in sys.argv[1:] if argument != "--clean"]
    os.execve(sys.executable, [sys.executable, "-c", "from nmsim_analysis.cli import main; main()", *arguments], kept)  # noqa: S606 - ourselves


def _notes() -> list[str]:
    """What a reader must know of this machine: BLAS, both pools, and the variables that change them."""
    threads = environment()["threads"]
    pools = [" ".join(f"{key}={value}" for key, value in pool.items()) for pool in threads["pools"]]
    found = [f"numba: {threads['numba']} threads", f"BLAS and other pools: {'; '.join(pools)}"]
    variables = _set_variables()
    found += [f"{name}={value} is set" for name, value in variables.items()]
    if any(name.startswith("OPENBLAS_") for name in variables):
        found.append("warning: NumPy's products may run at half their speed; start again with --clean")
    return found


def _limits(peak: float, levels: pd.DataFrame) -> list[str]:
    named = zip(levels["level"], levels["bytes_per_s"], strict=True)
    reads = ", ".join(f"{name} {bandwidth / 1e9:.0f} GB/s" for name, bandwidth in named)
    return [f"one core, measured: {peak / 1e9:.1f} GFLOP/s of float32 multiply-adds; reads from {reads}"]
