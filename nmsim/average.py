"""Averages of several trainings of one sparse network, and networks of equal cost at another density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from hwmodel.errors import UserError
from hwmodel.networks import MLPConfig, TransformerConfig
from hwmodel.pattern import Pattern

Widened = TypeVar("Widened", MLPConfig, TransformerConfig)
Weights = Mapping[str, Float[np.ndarray, "..."]]


def average(models: Sequence[Weights]) -> dict[str, Float[np.ndarray, "..."]]:
    """Mean of the weights of models that share their masks, name by name (sparse model soups, arXiv 2306.16788).

    The mean is as sparse as its members. Raises `UserError` for models of other shapes, and where one has zeros in a
    matrix that another does not have: such a mean would be denser.
    """
    if not models:
        raise UserError("no models to average; give at least one")
    first = models[0]
    for i, other in enumerate(models[1:], start=1):
        _check_alike(first, other, f"model {i}")
    return {name: np.mean([model[name] for model in models], axis=0).astype(first[name].dtype) for name in first}


def _check_alike(first: Weights, other: Weights, where: str) -> None:
    if first.keys() != other.keys():
        raise UserError(f"{where}: holds other weights than model 0 ({', '.join(sorted(first.keys() ^ other.keys()))})")
    for name, weight in first.items():
        if weight.shape != other[name].shape:
            raise UserError(
                f"{where}: {name} is {other[name].shape}, in model 0 {weight.shape}; average models of one shape"
            )
        differing = int(((weight == 0) != (other[name] == 0)).sum())
        if weight.ndim == 2 and differing:
            raise UserError(
                f"{where}: {name} has another mask than in model 0 ({differing} weights); train from one mask"
            )


def sparse_wide(config: Widened, pattern: Pattern) -> Widened:
    """The network widened so that its layers cost at `pattern` what they cost dense (Sparse-IFT, arXiv 2303.11525).

    In an MLP the width becomes width / sqrt(n/m), of which both sides of a weight profit; in a transformer, whose
    residual stream keeps its width, the feed-forward layers become hidden / (n/m) wide. Rounded to multiples of m.
    """
    if isinstance(config, MLPConfig):
        return replace(config, width=_rounded(config.width / pattern.density**0.5, pattern.m))
    return replace(config, ff_width=_rounded(config.hidden / pattern.density, pattern.m))


def _rounded(width: float, m: int) -> int:
    return max(1, round(width / m)) * m
