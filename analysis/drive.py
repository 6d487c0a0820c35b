"""A study from its file to its rows: check every run, compile what they need, and sweep; resumable at any point."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import tomli_w

from hwmodel.errors import UserError
from hwmodel.toml import build
from nmsim.checkpoint import FILE as CHECKPOINT
from nmsim.run import Run, pinned
from nmsim.train import Trainer

from .engines import local
from .loose import loose_study
from .progress import progress
from .store import State, Store, write_safely
from .study import Cell, Study, cells, read_study, registered, study_rows
from .sweep import Engine, Outcome, execute, sweep
from .work import check_metric, kernels_of, load_kernels, work

STUDY_FILE = "study.toml"


def run_study(study: Study, out: Path, engine: Engine, title: str) -> tuple[pd.DataFrame, Store]:
    """Run what is not done yet; a row for each finished run, and the store under `out`/runs.

    Every run's table is checked and every kernel compiled before a worker starts.
    """
    check(study)
    grid = list({cell.name: cell for cell in cells(study)}.values())
    store = Store.create(out / "runs")
    write_safely(out / STUDY_FILE, tomli_w.dumps(asdict(study)).encode())
    states = {record.name: record.state for record in store.records()}
    waiting = [cell for cell in grid if states.get(cell.name) != "done"]
    load_all(waiting)
    with progress(title, len(waiting)) as notify:
        sweep(work, [cell.run for cell in waiting], store, engine, notify)
    return study_rows(study, store), store


def register(study: Study, out: Path) -> Study:
    """The study, its hypotheses held against what an earlier command wrote down in `out`, and against finished runs."""
    earlier = read_study(out / STUDY_FILE) if (out / STUDY_FILE).exists() else None
    return registered(study, earlier, _names(Store(out / "runs"), "done") if (out / "runs").exists() else ())


def failures(study: Study, store: Store) -> int:
    """How many runs of the study failed or can't be read."""
    return len({cell.name for cell in cells(study)} & (_names(store, "failed") | _names(store, "corrupt")))


def _names(store: Store, state: State) -> set[str]:
    return {record.name for record in store.records() if record.state == state}


def check(study: Study) -> None:
    """Refuse a run's table that is wrong, and a metric that its runs won't measure."""
    metrics = {task.name: task.metric for task in study.task}
    for cell in cells(study):
        where = f"study, task {cell.task}"
        run = build(Run, cell.run, where)
        with placed(where):
            check_metric(metrics[cell.task], run)


def load_all(grid: Sequence[Cell]) -> None:
    """Compile the kernels of every kind of run among `grid`, and find what makes a run of it impossible."""
    kinds = list({kernels_of(cell.run): cell for cell in reversed(grid)}.values())[::-1]
    with progress("kernels", len(kinds)) as notify:
        for cell in kinds:
            start = time.monotonic()
            with placed(f"study, task {cell.task}"):
                load_kernels(cell.run)
            notify(Outcome(cell.name, "done", time.monotonic() - start))


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Put `where` before a user's mistake that is found here."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def run_one(config: dict[str, object], where: str, out: Path) -> Outcome:
    """One run in this process, into the store `out`/runs; its mistakes are the user's, and told before it begins."""
    run, store = build(Run, config, where), Store.create(out / "runs")
    config = pinned(config)
    if not (store.folder(config).path / CHECKPOINT).exists():
        with placed(where):
            Trainer(run).close()
    return execute(work, config, str(store.root))


def opened(out: Path) -> tuple[Study, pd.DataFrame, Store]:
    """The study, rows and store in a folder that `nmsim demo`, `sweep`, `study` or `train` wrote."""
    store = Store.open(out / "runs")
    if not (out / STUDY_FILE).exists():
        return *loose_study(store), store
    study = read_study(out / STUDY_FILE)
    return study, study_rows(study, store), store


def default_engine(workers: int) -> Engine:
    """Worker processes on this machine, one thread each."""
    return local(workers, threads=1)
