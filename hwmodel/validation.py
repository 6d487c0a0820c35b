"""Predictions against measured tables, with error by group, and the fits behind the shipped constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import least_squares, minimize

from hwmodel.device import DTYPE_BITS, Device, load_device
from hwmodel.fits import Fit
from hwmodel.libraries import LIBRARIES, Library
from hwmodel.measured import PASS_STREAMS, Floats, machine_numbers, why_uncovered, work_of
from hwmodel.processor import BOUNDS, Constants, Machine, pass_seconds, product_seconds
from hwmodel.transfer import constants_of, dense_name, launched_by

GROUP = ["device", "library", "op", "dtype"]
KERNEL = ["library_name", "device_name", "dtype_name"]
SPARSE_KINDS = ("hardware", "selected", "vector", "unstructured")
SHAPE_FOLDS = 4
PRIOR_WEIGHT = 2e-3
HIDDEN_WEIGHT, HOST_WEIGHT = 0.2, 0.02  # of work that computing hides, and of a host that a longer kernel hides
STARTS, SPREAD, STEPS, POLISHED = 12, 1.5, 40, 3
SMOOTH = 0.05  # misses of a few percent and less count by their square in the smooth search
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
    """Predicted seconds of every covered row, in the loop of its harness."""
    return _predicted(rows, fits, lambda device, constants: constants)  # noqa: ARG005 (one signature)


def priced(rows: pd.DataFrame, fits: Sequence[Fit]) -> pd.Series[float]:
    """Seconds of every covered row as `price` has them: the harness's start of a kernel gives way to the device's."""
    return _predicted(rows, fits, launched_by)


def _predicted(
    rows: pd.DataFrame, fits: Sequence[Fit], adapted: Callable[[Device, Constants], Constants]
) -> pd.Series[float]:
    predicted = pd.Series(np.nan, index=rows.index)
    for kernel, group in _kernels(rows):
        library, device = LIBRARIES[kernel.library], load_device(kernel.device)
        known = constants_of(library, device, kernel.dtype, fits)
        predicted[group.index] = _model(group, kernel)(adapted(device, known.constants))
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


def calibrate(rows: pd.DataFrame) -> list[Fit]:
    """A fit for every library, device and type of the covered rows.

    Dense libraries come first, as sparse ones lean on them, and then those with most rows, as those with few lean on
    the same library's fits on other devices.
    """

    def rank(item: tuple[Kernel, pd.DataFrame]) -> tuple[bool, int, Kernel]:
        return LIBRARIES[item[0].library].kind in SPARSE_KINDS, -len(item[1]), item[0]

    groups = sorted(_kernels(rows), key=rank)
    fits: list[Fit] = []
    for _, group in groups:
        fits.append(fit_group(group, fits))
    return fits


def fit_group(rows: pd.DataFrame, fits: Sequence[Fit]) -> Fit:
    """The constants of one library on one device and type that best predict the rows.

    Minimises mean + median / 2 + 0.3 90th percentile of |ln predicted - ln measured|, with a weak pull of each constant
    to what `fits` say of the library without these rows: carried over from other devices, or assumed. What isn't fitted
    comes from the dense library in `fits`.
    """
    kernel = Kernel(*(str(rows.iloc[0][key]) for key in KERNEL))
    library, device = LIBRARIES[kernel.library], load_device(kernel.device)
    others = [fit for fit in fits if fit.library != library.name]
    base = constants_of(library, device, kernel.dtype, others).constants
    seconds, measured = _model(rows, kernel), rows.seconds.to_numpy()
    center = constants_of(library, device, kernel.dtype, fits).constants
    start = np.array([_coordinate(name, getattr(center, name)) for name in library.free])
    pull = np.array([_pull(library, name) for name in library.free])

    def miss(point: Floats) -> Floats:
        return np.asarray(np.log(seconds(_moved(base, library, point)) / measured))

    def loss(point: Floats) -> float:
        ascending = np.sort(np.abs(miss(point)))
        worst = 0.5 * _quantile(ascending, 0.5) + 0.3 * _quantile(ascending, 0.9)
        return float(ascending.mean() + worst + (pull * (point - start) ** 2).mean())

    def parts(point: Floats) -> Floats:
        return np.concatenate([miss(point), np.sqrt(pull * SMOOTH * len(rows) / len(start)) * (point - start)])

    fitted = _moved(base, library, _least(loss, parts, _points(library, start, measured)))
    error = 100 * np.abs(seconds(fitted) / measured - 1)
    median, p90 = (round(float(share), 1) for share in np.quantile(error, (0.5, 0.9)))
    constants = {name: float(f"{getattr(fitted, name):.4g}") for name in library.free}
    return Fit(library.name, device.name, kernel.dtype, constants, len(rows), median, p90, _sources(rows))


def _pull(library: Library, name: str) -> float:
    """Weight of a constant's prior: strong where most rows say little of it and a few could move it far."""
    if name == "step_cost" and library.loads_ahead:
        return HIDDEN_WEIGHT
    return HOST_WEIGHT if name == "host_s" else PRIOR_WEIGHT


