"""Runs that take no time, for the tests of the store and the sweep; spawned workers import this by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def threads_with_scipy():
    """The threads that a run would record once SciPy, which brings a BLAS of its own, is loaded too."""
    import scipy.linalg  # noqa: F401, PLC0415 - the worker is to load it last
    from nmsim_analysis.environment import environment  # noqa: PLC0415

    return environment()["threads"]


def toy(config, folder):
    """Leave one line per execution, then behave as `config["does"]` says."""
    with (Path(folder.path) / "executions").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(config.get("seconds", 0))
    match config["does"]:
        case "diverge":
            raise FloatingPointError("loss is NaN at step 3, first at block0.mlp.up")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "run out of time once" if not (folder.path / "late").exists():
            (folder.path / "late").touch()
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(60)
        case "die once" if not (folder.path / "died").exists():
            (folder.path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return {"seed": config["seed"], "quality": config["seed"] / 2}
