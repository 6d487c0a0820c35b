"""Kernel libraries: the kind of sparsity each uses, its tiles, and its fitted constants on a device and type."""

from __future__ import annotations

from dataclasses import dataclass

from hwmodel.device import Processor
from hwmodel.errors import unknown
from hwmodel.execution import Kind
from hwmodel.processor import Constants


@dataclass(frozen=True)
class Library:
    """One library of kernels. `tiles` are the same on every device."""

    name: str
    kind: Kind
    tiles: tuple[tuple[int, int], ...]
    mac_cost: float
    step_cost: float


LIBRARIES = {
    library.name: library
    for library in (
        Library("cuBLAS", "dense", ((128, 128), (256, 128)), 1.1, 0.0),
        Library("rocBLAS", "dense", ((128, 128), (256, 128)), 1.5, 0.0),
        Library("hipBLASLt", "dense", ((128, 128), (256, 128)), 1.5, 0.0),
        Library("cuSPARSELt", "hardware", ((256, 128),), 1.2, 0.0),
        Library("hipSPARSELt", "hardware", ((256, 128),), 1.6, 0.0),
        Library("Sputnik", "unstructured", ((64, 64),), 3.0, 0.1),
        Library("NumPy", "dense", ((16, 16),), 1.14, 0.0),
        Library("nmsim", "groups", ((16, 16),), 1.81, 0.039),
    )
}


def library_named(name: str) -> Library:
    """The library of that name. Raises `UserError` for another."""
    if name not in LIBRARIES:
        raise unknown("library", name, LIBRARIES)
    return LIBRARIES[name]


def constants_of(library: Library, engine: Processor) -> Constants:
    """The constants of a library on a processor."""
    return Constants(engine.launch_s, library.mac_cost, library.step_cost, 0.8)
