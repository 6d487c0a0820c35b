"""Weights of a file for a model to begin with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hwmodel.errors import UserError, shown
from nmsim.formats.decoded import open_dense
from nmsim.formats.dtypes import is_weight, to_float32
from nmsim.formats.shards import open_weights

_FEW = 5


def content_hash(path: Path) -> str:
    """SHA-256 of a checkpoint's content: of its file, and of the shards that it names."""
    with open_weights(path) as source:
        files = dict.fromkeys([path, *(path.parent / file for file in source.files)])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def initial_values(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The tensors of `path` named as in `shapes`, decoded, as float32 (float64 stays).

    Raises `UserError` that names every parameter that is missing, has another shape, or is no parameter of the model,
    and the first weight that is not finite.
    """
    with open_dense(path) as source:
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
        return {name: _values(f"{path}: {name}", source.read(name)) for name in shapes}


def _values(where: str, values: np.ndarray) -> np.ndarray:
    wide = values.copy() if values.dtype == np.float64 else to_float32(values).copy()
    if not np.isfinite(wide).all():
        place = np.argwhere(~np.isfinite(wide))[0].tolist()
        raise UserError(f"{where}: weight {place} is not finite; training can't start from it")
    return wide
