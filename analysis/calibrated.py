"""Pruning methods for weight files, those that need calibration inputs among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwmodel.errors import UserError, shown
from hwmodel.pattern import Pattern
from nmsim.formats.converted import rounded
from nmsim.formats.dtypes import WEIGHTS, bits, is_weight, to_float32
from nmsim.formats.safetensors import Reader
from nmsim.formats.tensors import TensorSpec, blocks
from nmsim.prune import inverse_factor, sparsegpt, wanda


class Calibration:
    """Inputs [t, d_in] of layers in a safetensors file, each under the name of the weight or of its layer."""

    def __init__(self, path: Path) -> None:
        self._source, self._path = Reader(path), path
        self._gram: tuple[str, np.ndarray] = ("", np.empty((0, 0)))
        self._factor: tuple[str, np.ndarray] = self._gram

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def has(self, name: str) -> bool:
        """Whether the inputs of a weight are known."""
        return bool({name, name.removesuffix(".weight")} & self._source.specs.keys())

    def check(self, name: str, d_in: int) -> None:
        """Raise `UserError` if the inputs of a weight are missing or of another width."""
        spec = self._inputs(name)
        where = f"{self._path}: inputs of {shown(name)}"
        if len(spec.shape) != 2 or spec.shape[1] != d_in or not spec.shape[0]:
            raise UserError(f"{where} are {list(spec.shape)}; they must be [t, {d_in}]")
        if not is_weight(spec.dtype):
            raise UserError(f"{where} are {spec.dtype.name}; they must be one of {', '.join(WEIGHTS)}")

    def wanda(self, name: str, w: np.ndarray, pattern: Pattern) -> np.ndarray:
        """Wanda's choice, its weights bit for bit."""
        mask = wanda(to_float32(w), pattern, self._gram_of(name)).mask
        return np.where(mask, bits(w), bits(w).dtype.type(0)).view(w.dtype)

    def sparsegpt(self, name: str, w: np.ndarray, pattern: Pattern) -> np.ndarray:
        """SparseGPT's choice and its corrected weights, rounded to the dtype of the file.

        Raises `UserError` for a corrected weight that is too large for that dtype.
        """
        if self._factor[0] != name:
            self._factor = (name, inverse_factor(self._gram_of(name)))
        corrected = sparsegpt(to_float32(w).astype(np.float64), pattern, self._factor[1]).weight
        return rounded(name, corrected, w.dtype)

    def energy(self, name: str, w: np.ndarray) -> float:
        """||w x||^2, summed over the inputs x of a layer."""
        wide = w.astype(np.float64)
        return max(0.0, float(np.vdot(wide @ self._gram_of(name), wide)))

    def _gram_of(self, name: str) -> np.ndarray:
        """Sum of x x^T over the inputs of a layer; blocks of one weight ask for it again and again.

        Raises `UserError` for inputs that are not finite or all zero, or whose squares are.
        """
        if self._gram[0] != name:
            key, spec = self._key(name), self._inputs(name)
            gram = np.zeros((spec.shape[1],) * 2)
            for start, stop in blocks(spec):
                x = to_float32(self._source.rows(key, start, stop))
                with np.errstate(over="ignore", invalid="ignore"):
                    gram += x.T @ x
            if not (np.isfinite(gram).all() and gram.any()):
                fault = "all zero" if not gram.any() else "not finite"
                raise UserError(f"{self._path}: inputs of {shown(name)}: their squares are {fault}; record them again")
            self._gram = (name, gram)
        return self._gram[1]

    def _inputs(self, name: str) -> TensorSpec:
        return self._source.specs[self._key(name)]

    def _key(self, name: str) -> str:
        for key in (name, name.removesuffix(".weight")):
            if key in self._source.specs:
                return key
        raise UserError(f"{self._path}: no inputs of {shown(name)}; record them, or use --method magnitude")
