"""Timing of training steps in one process: contenders in turn, so that all see the same machine. Run as a module."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import threadpoolctl

from hwmodel.errors import UserError
from nmsim.shards import Lesson

from .train_steps import CASES, OPTIMIZER, Case, OwnStep, recipe

Step = Callable[[], float]
CHECKED_STEPS, LOSS_TOLERANCE = 10, 1e-4
BLOCK_SECONDS = 0.25


def contenders(case: Case, threads: int) -> dict[str, Step]:
    """What is timed: our step dense, at 1:8 with new masks at every step or one mask, with statistics, and compressed.

    And PyTorch's.
    """
    lesson = case.lesson(0)
    dense = OwnStep(case, threads, recipe("dense"))
    found = {
        "dense": _bound(dense, lesson),
        "masked": _bound(OwnStep(case, threads, recipe("sr_ste")), lesson),
        "masked once": _bound(OwnStep(case, threads, recipe("sr_ste", refresh=10**9)), lesson),
        "recorded": _bound(OwnStep(case, threads, recipe("sr_ste"), statistics_every=1), lesson),
        "compressed": _bound(OwnStep(case, threads, recipe("sr_ste"), "compressed"), lesson),
    }
    if importlib.util.find_spec("torch") is not None:
        found["torch"] = _torch_step(case, dense, lesson, threads)
        _check_losses(case, found)
    return found


def _bound(own: OwnStep, lesson: Lesson) -> Step:
    return lambda: own.step(lesson)


def _torch_step(case: Case, own: OwnStep, lesson: Lesson, threads: int) -> Step:
    import torch  # noqa: PLC0415 -- an extra

    from .torch_twin import TorchTwin  # noqa: PLC0415 -- an extra

    torch.set_num_threads(threads)
    twin = TorchTwin(case.config, own.model, OPTIMIZER)
    tensors = torch.tensor(lesson.inputs[0]), torch.tensor(lesson.labels)
    return lambda: twin.step(*tensors)


def _check_losses(case: Case, steps: dict[str, Step]) -> None:
    losses = np.array([(steps["dense"](), steps["torch"]()) for _ in range(CHECKED_STEPS)])
    worst = float(np.abs(losses[:, 0] / losses[:, 1] - 1).max())
    if not worst <= LOSS_TOLERANCE:
        raise UserError(f"{case.name}: losses of ours and of PyTorch differ by {worst:.1e}; nothing was timed")


def timed(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median seconds of a step of each, over `rounds` blocks of about a quarter of a second, in turn."""
    blocks = {name: _block(step) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(blocks[name]):
                step()
            seconds[name].append((time.perf_counter() - start) / blocks[name])
    return {name: median(values) for name, values in seconds.items()}


def _block(step: Step) -> int:
    """Steps in a block; the first call may compile."""
    step()
    start = time.perf_counter()
    step()
    return max(1, round(BLOCK_SECONDS / (time.perf_counter() - start)))


def main() -> None:
    """Time every case with the threads and rounds given as arguments; one JSON line each on stdout."""
    threads, rounds = map(int, sys.argv[1:])
    for case in CASES:
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            seconds = timed(contenders(case, threads), rounds)
        sys.stdout.write(json.dumps({"case": case.name, "threads": threads, "seconds": seconds}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
