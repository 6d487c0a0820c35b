"""Progress of a sweep on stderr: a bar with the time left on a terminal, JSON lines when piped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .sweep import Outcome


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[Outcome], None]]:
    """A listener for `sweep`; failures are told as they happen."""
    if sys.stderr.isatty():
        with _bar() as bar:
            yield _advance(bar, title, total)
    else:
        yield _lines(title, total)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True))


def _advance(bar: Progress, title: str, total: int) -> Callable[[Outcome], None]:
    task = bar.add_task(title, total=total)

    def notify(outcome: Outcome) -> None:
        if outcome.state == "failed":
            bar.console.print(f"run {outcome.name} failed: {outcome.message}", markup=False)
        bar.advance(task)

    return notify


def _lines(title: str, total: int) -> Callable[[Outcome], None]:
    done, start = 0, time.monotonic()

    def notify(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - start) / done * (total - done)
        line = {"task": title, "done": done, "total": total, "seconds_left": round(left)} | asdict(outcome)
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()

    return notify
