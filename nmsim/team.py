"""Threads that share the work of a step. What each part computes does not depend on who computes it."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TypeVar

from nmsim.kernels.helpers import Helpers

T = TypeVar("T")

SMALLEST = 1 << 16
"""Elements of a flat array below which waking another thread takes longer than the work."""


class Team:
    """`threads` threads, of which one is the thread that asks."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = Helpers(threads - 1) if threads > 1 else None

    def map(self, work: Callable[[int], T], parts: int) -> list[T]:
        """The results of work(0), ..., work(parts - 1); each sees the caller's context, so that recording goes on."""
        if self._pool is None:
            return [work(part) for part in range(parts)]

        def share(first: int) -> list[T]:
            return [work(part) for part in range(first, parts, self.threads)]

        others = range(1, min(self.threads, parts))
        waiting = [self._pool.submit(contextvars.copy_context().run, share, first) for first in others]
        shares = [share(0), *(other.result() for other in waiting)]
        return [shares[part % self.threads][part // self.threads] for part in range(parts)]

    def split(self, work: Callable[[int, int], None], lo: int, hi: int, elements: int = 1) -> None:
        """work(lo, hi) in as many pieces as there are threads, or in one piece where that is faster.

        `elements` is the size of what one index stands for.
        """
        pieces = self.threads if (hi - lo) * elements >= SMALLEST else 1
        cuts = [lo + (hi - lo) * part // pieces for part in range(pieces + 1)]
        self.map(lambda part: work(cuts[part], cuts[part + 1]), pieces)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
