"""Weights of a file for a model to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hwmodel.errors import UserError
from nmsim.formats.dtypes import is_weight, to_float32
from nmsim.formats.shards import open_weights
from nmsim.formats.tensors import shown

_FEW = 5


def initial_values(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The tensors of `path` named as in `shapes`, as float32 (float64 stays); weights that are zero there are zero.

    Raises `UserError` that names every parameter that is missing, has another shape, or is no parameter of the model.
    """
    with open_weights(path) as source:
        misfits = [f"{name} is missing" for name in shapes if name not in source.specs]
        misfits += [f"{shown(name)} is no parameter of this model" for name in source.specs if name not in shapes]
        for name in shapes.keys() & source.specs.keys():
            spec = source.specs[name]
            if spec.shape != tuple(shapes[name]):
                misfits.append(f"{name} is {list(spec.shape)}, the model has {list(shapes[name])}")
            elif not is_weight(spec.dtype) and spec.dtype != np.float64:
                misfits.append(f"{name} is {spec.dtype.name}, not floating-point")
        if misfits:
            more = f" and {len(misfits) - _FEW} more" if len(misfits) > _FEW else ""
            raise UserError(f"{path}: {'; '.join(sorted(misfits)[:_FEW])}{more}")
        return {name: _values(source.read(name)) for name in shapes}


def _values(values: np.ndarray) -> np.ndarray:
    return values.copy() if values.dtype == np.float64 else to_float32(values).copy()
