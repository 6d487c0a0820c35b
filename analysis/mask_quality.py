"""How much magnitude transposable masks keep, beside the most that any such mask can keep."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import linprog

from hwmodel.pattern import Pattern
from nmsim.masks import transposable_mask
from nmsim.run import Run
from nmsim.train import Trainer

WIDTH, STEPS = 128, 300


def trained_weights() -> np.ndarray:
    """The hidden weight [128, 128] of a dense MLP after 300 steps on the digits."""
    model = {"kind": "mlp", "width": WIDTH, "depth": 3}
    trainer = Trainer(Run(data={"name": "digits"}, model=model, steps=STEPS))
    try:
        for _ in range(STEPS):
            trainer.advance()
        found = next(p.value.copy() for p in trainer.params if p.value.shape == (WIDTH, WIDTH))
    finally:
        trainer.close()
    return found


def gaussian_weights() -> np.ndarray:
    """Normal weights [128, 128]."""
    return np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32)


def best_sum(scores: np.ndarray, n: int) -> float:
    """The most that at most n in every row and column of a square keep.

    By a linear program, whose polytope has integral corners (Hoffman and Kruskal 1956).
    """
    m = scores.shape[0]
    sums = np.vstack([np.kron(np.eye(m), np.ones(m)), np.kron(np.ones(m), np.eye(m))])
    found = linprog(-scores.ravel(), A_ub=sums, b_ub=np.full(2 * m, n), bounds=(0, 1))
    return float(scores.ravel() @ found.x)


def kept_magnitude(source: str, weights: np.ndarray, pattern: Pattern, blocks: int) -> Iterator[dict[str, Any]]:
    """A row for the fast and one for the exact choice: mean kept magnitude and its share of the optimum.

    Over the first `blocks` blocks of `weights`; seconds are those of all blocks of `weights`.
    """
    m, scores = pattern.m, np.abs(weights)
    squares = [(i, j) for i in range(0, WIDTH, m) for j in range(0, WIDTH, m)][:blocks]
    best = sum(best_sum(scores[i : i + m, j : j + m].astype(np.float64), pattern.n) for i, j in squares)
    for name, exact in (("fast", False), ("exact", True)):
        transposable_mask(scores[:m, :m], pattern, exact=exact)  # compiles
        start = time.perf_counter()
        mask = transposable_mask(scores, pattern, exact=exact)
        seconds = time.perf_counter() - start
        chosen = np.where(mask, scores, 0)
        kept = sum(float(chosen[i : i + m, j : j + m].sum(dtype=np.float64)) for i, j in squares)
        yield {
            "weights": source,
            "pattern": str(pattern),
            "choice": name,
            "kept_mean": kept / (len(squares) * m * pattern.n),
            "share_percent": 100 * kept / best,
            "microseconds_per_block": 1e6 * seconds / (WIDTH // m) ** 2,
        }
