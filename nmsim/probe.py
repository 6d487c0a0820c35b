"""Statistics of every linear site during training: those that papers on sparse training argue with.

| statistic | definition |
|---|---|
| gradient_variance | variance over the site's weights of the raw gradient |
| gradient_magnitude_variance | the same of its absolute value (arXiv 2402.04744, figure 3b, which is a running average) |
| gradient_norm_kept, gradient_norm_pruned | Euclidean norm of the raw gradient over kept and over pruned weights |
| clipped_gradient_norm_kept, clipped_gradient_norm_pruned | the same of what the optimiser sees, after clipping |
| second_moment_mean, second_moment_norm | mean and Euclidean norm of Adam's second moment (2402.04744, figure 3a) |
| second_moment_spread | its standard deviation over weights divided by its mean |
| mask_flip_rate | share of weights whose mask changed in this step (arXiv 2404.01847, section 4) |
| sad | sparse architecture divergence: weights whose mask differs from the record before (arXiv 2102.04010, section 3.2) |
| final_mask_found | share of the final mask's weights that are kept already |
| weight_norm | Euclidean norm of the forward operand, the weights as the product sees them |
| activation_sparsity | share of zeros in the site's input |
| dormant_neurons | share of the site's inputs whose mean size is at most 0.025 of the mean over all (arXiv 2302.12902, definition 3.1) |

The last two are taken over the first 256 rows of the input, of the first shard, and `final_mask_found` over the first
32,768 weights, because the masks of all records are kept until the final one is known. Without sparsity all weights are
kept. Where compressed execution computes a weight gradient at kept positions alone, what needs the others is left out.
"""  # noqa: E501 -- a table

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from nmsim.compressed import NMMatrix
from nmsim.kernels import sums
from nmsim.layers import Linear, Param
from nmsim.models.base import Model
from nmsim.optim import SQUARE
from nmsim.sparsifier import Sparsifier

ROWS = 256
DORMANT = 0.025
OF_PRUNED = {"gradient_variance", "gradient_magnitude_variance", "gradient_norm_pruned"}
"""Statistics that need the raw gradient of pruned weights."""
FOUND_OVER = 1 << 15
LAST, FOUND = "statistics.mask", "statistics.masks"
"""Slots with the bits of the last record's mask, and a row for each record of those that `final_mask_found` is over."""

Mask = Bool[np.ndarray, "d_out d_in"]
Masks = Mapping[str, Mask]


class Probe:
    """Records the statistics of a model every `every` steps; 0 records nothing."""

    def __init__(self, model: Model, sparsifier: Sparsifier, every: int) -> None:
        self.every, self._sparsifier = every, sparsifier
        self._layers = [layer for layer in model.linears() if layer.weight.name == layer.site]
        self._before: Masks = {}
        self._raw: dict[str, list[tuple[str, float]]] = {}

    def due(self, step: int) -> bool:
        """Whether `step` is recorded."""
        return self.every > 0 and step % self.every == 0

    def masks(self, step: int) -> None:
        """Keep the masks of the step before one that is recorded."""
        if self.due(step):
            self._before = self._sparsifier.masks()

    def gradients(self, step: int) -> None:
        """Take the statistics of the raw gradients of a step that is recorded, before the recipes change them."""
        if self.due(step):
            masks = self._sparsifier.masks()
            self._raw = {layer.site: list(_raw_statistics(layer.weight, masks)) for layer in self._layers}

    def record(self, step: int, clip: float) -> list[dict[str, Any]]:
        """The statistics of a recorded step, behind the optimiser's update; none of any other step.

        `clip` is the factor that the gradients were clipped by.
        """
        if not self.due(step):
            return []
        masks = self._sparsifier.masks()
        sites = ((layer.site, self._site(layer, masks, clip)) for layer in self._layers)
        return [_row(step, site, name, value) for site, found in sites for name, value in found]

    def finish(self, steps: int) -> list[dict[str, Any]]:
        """How much of the final mask every record had found; the masks now are the final ones of `steps` steps."""
        rows = []
        for layer in self._layers:
            final = self._sparsifier.masks().get(layer.site)
            records = layer.weight.slots.pop(FOUND, None)
            if final is not None and records is not None:
                del layer.weight.slots[LAST]
                final = final.ravel()[:FOUND_OVER]
                bits = np.unpackbits(records, axis=1, count=final.size).astype(bool)
                shares = (bits & final).sum(axis=1) / max(int(final.sum()), 1)
                recorded = zip(range(0, steps, self.every), shares.tolist(), strict=True)
                rows += [_row(step, layer.site, "final_mask_found", share) for step, share in recorded]
        return rows

    def _site(self, layer: Linear, masks: Masks, clip: float) -> Iterator[tuple[str, float]]:
        param, mask = layer.weight, masks.get(layer.site)
        yield from self._raw[layer.site]
        _, _, *norms = _gradient_statistics(param, masks)
        yield from ((f"clipped_{name}", clip * value) for name, value in norms)
        if SQUARE in param.slots:
            yield from _moment_statistics(param.slots[SQUARE])
        if mask is not None:
            yield "mask_flip_rate", _changed(mask, self._before.get(layer.site, mask)) / mask.size
            yield "sad", float(_remember(param, mask))
        operand = param.fwd.values if isinstance(param.fwd, NMMatrix) else param.fwd
        yield "weight_norm", float(np.linalg.norm(operand))
        yield from _activation_statistics(layer.x[:ROWS])


