"""`nmsim bench io`: checking, pruning, encoding and decoding beside plain copies of the same bytes."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from hwmodel.errors import UserError
from hwmodel.pattern import Pattern
from nmsim.formats.beside import replacing
from nmsim.formats.codecs import CODECS, decode
from nmsim.formats.detect import look
from nmsim.formats.dtypes import named
from nmsim.formats.encoded import Codec
from nmsim.formats.pruning import Choice, by_magnitude, prune_file
from nmsim.formats.safetensors import Reader, writing
from nmsim.formats.sm80 import hardware_pattern
from nmsim.formats.tensors import BLOCK_BYTES, TensorSpec

from ..transfer import print_json, show

COLS = 4096
COLUMNS: dict[str, Callable[[Timing], str]] = {
    "what": lambda row: row.what,
    "GB/s of dense weights": lambda row: f"{row.gb_per_s:.2f}",
    "of the copy's speed": lambda row: f"{row.of_copy:.2f}" if row.of_copy else "",
}


@dataclass(frozen=True)
class Timing:
    """Median speed of one task, and its share of the speed of a plain copy (0 for work in memory)."""

    what: str
    gb_per_s: float
    of_copy: float = 0.0


def bench_io(
    *,
    mib: int = 256,
    repeats: int = 5,
    pattern: str = "2:4",
    dtype: str = "bfloat16",
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Time work on a cached file beside reading it and writing it again, and encodings in memory; one process, medians.

    Files are in the folder for temporary files (TMPDIR): one in memory, such as /dev/shm, leaves the disk out of it.

    Args:
        mib: Size of the file.
        repeats: Times that everything is run; tasks take turns.
        pattern: n:m that is looked for and pruned to.
        dtype: Element type of the weights.
        as_json: Print JSON.
    """
    if min(mib, repeats) < 1:
        raise UserError("--mib and --repeats need at least 1")
    wanted, element = Pattern.parse(pattern), named(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = _write(Path(folder) / "weights.safetensors", mib << 20, element)
        tasks = _file_tasks(path, wanted) | _memory_tasks(path, hardware_pattern(element.itemsize))
        size = path.stat().st_size
        speeds = {name: size / seconds / 1e9 for name, seconds in _medians(tasks, repeats).items()}
    copy = speeds["plain copy"]
    rows = [Timing(name, speed, 0.0 if " in memory" in name else speed / copy) for name, speed in speeds.items()]
    if as_json:
        print_json({"mib": mib, "dtype": dtype, "pattern": pattern, "rows": [asdict(row) for row in rows]})
    else:
        show(rows, COLUMNS, f"{mib} MiB of {dtype}, cached; writing is synced to disk in every task")


def _write(path: Path, nbytes: int, dtype: np.dtype) -> Path:
    """Random weights in one file of matrices."""
    rng, rows = np.random.default_rng(0), max(128, nbytes // (dtype.itemsize * COLS) // 128 * 128)
    with writing(path, {"w": TensorSpec(dtype, (rows, COLS))}, {}) as writer:
        for start in range(0, rows, 128):
            writer.put("w", rng.standard_normal((128, COLS), np.float32).astype(dtype), start)
    return path


def _file_tasks(path: Path, pattern: Pattern) -> dict[str, Callable[[], object]]:
    pruned, copied = path.with_name("pruned.safetensors"), path.with_name("copy.safetensors")

    def copy() -> None:
        with path.open("rb", buffering=0) as old, replacing(copied) as new:
            shutil.copyfileobj(old, new, BLOCK_BYTES)

    def prune() -> None:
        with Reader(path) as source:
            prune_file(source, pruned, {"w": Choice(pattern, 1, by_magnitude)}, lambda _: None)

    def check(target: Path) -> None:
        with Reader(target) as source:
            look(source, "w", 1)

    prune()
    return {
        "plain copy": copy,
        f"prune to {pattern}": prune,
        "check dense weights": lambda: check(path),
        f"check {pattern} weights": lambda: check(pruned),
    }


def _memory_tasks(path: Path, pattern: Pattern) -> dict[str, Callable[[], object]]:
    with Reader(path) as source:
        w = by_magnitude("w", source.read("w"), pattern)
    tasks: dict[str, Callable[[], object]] = {}
    for codec in CODECS.values():
        tasks |= _pair(codec, w, pattern)
    return tasks


def _pair(codec: Codec, w: np.ndarray, pattern: Pattern) -> dict[str, Callable[[], object]]:
    encoded = codec.encode(w, pattern)
    return {
        f"encode {codec.name} in memory": lambda: codec.encode(w, pattern),
        f"decode {codec.name} in memory": lambda: decode(encoded, codec),
    }


def _medians(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of every task; they take turns, after one turn that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}
