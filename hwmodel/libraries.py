"""Kernel libraries: the sparsity each uses, its tiles, and its fitted constants on a device and type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hwmodel.errors import unknown
from hwmodel.execution import Kind
from hwmodel.processor import Kernel

KINDS = {
    "dense": "every product, dense",
    "hardware": "patterns that the sparse units' own (2:4) contains",
    "selected": "V:N:M, 2 of 4 selected columns of m, shared by V rows, on sparse units",
    "vector": "N:M whose positions are shared by vectors of outputs",
    "unstructured": "any mask of one operand",
    "skipping": "any mask of one operand, in its smallest layout",
    "groups": "any N:M mask",
    "pass": "pointwise and row-wise passes",
}
LOADS_AHEAD = ("dense", "hardware", "selected", "vector")


@dataclass(frozen=True)
class Library:
    """One library of kernels on a platform. `tiles` are the same on every device; 0 rows stand for the reuse of a row.

    `vector_tiles` are those of its kernels without matrix units (fp32), where they differ.

    `free` names the constants that are fitted; the others keep their `fixed` value. Tiles and free constants together
    are the numbers of the library on a device and type: at most six. `power_of_two` kernels pad n to a power of two.
    Those that `adapts` says so of fit a tile to a thin result and share a long reduction among idle cores.
    """

    name: str
    platform: Literal["cuda", "rocm", "host"]
    kind: Kind
    tiles: tuple[tuple[int, int], ...]
    free: tuple[str, ...]
    fixed: dict[str, float] = field(default_factory=dict)
    vector_tiles: tuple[tuple[int, int], ...] = ()
    reuse: int = 1
    power_of_two: bool = False
    adapts: bool = False
    aliases: tuple[str, ...] = ()

    def kernel_of(self, dtype: str) -> Kernel:
        """How its kernels for a type work."""
        tiles = self.vector_tiles if self.vector_tiles and dtype == "fp32" else self.tiles
        return Kernel(tiles, self.loads_ahead, self.adapts)

    @property
    def loads_ahead(self) -> bool:
        """Whether its kernels fetch the next operands while they compute."""
        return self.kind in LOADS_AHEAD

    def numbers(self, dtype: str) -> int:
        """Numbers that describe it on one device and type: fitted constants and tiles."""
        return len(self.free) + len(self.kernel_of(dtype).tiles)


_DENSE = ("host_s", "launch_s", "mac_cost", "bandwidth_share")
_SMALL_TILE = ((32, 64),)
LIBRARIES = {
    library.name: library
    for library in (
        Library(
            "cuBLAS",
            "cuda",
            "dense",
            ((64, 128),),
            _DENSE,
            vector_tiles=_SMALL_TILE,
            adapts=True,
            aliases=("cuBLASLt",),
        ),
        Library("rocBLAS", "rocm", "dense", _SMALL_TILE, _DENSE, adapts=True),
        Library("hipBLASLt", "rocm", "dense", _SMALL_TILE, _DENSE, adapts=True),
        Library("cuSPARSELt", "cuda", "hardware", ((256, 128),), ("host_s", "launch_s", "mac_cost", "bandwidth_share")),
        Library("hipSPARSELt", "rocm", "hardware", _SMALL_TILE, _DENSE, adapts=True),
        Library(
            "Spatha",
            "cuda",
            "selected",
            ((0, 64),),
            ("launch_s", "mac_cost", "step_cost", "gather_cost", "bandwidth_share"),
            {"window_bytes": 1e12},
            reuse=128,
            aliases=("VENOM",),
        ),
        Library(
            "NM-SpMM", "cuda", "vector", ((32, 32),), ("launch_s", "mac_cost", "step_cost", "bandwidth_share"), reuse=32
        ),
        Library(
            "nmSPARSE",
            "cuda",
            "vector",
            ((32, 32),),
            ("launch_s", "mac_cost", "step_cost", "bandwidth_share"),
            reuse=32,
            power_of_two=True,
        ),
        Library(
            "Sputnik",
            "cuda",
            "unstructured",
            ((32, 32),),
            ("launch_s", "mac_cost", "step_cost", "gather_cost", "window_bytes"),
        ),
        Library(
            "CLASP",
            "cuda",
            "unstructured",
            ((32, 32),),
            ("launch_s", "mac_cost", "step_cost", "gather_cost"),
            {"window_bytes": 1e12},
            reuse=8,
        ),
        Library("NumPy", "host", "dense", ((16, 16),), _DENSE, adapts=True),
        Library("nmsim", "host", "groups", ((16, 16),), ("launch_s", "mac_cost", "step_cost", "bandwidth_share")),
        Library("nmsim passes", "host", "pass", (), ("launch_s", "bandwidth_share")),
        Library("PyTorch softmax", "cuda", "pass", (), ("host_s", "launch_s", "bandwidth_share")),
        Library("PyTorch layernorm", "cuda", "pass", (), ("host_s", "launch_s", "bandwidth_share")),
        Library("PyTorch gelu", "cuda", "pass", (), ("host_s", "launch_s", "bandwidth_share")),
    )
}
ALIASES = {alias: library.name for library in LIBRARIES.values() for alias in library.aliases}


def library_named(name: str) -> Library:
    """The library of that name or alias. Raises `UserError` for another."""
    name = ALIASES.get(name, name)
    if name not in LIBRARIES:
        raise unknown("library", name, LIBRARIES)
    return LIBRARIES[name]


def pass_library(platform: str, kind: str) -> Library:
    """The library of a pointwise or row-wise operation: softmax and norms have kernels of their own on a GPU."""
    if platform == "host":
        return LIBRARIES["nmsim passes"]
    family = next((name for name in ("softmax", "norm") if name in kind), "gelu").replace("norm", "layernorm")
    return LIBRARIES[f"PyTorch {family}"]
