"""What a run costs, from the plans it really followed: FLOPs, bytes, and modelled time and energy on any device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from math import prod
from operator import itemgetter
from pathlib import Path

import pandas as pd

from hwmodel.cost import price
from hwmodel.device import DTYPE_BITS, Device
from hwmodel.fits import Fit, read_fits
from hwmodel.footprint import operand_bytes
from hwmodel.networks import NetworkConfig, inference, parameters, training_run, weights
from hwmodel.pattern import DENSE
from hwmodel.workload import Operand, Plan, SitePlan, Workload
from nmsim.recipes import Recipe

VALUE_BITS = 32


@dataclass(frozen=True)
class Phase:
    """Consecutive training steps that followed one plan."""

    steps: int
    plan: Plan


@dataclass(frozen=True)
class Job:
    """A training run as the cost model sees it: the network, examples a step, its phases, and bits of an activation."""

    network: NetworkConfig
    batch: int
    phases: tuple[Phase, ...]
    bits: int = VALUE_BITS

    def of(self, dtype: str) -> Job:
        """The same run with activations, and weights as products read them, of a type."""
        return replace(self, bits=DTYPE_BITS[dtype])

    @property
    def final(self) -> Plan:
        """The plan of the last step, which inference follows."""
        return self.phases[-1].plan

    def training(self) -> Workload:
        """Every operation of the run."""
        return self._steps(self.phases)

    def dense_training(self) -> Workload:
        """The same number of steps without sparsity."""
        return self._steps([Phase(sum(phase.steps for phase in self.phases), Plan())])

    def inference(self, batch: int = 1) -> Workload:
        """One inference of `batch` examples by the final model."""
        return inference(self.network, batch, tokens=self.network.tokens, plan=self.final, bits=self.bits)

    def stored_bytes(self) -> int:
        """Bytes of the final model's parameters: sparse weights as values with positions (csr where unstructured)."""
        shapes = weights(self.network)
        dense = parameters(self.network) - sum(prod(shapes[site]) for site in self.final.sites)
        sparse = (
            operand_bytes(Operand(*shapes[site], VALUE_BITS, plan.fprop, plan.axis))
            for site, plan in self.final.sites.items()
        )
        return dense * VALUE_BITS // 8 + sum(sparse)

    def _steps(self, phases: Sequence[Phase]) -> Workload:
        plans = ((phase.plan, phase.steps) for phase in phases)
        return training_run(self.network, self.batch, plans, tokens=self.network.tokens, bits=self.bits)


def nominal_phases(
    network: NetworkConfig, steps: int, recipes: Mapping[str, Recipe], every: int = 1
) -> tuple[Phase, ...]:
    """The plans that a run of `steps` would follow where each linear site has the first recipe whose glob matches.

    The middle one of `every` steps stands for all of them.
    """
    followed: dict[tuple[Recipe, int], list[str]] = {}
    for site, shape in weights(network).items():
        recipe = next((recipe for glob, recipe in recipes.items() if fnmatchcase(site, glob)), None)
        if recipe is not None:
            followed.setdefault((recipe, shape[recipe.axis]), []).append(site)

    def now(step: int) -> tuple[tuple[SitePlan, bool], ...]:
        """What sites of one recipe and length do at a step, and whether they choose their masks anew."""
        return tuple(
            (recipe.plan(step, recipe.at(step, length)), recipe.refreshes(step)) for recipe, length in followed
        )

    def plan(kinds: tuple[tuple[SitePlan, bool], ...]) -> Plan:
        sites = {site: entry for (entry, _), names in zip(kinds, followed.values(), strict=True) for site in names}
        chosen = (names for (_, anew), names in zip(kinds, followed.values(), strict=True) if anew)
        return Plan(sites, frozenset(site for names in chosen for site in names))

    parts = (range(start, min(start + every, steps)) for start in range(0, steps, every))
    looks = ((now(part[len(part) // 2]), len(part)) for part in parts)
    phases = groupby(looks, key=itemgetter(0))
    return tuple(Phase(sum(taken for _, taken in same), plan(kinds)) for kinds, same in phases)


def fits_for(path: Path | None, device: Device) -> list[Fit]:
    """The fits of a user's file, which may be of the device of another file of theirs; none where no file is named."""
    return read_fits(path, [device]) if path else []


def training_flops(job: Job) -> dict[str, float]:
    """FLOPs of the run's matrix products under three accounts of the backward pass, beside what really ran.

    `ran`: the operands that ran. `forward_sparse`: both backward products dense. `forward_and_dgrad_sparse`: the input
    gradient uses the forward mask. `half`: half of a dense step and half of one scaled by the inference ratio, the
    account that fits figure 4b of arXiv 2402.04744.
    """
    forward = _changed(job, lambda site: replace(site, dgrad=DENSE))
    both = _changed(job, lambda site: replace(site, dgrad=site.fprop, dgrad_axis=site.axis))
    dense_step = _gemm_flops(job.dense_training()) / sum(p.steps for p in job.phases)
    dense_inference = _gemm_flops(replace(job, phases=(Phase(1, Plan()),)).inference())
    ratios = ((p.steps, _gemm_flops(replace(job, phases=(p,)).inference()) / dense_inference) for p in job.phases)
    return {
        "ran": _gemm_flops(job.training()),
        "forward_sparse": _gemm_flops(forward.training()),
        "forward_and_dgrad_sparse": _gemm_flops(both.training()),
        "half": sum(steps * dense_step * (1 + ratio) / 2 for steps, ratio in ratios),
    }


def device_rows(job: Job, devices: Sequence[Device], batch: int = 1) -> pd.DataFrame:
    """Modelled cost of one training run and of one inference of `batch` examples: seconds, joules, bytes moved, bound.

    In each device's usual type: of 16 bits where it has one.
    """
    rows = []
    jobs = {dtype: job.of(dtype) for dtype in {device.usual_dtype for device in devices}}
    uses = {dtype: {"training": run.training(), "inference": run.inference(batch)} for dtype, run in jobs.items()}
    for device in devices:
        for what, workload in uses[device.usual_dtype].items():
            cost = price(workload, device, dtype=device.usual_dtype)
            rows.append(
                {
                    "device": device.name,
                    "what": what,
                    "time_s": cost.seconds,
                    "energy_j": cost.joules,
                    "moved_bytes": cost.bytes,
                    "bound": cost.bound,
                }
            )
    return pd.DataFrame(rows)


def layer_rows(job: Job) -> pd.DataFrame:
    """Every linear site of the final model: its shape, structure, stored bytes and FLOPs of one inference."""
    products = job.inference()
    rows = []
    for site, (d_out, d_in) in weights(job.network).items():
        plan = job.final[site]
        rows.append(
            {
                "site": site,
                "d_out": d_out,
                "d_in": d_in,
                "structure": "dense" if plan.fprop.density == 1 else str(plan.fprop),
                "stored_bytes": operand_bytes(Operand(d_out, d_in, VALUE_BITS, plan.fprop, plan.axis)),
                "inference_flops": _gemm_flops(products.at(site)),
            }
        )
    return pd.DataFrame(rows)


def _changed(job: Job, change: Callable[[SitePlan], SitePlan]) -> Job:
    phases = (Phase(p.steps, Plan({name: change(site) for name, site in p.plan.sites.items()})) for p in job.phases)
    return replace(job, phases=tuple(phases))


def _gemm_flops(workload: Workload) -> float:
    return sum(gemm.flops for gemm in workload.gemms)
