"""Measured tables: the schema, its checks, and each row as the work of a kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hwmodel.device import DTYPE_BITS, Device, load_device
from hwmodel.errors import UserError
from hwmodel.libraries import ALIASES, LIBRARIES, Library
from hwmodel.processor import Work
from hwmodel.tables import read_table, refuse

COLUMNS = (
    *("source", "device", "library", "config", "op", "m", "n", "k", "pattern_n", "pattern_m", "density", "v"),
    *("sparse_operand", "accumulate", "dtype", "quantity", "value", "unit", "note"),
)
NUMBERS = ("m", "n", "k", "pattern_n", "pattern_m", "density", "v", "value")
DEVICES = {"A100": "a100-40gb-sxm", "A100 PCIe 80GB": "a100-80gb-pcie", "A100 SXM 80GB": "a100-80gb-sxm"}
"""Names of devices in measured tables; an A100 without a size is the first one. Others are names or aliases."""
PRODUCTS = ("gemm", "spmm")
PASSES = ("softmax", "layernorm", "gelu")
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
PASS_STREAMS = 2  # read and written once


def read_measured(path: Path) -> pd.DataFrame:
    """A measured table, comment lines first if any, with `seconds` and the names used here added.

    The names are `device_name`, `library_name` and `dtype_name`, each "" where the catalogue holds none.

    Raises `UserError` for a missing column, or a value that is not a number in its range, with its row and column.
    """
    table = read_table(path, COLUMNS, NUMBERS, may_lack=True)
    for name in NUMBERS:
        least = 0.0 if name == "value" else np.nextafter(0, 1)  # a value of 0 says that the kernel did not run
        good = table[name].isna() | table[name].between(least, np.inf, "left")
        refuse(path, table, name, ~good, "is out of range; leave it empty where it is unknown")
    refuse(path, table, "pattern_n", table.pattern_n > table.pattern_m, "is more than pattern_m")
    refuse(path, table, "density", table.density > 1, "is more than 1")
    return table.assign(
        seconds=_seconds(table),
        device_name=table.device.map({name: device_name(name) for name in table.device.unique()}),
        library_name=[library_name(*names) for names in zip(table.library, table.op, strict=True)],
        dtype_name=[dtype_name(*names) for names in zip(table.dtype, table.accumulate, strict=True)],
    )


def _seconds(table: pd.DataFrame) -> pd.Series[float]:
    """Time of each row; NaN where its unit is no time and no rate of work."""
    work = pd.Series(np.nan, index=table.index)
    dense = table.unit.str.startswith("TFLOPS")
    work[dense] = 2e-12 * table.m * table.n * table.k
    elements = table.unit == "Gelements/s"
    work[elements] = 1e-9 * table.m * table.n.fillna(1.0)
    return (table.value * table.unit.map(SECONDS)).fillna(work / table.value)


def device_name(name: str) -> str:
    """The catalogue's name of a measured table's device, or the path of a user's file; "" for one that is neither."""
    if name.endswith(".toml"):
        load_device(name)
        return name
    try:
        return load_device(DEVICES.get(name, name.lower().replace(" ", "-"))).name
    except UserError:
        return ""


def library_name(name: str, op: str) -> str:
    """The library that prices an operation; "" where there is none."""
    if op in PASSES:
        return f"{name} {op}" if f"{name} {op}" in LIBRARIES else ""
    name = ALIASES.get(name, name)
    return name if name in LIBRARIES and op in PRODUCTS else ""


def dtype_name(dtype: str, accumulate: str) -> str:
    """The catalogue's name of a type: "fp16" accumulates in fp32 unless "fp16" is named; "" for one it doesn't know."""
    first = dtype.rstrip("?").split("/")[0]
    name = "fp16/fp16" if (first, accumulate) == ("fp16", "fp16") else first
    return name if name in DTYPE_BITS else ""


