"""Optimisers: SGD with momentum, Adam and AdamW, over all parameters at once, with clipping by the global norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from hwmodel.errors import UserError
from nmsim.flat import Flat
from nmsim.kernels import update
from nmsim.layers import Param
from nmsim.rules.site import SECOND_MOMENT_FROZEN
from nmsim.schedules import Constant, Cosine, InverseSquareRoot, Schedule, warm_up
from nmsim.team import Team

MEAN, SQUARE, VELOCITY = "mean", "square", "velocity"
FROZEN_AFTER = "updates_of_square"


Demand = tuple[Callable[[float], bool], str]
POSITIVE: Demand = (lambda x: 0 < x < math.inf, "a finite number above 0")
SHARE: Demand = (lambda x: 0 <= x <= 1, "a number from 0 to 1")
RATE: Demand = (lambda x: 0 <= x < 1, "at least 0 and below 1")
DEMANDS: dict[str, Demand] = {
    **dict.fromkeys(("lr", "eps"), POSITIVE),
    **dict.fromkeys(("warmup", "lr_end", "momentum"), SHARE),
    **dict.fromkeys(("beta1", "beta2"), RATE),
    "weight_decay": (lambda x: 0 <= x < math.inf, "a finite number of at least 0"),
    "clip": (lambda x: x > 0, "a number above 0, or inf"),
}
"""What each number of a config must be."""


@dataclass(frozen=True)
class OptimizerConfig:
    """How a run's parameters are updated.

    Attributes:
        lr: Learning rate at the end of the warm-up.
        schedule: What it does from there on: half a cosine to `lr_end`, nothing, or lr / sqrt(1 + step / warm-up).
        warmup: Share of the steps over which it rises linearly.
        lr_end: Last learning rate of the cosine, as a share of `lr`.
        momentum: Of SGD.
        weight_decay: Of matrices and tables; biases and norms do not decay. AdamW takes lr * weight_decay of the
            weight at each step, the others add weight_decay * weight to the gradient.
        clip: Largest norm of all gradients together, which are scaled down to it; inf for none.
    """

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    schedule: Literal["cosine", "constant", "inverse_sqrt"] = "cosine"
    warmup: float = 0.1
    lr_end: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    momentum: float = 0.9
    weight_decay: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name, (holds, needed) in DEMANDS.items():
            if not holds(getattr(self, name)):
                raise UserError(f"optimizer: {name} = {getattr(self, name):g}; needs {needed}")


def learning_rate(config: OptimizerConfig, steps: int) -> Schedule[float]:
    """The learning rate of every step of a run."""
    rising = round(config.warmup * steps)
    falling: dict[str, Schedule[float]] = {
        "cosine": Cosine(config.lr, config.lr * config.lr_end, max(steps - rising, 1)),
        "constant": Constant(config.lr),
        "inverse_sqrt": InverseSquareRoot(config.lr, max(rising, 1)),
    }
    return warm_up(rising, config.lr, falling[config.schedule])


class Updates:
    """What the optimisers share: the flat parameters, the learning rate, and the ranges that are treated alike."""

    def __init__(self, config: OptimizerConfig, params: Iterable[Param], steps: int, team: Team) -> None:
        self.config, self.team, self.flat = config, team, Flat(params)
        self.lr = learning_rate(config, steps)

    def rates(self, *rates: float) -> np.ndarray:
        """Numbers for a kernel, of the parameters' type."""
        return np.array(rates, self.flat.dtype)


@dataclass(frozen=True)
class Range:
    """A stretch of the flat parameters: whether it decays, and after how many updates its second moment was frozen."""

    lo: int
    hi: int
    decays: bool
    frozen_after: int = 0


