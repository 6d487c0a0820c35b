"""The memory that a training step really takes, beside the cost model's prediction."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hwmodel.memory import training_bytes
from hwmodel.networks import ViTConfig
from hwmodel.workload import Plan

MINIMAL = {"width": 64, "depth": 1, "batch": 1}  # heads as wide as a vector, as those of the large models
STEPS = """
import sys
from hwmodel.networks import ViTConfig
from nmsim_analysis.train_steps import Case, OwnStep, recipe

width, depth, batch = map(int, sys.argv[1:])
case = Case("", ViTConfig(width=width, depth=depth, image=(28, 28), patch=(4, 4)), batch)
own, lesson = OwnStep(case, 1, recipe("dense")), case.lesson(0)
for _ in range(2):
    own.step(lesson)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss counts the parent's too
print(int(peak.split()[1]) * 1024)
"""


def peak_bytes(width, depth, batch):
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(width), str(depth), str(batch)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.fixture(scope="module")
def floor():
    """The peak of the smallest run, in a process that compiles nothing."""
    peak_bytes(**MINIMAL)
    return peak_bytes(**MINIMAL)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(("width", "depth", "batch"), [(256, 12, 64), (1024, 6, 8)], ids=["activations", "weights"])
def test_the_prediction_is_within_a_tenth_of_the_peak(floor, width, depth, batch):
    config = ViTConfig(width=width, depth=depth, image=(28, 28), patch=(4, 4))
    predicted = sum(training_bytes(config, batch, Plan(), tokens=config.tokens).values())
    assert predicted > 512e6
    measured = peak_bytes(width, depth, batch) - floor
    assert measured == pytest.approx(predicted, rel=0.1)
