"""Predictions against measured tables, with error by group, and the fits behind the shipped constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from hwmodel.cost import DTYPE_BITS
from hwmodel.device import load_device
from hwmodel.libraries import LIBRARIES, Fit, Library
from hwmodel.measured import PASS_STREAMS, PASSES, machine_numbers, why_uncovered, work_of
from hwmodel.processor import BOUNDS, Constants, Machine, pass_seconds, product_seconds
from hwmodel.transfer import ASSUMED, constants_of, dense_name

GROUP = ["device", "library", "op", "dtype"]
KERNEL = ["library_name", "device_name", "dtype_name"]
SHAPE_FOLDS = 4
TAIL_WEIGHT = 0.3
PRIOR_WEIGHT = 3e-4
STEPS = 1200
SPARSE_KINDS = ("hardware", "selected", "vector", "unstructured")


def split_covered(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a read table that the model predicts, and the counts of the others by device, library and reason."""
    reasons = table.apply(why_uncovered, axis=1) if len(table) else pd.Series([], dtype=str)
    left = table[reasons != ""].assign(reason=reasons[reasons != ""])
    counts = left.groupby(["device", "library", "reason"]).size().rename("count").reset_index()
    return table[reasons == ""], counts[["device", "library", "count", "reason"]]


def predict(rows: pd.DataFrame, fits: Sequence[Fit]) -> pd.Series[float]:
    """Predicted seconds of every covered row."""
    predicted = pd.Series(np.nan, index=rows.index)
    for (library, device, dtype), group in rows.groupby(KERNEL):
        known = constants_of(LIBRARIES[library], load_device(device), dtype, fits)
        predicted[group.index] = _seconds(group, LIBRARIES[library], (device, dtype), known.constants)
    return predicted


def errors(rows: pd.DataFrame, predicted: pd.Series[float], split: str) -> pd.DataFrame:
    """Absolute errors in percent by device, library, op and dtype: count, mean, median, 90th percentile and worst."""
    error = (100 * (predicted / rows.seconds - 1)).abs().rename("error")
    grouped = error.groupby([rows[name] for name in GROUP])
    columns = {"count": grouped.size(), "mean": grouped.mean(), "median": grouped.median()}
    columns |= {"p90": grouped.quantile(0.9), "worst": grouped.max()}
    return pd.DataFrame(columns).reset_index().assign(split=split)


def calibrate(rows: pd.DataFrame, source: str = "") -> list[Fit]:
    """A fit for every library, device and type of the covered rows, dense libraries first: sparse ones lean on them."""
    groups = sorted(rows.groupby(KERNEL), key=lambda item: (LIBRARIES[item[0][0]].kind in SPARSE_KINDS, item[0]))
    fits: list[Fit] = []
    for _, group in groups:
        fits.append(fit_group(group, fits, source))
    return fits


def fit_group(rows: pd.DataFrame, fits: Sequence[Fit], source: str = "") -> Fit:
    """The constants of one library on one device and type that best predict the rows.

    Minimises the mean and, with less weight, the 90th percentile of |ln predicted - ln measured|, with a weak pull of
    each constant to the middle of its bounds.
    """
    name, device, dtype = (str(rows.iloc[0][key]) for key in KERNEL)
    library = LIBRARIES[name]
    base = constants_of(library, load_device(device), dtype, [fit for fit in fits if fit.library != name]).constants
    measured = np.log(rows.seconds.to_numpy())
    seconds = _model(rows, library, (device, dtype))

    def loss(point: np.ndarray) -> float:
        miss = np.abs(np.log(seconds(_moved(base, library, point))) - measured)
        return float(miss.mean() + TAIL_WEIGHT * np.quantile(miss, 0.9) + PRIOR_WEIGHT * (point**2).sum())

    best = minimize(
        loss, _start(library), method="Nelder-Mead", options={"maxfev": STEPS, "xatol": 1e-3, "fatol": 1e-6}
    )
    best = minimize(loss, best.x, method="Nelder-Mead", options={"maxfev": STEPS, "xatol": 1e-3, "fatol": 1e-6})
    fitted = _moved(base, library, best.x)
    error = 100 * np.abs(seconds(fitted) / rows.seconds.to_numpy() - 1)
    constants = {key: float(f"{getattr(fitted, key):.4g}") for key in library.free}
    return Fit(name, device, dtype, constants, len(rows), *np.round(np.quantile(error, (0.5, 0.9)), 1).tolist(), source)


