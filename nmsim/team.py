"""Threads that share the work of a step. What each part computes does not depend on who computes it."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Team:
    """`threads` threads; one works in the thread that asks."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="nmsim") if threads > 1 else None

    def map(self, work: Callable[[int], T], parts: int) -> list[T]:
        """The results of work(0), ..., work(parts - 1); each sees the caller's context, so that recording goes on."""
        if self._pool is None:
            return [work(part) for part in range(parts)]
        contexts = [contextvars.copy_context() for _ in range(parts)]
        return list(self._pool.map(lambda part: contexts[part].run(work, part), range(parts)))

    def split(self, work: Callable[[int, int], None], lo: int, hi: int) -> None:
        """work(lo, hi) in as many pieces as there are threads."""
        cuts = [lo + (hi - lo) * part // self.threads for part in range(self.threads + 1)]
        self.map(lambda part: work(cuts[part], cuts[part + 1]), self.threads)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
