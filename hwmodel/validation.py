"""Predictions against measured tables, with error by group, and the fits behind the shipped constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from hwmodel.device import DTYPE_BITS, load_device
from hwmodel.fits import Fit
from hwmodel.libraries import LIBRARIES, Library
from hwmodel.measured import PASS_STREAMS, Floats, machine_numbers, why_uncovered, work_of
from hwmodel.processor import BOUNDS, Constants, Machine, pass_seconds, product_seconds
from hwmodel.transfer import ASSUMED, constants_of, dense_name, find

GROUP = ["device", "library", "op", "dtype"]
KERNEL = ["library_name", "device_name", "dtype_name"]
SPARSE_KINDS = ("hardware", "selected", "vector", "unstructured")
SHAPE_FOLDS = 4
PRIOR_WEIGHT = 2e-3
STARTS, SPREAD = 12, 1.5
OPTIONS: dict[str, Any] = {"maxfev": 1200, "xatol": 1e-3, "fatol": 1e-6}


class Kernel(NamedTuple):
    """A library on a device and type, by the catalogue's names."""

    library: str
    device: str
    dtype: str


def split_covered(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a read table that the model predicts, and the counts of the others by device, library and reason."""
    reasons = table.apply(why_uncovered, axis=1) if len(table) else pd.Series([], dtype=str)
    left = table[reasons != ""].assign(reason=reasons[reasons != ""])
    counts = left.groupby(["device", "library", "reason"]).size().rename("count").reset_index()
    return table[reasons == ""], counts[["device", "library", "count", "reason"]]


def predict(rows: pd.DataFrame, fits: Sequence[Fit]) -> pd.Series[float]:
    """Predicted seconds of every covered row."""
    predicted = pd.Series(np.nan, index=rows.index)
    for kernel, group in _kernels(rows):
        library = LIBRARIES[kernel.library]
        known = constants_of(library, load_device(kernel.device), kernel.dtype, fits)
        predicted[group.index] = _model(group, kernel)(known.constants)
    return predicted


def errors(rows: pd.DataFrame, predicted: pd.Series[float], split: str) -> pd.DataFrame:
    """Absolute errors in percent by device, library, op and dtype: count, mean, median, 90th percentile and worst."""
    if rows.empty:
        return pd.DataFrame(columns=[*GROUP, "count", "mean", "median", "p90", "worst", "split"])
    error = (100 * (predicted / rows.seconds - 1)).abs().rename("error")
    grouped = error.groupby([rows[name] for name in GROUP])
    columns = {"count": grouped.size(), "mean": grouped.mean(), "median": grouped.median()}
    columns |= {"p90": grouped.quantile(0.9), "worst": grouped.max()}
    return pd.DataFrame(columns).reset_index().assign(split=split)


def calibrate(rows: pd.DataFrame, source: str = "") -> list[Fit]:
    """A fit for every library, device and type of the covered rows, dense libraries first: sparse ones lean on them."""
    groups = sorted(_kernels(rows), key=lambda item: (LIBRARIES[item[0].library].kind in SPARSE_KINDS, item[0]))
    fits: list[Fit] = []
    for _, group in groups:
        fits.append(fit_group(group, fits, source))
    return fits


def fit_group(rows: pd.DataFrame, fits: Sequence[Fit], source: str = "") -> Fit:
    """The constants of one library on one device and type that best predict the rows.

    Minimises mean + median / 2 + 0.3 90th percentile of |ln predicted - ln measured|, with a weak pull of each constant
    to what is assumed without measurements. What isn't fitted comes from the dense library in `fits`.
    """
    kernel = Kernel(*(str(rows.iloc[0][key]) for key in KERNEL))
    library, device = LIBRARIES[kernel.library], load_device(kernel.device)
    others = [fit for fit in fits if fit.library != library.name]
    base = constants_of(library, device, kernel.dtype, others).constants
    seconds, measured = _model(rows, kernel), rows.seconds.to_numpy()
    start = np.array([_coordinate(name, ASSUMED[name]) for name in library.free])

    def loss(point: Floats) -> float:
        miss = np.sort(np.abs(np.log(seconds(_moved(base, library, point)) / measured)))
        worst = 0.5 * _quantile(miss, 0.5) + 0.3 * _quantile(miss, 0.9)
        return float(miss.mean() + worst + PRIOR_WEIGHT * ((point - start) ** 2).mean())

    fitted = _moved(base, library, _least(loss, start))
    error = 100 * np.abs(seconds(fitted) / measured - 1)
    median, p90 = (round(float(share), 1) for share in np.quantile(error, (0.5, 0.9)))
    constants = {name: float(f"{getattr(fitted, name):.4g}") for name in library.free}
    return Fit(library.name, device.name, kernel.dtype, constants, len(rows), median, p90, source)


def _quantile(ascending: Floats, share: float) -> float:
    """What `np.quantile` gives for values in ascending order, at a tenth of its time."""
    place = share * (len(ascending) - 1)
    below = int(place)
    low, high = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    return float(low + (place - below) * (high - low))


def _least(loss: Callable[[Floats], float], start: Floats) -> Floats:
    """The best of a few searches from `start` and from fixed random points around it."""
    rng = np.random.default_rng(0)
    points = [start, *(start + SPREAD * rng.standard_normal((STARTS - 1, len(start))))]
    tried = [minimize(loss, point, method="Nelder-Mead", options=OPTIONS) for point in points]  # type: ignore[call-overload]  # an array of floats is one
    return np.asarray(min(tried, key=lambda result: float(result.fun)).x)


def _coordinate(name: str, value: float) -> float:
    """A constant as an unbounded number: the logit of its place between its bounds, in logarithms."""
    lower, upper, _ = BOUNDS[name]
    place = np.log(value / lower) / np.log(upper / lower)
    return float(np.log(place / (1 - place)))


def _moved(base: Constants, library: Library, point: Floats) -> Constants:
    """The constants `base` with the library's free ones at `point`, the inverse of `_coordinate`."""
    values: dict[str, float] = {}
    for name, coordinate in zip(library.free, point.tolist(), strict=True):
        lower, upper, _ = BOUNDS[name]
        values[name] = lower * (upper / lower) ** (1 / (1 + math.exp(-min(max(coordinate, -30), 30))))
    return base._replace(**values)


def _kernels(rows: pd.DataFrame) -> Iterator[tuple[Kernel, pd.DataFrame]]:
    """The rows of each library on a device and type."""
    for key, group in rows.groupby(KERNEL):
        yield Kernel(*map(str, tuple(key))), group


def _model(rows: pd.DataFrame, kernel: Kernel) -> Callable[[Constants], Any]:
    """Seconds of the rows as a function of the constants, all arrays made once."""
    library, device, dtype = LIBRARIES[kernel.library], load_device(kernel.device), kernel.dtype
    if library.kind == "pass":
        moved = PASS_STREAMS * (rows.m * rows.n.fillna(1.0)).to_numpy() * DTYPE_BITS[dtype] / 8
        rate = device.memory.bandwidth_bytes_per_s
        return lambda constants: np.maximum(constants.host_s, pass_seconds(moved, rate, constants).total)
    work, machine = work_of(rows, library, dtype), Machine(*machine_numbers(device, dtype))
    tiles, ahead = library.tiles_of(dtype), library.loads_ahead

    def seconds(constants: Constants) -> Any:
        made = product_seconds(work, tiles, machine, constants, loads_ahead=ahead)
        return np.maximum(constants.host_s, made.total)

    return seconds


def held_out(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors on rows that the fit behind their prediction did not see: shapes, patterns and devices left out."""
    fits = calibrate(rows)
    parts = {
        "shape": _left_out(rows, fits, _shape_folds),
        "pattern": _left_out(rows, fits, _pattern_folds),
        "device": _other_devices(rows, fits),
    }
    tables = []
    for split, predictions in parts.items():
        predicted = pd.concat([pd.Series(dtype=float), *predictions])
        tables.append(errors(rows.loc[predicted.index], predicted, split))
    return pd.concat(tables)


def _left_out(
    rows: pd.DataFrame, fits: Sequence[Fit], folds: Callable[[pd.DataFrame], pd.Series[Any]]
) -> Iterator[pd.Series[float]]:
    """Predictions of each fold of each kernel's rows from a fit to the other folds; one fold alone gives none."""
    for kernel, group in _kernels(rows):
        mine = find(fits, kernel.library, load_device(kernel.device).name, kernel.dtype)
        others = [fit for fit in fits if fit is not mine]
        fold = folds(group)
        values = fold.unique()
        for value in values if len(values) > 1 else ():
            yield predict(group[fold == value], [*others, fit_group(group[fold != value], others)])


def _shape_folds(group: pd.DataFrame) -> pd.Series[Any]:
    """Whole shapes dealt out to the folds in the order of their size."""
    shapes = group[["m", "n", "k"]].fillna(0.0).apply(tuple, axis=1)
    order = {shape: i % SHAPE_FOLDS for i, shape in enumerate(sorted(set(shapes)))}
    return shapes.map(order)


def _pattern_folds(group: pd.DataFrame) -> pd.Series[Any]:
    """One fold a density."""
    return group.density.fillna(1.0).round(4)


def _other_devices(rows: pd.DataFrame, fits: Sequence[Fit]) -> Iterator[pd.Series[float]]:
    """Predictions of sparse kernels from this device's dense rows and other devices' fits of the same library."""
    for kernel, group in _kernels(rows):
        device = load_device(kernel.device)
        others = [fit for fit in fits if fit.device != device.name or fit.library == dense_name(device)]
        if LIBRARIES[kernel.library].kind in SPARSE_KINDS and any(fit.library == kernel.library for fit in others):
            yield predict(group, others)


def report(groups: pd.DataFrame, uncovered: pd.DataFrame) -> dict[str, Any]:
    """The errors and the uncovered rows as plain data, errors in percent."""
    rounded = groups.round({"mean": 2, "median": 2, "p90": 2, "worst": 2})
    keys = [*GROUP, "split", "count", "mean", "median", "p90", "worst"]
    return {"groups": rounded[keys].to_dict("records"), "uncovered": uncovered.to_dict("records")}
