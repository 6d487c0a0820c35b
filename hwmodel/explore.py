"""The same prices over arrays of shapes, patterns and devices; Pareto fronts; where a pattern begins to pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hwmodel.cost import kernels
from hwmodel.device import DTYPE_BITS, Device
from hwmodel.engines import Product, Routine, abilities, estimate
from hwmodel.errors import UserError
from hwmodel.execution import choose, moved_bytes
from hwmodel.fits import Fit
from hwmodel.pattern import DENSE, Structure
from hwmodel.workload import Operand, projection

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
BLOCK = 1 << 14  # points at a time, so that the temporaries of one block stay in a second-level cache


class Shapes(NamedTuple):
    """Sizes of many products, one entry a product."""

    rows: Integers
    inner: Integers
    cols: Integers


class Points(NamedTuple):
    """Costs of many products, one entry a shape."""

    seconds: Floats
    joules: Floats
    bytes: Floats
    flops: Floats


def evaluate(
    shapes: Shapes,
    device: Device,
    structure: Structure = DENSE,
    *,
    library: str = "best",
    dtype: str = "auto",
    fits: Sequence[Fit] = (),
) -> Points:
    """Costs of the products of a weight [cols, inner] at a structure along `inner` with inputs [rows, inner].

    Equal to `price` of the same products, to the bit: with "best", each takes the fastest of the device's libraries.
    `dtype` "auto" takes the device's usual type: of 16 bits where it has one.
    """
    used = device.usual_dtype if dtype == "auto" else dtype
    device.peak(used)
    routines = _routines(device, structure, library, used, fits)
    made = Points(*(np.empty(len(shapes.rows)) for _ in Points._fields))
    for first in range(0, len(shapes.rows), BLOCK):
        block = slice(first, first + BLOCK)
        parts = _best(Shapes(*(sizes[block] for sizes in shapes)), device, structure, routines)
        for whole, part in zip(made, parts, strict=True):
            whole[block] = part
    return made


def _best(shapes: Shapes, device: Device, structure: Structure, routines: Sequence[Routine]) -> Points:
    rows, inner, cols = shapes
    tried: list[Points] = []
    for routine in routines:
        bits, able = DTYPE_BITS[routine.dtype], abilities(device.engine, device, routine.dtype)
        choice = choose(routine.library.kind, structure, "reduction", able)
        moved = moved_bytes(cols, inner, rows, bits, choice)
        priced = estimate(device.engine, device, Product(cols, inner, rows, 1, moved, bits, choice), routine)
        tried.append(Points(priced.time.total, priced.joules, priced.bytes, priced.flops))
    return reduce(_faster, tried)


def _routines(
    device: Device, structure: Structure, library: str, dtype: str, fits: Sequence[Fit]
) -> tuple[Routine, ...]:
    """Those that `price` chooses from for a weight of the structure, whatever its shape."""
    one = projection("", 1, Operand(1, 1, DTYPE_BITS[dtype], structure))
    return tuple(Routine(kernel, dtype, fits) for kernel in kernels(one, device, dtype, library))


def _faster(a: Points, b: Points) -> Points:
    """The faster of two libraries, product by product; the first where they tie."""
    return Points(*(np.where(b.seconds < a.seconds, y, x) for x, y in zip(a, b, strict=True)))


def explore(
    shapes: pd.DataFrame, structures: Sequence[Structure], devices: Sequence[Device], *, dtype: str = "auto"
) -> pd.DataFrame:
    """Every shape (columns rows, inner, cols) at every structure on every device: a tidy table of costs.

    `dtype` "auto" takes each device's usual type; a column says which.
    """
    sizes = Shapes(*(shapes[name].to_numpy(np.int64) for name in Shapes._fields))
    parts = []
    for device in devices:
        for structure in structures:
            made = evaluate(sizes, device, structure, dtype=dtype)
            columns = {"time_s": made.seconds, "energy_j": made.joules, "moved_bytes": made.bytes, "flops": made.flops}
            used = device.usual_dtype if dtype == "auto" else dtype
            names = {"device": device.name, "structure": str(structure), "dtype": used}
            parts.append(shapes[list(Shapes._fields)].assign(**names, **columns))
    return pd.concat(parts, ignore_index=True)


def pareto(table: pd.DataFrame, *, least: Sequence[str] = (), most: Sequence[str] = ()) -> pd.DataFrame:
    """The rows that no other row beats: at least as good in every named column and better in one.

    Raises `UserError` for a column that the table lacks or a value that is not a number.
    """
    for name in (*least, *most):
        if name not in table.columns:
            raise UserError(f"no column {name} (columns: {', '.join(map(str, table.columns))})")
        if table[name].isna().any():
            raise UserError(f"column {name}: a value is missing; drop that row first")
    costs = np.column_stack([*(table[name] for name in least), *(-table[name] for name in most)]).astype(float)
    return table[_undominated(costs)]


def _undominated(costs: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Rows in the order of their first cost are compared with the front found so far, which is enough."""
    keep = np.zeros(len(costs), dtype=bool)
    front = np.empty((0, costs.shape[1]))
    for i in np.lexsort(costs.T[::-1]):
        beaten = (front <= costs[i]).all(axis=1) & (front < costs[i]).any(axis=1)
        if not beaten.any():
            keep[i] = True
            front = np.vstack([front, costs[i]])
    return keep


def gain(
    device: Device,
    structure: Structure,
    shapes: Shapes,
    *,
    library: str = "best",
    dtype: str = "auto",
    fits: Sequence[Fit] = (),
) -> Floats:
    """Dense over sparse time of every product."""
    times = (evaluate(shapes, device, s, library=library, dtype=dtype, fits=fits).seconds for s in (DENSE, structure))
    dense, sparse = times
    return np.asarray(dense / sparse)


def break_even(gains: Callable[[Integers], Floats], candidates: Sequence[int], threshold: float = 1.0) -> int | None:
    """The smallest candidate (a batch, a width) from which on every gain exceeds the threshold; None if there is none.

    `gains` maps candidates to dense over sparse time, as `gain` does for shapes made of them.
    """
    tried = np.asarray(sorted(candidates), dtype=np.int64)
    pays = gains(tried) > threshold
    if not pays[-1]:
        return None
    losing = np.flatnonzero(~pays)
    return int(tried[losing[-1] + 1 if losing.size else 0])


def broadcast(rows: Any, inner: Any, cols: Any) -> Shapes:
    """Shapes from numbers or arrays, each number repeated as often as the arrays are long."""
    return Shapes(*np.broadcast_arrays(*(np.atleast_1d(np.asarray(size, np.int64)) for size in (rows, inner, cols))))


def densest_that_pays(
    device: Device,
    structures: Sequence[Structure],
    shape: Shapes,
    *,
    threshold: float = 1.0,
    library: str = "best",
    dtype: str = "auto",
    fits: Sequence[Fit] = (),
) -> Structure | None:
    """The densest of the structures whose every gain exceeds the threshold; None where none does."""
    options: dict[str, Any] = {"library": library, "dtype": dtype, "fits": fits}
    paying = [s for s in structures if (gain(device, s, shape, **options) > threshold).all()]
    return max(paying, key=lambda structure: structure.density, default=None)
