"""Timing of compressed products and of their peers, in one process and in turn, so that all see the same machine."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
import scipy.sparse
import threadpoolctl

from hwmodel.pattern import DENSE, Pattern
from nmsim.compressed import NMMatrix, compress, decompress
from nmsim.gemm import derive_layouts, dgrad, fprop, wgrad
from nmsim.kernels.threads import threads
from nmsim.masks import topk_mask

Call = Callable[[], object]
Shape = tuple[int, int, int]
Op = Literal["fprop", "dgrad", "wgrad", "refresh"]

# Seconds; calls that take less are repeated, since a thread that sleeps takes a tenth of a millisecond to wake.
SHORTEST = 0.01


@dataclass(frozen=True)
class Case:
    """One product to be timed: an `op` of a layer of `shape` (t, d_in, d_out) with a weight of `pattern`."""

    shape: Shape
    pattern: Pattern
    op: Op
    threads: int


@dataclass(frozen=True)
class Layer:
    """The arrays of one layer, dense and compressed."""

    x: np.ndarray
    dy: np.ndarray
    w: np.ndarray
    mask: np.ndarray
    pattern: Pattern

    @classmethod
    def drawn(cls, shape: Shape, pattern: Pattern) -> Layer:
        """Normal activations, gradients and weights; the mask keeps the largest weights."""
        rng, (t, d_in, d_out) = np.random.default_rng(0), shape
        x, dy, w = (rng.standard_normal(s, dtype=np.float32) for s in ((t, d_in), (t, d_out), (d_out, d_in)))
        return cls(x, dy, w, topk_mask(np.abs(w), pattern), pattern)

    def compressed(self) -> NMMatrix:
        """A fresh matrix, without derived layouts."""
        return compress(self.w, self.mask, self.pattern)

    def ours(self, op: Op, c: NMMatrix) -> Call:
        """Our product."""
        if op == "refresh":
            return self._refresh
        calls = {
            "fprop": lambda: fprop(self.x, c),
            "dgrad": lambda: dgrad(self.dy, c),
            "wgrad": lambda: wgrad(self.dy, self.x, like=c),
        }
        return calls[op]

    def _refresh(self) -> None:
        """Choose the mask, compress, and build the layouts of the products of so many tokens."""
        derive_layouts(compress(self.w, topk_mask(np.abs(self.w), self.pattern), self.pattern), len(self.x))

    def peers(self, op: Op) -> dict[str, Call]:
        """Dense and sparse products of others that compute the same."""
        if op == "refresh":
            return {"numpy": lambda: (self.x @ self.w.T, self.dy @ self.w, self.dy.T @ self.x)}
        calls = {
            "fprop": lambda: self.x @ self.w.T,
            "dgrad": lambda: self.dy @ self.w,
            "wgrad": lambda: self.dy.T @ self.x,
        }
        found: dict[str, Call] = {"numpy": calls[op]}
        if op == "fprop":
            csr = scipy.sparse.csr_array(decompress(self.compressed()))
            found["scipy csr"] = lambda: (csr @ self.x.T).T
            found |= _torch_peers(self)
        return found


def _torch_peers(layer: Layer) -> dict[str, Call]:
    """PyTorch's dense and CSR products, where it is installed."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch  # noqa: PLC0415 - an extra

    x, w = torch.from_numpy(layer.x), torch.from_numpy(layer.w)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        csr = torch.from_numpy(decompress(layer.compressed())).to_sparse_csr()
    return {"torch": lambda: torch.nn.functional.linear(x, w), "torch csr": lambda: (csr @ x.T).T}


def measure(case: Case, rounds: int, peak: float) -> Iterator[dict[str, Any]]:
    """A row for us and for each peer: first call, median of `rounds` repeated ones, ratio over NumPy, share of peak."""
    layer = Layer.drawn(case.shape, case.pattern)
    with threadpoolctl.threadpool_limits(case.threads), threads(case.threads):
        layer.ours(case.op, layer.compressed())()  # compiled now, so that the first call below builds layouts alone
        contenders = {"nmsim": layer.ours(case.op, layer.compressed()), **layer.peers(case.op)}
        if case.op == "fprop" and not case.pattern.is_dense:
            whole = Layer.drawn(case.shape, DENSE)
            contenders["nmsim at n = m"] = whole.ours("fprop", whole.compressed())
        first = {name: _seconds(call) for name, call in contenders.items()}
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, call in contenders.items():
                _settle()
                call()  # untimed, so that neither the wait nor the caches of another contender count
                taken[name].append(_repeated(call))
    numpy = median(taken["numpy"])
    for name, times in taken.items():
        yield _row(case, name, peak, {"first": first[name], "median": median(times), "numpy": numpy})


def _settle() -> None:
    """Wait until no thread of this process is busy: those of OpenBLAS and MKL spin for a while after a product."""
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.02)
        if time.process_time() - before < 0.004:
            return


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _repeated(call: Call) -> float:
    """Seconds of a call, the mean of as many as take `SHORTEST`."""
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < SHORTEST:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


def _row(case: Case, name: str, peak: float, seconds: dict[str, float]) -> dict[str, Any]:
    t, d_in, d_out = case.shape
    sparse = name == "nmsim" or "csr" in name
    flops = 2 * t * d_in * d_out * (case.pattern.density if sparse else 1.0)
    rate = float("nan") if case.op == "refresh" else flops / seconds["median"]
    return {
        "t": t,
        "d_in": d_in,
        "d_out": d_out,
        "pattern": str(case.pattern),
        "op": case.op,
        "threads": case.threads,
        "contender": name,
        "first_ms": 1e3 * seconds["first"],
        "median_ms": 1e3 * seconds["median"],
        "first_ratio": seconds["numpy"] / seconds["first"],
        "ratio": seconds["numpy"] / seconds["median"],
        "gflops_per_s": rate / 1e9,
        "share_of_peak_percent": 100 * rate / (peak * case.threads),
        "flops_per_byte": flops / _bytes(case, layer_density=case.pattern.density if sparse else 1.0),
    }


def _bytes(case: Case, *, layer_density: float) -> float:
    """Bytes that must move at least: both activations once, and the weight as it is stored (4 + 1 bytes a kept one)."""
    t, d_in, d_out = case.shape
    weight = d_in * d_out * (4 if layer_density == 1 else 5 * layer_density)
    return 4 * t * (d_in + d_out) + weight
