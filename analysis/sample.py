"""What a run costs on this machine, from a few steps of its kind, trained now.

Products are a part of a step only: attention, norms, the choice of masks, the optimiser, statistics and evaluations
share it, and no count of FLOPs says what they take here. So a kind of run is taken apart: what it costs once, at every
step, at every evaluation and at every record of statistics.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import threadpoolctl

from hwmodel.errors import UserError
from hwmodel.toml import build
from nmsim.evaluate import evaluate
from nmsim.history import History
from nmsim.run import Run
from nmsim.train import Trainer

from .store import RunFolder
from .work import work

STEPS = 24
SECONDS = 1.0
"""Steps of a sample, and when it ends at the latest (after two steps)."""


@dataclass(frozen=True)
class Sample:
    """CPU seconds and bytes on disk of one kind of run: once a run, at each evaluation, step and record."""

    once_s: float
    evaluation_s: float
    once_bytes: float
    step_bytes: float
    record_bytes: float

    def seconds(self, run: Mapping[str, Any], step_s: float) -> float:
        """CPU seconds of a whole run whose steps take `step_s` each."""
        steps, every = int(run["steps"]), int(run.get("evaluate_every", Run.evaluate_every))
        evaluations = steps // every if every else 0
        return self.once_s + steps * step_s + evaluations * self.evaluation_s

    def bytes(self, run: Mapping[str, Any]) -> float:
        """Bytes of a whole run's folder."""
        steps, every = int(run["steps"]), int(run.get("statistics_every", Run.statistics_every))
        records = -(-steps // every) if every else 0  # the first step is recorded
        return self.once_bytes + steps * self.step_bytes + records * self.record_bytes


def take(config: Mapping[str, Any]) -> Sample:
    """Train a short run like `config` to its end, in a folder that is deleted afterwards."""
    short = _short(config)
    with TemporaryDirectory() as place, threadpoolctl.threadpool_limits(1, user_api="blas"):
        folder = RunFolder(Path(place))
        start = time.process_time()
        try:
            result = work(short, folder)
        except ArithmeticError as error:
            raise UserError(f"can't be priced: {STEPS} steps of it fail: {error}") from None
        once_s = time.process_time() - start - result["train_cpu_seconds"]
        total = sum(path.stat().st_size for path in folder.path.iterdir())
        history = History.from_json((folder.path / "history.json").read_text(encoding="utf-8"))
        rows, table = (len(json.dumps(part)) for part in (history.rows, history.statistics))
        metrics, statistics = ((folder.path / name).stat().st_size for name in ("metrics.csv", "statistics.csv"))
    records = max(1, len({entry["step"] for entry in history.statistics}))
    # The history is on disk twice, in history.json and in the checkpoint, and once more as tables.
    growing = 2 * rows + metrics, 2 * table + statistics
    return Sample(once_s, _evaluation_s(short), total - sum(growing), growing[0] / short["steps"], growing[1] / records)


def step_seconds(config: Mapping[str, Any]) -> float:
    """CPU seconds of one step of `config`, the mean over a short run through all phases of its recipes."""
    run = build(Run, _short(config), "run")
    with threadpoolctl.threadpool_limits(1, user_api="blas"), closing(Trainer(run)) as trainer:
        trainer.advance()
        first, end = trainer.progress.cpu_seconds, time.perf_counter() + SECONDS
        while trainer.progress.step < run.steps and (trainer.progress.step < 2 or time.perf_counter() < end):
            trainer.advance()
        return (trainer.progress.cpu_seconds - first) / (trainer.progress.step - 1)


def _evaluation_s(config: Mapping[str, Any]) -> float:
    with threadpoolctl.threadpool_limits(1, user_api="blas"), closing(Trainer(build(Run, config, "run"))) as trainer:
        start = time.process_time()
        evaluate(trainer.model, trainer.data.validation)
        return time.process_time() - start


def _short(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "steps": STEPS, "evaluate_every": 0, "checkpoint_every": 0}
