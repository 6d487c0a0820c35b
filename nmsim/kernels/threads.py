"""Threads of our own: sequential kernels on parts of a result that do not overlap, so that bits never depend on them."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

_COUNT = ContextVar("threads", default=1)


@contextmanager
def threads(count):
    """Let the products and mask functions called inside use `count` threads; the default is one.

    The setting belongs to the calling thread: shards of a batch on their own threads stay sequential.
    """
    token = _COUNT.set(count)
    try:
        yield
    finally:
        _COUNT.reset(token)


@cache
def _pool(count):
    return ThreadPoolExecutor(count, thread_name_prefix="nmsim")


def split(function, total, step):
    """Call function(lo, hi) over parts of range(total), cut at multiples of `step`, one part a thread."""
    count = _COUNT.get()
    steps = -(-total // step)
    cuts = [min(total, step * (steps * i // count)) for i in range(count + 1)]
    parts = [(lo, hi) for lo, hi in zip(cuts, cuts[1:]) if lo < hi]
    if len(parts) > 1:
        waiting = [_pool(count).submit(function, lo, hi) for lo, hi in parts[1:]]
        function(*parts[0])
        for part in waiting:
            part.result()
    elif parts:
        function(*parts[0])
