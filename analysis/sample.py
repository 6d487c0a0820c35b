"""What a run costs on this machine, from a few steps of its kind, trained now.

Products are a part of a step only: attention, norms, the choice of masks, the optimiser, statistics and evaluations
share it, and no count of FLOPs says what they take here. So a kind of run is taken apart: what it costs once, at every
step, at every evaluation and at every record of statistics. Evaluations are timed on a few examples.
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
from nmsim.evaluate import BATCH, DECODED, evaluate
from nmsim.models.encoder_decoder import EncoderDecoder
from nmsim.run import Run
from nmsim.train import Trainer

from .store import RunFolder
from .work import JUDGED, write_history

STEPS = 24
SECONDS = 1.0
"""Steps of a sample, and when it ends at the latest (after two steps)."""
EVALUATED = 64
"""Examples on which evaluations are timed."""


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
    run = build(Run, _short(config), "run")
    with TemporaryDirectory() as place, threadpoolctl.threadpool_limits(1, user_api="blas"):
        folder, start = RunFolder(Path(place)), time.process_time()
        with closing(Trainer(run)) as trainer:
            built_s = time.process_time() - start
            _step_seconds(trainer)
            example_s = _example_seconds(trainer)
            ended_s = _end_seconds(trainer, example_s)
            evaluation_s = example_s * len(trainer.data.validation)
            start = time.process_time()
            trainer.save(folder.path)
            write_history(folder, trainer.progress.history)
            once_s = built_s + ended_s + time.process_time() - start
            return Sample(once_s, evaluation_s, *_bytes(folder, trainer))


def step_seconds(config: Mapping[str, Any]) -> float:
    """CPU seconds of one step of `config`, the mean over a short run through all phases of its recipes."""
    run = build(Run, _short(config), "run")
    with threadpoolctl.threadpool_limits(1, user_api="blas"), closing(Trainer(run)) as trainer:
        return _step_seconds(trainer)


def _step_seconds(trainer: Trainer) -> float:
    """The first step, which loads kernels, does not count."""
    try:
        trainer.advance()
        first, end = trainer.progress.cpu_seconds, time.perf_counter() + SECONDS
        while trainer.progress.step < STEPS and (trainer.progress.step < 2 or time.perf_counter() < end):
            trainer.advance()
    except ArithmeticError as error:
        raise UserError(f"can't be priced: {STEPS} steps of it fail: {error}") from None
    return (trainer.progress.cpu_seconds - first) / (trainer.progress.step - 1)


def _example_seconds(trainer: Trainer) -> float:
    """CPU seconds of evaluating one example, by the second of two evaluations: the first takes memory."""
    examples = trainer.data.validation.first(EVALUATED)
    evaluate(trainer.model, examples, trainer.run.batch)
    start = time.process_time()
    evaluate(trainer.model, examples, trainer.run.batch)
    return (time.process_time() - start) / len(examples)


def _end_seconds(trainer: Trainer, example_s: float) -> float:
    """CPU seconds after the last step: both splits, two executions of one batch, and sequences that are decoded."""
    whole = trainer.data
    trainer.data = whole.judged_on(JUDGED)
    start = time.process_time()
    try:
        trainer.finish()
    except ArithmeticError as error:
        raise UserError(f"can't be priced: after {STEPS} steps it fails: {error}") from None
    few = len(trainer.data.validation) + 3 * len(trainer.data.test)
    rest_s = max(0.0, time.process_time() - start - few * example_s)
    if isinstance(trainer.model, EncoderDecoder):
        rest_s *= min(DECODED, len(whole.test)) / len(trainer.data.test)
    trainer.data = whole
    return rest_s + example_s * (
        len(whole.validation) + len(whole.test) + 2 * min(BATCH, trainer.run.batch, len(whole.test))
    )


def _bytes(folder: RunFolder, trainer: Trainer) -> tuple[float, float, float]:
    """Bytes of the run's files: once, a step, and a record of statistics."""
    total = sum(path.stat().st_size for path in folder.path.iterdir())
    history = trainer.progress.history
    rows, table = (len(json.dumps(part)) for part in (history.rows, history.statistics))
    metrics, statistics = ((folder.path / name).stat().st_size for name in ("metrics.csv", "statistics.csv"))
    records = max(1, len({entry["step"] for entry in history.statistics}))
    # The history is on disk twice, in history.json and in the checkpoint, and once more as tables.
    growing = 2 * rows + metrics, 2 * table + statistics
    return total - sum(growing), growing[0] / trainer.progress.step, growing[1] / records


def _short(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "steps": STEPS, "evaluate_every": 0, "checkpoint_every": 0}