def why_uncovered(row: pd.Series[str]) -> str:
    """Why a row of a read table can't be predicted; "" when it can."""
    if row.op not in (*PRODUCTS, *PASSES):
        return f"no model of the operation {row.op}"
    if not row.device_name:
        return "device not in the catalogue"
    if not any(LIBRARIES[name].kind == "dense" for name in load_device(row.device_name).libraries):
        return "device runs no library of a GPU: kernels timed on it have no model"
    if not row.library_name:
        return f"library not modelled for {row.op}"
    if not row.dtype_name or row.dtype_name not in load_device(row.device_name).peaks:
        return f"device has no peak rate for {row['dtype']}"
    sizes = ("m", "n", "k") if row.op in PRODUCTS else ("m",)
    if row[list(sizes)].isna().any():
        return "a size is missing"
    if not float(row["value"]) > 0:
        return "the value is missing or 0"
    return "" if float(row["seconds"]) > 0 else f"unit {row.unit} is no time or rate"


def work_of(rows: pd.DataFrame, library: Library, dtype: str) -> Work:
    """The work of every row of one library and type, as arrays: the sparse operand's lines are the rows."""
    bits = DTYPE_BITS[dtype]
    sparse_a = ~rows.sparse_operand.str.startswith("b").to_numpy()
    m, n, inner = (rows[name].to_numpy() for name in ("m", "n", "k"))
    lines, cols = np.where(sparse_a, m, n), np.where(sparse_a, n, m)
    density = _density(rows, library)
    reuse = _reuse(rows, library)
    stored = lines * inner * density * (bits + _index_bits(rows, library, bits)) / 8
    touched = _touched(rows, library, lines / reuse)
    moved = stored + inner * cols * touched * bits / 8 + lines * cols * bits / 8
    return Work(lines, inner, cols, 1.0, density, moved, reuse)


def _density(rows: pd.DataFrame, library: Library) -> Floats:
    """Share of the multiply-adds that the library's kernel executes."""
    kept = (rows.pattern_n / rows.pattern_m).fillna(rows.density).fillna(1.0).to_numpy()
    if library.kind == "dense":
        return np.ones(len(rows))
    if library.kind == "hardware":
        return np.full(len(rows), 0.5)
    if library.power_of_two:
        n = np.rint(kept * rows.pattern_m.fillna(32).to_numpy())
        return np.asarray(2 ** np.ceil(np.log2(n)) / rows.pattern_m.fillna(32).to_numpy())
    return np.asarray(kept)


def _reuse(rows: pd.DataFrame, library: Library) -> Floats:
    """Rows that share one gathered row: the table's `v`, or a number in `config` ("block4"), or the library's own."""
    named = pd.to_numeric(rows.config.str.extract(r"^block(\d+)$")[0], errors="coerce")
    return np.asarray(rows.v.fillna(named).fillna(float(library.reuse)), dtype=float)


def _index_bits(rows: pd.DataFrame, library: Library, bits: int) -> Floats:
    """Bits of one kept weight's position."""
    if library.kind in ("dense", "unstructured"):
        return np.full(len(rows), 0.0 if library.kind == "dense" else float(bits))
    if library.kind in ("hardware", "selected"):
        return np.full(len(rows), 2.0)
    return np.asarray(np.ceil(np.log2(rows.pattern_m.fillna(32).to_numpy())))


def _touched(rows: pd.DataFrame, library: Library, blocks: np.ndarray) -> Floats:
    """Share of the dense operand that some block of rows selects: 1 - (1 - 4/m)^blocks for V:N:M."""
    if library.kind != "selected":
        return np.ones(len(rows))
    chosen = np.minimum(1.0, 4.0 / rows.pattern_m.fillna(4).to_numpy())
    return np.asarray(1.0 - (1.0 - chosen) ** np.ceil(blocks))


def machine_numbers(device: Device, dtype: str) -> tuple[float, float, float, float]:
    """Cores, dense peak, bandwidth and cache of a processor."""
    cores = getattr(device.engine, "cores_count", 1)
    memory = device.memory
    return cores, device.peak(dtype).dense_flops_per_s, memory.bandwidth_bytes_per_s, memory.cache_bytes
