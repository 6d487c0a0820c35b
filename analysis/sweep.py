"""A sweep: idempotent runs behind any `concurrent.futures.Executor`, each in its own folder of the store.

A run that is done is not run again, so a sweep resumes by being started again, and an engine that runs a job twice
does no harm. A run that fails is recorded and reported; the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .environment import environment
from .store import RunFolder, State, Store, config_hash

Config = Mapping[str, Any]
Work = Callable[[dict[str, Any], RunFolder], dict[str, Any]]
Engine = Callable[[int], AbstractContextManager[Executor]]


@dataclass(frozen=True)
class Outcome:
    """How one run of a sweep ended."""

    name: str
    state: State
    seconds: float = 0.0
    message: str = ""


def execute(work: Work, config: dict[str, Any], root: str) -> Outcome:
    """Do one run unless it is done already; its result, or the reason of its failure, is in its folder afterwards."""
    start = time.perf_counter()
    folder = Store(Path(root)).folder(config)
    with folder.lock():
        before = folder.record()
        if before.state == "done":
            return Outcome(before.name, "done")
        if before.state == "corrupt":
            folder.clear()
        try:
            folder.begin(config, environment())
            folder.finish(work(config, folder))
        except Exception as error:  # noqa: BLE001 - whatever stops one run must not stop the sweep
            return _failed(folder, error, time.perf_counter() - start)
    return Outcome(before.name, "done", time.perf_counter() - start)


def sweep(
    work: Work, configs: Iterable[Config], store: Store, engine: Engine, notify: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run `work` for every configuration on the executor that `engine(jobs)` makes; `notify` hears of every end.

    When a worker dies and takes the executor with it, the runs it may have held are tried once more, each alone, so
    that a run that kills its worker is known and the rest goes on.
    """
    pending = {config_hash(config): dict(config) for config in configs}
    outcomes: list[Outcome] = []

    def ended(outcome: Outcome) -> None:
        del pending[outcome.name]
        outcomes.append(outcome)
        notify(outcome)

    while pending and not _batch(work, pending, store, engine, ended):
        for name, config in list(pending.items()):
            began = store.folder(config).record().state == "unfinished" and store.folder(config).path.exists()
            if began and not _batch(work, {name: config}, store, engine, ended):
                ended(Outcome(name, "failed", message="its worker process was killed twice (out of memory?)"))
    return outcomes


def _batch(
    work: Work, configs: Mapping[str, dict[str, Any]], store: Store, engine: Engine, ended: Callable[[Outcome], None]
) -> bool:
    """Submit every run and wait; whether the executor lived to the end."""
    try:
        with engine(len(configs)) as executor:
            futures = {executor.submit(execute, work, c, str(store.root)): name for name, c in list(configs.items())}
            for future in as_completed(futures):
                ended(_outcome(futures[future], future))
    except BrokenExecutor:
        return False
    return True


def _outcome(name: str, future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenExecutor:
        raise
    except Exception as error:  # noqa: BLE001 - an engine reports a lost run by its own exception type
        return Outcome(name, "failed", message=one_line(error))


def one_line(error: BaseException) -> str:
    """The kind of an error and its message, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _failed(folder: RunFolder, error: Exception, seconds: float) -> Outcome:
    message = one_line(error)
    try:
        folder.fail(error)
    except OSError as full:
        message += f" (not recorded: {full})"
    return Outcome(folder.path.name, "failed", seconds, message)
