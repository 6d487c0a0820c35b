"""`nmsim cost`: what a product, a model's inference or a run of a recipe costs on a device."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token
from rich.table import Table

from hwmodel.configs import TokenConfig
from hwmodel.cost import Cost, price
from hwmodel.device import DTYPE_BITS, Device, load_device
from hwmodel.errors import UserError, unknown
from hwmodel.memory import check_fits, inference_bytes, training_bytes
from hwmodel.models import model_named
from hwmodel.networks import NetworkConfig, inference, plan_of, weights
from hwmodel.pattern import DENSE, Pattern
from hwmodel.reasons import Question, pays_from, pays_text, reason
from hwmodel.workload import Operand, Plan, SitePlan
from nmsim.recipes import RECIPES

from ..pricing import Job, fits_for, nominal_phases, training_flops
from ..terminal import console

Json = Annotated[bool, Parameter(name="--json")]


def _whole(kind: type[int], tokens: Sequence[Token]) -> int:
    """A whole number as it is written; the usual conversion would round 1.5."""
    try:
        return kind(tokens[0].value)
    except ValueError:
        raise UserError(f'"{tokens[0].value}" is not a whole number') from None


Whole = Annotated[int, Parameter(converter=_whole)]


def gemm(
    rows: Whole,
    inner: Whole,
    cols: Whole,
    *,
    pattern: str = "dense",
    device: str = "a100",
    dtype: str = "auto",
    library: str = "best",
    fits: Path | None = None,
    as_json: Json = False,
) -> None:
    """Price one product x [rows, inner] @ w.T with w [cols, inner], dense and at a pattern along inner, and say why.

    Args:
        rows: Tokens.
        inner: Length of the reduction, d_in.
        cols: Outputs, d_out.
        pattern: The weight's pattern, such as 2:4.
        device: A device, alias or device file.
        dtype: A type of the device; auto takes one of 16 bits where there is one.
        library: A kernel library of the device; best takes the fastest.
        fits: Constants that nmsim calibrate wrote; they go before the shipped ones.
        as_json: Print JSON.
    """
    for size, value in (("rows", rows), ("inner", inner), ("cols", cols)):
        if value < 1:
            raise UserError(f"{size} = {value}: needs at least 1")
    where = load_device(device)
    used, known = _dtype(where, dtype), fits_for(fits, where)
    asked = Pattern.parse(pattern)
    _check_multiple("inner", inner, asked)
    ask = Question(rows, Operand(cols, inner, structure=asked), where, used, library, known)
    costs = {"dense": ask.cost(DENSE)} | ({} if asked.is_dense else {str(asked): ask.cost(asked)})
    extra = {} if asked.is_dense else {"why": reason(ask), "pays_from": pays_from(ask)}
    _show(costs, where, extra, as_json=as_json)


def model(
    name: str,
    *,
    batch: Whole = 1,
    tokens: Whole = 0,
    context: Whole = 0,
    phase: Literal["prefill", "decode"] = "prefill",
    pattern: str = "dense",
    sites: str = "*.mlp.*",
    device: str = "a100",
    dtype: str = "auto",
    fits: Path | None = None,
    as_json: Json = False,
) -> None:
    """Price one inference of a named model, dense and with its sites at a pattern.

    Args:
        name: A public model, such as vit-b.
        batch: Sequences or images at once.
        tokens: Positions of each; 0 takes the model's own length.
        context: Positions cached before.
        phase: Prefill computes all positions at once, decode one after another.
        pattern: The pattern of the sites.
        sites: A shell pattern of the linear sites that are sparse.
        device: A device, alias or device file.
        dtype: A type of the device; auto takes one of 16 bits where there is one.
        fits: Constants that nmsim calibrate wrote; they go before the shipped ones.
        as_json: Print JSON.
    """
    config, where = model_named(name), load_device(device)
    used, known = _dtype(where, dtype), fits_for(fits, where)
    bits, costs = DTYPE_BITS[used], {}
    tokens = tokens or config.tokens
    _check_positions(name, config, tokens, context)
    plans = {text: _plan(config, sites, Pattern.parse(text)) for text in dict.fromkeys(("dense", pattern))}
    for text, plan in plans.items():  # before the work is listed, which takes long for many tokens
        held = inference_bytes(config, batch, plan, tokens=tokens + context, bits=bits)
        check_fits(f"{name} ({text})", held, where)
    for text, plan in plans.items():
        work = inference(config, batch, tokens=tokens, context=context, phase=phase, plan=plan, bits=bits)
        costs[text] = price(work, where, dtype=used, fits=known)
    _show(costs, where, as_json=as_json)


def train(
    name: str,
    *,
    recipe: str = "sr_ste",
    pattern: str = "2:4",
    sites: str = "*.mlp.*",
    steps: Whole = 1000,
    batch: Whole = 32,
    device: str = "a100",
    dtype: str = "auto",
    fits: Path | None = None,
    as_json: Json = False,
) -> None:
    """Price a training run of a named model under a recipe's nominal plan, beside dense training.

    Args:
        name: A public model, such as vit-b.
        recipe: A recipe of nmsim recipes.
        pattern: The recipe's target pattern.
        sites: A shell pattern of the linear sites that follow the recipe.
        steps: Training steps.
        batch: Sequences or images a step.
        device: A device, alias or device file.
        dtype: A type of the device; auto takes one of 16 bits where there is one.
        fits: Constants that nmsim calibrate wrote; they go before the shipped ones.
        as_json: Print JSON.
    """
    if steps < 1:
        raise UserError(f"steps = {steps}: needs at least 1")
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    config, where = model_named(name), load_device(device)
    used, known = _dtype(where, dtype), fits_for(fits, where)
    job = _job(config, batch, steps, {sites: RECIPES[recipe](Pattern.parse(pattern), steps=steps)}).of(used)
    memory = training_bytes(config, batch, job.final, tokens=config.tokens, bits=job.bits)
    check_fits(name, memory, where)
    works = {"dense": job.dense_training(), recipe: job.training()}
    costs = {what: price(work, where, dtype=used, fits=known) for what, work in works.items()}
    extra = {"training_flops": training_flops(job), "memory_bytes": memory}
    _show(costs, where, extra, as_json=as_json)


def _check_positions(name: str, config: NetworkConfig, tokens: int, context: int) -> None:
    """Raise `UserError` for more or fewer positions than the model can have."""
    if not isinstance(config, TokenConfig):
        if (tokens, context) != (config.tokens, 0):
            raise UserError(f"{name}: an image has {config.tokens} positions; leave --tokens and --context out")
    elif config.position == "learned" and tokens + context > config.context:
        asked = f"{tokens} positions after {context}"
        raise UserError(f"{name}: {asked}; it has learned {config.context} positions, so take fewer")


def _plan(config: NetworkConfig, sites: str, pattern: Pattern) -> Plan:
    """The sites at a pattern, which each of them must divide into."""
    plan = plan_of(config, {sites: SitePlan(fprop=pattern)})
    shapes = weights(config)
    for site in plan.sites:
        _check_multiple(f"{site}: d_in", shapes[site][1], pattern)
    return plan


def _job(config: NetworkConfig, batch: int, steps: int, recipes: dict[str, Any]) -> Job:
    plan_of(config, dict.fromkeys(recipes, SitePlan()))  # raises for a glob that matches no site
    for site, shape in weights(config).items():
        for recipe in (recipe for glob, recipe in recipes.items() if fnmatchcase(site, glob)):
            for misfit in recipe.misfits(shape):
                raise UserError(f"{site}: {misfit}; take another pattern, or --sites without it")
    return Job(config, batch, nominal_phases(config, steps, recipes))


def _check_multiple(name: str, length: int, pattern: Pattern) -> None:
    if length % pattern.m:
        padded = -(-length // pattern.m) * pattern.m
        said = f"{name} = {length} is not a multiple of m = {pattern.m}"
        raise UserError(f"{said}; pad it to {padded} or take another pattern")


def _dtype(device: Device, dtype: str) -> str:
    """The named type, which the device must have, or its usual one."""
    if dtype == "auto":
        return device.usual_dtype
    device.peak(dtype)
    return dtype


def _show(costs: dict[str, Cost], device: Device, extra: dict[str, Any] | None = None, *, as_json: bool) -> None:
    first = next(iter(costs.values()))
    if as_json:
        made = {name: asdict(cost) | {"gain": first.seconds / cost.seconds} for name, cost in costs.items()}
        sys.stdout.write(json.dumps({"device": device.name, "costs": made, **(extra or {})}, indent=1) + "\n")
        return
    table = Table(
        *("what", "time ms", "gain", "energy J", "moved MB", "GFLOPs run", "bound by", "kernels", "type"),
        title=f"modelled on {device.summary} (energy is uncalibrated)",
        box=None,
    )
    for name, cost in costs.items():
        numbers = (cost.seconds * 1e3, first.seconds / cost.seconds, cost.joules, cost.bytes / 1e6, cost.flops / 1e9)
        table.add_row(name, *(f"{number:.4g}" for number in numbers), cost.bound, cost.library, cost.dtype)
    screen = console()
    screen.print(table)
    for name, cost in costs.items():
        for line in _parts(name, cost):
            screen.print(line, markup=False, highlight=False, soft_wrap=True)
    for name, found in (extra or {}).items():
        screen.print(_line(name, found), markup=False, highlight=False, soft_wrap=True)


def _parts(name: str, cost: Cost) -> tuple[str, str]:
    """The parts of a time, and the energy by operation and level."""
    times = {"launch": cost.launch_s, "compute": cost.compute_s, "of that tails": cost.tail_s}
    times |= {f"{level} memory": seconds for level, seconds in cost.memory_levels_s.items()}
    spent = ", ".join(f"{part} {seconds * 1e3:.4g}" for part, seconds in times.items())
    waves = f"; {cost.waves:.4g} waves" if cost.waves else ""
    joules = ", ".join(f"{part} {energy:.4g}" for part, energy in cost.joules_of.items())
    return f"{name}, ms (computing and memory overlap): {spent}{waves}", f"{name}, J: {joules}"


def _line(name: str, found: str | dict[str, Any]) -> str:
    """A sentence as it is; numbers by their names."""
    if isinstance(found, str):
        return found
    if name == "pays_from":
        return pays_text(found)
    return f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items())
