"""Threads that keep off the processor of whoever asks them for help."""

import ctypes
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any


class Helpers(ThreadPoolExecutor):
    """A pool of threads that run on any processor but the caller's, where the system has a say in it (Linux).

    A thread that Python wakes is often put on the processor of the one that wakes it, which is about to wait for the
    interpreter's lock as far as the system can tell. Both then take turns there for milliseconds, beside an idle one.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count, thread_name_prefix="nmsim", initializer=self._enter)
        self._ids: list[int] = []
        self._avoided: int | None = None
        self._others: set[int] = set()

    def _enter(self) -> None:
        self._ids.append(threading.get_native_id())
        _put(0, self._others)

    def submit(self, *args: Any, **named: Any) -> Future[Any]:
        """Start a call, as `ThreadPoolExecutor.submit`."""
        here = processor()
        if here is not None and here != self._avoided:
            self._avoided, self._others = here, os.sched_getaffinity(0) - {here}
            for thread in self._ids:
                _put(thread, self._others)
        return super().submit(*args, **named)


def _put(thread: int, processors: set[int]) -> None:
    if processors:
        with suppress(OSError):  # it only saves time, and a container may forbid it
            os.sched_setaffinity(thread, processors)


def processor() -> int | None:
    """The number of the processor that runs this thread; None where the system does not tell."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    number = int(ctypes.pythonapi.sched_getcpu()) if _TELLS else -1
    return number if number >= 0 else None


# `pythonapi` keeps the interpreter's lock, as a call of a tenth of a microsecond should.
_TELLS = hasattr(ctypes.pythonapi, "sched_getcpu")
