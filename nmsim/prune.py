"""Pruning after training: by magnitude, Wanda and SparseGPT, for one matrix and for a whole model."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from hwmodel.errors import UserError, unknown
from hwmodel.pattern import Pattern
from nmsim.layers import Param, identity
from nmsim.masks import topk_mask
from nmsim.models.base import Model

METHODS = ("magnitude", "wanda", "sparsegpt")
Gram = Float[np.ndarray, "d_in d_in"]

DAMPING = 0.01
"""What SparseGPT adds to the diagonal of the Hessian, as a share of its mean (arXiv 2301.00774, released code)."""
BLOCK = 64
"""Columns whose errors SparseGPT spreads over the later ones in one product."""


class Pruned(NamedTuple):
    """A pruned weight, zero outside its mask."""

    weight: Float[np.ndarray, "d_out d_in"]
    mask: Bool[np.ndarray, "d_out d_in"]


def prune_matrix(
    w: Float[np.ndarray, "d_out d_in"], pattern: Pattern, method: str = "magnitude", *, gram: Gram | None = None
) -> Pruned:
    """Prune a weight to n of every m along d_in. Wanda and SparseGPT need `gram`, the sum of x x^T over inputs x.

    Raises `UserError` for an unknown method, a missing `gram`, and a d_in that is not a multiple of m.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if method == "magnitude":
        return _masked(w, topk_mask(np.abs(w), pattern))
    if gram is None:
        raise UserError(f"{method}: needs calibration inputs; give gram=, or use magnitude")
    return wanda(w, pattern, gram) if method == "wanda" else sparsegpt(w, pattern, inverse_factor(gram))


def wanda(w: Float[np.ndarray, "d_out d_in"], pattern: Pattern, gram: Gram) -> Pruned:
    """Keep the largest |w_ij| ||x_j||, with the norm of input j over all tokens (arXiv 2306.11695, eq. 1)."""
    return _masked(w, topk_mask(np.abs(w) * np.sqrt(np.diag(gram)), pattern))


def sparsegpt(w: Float[np.ndarray, "d_out d_in"], pattern: Pattern, factor: Gram) -> Pruned:
    """Prune column by column, each error made up for by the columns not yet reached (arXiv 2301.00774, algorithm 1).

    `factor` is the upper Cholesky factor of the inverse Hessian, from `inverse_factor`. The mask of a group is chosen
    when its first column is reached: the n largest w^2 / factor_jj^2 stay.
    """
    if w.shape[1] % pattern.m:
        raise UserError(f"d_in={w.shape[1]} is not a multiple of m={pattern.m}; pad the weight or exclude it")
    left, mask = w.astype(np.float64), np.zeros(w.shape, bool)
    width = pattern.m * max(1, BLOCK // pattern.m)
    for start in range(0, w.shape[1], width):
        columns = slice(start, min(start + width, w.shape[1]))
        errors = _prune_block(left[:, columns], mask[:, columns], factor[columns, columns], pattern)
        left[:, columns.stop :] -= errors @ factor[columns, columns.stop :]
    return _masked(left.astype(w.dtype), mask)


def _prune_block(w: np.ndarray, mask: np.ndarray, factor: np.ndarray, pattern: Pattern) -> np.ndarray:
    """Choose the masks of a block and update its weights, both in place; the scaled errors of its columns."""
    errors, scale = np.zeros_like(w), np.diag(factor)
    for j in range(w.shape[1]):
        if j % pattern.m == 0:
            group = slice(j, j + pattern.m)
            mask[:, group] = topk_mask((w[:, group] / scale[group]) ** 2, pattern)
        errors[:, j] = np.where(mask[:, j], 0, w[:, j]) / scale[j]
        w[:, j:] -= np.outer(errors[:, j], factor[j, j:])
    return errors


def inverse_factor(gram: Gram) -> Gram:
    """Upper Cholesky factor of the inverse of the damped Hessian 2 * gram; an input that is always 0 counts as 1."""
    hessian = 2 * gram.astype(np.float64)
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    hessian += DAMPING * np.mean(np.diag(hessian)) * np.eye(len(hessian))
    factor: Gram = np.linalg.cholesky(np.linalg.inv(hessian)).T
    return factor


def prune(
    model: Model,
    calibration: Iterable[tuple[np.ndarray, ...]],
    pattern: Pattern,
    method: str = "magnitude",
    *,
    sites: str = "*",
) -> dict[str, Bool[np.ndarray, "d_out d_in"]]:
    """Prune the weights of a model in place, in the order of its forward pass; the mask of every site.

    `calibration` holds batches of the arrays that `model.forward` takes. Every site is calibrated with all sites before
    it pruned. Raises `UserError` for a glob that matches nothing and, all at once, for sites that m does not divide.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    weights = [param for param in model.sparsifiable() if fnmatchcase(param.name, sites)]
    if not weights:
        names = ", ".join(param.name for param in model.sparsifiable())
        raise UserError(f'"{sites}" matches no sparsifiable site (sites: {names})')
    misfits = [f"{p.name}: d_in={p.value.shape[1]}" for p in weights if p.value.shape[1] % pattern.m]
    if misfits:
        raise UserError(f"{', '.join(misfits)}: not a multiple of m={pattern.m}; exclude these sites")
    batches, masks = list(calibration), {}
    if method != "magnitude" and not batches:
        raise UserError(f"{method}: needs calibration inputs; give at least one batch, or use magnitude")
    for param in weights:
        gram = None if method == "magnitude" else input_gram(model, param, batches)
        param.value[...], masks[param.name] = prune_matrix(param.value, pattern, method, gram=gram)
        param.fwd = param.bwd = param.value
    return masks


def input_gram(model: Model, param: Param, batches: Iterable[tuple[np.ndarray, ...]]) -> Gram:
    """Sum of x x^T over the inputs x that a weight sees in forward passes without noise."""
    gram = np.zeros((param.value.shape[1],) * 2)

    def watch(x: Float[np.ndarray, "t d_in"]) -> Float[np.ndarray, "t d_in"]:
        nonlocal gram
        gram += x.T @ x
        return x

    model.noise.rng = None
    param.x = watch
    for batch in batches:
        model.forward(*batch)
    param.x = identity
    return gram


def _masked(w: np.ndarray, mask: np.ndarray) -> Pruned:
    return Pruned(np.where(mask, w, 0).astype(w.dtype, copy=False), mask)
