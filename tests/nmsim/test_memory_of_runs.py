"""The memory that a training step really takes, beside the cost model's prediction."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hwmodel.memory import training_bytes
from hwmodel.networks import ViTConfig
from hwmodel.pattern import Pattern
from hwmodel.workload import Plan, SitePlan

MINIMAL = {"width": 64, "depth": 1, "batch": 1}  # heads as wide as a vector, as those of the large models
SPARSE = SitePlan(Pattern(1, 8), Pattern(1, 8), Pattern(1, 8))
STEPS = """
import sys
from hwmodel.networks import ViTConfig
from nmsim_analysis.train_steps import Case, OwnStep, recipe

width, depth, batch = map(int, sys.argv[1:4])
name, execution = sys.argv[4:]
case = Case("", ViTConfig(width=width, depth=depth, image=(28, 28), patch=(4, 4)), batch)
own, lesson = OwnStep(case, 1, recipe(name), execution), case.lesson(0)
for _ in range(3):
    own.step(lesson)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss counts the parent's too
print(int(peak.split()[1]) * 1024)
"""


def peak_bytes(width, depth, batch, recipe="dense", execution="dense"):
    command = [sys.executable, "-c", STEPS, *map(str, (width, depth, batch)), recipe, execution]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def floor():
    """The peak of the smallest runs, in a process that compiles nothing."""
    for execution in ("dense", "compressed"):
        peak_bytes(**MINIMAL, recipe="ste", execution=execution)
    return peak_bytes(**MINIMAL)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(
    ("width", "depth", "batch", "recipe", "execution"),
    [
        pytest.param(256, 12, 64, "dense", "dense", id="activations"),
        pytest.param(1024, 6, 8, "dense", "dense", id="weights"),
        pytest.param(1024, 6, 8, "ste", "dense", id="masked copies"),
        pytest.param(1024, 6, 8, "ste", "compressed", id="compressed copies"),
    ],
)
def test_the_prediction_is_within_a_tenth_of_the_peak(floor, width, depth, batch, recipe, execution):
    config = ViTConfig(width=width, depth=depth, image=(28, 28), patch=(4, 4))
    sites = [f"block{block}.mlp.{layer}" for block in range(depth) for layer in ("up", "down")]
    plan = Plan({} if recipe == "dense" else dict.fromkeys(sites, SPARSE))
    predicted = sum(training_bytes(config, batch, plan, tokens=config.tokens, held=execution).values())
    assert predicted > 512e6
    measured = peak_bytes(width, depth, batch, recipe, execution) - floor
    assert measured == pytest.approx(predicted, rel=0.1)
