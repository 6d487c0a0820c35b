"""Work that is killed at one moment after the other, in processes of their own, to see what stands then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def survives(work: Callable[[], object], moment: int) -> bool:
    """Whether `work` ends, in a child that SIGKILL ends at its call number `moment` of what touches files, or after it.

    A call's begin and its end are a moment each.
    """
    child = os.fork()
    if not child:
        sys.setprofile(_killer(moment))
        work()
        sys.setprofile(None)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _killer(moment: int) -> Callable[[object, str, object], None]:
    calls = 0

    def count(_: object, event: str, called: object) -> None:
        nonlocal calls
        if event in ("c_call", "c_return") and getattr(called, "__module__", "") in ("io", "_io", "posix", None):
            calls += 1
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    return count


def run(script: str, *arguments: object) -> str:
    """What a script prints that may import this module: a process without threads, which is safe to fork."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    ).stdout
