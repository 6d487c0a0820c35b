"""Gradients against central differences along random directions, in float64."""

from __future__ import annotations

import numpy as np


def directional(loss, arrays, gradients, rng, *, step=1e-6, directions=3, rtol=1e-6):
    """Assert that d loss / d arrays along random directions equals the inner product with `gradients`.

    Arrays are changed in place around their value, and restored.
    """
    for _ in range(directions):
        along = [rng.standard_normal(a.shape) / np.sqrt(a.size) for a in arrays]
        start = [a.copy() for a in arrays]
        ends = []
        for sign in (1, -1):
            for a, at, d in zip(arrays, start, along, strict=True):
                a[...] = at + sign * step * d
            ends.append(loss())
        for a, at in zip(arrays, start, strict=True):
            a[...] = at
        expected = sum(float(np.vdot(g, d)) for g, d in zip(gradients, along, strict=True))
        scale = sum(float(np.linalg.norm(g) * np.linalg.norm(d)) for g, d in zip(gradients, along, strict=True))
        assert abs((ends[0] - ends[1]) / (2 * step) - expected) <= rtol * scale + 1e-9
