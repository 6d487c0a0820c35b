"""The training loop: a `Run` in, a `History` out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import threadpoolctl

from hwmodel.errors import UserError
from nmsim import checkpoint, optim
from nmsim.checkpoint import Progress
from nmsim.data.batches import Batches
from nmsim.data.dataset import Batch, Split
from nmsim.evaluate import Quality, agreement, evaluate, labels_of, sequence_scores
from nmsim.formats.initial import content_hash, initial_values
from nmsim.history import History
from nmsim.kernels import update
from nmsim.models.build import build_model
from nmsim.models.encoder_decoder import EncoderDecoder
from nmsim.probe import Probe
from nmsim.run import Run, Sparsity, read_run
from nmsim.shards import Lesson, Shards
from nmsim.sparsifier import Execution, Sparsifier
from nmsim.team import Team

__all__ = ["DivergedError", "History", "Run", "Sparsity", "Trainer", "read_run", "train"]

AVERAGE = "average"
WEIGHTS, MASKS, DROPOUT, MIXUP = range(4)
"""First numbers of the seeds of independent generators, after the run's own."""


class DivergedError(ArithmeticError):
    """A loss or gradient that is not finite: the step, and the site where that appeared first."""


def ignore(step: int, loss: float) -> None:
    """Do nothing with a step."""


def train(run: Run, *, folder: Path | None = None, on_step: Callable[[int, float], None] = ignore) -> History:
    """Train to the end; with a `folder`, go on from its checkpoint and leave checkpoints there, the last at the end.

    `on_step(step, loss)` is called after every step. While it runs, NumPy's products use one thread each: `run.threads`
    threads share the batch.

    Raises:
        UserError: for a run that does not fit its data or its model, before the first step.
        DivergedError: when the loss or a gradient is NaN or infinite.
    """
    quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a step tells of what is not finite
    with quiet, threadpoolctl.threadpool_limits(1, user_api="blas"), closing(Trainer(run, folder)) as trainer:
        while trainer.progress.step < run.steps:
            loss = trainer.advance()
            on_step(trainer.progress.step - 1, loss)
            if folder is not None and _due(trainer.progress.step, run.checkpoint_every):
                trainer.save(folder)
        trainer.finish()
        if folder is not None:
            trainer.save(folder)
        return trainer.progress.history


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


