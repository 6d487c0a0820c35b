"""Where the runs of a sweep execute: worker processes here, a dask cluster, or Slurm, all as `Executor`s."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import numba
import threadpoolctl

from hwmodel.errors import UserError

from .sweep import Engine

ANSWER_SECONDS = 10.0
MAX_TIMEOUTS = 100


def local(workers: int = 0, threads: int = 1) -> Engine:
    """Spawned worker processes on this machine, `threads` each; as many as there are cores when `workers` is 0.

    Processes are spawned, not forked: a forked child inherits thread pools whose threads do not exist in it.
    """
    if workers < 0:
        raise UserError(f"--workers {workers}: needs 1 or more, or 0 for one a core")
    cores = len(os.sched_getaffinity(0))
    count = workers or max(1, cores // threads)

    def engine(jobs: int) -> Executor:
        context = multiprocessing.get_context("spawn")
        return _Processes(min(count, jobs), mp_context=context, initializer=_prepare, initargs=(threads,))

    return engine


def dask(cluster: str) -> Engine:
    """A running dask cluster, by the address of its scheduler or the path of its scheduler file."""
    distributed = _extra("distributed", "--cluster", "cluster")
    where = {"scheduler_file": cluster} if Path(cluster).exists() else {"address": cluster}

    @contextmanager
    def engine(_jobs: int) -> Iterator[Executor]:
        try:
            client = distributed.Client(**where, timeout=ANSWER_SECONDS)
        except (OSError, ValueError) as error:
            raise UserError(f"--cluster {cluster}: no dask scheduler answers ({error})") from None
        with client, client.get_executor(retries=2, pure=False) as executor:
            yield executor

    return engine


def slurm(folder: Path, minutes: int) -> Engine:
    """Slurm jobs of one core through submitit, their logs in `folder`; local processes where there is no Slurm.

    A job whose `minutes` are over, or that makes room for another, is queued again and its run resumes.
    """
    executor = _extra("submitit", "--slurm", "slurm").AutoExecutor(folder=folder, slurm_max_num_timeout=MAX_TIMEOUTS)
    executor.update_parameters(timeout_min=minutes, cpus_per_task=1)
    return lambda jobs: _Submitit(executor, jobs)


def _extra(module: str, option: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise UserError(f'{option} needs {module}; install it with: pip install "nmsim[{extra}]"') from None


class _Processes(ProcessPoolExecutor):
    """A pool that an exception, Ctrl-C included, ends at once rather than after the queue; interrupted runs resume."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:
            for process in multiprocessing.active_children():
                process.terminate()


class _Submitit(Executor):
    """submitit's jobs as futures: a thread waits for each."""

    def __init__(self, executor: Any, jobs: int) -> None:
        self._executor = executor
        self._waiters = ThreadPoolExecutor(max_workers=jobs)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A job now, and a future that its waiter completes."""
        return self._waiters.submit(self._executor.submit(_Resumable(fn), *args, **kwargs).result)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """Wait for the jobs."""
        self._waiters.shutdown(wait=wait, cancel_futures=cancel_futures)


class _Resumable:
    """A function that submitit queues again, with the same arguments, when its job is interrupted."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._fn(*args, **kwargs)

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """The submission that replaces this one."""
        return import_module("submitit.helpers").DelayedSubmission(self, *args, **kwargs)


def _prepare(threads: int) -> None:
    """Pin both thread pools of a fresh worker, leave Ctrl-C to the process that started it, and end when that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))  # pools that load later
    numba.set_num_threads(threads)  # loads its pool, which the next line is to find
    threadpoolctl.threadpool_limits(threads)


def _end_with_parent() -> None:
    """Wait for the process that started this one, and end with it: a killed parent leaves no worker behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "not a worker"  # noqa: S101 (the executor starts it in workers only)
    parent.join()
    os._exit(1)
