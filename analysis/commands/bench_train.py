"""`nmsim bench train`: training steps beside PyTorch's."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from cyclopts import Parameter

from hwmodel.errors import UserError
from nmsim.run import Run

from ..page import Column
from ..terminal import show_lines, show_table

INTEL_TRUE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"
"""What MKL asks before it takes its fast paths; preloaded, it answers for an AMD processor too."""

STATISTICS_EVERY = Run.statistics_every
"""The default interval, over which the cost of a step with statistics is spread."""

COLUMNS = (
    Column("case", "model and batch"),
    Column("threads", "threads"),
    Column("mkl", "MKL"),
    Column("dense_ms", "ours, ms", "{:.2f}", source="measured"),
    Column("torch_ms", "PyTorch, ms", "{:.2f}", source="measured"),
    Column("over_torch", "PyTorch / ours", "{:.2f}", source="measured"),
    Column("compressed_gain", "dense / SR-STE 1:8 compressed", "{:.2f}", source="measured"),
    Column("refresh_percent", "new masks, % of step", "{:.1f}", source="measured"),
    Column("statistics_percent", "statistics, % of step", "{:.1f}", source="measured"),
)


def bench_train(
    *, threads: tuple[int, ...] = (1, 2), rounds: int = 5, as_json: Annotated[bool, Parameter(name="--json")] = False
) -> None:
    """Time whole training steps, ours and PyTorch's in turn, in processes of their own.

    PyTorch is timed as installed and with MKL's restriction on AMD processors lifted. Where it is not installed, our
    own steps are timed alone.

    Args:
        threads: Numbers of threads.
        rounds: Blocks of a quarter of a second for each contender; the median counts.
        as_json: Print JSON.
    """
    with tempfile.TemporaryDirectory() as folder:
        modes = {"as installed": dict(os.environ)} | _unlocked(Path(folder))
        rows = [row for count in threads for mode, env in modes.items() for row in _measure(count, rounds, mode, env)]
    if as_json:
        sys.stdout.write(json.dumps({"notes": _notes(), "rows": rows}) + "\n")
    else:
        show_lines(_notes())
        show_table(pd.DataFrame(rows), COLUMNS, "One training step")


def _unlocked(folder: Path) -> dict[str, dict[str, str]]:
    """The environment in which MKL takes its fast paths; none without PyTorch or a C compiler."""
    compiler = shutil.which("cc")
    if importlib.util.find_spec("torch") is None or compiler is None:
        return {}
    source, library = folder / "intel.c", folder / "intel.so"
    source.write_text(INTEL_TRUE, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)  # noqa: S603 -- our own source
    return {"restriction lifted": dict(os.environ) | {"LD_PRELOAD": str(library)}}


def _measure(threads: int, rounds: int, mode: str, env: dict[str, str]) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "nmsim_analysis.train_timing", str(threads), str(rounds)]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)  # noqa: S603 -- our own module
    if done.returncode:
        raise UserError(f"bench train: {done.stderr.strip().splitlines()[-1]}")
    for line in done.stdout.splitlines():
        found = json.loads(line)
        yield {"case": found["case"], "threads": threads, "mkl": mode} | _figures(found["seconds"])


def _figures(seconds: dict[str, float]) -> dict[str, float]:
    dense, torch = seconds["dense"], seconds.get("torch", float("nan"))
    return {
        "dense_ms": 1e3 * dense,
        "torch_ms": 1e3 * torch,
        "over_torch": torch / dense,
        "compressed_gain": dense / seconds["compressed"],
        "refresh_percent": 100 * (seconds["masked"] - seconds["masked once"]) / seconds["masked"],
        "statistics_percent": 100 * (seconds["recorded"] / seconds["masked"] - 1) / STATISTICS_EVERY,
    }


def _notes() -> list[str]:
    """What a reader of the figures must know of this machine."""
    notes = [
        f"{name} is set: NumPy's products may be slower than they could be"
        for name in os.environ
        if name.startswith("OPENBLAS_")
    ]
    if importlib.util.find_spec("torch") is None:
        notes.append('PyTorch is not installed; to compare: pip install "nmsim[torch]"')
    elif shutil.which("cc") is None:
        notes.append("no C compiler (cc): PyTorch with MKL's restriction lifted was not timed")
    return notes
