"""The conditions of a task at the shapes of published models, which fill a device: modelled, transferred.

A demo's own models are so small that a GPU spends its time on starting kernels. The same recipes, patterns and globs of
sites are therefore priced at full size as well. Quality doesn't transfer; only costs are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from hwmodel.device import Device
from hwmodel.errors import UserError
from hwmodel.models import model_named
from hwmodel.networks import NetworkConfig
from hwmodel.workload import Plan
from nmsim.run import Run

from .pricing import Job, Phase, device_rows, nominal_phases


class Target(NamedTuple):
    """A published model and the examples that it sees at once, in a training step and in an inference."""

    model: str
    batch: int


TARGETS = (Target("vit-b", 64), Target("gpt2-small", 8))


def transferred(
    conditions: Mapping[tuple[Any, ...], Run], by: Sequence[str], devices: Sequence[Device]
) -> pd.DataFrame:
    """Modelled cost of the conditions, named by the axes `by`, at the shapes of `TARGETS`.

    A row a model, condition, device and use, which is a mean training step or an inference of the batch, with the
    columns of `device_rows` and `gain`, dense time over the condition's on that device. A condition whose globs match
    no site of a model, or whose recipe refuses its shapes, has no row for it.
    """
    parts = [_at(target, conditions, by, devices) for target in TARGETS]
    return pd.concat(parts, ignore_index=True)


def _at(
    target: Target, conditions: Mapping[tuple[Any, ...], Run], by: Sequence[str], devices: Sequence[Device]
) -> pd.DataFrame:
    network = model_named(target.model)
    dense = _costs(Job(network, target.batch, (Phase(1, Plan()),)), devices)
    jobs = {key: _job(network, target.batch, run) for key, run in conditions.items()}
    named = [
        (dense if job is None else _costs(job, devices)).assign(**dict(zip(by, key, strict=True)))
        for key, job in jobs.items()
        if job is not None or not conditions[key].sparsity
    ]
    rows = pd.concat([dense.iloc[:0], *named], ignore_index=True).assign(model=target.model)
    reference = dense.set_index(["device", "what"])["time_s"]
    mine = pd.MultiIndex.from_frame(rows[["device", "what"]])
    return rows.assign(gain=reference.reindex(mine).to_numpy() / rows["time_s"])


def _job(network: NetworkConfig, batch: int, run: Run) -> Job | None:
    """The run's recipes on another network; None where they sparsify nothing of it."""
    try:
        phases = nominal_phases(network, run.steps, run.recipes())
    except UserError:
        return None
    return Job(network, batch, phases) if phases[-1].plan.sites else None


def _costs(job: Job, devices: Sequence[Device]) -> pd.DataFrame:
    """`device_rows` of a mean training step and of one inference of the whole batch."""
    rows = device_rows(job, devices, batch=job.batch)
    steps = sum(phase.steps for phase in job.phases)
    shares = rows["what"].map({"training": 1 / steps, "inference": 1.0})
    totals = ["time_s", "energy_j", "moved_bytes"]
    rows[totals] = rows[totals].mul(shares, axis=0)
    return rows
