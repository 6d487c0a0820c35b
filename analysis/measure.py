"""Timings of dense and 2:4 products on a CUDA GPU, in the schema of the measured tables.

Each timing is the median of repeats after a warm-up; a repeat is several calls between two CUDA events, so that the
events and the start of the first call count little. Calls rotate over buffers that together are larger than the last
cache, so that no operand is found there from the call before. Clocks fall under load: they are read while products run.
"""

from __future__ import annotations

import csv
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hwmodel.errors import UserError
from hwmodel.measured import COLUMNS

TOKENS = (16, 32, 64, 256, 1024, 4096, 16384)
WEIGHTS = (
    *((768, 768), (3072, 768), (768, 3072), (2304, 768), (1024, 1024), (4096, 1024), (1024, 4096), (3072, 1024)),
    *((2048, 2048), (8192, 2048), (2048, 8192), (4096, 4096), (11008, 4096), (4096, 11008), (12288, 4096)),
    *((14336, 4096), (4096, 14336), (5120, 5120), (13824, 5120), (5120, 13824), (6144, 6144), (24576, 6144)),
    *(
        (6144, 24576),
        (8192, 8192),
        (28672, 8192),
        (8192, 28672),
        (1536, 1536),
        (6144, 1536),
        (1536, 6144),
        (4608, 1536),
    ),
)
"""Shapes [d_out, d_in] of weights of transformers from ViT-Base to models of 70 billion parameters."""
DTYPES = ("bf16", "fp16", "int8", "fp8")
DENSE_ROW = {"library": "cuBLAS", "op": "gemm", "density": 1}
SPARSE_ROW = {
    "library": "cuSPARSELt",
    "op": "spmm",
    "pattern_n": 2,
    "pattern_m": 4,
    "density": 0.5,
    "sparse_operand": "a (m x k)",
}
WARM_UPS, REPEATS, CALLS, BUFFER_LIMIT = 5, 10, 10, 64

LOAD_CALLS = 50  # products in the queue at a time while the clock is read: some ms

Call = Callable[[int], object]
"""One product on the buffers of that number."""


@dataclass(frozen=True)
class Shape:
    """A product y = w @ x.T with w [d_out, d_in] and x [tokens, d_in]."""

    d_out: int
    tokens: int
    d_in: int


LOAD = Shape(4096, 4096, 4096)


@runtime_checkable
class Backend(Protocol):
    """What runs and times products. `header` describes driver and library."""

    device: str
    cache_bytes: int
    header: dict[str, str]

    def dense(self, shape: Shape, dtype: str, buffers: int) -> Call:
        """A dense product over that many rotating buffers. Raises `UserError` for a type the device can't run."""

    def sparse(self, shape: Shape, dtype: str, buffers: int) -> Call:
        """The same product with a 2:4 weight."""

    def seconds(self, call: Call, indices: Sequence[int]) -> float:
        """Device time of one call, the mean of calls on the buffers of those numbers one after another."""

    def clock(self) -> str:
        """The clock of the cores while products run."""


def grid() -> list[Shape]:
    """The shapes that are timed: every weight with every number of tokens."""
    return [Shape(d_out, tokens, d_in) for (d_out, d_in), tokens in product(WEIGHTS, TOKENS)]


def measure(out: Path, backend: Backend, shapes: Sequence[Shape] | None = None, dtypes: Sequence[str] = DTYPES) -> int:
    """Time every shape and type, dense and 2:4, into the table `out`; the number of rows written.

    A product that the device or library can't run is left out; the header counts the reasons.
    """
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    before = backend.clock()
    for dtype, shape in product(dtypes, shapes or grid()):
        for kernel, prepare in (DENSE_ROW, backend.dense), (SPARSE_ROW, backend.sparse):
            try:
                rows.append(_row(backend, shape, dtype, prepare) | kernel)
            except UserError as error:
                left_out[str(error)] += 1
    reasons = "; ".join(f"{count} of {reason}" for reason, count in left_out.items())
    clock = {"clock under load": f"{before} before, {backend.clock()} after"}
    _write(out, backend.header | clock | {"left out": reasons or "nothing"}, rows)
    return len(rows)


def _row(backend: Backend, shape: Shape, dtype: str, prepare: Callable[[Shape, str, int], Call]) -> dict[str, Any]:
    buffers = _buffers(backend.cache_bytes, shape, dtype)
    value = _median_us(backend, prepare(shape, dtype, buffers), buffers)
    return {
        "source": "nmsim validate --measure",
        "device": backend.device,
        "m": shape.d_out,
        "n": shape.tokens,
        "k": shape.d_in,
        "accumulate": "int32" if dtype == "int8" else "fp32",
        "dtype": dtype,
        "quantity": "time",
        "value": value,
        "unit": "us",
    }


