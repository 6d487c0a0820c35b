"""What one run of a study does: train, evaluate, and leave its history, plans, data manifest and result row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

import threadpoolctl

from hwmodel.errors import unknown
from hwmodel.toml import build
from nmsim.history import History
from nmsim.run import Run
from nmsim.train import Trainer, train

from .pricing import Job, Phase, nominal_phases, training_flops
from .store import RunFolder, write_safely

KINDS = ("data", "model", "dtype", "execution")
JUDGED = 8
"""Examples that are evaluated to load the kernels of a kind of run."""
_loaded: set[str] = set()


def work(config: dict[str, Any], folder: RunFolder) -> dict[str, Any]:
    """Train the run of `config`, going on from its last checkpoint; the row of its result.

    Its processor time holds no loading of kernels: that is done before.
    """
    run = build(Run, config, "run")
    load_kernels(config)
    folder.write_json("manifest.json", run.dataset().manifest.as_dict())
    history = train(run, folder=folder.path)
    write_history(folder, history)
    return history.result | {"cpu_s": history.result["train_cpu_seconds"]} | best(history) | counted(job(run, history))


def write_history(folder: RunFolder, history: History) -> None:
    """Leave what happened over the steps of a run in its folder, whole and as tables."""
    write_safely(folder.path / "history.json", history.to_json().encode())
    folder.write_table("metrics.csv", history.to_frame())
    folder.write_table("statistics.csv", history.statistics_frame())


def kernels_of(config: Mapping[str, Any]) -> str:
    """Equal for runs that use the same kernels: those of one data set, model, type, pattern and sites."""
    masks = [[part.get("sites"), part.get("pattern")] for part in config.get("sparsity", ())]
    return json.dumps([masks, *(config.get(key) for key in KINDS)], sort_keys=True)


def load_kernels(config: dict[str, Any]) -> None:
    """Train two steps of the run of `config`: its kernels are then compiled, on disk, and loaded in this process.

    Its data are loaded whole, but only a few examples evaluated. A run that diverges at once is left to say so itself.
    """
    if kernels_of(config) in _loaded:
        return
    short = {"steps": 2, "evaluate_every": 2, "statistics_every": 1, "checkpoint_every": 0}
    run = build(Run, config | short, "run")
    with (
        suppress(ArithmeticError),
        threadpoolctl.threadpool_limits(1, user_api="blas"),
        closing(Trainer(run)) as trainer,
    ):
        trainer.data = trainer.data.judged_on(JUDGED)
        trainer.advance()
        trainer.advance()
        trainer.finish()
    _loaded.add(kernels_of(config))


def check_metric(metric: str, run: Run) -> None:
    """Refuse a metric that no run like `run` measures, before any has run for it."""
    ends = ["loss_nats", "accuracy_percent"]
    known = [*ends, *(f"{when}validation_{end}" for when in ("", "best_") for end in ends)]
    known += ["bleu", "chrf", "exact"] if run.kind == "encoder_decoder" else []
    if metric not in known:
        raise unknown("metric", metric, known)


def job(run: Run, history: History) -> Job:
    """The run as the cost model sees it, with the plans that it really followed."""
    return Job(run.network(run.dataset()), run.batch, tuple(Phase(steps, plan) for steps, plan in history.plans))


def job_of(folder: RunFolder) -> Job:
    """The job of a finished run."""
    history = History.from_json((folder.path / "history.json").read_text(encoding="utf-8"))
    return job(run_of(folder), history)


def run_of(folder: RunFolder) -> Run:
    """The configuration of a run."""
    return build(Run, folder.record().config, str(folder.path))


def planned(config: dict[str, Any], every: int = 1) -> Job:
    """The job of a run that has not started, with its nominal plans; one step in `every` stands for its neighbours."""
    run = build(Run, config, "run")
    network = run.network(run.dataset())
    return Job(network, run.batch, nominal_phases(network, run.steps, run.recipes(), every))


def best(history: History) -> dict[str, float]:
    """The best validation values of the run, kept apart from those of its last step."""
    rows = history.to_frame()
    extremes = {"validation_loss_nats": "min", "validation_accuracy_percent": "max"}
    return {f"best_{name}": float(rows[name].agg(which)) for name, which in extremes.items() if name in rows}


def counted(job: Job) -> dict[str, float]:
    """FLOPs of training under every account and of one inference, and stored bytes; all follow from sizes."""
    accounts = training_flops(job)
    ran = accounts.pop("ran")
    return {
        "train_flops": ran,
        **{f"train_flops_{name}": value for name, value in accounts.items()},
        "inference_flops": sum(gemm.flops for gemm in job.inference().gemms),
        "stored_bytes": job.stored_bytes(),
    }
