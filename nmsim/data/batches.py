"""The order in which training sees its examples: a function of seed and position, so resuming needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from hwmodel.errors import UserError
from nmsim.data.dataset import Batch, Split


@dataclass
class Batches:
    """Endless batches of `size` examples of `split`; each epoch is one shuffled pass, its last partial batch left out.

    The state is (seed, position): two `Batches` with equal state give equal batches from there on.
    """

    split: Split
    size: int
    seed: int
    position: int = 0

    def __post_init__(self) -> None:
        """Refuse a batch larger than the split."""
        if not 1 <= self.size <= len(self.split):
            raise UserError(f"batch={self.size}: this split has {len(self.split)} examples; use 1 to {len(self.split)}")
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def __iter__(self) -> Iterator[Batch]:
        """The iterator itself."""
        return self

    def __next__(self) -> Batch:
        """The batch at `position`; then one further."""
        batch = self.split.take(self.indices(self.position))
        self.position += 1
        return batch

    def indices(self, position: int) -> Int[np.ndarray, " batch"]:
        """Which examples the batch at `position` holds."""
        epoch, place = divmod(position, len(self.split) // self.size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffle(epoch)
        return self._order[place * self.size : (place + 1) * self.size]

    def _shuffle(self, epoch: int) -> Int[np.ndarray, " count"]:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.split))


def in_order(split: Split, size: int) -> Iterator[Batch]:
    """Every example once, in order, for evaluation; the last batch may be smaller."""
    for start in range(0, len(split), size):
        yield split.take(np.arange(start, min(start + size, len(split))))
