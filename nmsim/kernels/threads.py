"""Threads of our own: sequential kernels on parts of a result that do not overlap, so bits never depend on them."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import pairwise
from operator import itemgetter
from typing import Any, TypeVar

from nmsim.kernels.helpers import Helpers

# Parts that each thread may take, so that one which starts late, or is held up, leaves its share to the others.
PARTS = 4

# Operations of the smallest part, a tenth of a millisecond: about what it takes to wake a thread.
LEAST_WORK = 4 << 20

T = TypeVar("T")

_COUNT: ContextVar[int] = ContextVar("threads", default=1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let the products and mask functions called inside use `count` threads; the default is one.

    The setting belongs to the calling thread: shards of a batch on their own threads stay sequential.
    """
    token = _COUNT.set(count)
    try:
        yield
    finally:
        _COUNT.reset(token)


@cache
def _pool(count: int) -> Helpers:
    return Helpers(count)


def split(
    function: Callable[[int, int], Any], total: int, step: int, *, work: int | None = None, parts: int = PARTS
) -> list[Any]:
    """The results of function(lo, hi) over parts of range(total), cut at multiples of `step`: at most `parts` a thread.

    `work`, where it is known, is the operations of all: a part has at least `LEAST_WORK`. Whoever is free takes the
    next part, and a thread that has not woken by the end is not waited for.
    """
    count = _COUNT.get()
    pieces = 1 if count == 1 else count * parts
    if work is not None:
        pieces = max(1, min(pieces, work // LEAST_WORK))
    left, found = deque(_cut(total, step, pieces)), list[tuple[int, Any]]()

    def share() -> None:
        for lo, hi in _taken(left):
            found.append((lo, function(lo, hi)))

    waiting = [_pool(count).submit(share) for _ in range(min(count, len(left)) - 1)]
    try:
        share()
    finally:
        for other in waiting:
            if not other.cancel():
                other.result()
    return [result for _, result in sorted(found, key=itemgetter(0))]


def _cut(total: int, step: int, pieces: int) -> Iterator[tuple[int, int]]:
    steps = -(-total // step)
    cuts = (min(total, step * (steps * i // pieces)) for i in range(pieces + 1))
    return ((lo, hi) for lo, hi in pairwise(cuts) if lo < hi)


def _taken(left: deque[T]) -> Iterator[T]:
    """Take one after the other until none is left, beside other threads that do the same."""
    while True:
        try:
            yield left.popleft()
        except IndexError:
            return
