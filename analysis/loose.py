"""Runs that no study asked for: tasks and conditions are read from the runs, so that they can be reported too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hwmodel.errors import UserError

from .store import Record, Store
from .study import Study, Task


def loose_study(store: Store) -> tuple[Study, pd.DataFrame]:
    """A study with a task for every data set, model and length among the finished runs, and a row a run."""
    done = [record for record in store.records() if record.state == "done"]
    if not done:
        raise UserError(f"{store.root}: no run has finished")
    rows = pd.DataFrame([_row(record) for record in done])
    return Study("What these runs found", tuple(_task(str(name), part) for name, part in rows.groupby("task"))), rows


def _row(record: Record) -> dict[str, Any]:
    config = record.config
    sparsity: list[Mapping[str, Any]] = config.get("sparsity", [])
    task = f"{config['data']['name']}-{config['model']['kind']}-{config['steps']}-steps"
    labels = {
        "run": record.name,
        "task": task,
        "recipe": _joined(sparsity, "recipe"),
        "pattern": _joined(sparsity, "pattern"),
        "seed": config.get("seed", 0),
    }
    return record.result | labels


def _joined(sparsity: list[Mapping[str, Any]], key: str) -> str:
    return " ".join(dict.fromkeys(str(entry[key]) for entry in sparsity if key in entry)) or "dense"


def _task(name: str, rows: pd.DataFrame) -> Task:
    grid = {axis: list(rows[axis].unique()) for axis in ("recipe", "pattern", "seed")}
    title = name.replace("-", " ")
    if "-vit-" in name or "-mlp-" in name:
        return Task(name, title, "accuracy_percent", "%", "higher", {}, grid, ranked=False)
    return Task(name, title, "loss_nats", "nats", "lower", {}, grid, ranked=False)