class Trainer:
    """A run between two steps: model, recipes, optimiser, and how far it has come.

    It goes on from the checkpoint in `folder`, where there is one; else it begins with the weights of `run.init`, or
    random ones.
    """

    def __init__(self, run: Run, folder: Path | None = None) -> None:
        if run.own_sha256 != run.own_hash():
            files = ", ".join(map(str, run.own_files()))
            raise UserError(f"{files}: content is not that of own_sha256; restore it, or start another run")
        self.run, self.data = run, run.dataset()
        network = run.network(self.data)
        self.model = build_model(network, np.random.default_rng([run.seed, WEIGHTS]), run.scalar)
        self.params = list(self.model.params())
        resumes = folder is not None and (folder / checkpoint.FILE).exists()
        if run.init and not resumes:
            self._take_initial()
        masks = np.random.default_rng([run.seed, MASKS])
        weights = self.model.sparsifiable()
        self.team = Team(run.threads)
        self.sparsifier = Sparsifier(run.recipes(), weights, masks, run.execution, run.remainder, team=self.team)
        self.optimizer = optim.create(run.optimizer, self.params, run.steps, self.team)
        self.flat = self.optimizer.flat
        self.average = self._start_average()
        self.shards = Shards(self.model, network, self.flat, self.team, run.shards)
        self.probe = Probe(self.model, self.sparsifier, run.statistics_every)
        self.batches = Batches(self.data.train, run.batch, run.seed)
        self._check_samples()
        self.progress = Progress(0, 0.0, 0.0, History(notes=self.sparsifier.notes))
        if folder is not None and resumes:
            self.progress = checkpoint.load_checkpoint(folder, run, self.params)

    def close(self) -> None:
        """End the threads."""
        self.team.close()

    def advance(self) -> float:
        """One step; the mean loss of its batch."""
        start, cpu_start = time.perf_counter(), time.process_time()
        step, history = self.progress.step, self.progress.history
        self.flat.gather()
        self.probe.masks(step)
        self.sparsifier.before_forward(step)
        loss = self.shards.gradient(self._lesson(step), [self.run.seed, DROPOUT, step])
        self._check(step, "loss", loss.value)
        self.probe.gradients(step)
        self.sparsifier.after_backward(step)
        norm = optim.gradient_norm(self.flat, self.team)
        self._check(step, "gradient norm", norm)
        clip = optim.clip_factor(norm, self.run.optimizer.clip)
        self.optimizer.update(step, clip)
        self._blend()
        history.statistics += self.probe.record(step, clip)
        history.follow(self.sparsifier.plan(step))
        self.progress.seconds += time.perf_counter() - start
        self.progress.cpu_seconds += time.process_time() - cpu_start
        row = {"step": step, "loss_nats": loss.value, "learning_rate": self.optimizer.lr(step), "gradient_norm": norm}
        history.rows.append(row | self._validation(step))
        self.progress.step += 1
        return loss.value

    def finish(self) -> None:
        """Evaluate the final model on the test split, with compressed products beside masked dense ones.

        Its masks are those of the step after the last: of the final weights, where the recipe chooses at every step.
        """
        last, result = self.run.steps, self.progress.history.result
        with self.evaluated(last):
            result |= {f"validation_{key}": value for key, value in _named(self._judge(self.data.validation))}
            result |= dict(_named(self._judge(self.data.test)))
            if isinstance(self.model, EncoderDecoder):
                result |= sequence_scores(self.model, self.data, self.run.batch)
            compared = agreement(
                self.model, self.data.test, lambda execution: self._use(execution, last), self.run.batch
            )
        self.progress.history.statistics += self.probe.finish(self.run.steps)
        if not compared.error <= compared.bound:
            raise ArithmeticError(
                f"compressed and masked dense products differ by {compared.error:.1e} of the largest logit; "
                f"the bound is {compared.bound:.1e}"
            )
        result |= {"compressed_error": compared.error, "compressed_bound": compared.bound}
        result |= {"train_seconds": self.progress.seconds, "train_cpu_seconds": self.progress.cpu_seconds}

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        checkpoint.save_checkpoint(folder, self.run, self.params, self.progress)

    @contextmanager
    def evaluated(self, step: int) -> Iterator[None]:
        """The model as it is judged after `step`: with that step's masks, and averaged weights where they are kept.

        Training goes on afterwards as if nothing had happened.
        """
        trained = self.flat.value.copy()
        if self.run.average:
            self.flat.value[:] = self.average
        self.sparsifier.before_forward(step)
        yield
        self.flat.value[:] = trained

    def _take_initial(self) -> None:
        """Put the weights of the run's file into the model."""
        path = Path(self.run.init)
        if content_hash(path) != self.run.init_sha256:
            raise UserError(f"{path}: its content is not that of init_sha256; restore the file, or start another run")
        given = initial_values(path, {param.name: param.value.shape for param in self.params})
        for param in self.params:
            param.value[...] = given[param.name]

    def _check_samples(self) -> None:
        """Refuse shards whose tokens don't fill the groups in which a recipe samples output gradients."""
        if not self.sparsifier.samples:
            return
        lesson, count = self._lesson(0), self.run.shards
        parts = {len(part.labels): part for part in (lesson.part(i, count) for i in range(count))}
        for part in parts.values():
            self.model.forward(*part.inputs)
            self.sparsifier.check_tokens({layer.weight.name: len(layer.x) for layer in self.model.linears()})

    def _lesson(self, step: int) -> Lesson:
        self.batches.position = step
        batch = next(self.batches)
        labels = labels_of(batch)
        if not self.run.mixup:
            return Lesson(batch[:-1], labels, labels, smoothing=self.run.label_smoothing)
        return _mixed(batch, labels, self.run, np.random.default_rng([self.run.seed, MIXUP, step]))

    def _validation(self, step: int) -> dict[str, float]:
        if not _due(step + 1, self.run.evaluate_every):
            return {}
        with self.evaluated(step):
            found = self._judge(self.data.validation)
        return {"validation_loss_nats": found.loss, "validation_accuracy_percent": found.accuracy}

    def _judge(self, split: Split) -> Quality:
        return evaluate(self.model, split, self.run.batch)

    def _use(self, execution: Execution, step: int) -> None:
        self.sparsifier.execution = execution
        self.sparsifier.before_forward(step)

    def _start_average(self) -> np.ndarray:
        average = self.flat.slot(AVERAGE) if self.run.average else self.flat.value
        average[:] = self.flat.value
        return average

    def _blend(self) -> None:
        if self.run.average:
            rate = self.flat.dtype.type(1 - self.run.average)
            self.team.split(lambda lo, hi: update.blend(self.average, self.flat.value, rate, lo, hi), 0, self.flat.size)

    def _check(self, step: int, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DivergedError(f"step {step}: {what} is {value}; first seen in {self._first_fault()}")

    def _first_fault(self) -> str:
        """Where NaN or infinity entered: the first weight or input of the forward pass, else the last gradient."""
        for layer in self.model.linears():
            if not np.isfinite(layer.weight.value).all():
                return f"{layer.site}: its weight"
            if not np.isfinite(layer.x).all():
                return f"{layer.site}: its input"
        for param in reversed(self.params):
            if not np.isfinite(param.grad).all():
                return f"{param.name}: its gradient"
        return "the loss"


def _named(quality: Quality) -> list[tuple[str, float]]:
    return [("loss_nats", quality.loss), ("accuracy_percent", quality.accuracy)]


def _mixed(batch: Batch, labels: np.ndarray, run: Run, rng: np.random.Generator) -> Lesson:
    """Images and labels mixed with those of a random partner, one share for the batch (arXiv 1710.09412)."""
    share, partner = float(rng.beta(run.mixup, run.mixup)), rng.permutation(len(labels))
    images = batch[0].astype(run.scalar)
    mixed = run.scalar(share) * images + run.scalar(1 - share) * images[partner]
    return Lesson((mixed,), labels, labels[partner], share, run.label_smoothing)