def _sources(rows: pd.DataFrame) -> str:
    """What the table says of where the rows come from, each source once."""
    return "; ".join(dict.fromkeys(rows.source))


def _quantile(ascending: Floats, share: float) -> float:
    """What `np.quantile` gives for values in ascending order, at a tenth of its time."""
    place = share * (len(ascending) - 1)
    below = int(place)
    low, high = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    return float(low + (place - below) * (high - low))


def _points(library: Library, start: Floats, measured: Floats) -> list[Floats]:
    """Where to search from: `start`, and fixed random points, in the first of which the host takes the quickest row."""
    points = start + SPREAD * np.random.default_rng(0).standard_normal((STARTS - 1, len(start)))
    if "host_s" in library.free:
        points[:1, library.free.index("host_s")] = _coordinate("host_s", measured.min())
    return [start, *points]


def _least(loss: Callable[[Floats], float], parts: Callable[[Floats], Floats], points: list[Floats]) -> Floats:
    """The best of searches from the points.

    Each descends the smooth sum of squared `parts` first, as the loss itself has kinks, and the best few then the loss.
    """
    smooth = [least_squares(parts, point, loss="soft_l1", f_scale=SMOOTH, max_nfev=STEPS).x for point in points]
    best = sorted(smooth, key=loss)[:POLISHED]
    tried = [minimize(loss, point, method="Nelder-Mead", options=OPTIONS) for point in best]  # type: ignore[call-overload]  # an array of floats is one
    return np.asarray(min(tried, key=lambda result: float(result.fun)).x)


def _coordinate(name: str, value: float) -> float:
    """A constant as an unbounded number: the logit of its place between its bounds, in logarithms, clear of them."""
    lower, upper, _ = BOUNDS[name]
    place = min(max(np.log(value / lower) / np.log(upper / lower), 0.02), 0.98)
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
    how = library.kernel_of(dtype)

    def seconds(constants: Constants) -> Any:
        made = product_seconds(work, how, machine, constants)
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
    """Predictions of each fold of each kernel's rows from a fit to the other folds; one fold alone gives none.

    The fit leans on no fit of the same library, as one of another device or type has seen what is left out here.
    """
    for kernel, group in _kernels(rows):
        others = [fit for fit in fits if fit.library != kernel.library]
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


def report(groups: pd.DataFrame, uncovered: pd.DataFrame, prices: pd.DataFrame) -> dict[str, Any]:
    """The errors, the uncovered rows and the errors of prices as plain data, errors in percent."""
    errors_of = {name: _plain(table) for name, table in (("groups", groups), ("prices", prices))}
    return errors_of | {"uncovered": uncovered.to_dict("records")}


def _plain(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    rounded = table.round({"mean": 2, "median": 2, "p90": 2, "worst": 2})
    return rounded[[*GROUP, "split", "count", "mean", "median", "p90", "worst"]].to_dict("records")