def _start(library: Library) -> np.ndarray:
    return np.array([_coordinate(name, ASSUMED[name]) for name in library.free])


def _coordinate(name: str, value: float) -> float:
    """A constant as an unbounded number: the logit of its place between its bounds, in logarithms."""
    lower, upper, _ = BOUNDS[name]
    place = np.log(value / lower) / np.log(upper / lower)
    return float(np.log(place / (1 - place)))


def _moved(base: Constants, library: Library, point: np.ndarray) -> Constants:
    """The constants `base` with the library's free ones at `point`, the inverse of `_coordinate`."""
    values: dict[str, float] = {}
    for name, coordinate in zip(library.free, point, strict=True):
        lower, upper, _ = BOUNDS[name]
        values[name] = lower * (upper / lower) ** (1 / (1 + np.exp(-np.clip(coordinate, -30, 30))))
    return base._replace(**values)


def _seconds(rows: pd.DataFrame, library: Library, where: tuple[str, str], constants: Constants) -> np.ndarray:
    return _model(rows, library, where)(constants)


def _model(rows: pd.DataFrame, library: Library, where: tuple[str, str]) -> Callable[[Constants], Any]:
    """Seconds of the rows as a function of the constants, all arrays made once."""
    device, dtype = load_device(where[0]), where[1]
    if library.kind == "pass":
        moved = PASS_STREAMS * (rows.m * rows.n.fillna(1.0)).to_numpy() * DTYPE_BITS[dtype] / 8
        return lambda constants: pass_seconds(moved, device.memory.bandwidth_bytes_per_s, constants).total
    work, machine = work_of(rows, library, dtype), Machine(*machine_numbers(device, dtype))
    tiles, ahead = library.tiles, library.loads_ahead
    return lambda constants: product_seconds(work, tiles, machine, constants, loads_ahead=ahead).total


def held_out(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors on rows that the fit behind their prediction did not see: shapes, patterns and devices left out."""
    fits = calibrate(rows)
    return pd.concat(
        [
            errors(*_gathered(rows, _left_out(rows, fits, _shape_folds)), "shape"),
            errors(*_gathered(rows, _left_out(rows, fits, _pattern_folds)), "pattern"),
            errors(*_gathered(rows, _other_devices(rows, fits)), "device"),
        ]
    )


def _gathered(rows: pd.DataFrame, parts: Iterator[pd.Series[float]]) -> tuple[pd.DataFrame, pd.Series[float]]:
    predicted = pd.concat([pd.Series(dtype=float), *parts])
    return rows.loc[predicted.index], predicted


def _left_out(
    rows: pd.DataFrame, fits: Sequence[Fit], folds: Callable[[pd.DataFrame], pd.Series[Any]]
) -> Iterator[pd.Series[float]]:
    """Predictions of each fold of each kernel's rows from a fit to the other folds; one fold alone gives none."""
    for (library, device, dtype), group in rows.groupby(KERNEL):
        others = [fit for fit in fits if (fit.library, fit.device, fit.dtype) != (library, device, dtype)]
        fold = folds(group)
        for value in fold.unique() if fold.nunique() > 1 else ():
            refitted = fit_group(group[fold != value], others)
            yield predict(group[fold == value], [*others, refitted])


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
    for (library, device, _), group in rows.groupby(KERNEL):
        others = [fit for fit in fits if fit.device != device or fit.library == dense_name(load_device(device))]
        if LIBRARIES[library].kind in SPARSE_KINDS and any(fit.library == library for fit in others):
            yield predict(group, others)


def report(groups: pd.DataFrame, uncovered: pd.DataFrame) -> dict[str, Any]:
    """The errors and the uncovered rows as plain data, errors in percent."""
    rounded = groups.round({"mean": 2, "median": 2, "p90": 2, "worst": 2})
    keys = [*GROUP, "split", "count", "mean", "median", "p90", "worst"]
    return {"groups": rounded[keys].to_dict("records"), "uncovered": uncovered.to_dict("records")}
