"""Threads of our own: sequential kernels on parts of a result that do not overlap, so bits never depend on them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import pairwise
from typing import Any

from nmsim.kernels.helpers import Helpers

# Operations that make waking a thread worth its tenth of a millisecond, for each that takes part.
LEAST_WORK = 6 << 20

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


def split(function: Callable[[int, int], Any], total: int, step: int, *, work: int | None = None) -> list[Any]:
    """The results of function(lo, hi) over parts of range(total), cut at multiples of `step`, one part a thread.

    `work`, where it is known, is the operations of all parts: fewer threads take part where it is little.
    """
    count, steps = _COUNT.get(), -(-total // step)
    if work is not None:
        count = max(1, min(count, work // LEAST_WORK))
    cuts = [min(total, step * (steps * i // count)) for i in range(count + 1)]
    parts = [(lo, hi) for lo, hi in pairwise(cuts) if lo < hi]
    waiting = [_pool(count).submit(function, lo, hi) for lo, hi in parts[1:]]
    return [function(*part) for part in parts[:1]] + [part.result() for part in waiting]