def _buffers(cache_bytes: int, shape: Shape, dtype: str) -> int:
    """Buffers whose weights and inputs together exceed twice the last cache."""
    width = 2 if dtype in ("bf16", "fp16") else 1
    one = width * shape.d_in * (shape.d_out + shape.tokens)
    return min(BUFFER_LIMIT, 2 * cache_bytes // one + 2)


def _median_us(backend: Backend, call: Call, buffers: int) -> float:
    taken = [range(first, first + CALLS) for first in range(0, REPEATS * CALLS, CALLS)]
    backend.seconds(call, [i % buffers for i in range(WARM_UPS)])
    times = [backend.seconds(call, [i % buffers for i in calls]) for calls in taken]
    return round(1e6 * statistics.median(times), 3)


def _write(out: Path, header: dict[str, str], rows: list[dict[str, Any]]) -> None:
    with out.open("w", newline="", encoding="utf-8") as file:
        file.writelines(f"# {name}: {' '.join(text.split())}\n" for name, text in header.items())
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class TorchBackend:
    """PyTorch on the first CUDA device, with cuBLAS and cuSPARSELt. Raises `UserError` where either is missing."""

    def __init__(self) -> None:
        try:
            import torch  # noqa: PLC0415 (an extra)
        except ImportError:
            raise UserError("PyTorch is not installed: pip install 'nmsim[torch]'") from None
        if not torch.cuda.is_available():
            raise UserError("no CUDA GPU found by PyTorch; nmsim validate --measure needs one")
        self._torch = torch
        properties = torch.cuda.get_device_properties(0)
        self.device = properties.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
        self.cache_bytes = int(properties.L2_cache_size)
        self.header = {
            "device": properties.name,
            "driver and highest clock": _driver(),
            "library": f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}",
            "cuSPARSELt": str(torch.backends.cusparselt.version()),
        }
        self._types = {"bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8, "fp8": torch.float8_e4m3fn}

    def dense(self, shape: Shape, dtype: str, buffers: int) -> Call:
        """The product by cuBLAS (`_int_mm` for int8, `_scaled_mm` for fp8)."""
        torch = self._torch

        def build() -> Call:
            pairs = self._pairs(shape, dtype, buffers)
            if dtype == "int8":
                return lambda i: torch._int_mm(pairs[i][0], pairs[i][1].t())  # noqa: SLF001 (PyTorch has no public name)
            if dtype == "fp8":
                one = torch.ones((), device="cuda")
                scaled = {"scale_a": one, "scale_b": one, "out_dtype": torch.bfloat16}
                return lambda i: torch._scaled_mm(pairs[i][0], pairs[i][1].t(), **scaled)  # noqa: SLF001 (PyTorch has no public name)
            return lambda i: torch.mm(pairs[i][0], pairs[i][1].t())

        return self._tried(build, dtype)

    def sparse(self, shape: Shape, dtype: str, buffers: int) -> Call:
        """The same with the weight pruned to 2:4 and compressed by cuSPARSELt."""
        torch = self._torch

        def build() -> Call:
            pairs = self._pairs(shape, dtype, buffers)
            packed = [(torch._cslt_compress(self._pruned(w)), x) for w, x in pairs]  # noqa: SLF001 (PyTorch has no public name)
            return lambda i: torch._cslt_sparse_mm(packed[i][0], packed[i][1].t())  # noqa: SLF001 (PyTorch has no public name)

        return self._tried(build, f"{dtype} 2:4")

    def seconds(self, call: Call, indices: Sequence[int]) -> float:
        """Time between two events around the calls, over their number."""
        start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for index in indices:
            call(index)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3 / len(indices)

    def clock(self) -> str:
        """What nvidia-smi prints of the cores' clock while products keep the device busy."""
        import subprocess  # noqa: PLC0415 (only where a GPU is timed)

        call = self.dense(LOAD, "fp16", 1)
        self.seconds(call, [0] * LOAD_CALLS)  # the clock settles
        try:
            asked = subprocess.Popen(_asked("clocks.sm"), stdout=subprocess.PIPE, text=True)  # noqa: S603 (fixed words)
        except OSError:
            return "unknown"
        with asked:
            while asked.poll() is None:
                self.seconds(call, [0] * LOAD_CALLS)
            return asked.stdout.read().strip() if asked.stdout and not asked.returncode else "unknown"

    def _pairs(self, shape: Shape, dtype: str, buffers: int) -> list[tuple[Any, Any]]:
        """Weights and inputs of small whole numbers, drawn in a byte each before they take their type."""
        torch, sizes = self._torch, ((shape.d_out, shape.d_in), (shape.tokens, shape.d_in))
        drawn = (
            [torch.randint(-4, 5, size, device="cuda", dtype=torch.int8) for size in sizes] for _ in range(buffers)
        )
        return [(w.to(self._types[dtype]), x.to(self._types[dtype])) for w, x in drawn]

    def _pruned(self, w: Any) -> Any:
        """The first two of every four weights kept."""
        kept = self._torch.tensor([1, 1, 0, 0], device="cuda", dtype=self._torch.float32)
        return (w.float() * kept.repeat(w.shape[1] // 4)).to(w.dtype)

    def _tried(self, build: Callable[[], Call], what: str) -> Call:
        """The call, made once. Raises `UserError` where the device, its memory or the library can't."""
        torch = self._torch
        try:
            call = build()
            call(0)
            torch.cuda.synchronize()
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise UserError(f"{what}: out of memory") from None
        except RuntimeError as error:
            raise UserError(f"{what}: {error}") from None
        return call


def _driver() -> str:
    """Driver and highest clock as nvidia-smi prints them; "unknown" where it is missing."""
    import subprocess  # noqa: PLC0415 (only where a GPU is timed)

    try:
        made = subprocess.run(_asked("driver_version,clocks.max.sm"), capture_output=True, text=True, check=True)  # noqa: S603 (fixed words)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return made.stdout.strip()


def _asked(of: str) -> list[str]:
    return ["nvidia-smi", f"--query-gpu={of}", "--format=csv,noheader", "-i", "0"]