def _row(step: int, site: str, statistic: str, value: float) -> dict[str, Any]:
    return {"step": step, "site": site, "statistic": statistic, "value": value}


def _raw_statistics(param: Param, masks: Masks) -> Iterator[tuple[str, float]]:
    """Those of the gradient as it was computed."""
    whole = param.grad_like is None
    return (pair for pair in _gradient_statistics(param, masks) if whole or pair[0] not in OF_PRUNED)


def _gradient_statistics(param: Param, masks: Masks) -> Iterator[tuple[str, float]]:
    gradient, mask = param.grad, masks.get(param.name)
    total = np.empty(4)
    kept = np.ones(gradient.shape, bool) if mask is None else mask
    sums.gradient_sums(gradient.ravel(), kept.ravel(), total)
    plain, size, square, square_kept = total.tolist()
    yield "gradient_variance", square / gradient.size - (plain / gradient.size) ** 2
    yield "gradient_magnitude_variance", square / gradient.size - (size / gradient.size) ** 2
    yield "gradient_norm_kept", math.sqrt(square_kept)
    yield "gradient_norm_pruned", math.sqrt(max(square - square_kept, 0.0))


def _moment_statistics(square: Float[np.ndarray, "d_out d_in"]) -> Iterator[tuple[str, float]]:
    mean = float(square.mean(dtype=np.float64))
    yield "second_moment_mean", mean
    yield "second_moment_norm", float(np.linalg.norm(square))
    yield "second_moment_spread", float(square.std(dtype=np.float64)) / mean if mean > 0 else 0.0


def _activation_statistics(x: Float[np.ndarray, "rows d_in"]) -> Iterator[tuple[str, float]]:
    yield "activation_sparsity", 1 - np.count_nonzero(x) / x.size
    size = np.abs(x).mean(axis=0)
    yield "dormant_neurons", float(np.mean(size <= DORMANT * size.mean()))


def _changed(a: Mask, b: Mask) -> int:
    return 0 if a is b else int(np.count_nonzero(a != b))


def _remember(param: Param, mask: Mask) -> int:
    """Keep of a mask what later records need; how many weights differ from the record before."""
    bits, first = np.packbits(mask), np.packbits(mask.ravel()[:FOUND_OVER])[None]
    before = param.slots.get(LAST, bits)
    param.slots[LAST] = bits
    param.slots[FOUND] = np.concatenate([param.slots.get(FOUND, first[:0]), first])
    return int(np.unpackbits(before ^ bits).sum())
