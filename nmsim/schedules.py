"""Schedules: values of a step, as small frozen records that print, compare and read from a file.

A schedule is called with a 0-based step and returns a plain Python float, bool or sparsity structure. Its clock starts
at 0; `Piecewise` and `Cycle` give each of their parts a clock of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from hwmodel.errors import UserError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Schedule(Protocol[T_co]):
    """A value for every step."""

    def __call__(self, step: int, /) -> T_co:
        """The value at a 0-based step."""
        ...


@dataclass(frozen=True)
class Constant(Generic[T_co]):
    """The same value at every step."""

    value: T_co

    def __call__(self, step: int, /) -> T_co:  # noqa: ARG002 - a schedule takes a step
        """`value`."""
        return self.value

    def __str__(self) -> str:
        return str(self.value)


def _progress(step: int, steps: float) -> float:
    """Share of `steps` that is over at `step`, within [0, 1]; a length of 0 is over at once."""
    return min(max(step / steps, 0.0), 1.0) if steps > 0 else 1.0


@dataclass(frozen=True)
class Linear:
    """Straight line from `start` at step 0 to `end` at step `steps`, and `end` from there on."""

    start: float
    end: float
    steps: float

    def __call__(self, step: int, /) -> float:
        """`start + (end - start) * min(step / steps, 1)`."""
        p = _progress(step, self.steps)
        return self.end if p == 1 else self.start + (self.end - self.start) * p


@dataclass(frozen=True)
class Exponential:
    """Exponential decay from 1 at `rate` a step; it never reaches 0."""

    rate: float

    def __call__(self, step: int, /) -> float:
        """exp(-rate * step)."""
        return math.exp(-self.rate * step)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` at step 0 to `end` at step `steps`, and `end` from there on (arXiv 1608.03983)."""

    start: float
    end: float
    steps: float

    def __call__(self, step: int, /) -> float:
        """`end + (start - end) * (1 + cos(pi * step / steps)) / 2`."""
        p = _progress(step, self.steps)
        return self.end if p == 1 else self.end + (self.start - self.end) * (1 + math.cos(math.pi * p)) / 2


@dataclass(frozen=True)
class Cubic:
    """Zhu and Gupta's cubic from `start` at step 0 to `end` at step `steps` (arXiv 1710.01878, section 3)."""

    start: float
    end: float
    steps: float

    def __call__(self, step: int, /) -> float:
        """`end + (start - end) * (1 - min(step / steps, 1)) ** 3`."""
        return self.end + (self.start - self.end) * (1 - _progress(step, self.steps)) ** 3


@dataclass(frozen=True)
class InverseSquareRoot:
    """Decay of a Transformer's learning rate after `steps` of warm-up (arXiv 1706.03762, section 5.3)."""

    start: float
    steps: float

    def __call__(self, step: int, /) -> float:
        """`start / sqrt(1 + step / steps)`, with the clock at the end of the warm-up."""
        return self.start / math.sqrt(1 + step / self.steps)


@dataclass(frozen=True)
class Piecewise(Generic[T_co]):
    """Schedules one after the other: `pieces` of (first step, schedule), each with a clock from its own first step.

    Raises `UserError` unless the first piece begins at step 0 and the first steps do not fall.
    """

    pieces: tuple[tuple[int, Schedule[T_co]], ...]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.pieces]
        if not starts or starts[0] != 0 or starts != sorted(starts):
            raise UserError(f"schedule pieces begin at {starts}: needs 0 first, then steps in rising order")

    def __call__(self, step: int, /) -> T_co:
        """The value of the last piece that has begun."""
        start, schedule = next(piece for piece in reversed(self.pieces) if piece[0] <= max(step, 0))
        return schedule(step - start)

    def __str__(self) -> str:
        return ", ".join(f"{schedule} from step {start}" for start, schedule in self.pieces)


@dataclass(frozen=True)
class Cycle(Generic[T_co]):
    """Schedules over and over: `phases` of (length in steps, schedule), each with a clock from its own beginning."""

    phases: tuple[tuple[int, Schedule[T_co]], ...]

    def __post_init__(self) -> None:
        lengths = [length for length, _ in self.phases]
        if not lengths or min(lengths) < 1:
            raise UserError(f"cycle of phases of {lengths} steps: each needs at least 1")

    def __call__(self, step: int, /) -> T_co:
        """The value of the phase that holds `step` modulo the length of the cycle."""
        clock = step % sum(length for length, _ in self.phases)
        for length, schedule in self.phases[:-1]:
            if clock < length:
                return schedule(clock)
            clock -= length
        return self.phases[-1][1](clock)

    def __str__(self) -> str:
        return "cycle of " + " and ".join(f"{schedule} for {length} steps" for length, schedule in self.phases)


@dataclass(frozen=True)
class Staircase(Generic[T_co]):
    """`schedule` read once every `every` steps, by the number of the stair."""

    schedule: Schedule[T_co]
    every: int

    def __post_init__(self) -> None:
        _check_interval(self.every)

    def __call__(self, step: int, /) -> T_co:
        """schedule(step // every)."""
        return self.schedule(step // self.every)


@dataclass(frozen=True)
class Every:
    """True every `k` steps from `first`, and never again from `until`."""

    k: int
    first: int = 0
    until: float = math.inf

    def __post_init__(self) -> None:
        _check_interval(self.k)

    def __call__(self, step: int, /) -> bool:
        """Whether `step` is first, first + k, first + 2k, ... and below `until`."""
        return self.first <= step < self.until and (step - self.first) % self.k == 0


@dataclass(frozen=True)
class Once:
    """True at step `at` alone."""

    at: int = 0

    def __call__(self, step: int, /) -> bool:
        """Whether `step` is `at`."""
        return step == self.at


def _check_interval(k: int) -> None:
    if k < 1:
        raise UserError(f"an interval of {k} steps: needs at least 1")


def values(schedule: Schedule[T]) -> tuple[T, ...]:
    """The values that a schedule holds as constants, in order and each once; formulas give none."""
    if isinstance(schedule, Constant):
        return (schedule.value,)
    parts = {Piecewise: "pieces", Cycle: "phases"}
    nested = getattr(schedule, parts[type(schedule)]) if type(schedule) in parts else ()
    return tuple(dict.fromkeys(value for _, part in nested for value in values(part)))


def stages(values: Iterable[T], first: int, last: int) -> tuple[tuple[int, Constant[T]], ...]:
    """Pieces that share the steps from `first` to `last` evenly: i of c begins at floor(first + i * length / c)."""
    held = tuple(values)
    return tuple((first + i * (last - first) // len(held), Constant(value)) for i, value in enumerate(held))


def warm_up(steps: int, peak: float, then: Schedule[float]) -> Schedule[float]:
    """`peak` * (step + 1) / steps for the first `steps` steps, then `then` with a clock of its own."""
    if steps < 1:
        return then
    return Piecewise(((0, Linear(peak / steps, peak, steps - 1)), (steps, then)))