class SGD(Updates):
    """Momentum as in Sutskever et al. 2013 without Nesterov's term: v = momentum * v + g, w -= lr * v."""

    def __init__(self, config: OptimizerConfig, params: Iterable[Param], steps: int, team: Team) -> None:
        super().__init__(config, params, steps, team)
        self.velocity = self.flat.slot(VELOCITY)

    def update(self, step: int, clip: float) -> None:
        """One step, of gradients times `clip`."""
        flat = self.flat
        for piece in ranges(flat, step):
            decay = self.config.weight_decay * piece.decays
            rates = self.rates(self.lr(step), self.config.momentum, decay, clip)
            self.team.split(partial(update.sgd, flat.value, flat.grad, self.velocity, rates), piece.lo, piece.hi)


class Adam(Updates):
    """Adam (arXiv 1412.6980) and AdamW (arXiv 1711.05101), with a second moment that a recipe may freeze."""

    def __init__(self, config: OptimizerConfig, params: Iterable[Param], steps: int, team: Team) -> None:
        super().__init__(config, params, steps, team)
        self.mean, self.square = self.flat.slot(MEAN), self.flat.slot(SQUARE)

    def update(self, step: int, clip: float) -> None:
        """One step, of gradients times `clip`."""
        flat = self.flat
        for piece in ranges(flat, step):
            arrays = (flat.value, flat.grad, self.mean, self.square, self._rates(step, clip, piece))
            self.team.split(partial(update.adam, *arrays), piece.lo, piece.hi)

    def _rates(self, step: int, clip: float, piece: Range) -> np.ndarray:
        config, lr = self.config, self.lr(step)
        beta1 = config.beta1
        decay = config.weight_decay * piece.decays
        shrink, coupled = (1 - lr * decay, 0.0) if config.kind == "adamw" else (1.0, decay)
        size = lr / (1 - beta1 ** (step + 1))
        root = 1 / math.sqrt(1 - config.beta2 ** (piece.frozen_after or step + 1))
        beta2 = 1.0 if piece.frozen_after else config.beta2
        return self.rates(shrink, size, root, beta1, 1 - beta1, beta2, 1 - beta2, config.eps, clip, coupled)


Optimizer = SGD | Adam
OPTIMIZERS: dict[str, type[SGD | Adam]] = {"adamw": Adam, "adam": Adam, "sgd": SGD}


def create(config: OptimizerConfig, params: Iterable[Param], steps: int, team: Team) -> Optimizer:
    """The optimiser of a config; its state is in the slots of `params`."""
    return OPTIMIZERS[config.kind](config, params, steps, team)


def ranges(flat: Flat, step: int) -> Iterator[Range]:
    """The parameters in ranges as long as possible."""
    kinds = [(param.value.ndim > 1, _frozen_after(param, step)) for param in flat.params]
    first = 0
    for i in range(1, len(kinds) + 1):
        if i == len(kinds) or kinds[i] != kinds[first]:
            end = flat.starts[i] if i < len(kinds) else flat.size
            yield Range(flat.starts[first], end, *kinds[first])
            first = i


def _frozen_after(param: Param, step: int) -> int:
    """Updates of the second moment before a recipe froze it, 0 while it is not frozen; remembered in a slot."""
    if not param.slots.get(SECOND_MOMENT_FROZEN, False):
        return 0
    return int(param.slots.setdefault(FROZEN_AFTER, np.array(step)))


def gradient_norm(flat: Flat, team: Team) -> float:
    """Euclidean norm of all gradients, summed over blocks of fixed length, so that threads do not change its bits."""
    norms = np.empty(math.ceil(flat.size / update.BLOCK), flat.dtype)
    team.split(lambda lo, hi: update.squared_norms(flat.grad, norms, lo, hi), 0, len(norms), update.BLOCK)
    return math.sqrt(float(norms.sum(dtype=np.float64)))


def clip_factor(norm: float, limit: float) -> float:
    """What scales gradients of `norm` down to `limit` (arXiv 1211.5063, section 3.2)."""
    return min(1.0, limit / norm) if norm > 0 else 1.0
