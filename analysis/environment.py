"""What a run ran on: versions, processor, threads of both pools, BLAS, git commit, and variables that change speed."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import threadpoolctl

PACKAGES = ("nmsim", "numpy", "numba", "llvmlite", "scipy", "pandas")
VARIABLES = ("OPENBLAS_", "OMP_", "MKL_", "NUMBA_")


def environment() -> dict[str, Any]:
    """A JSON-ready record of the machine and the software as this process sees them."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": llvmlite.binding.get_host_cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": {"numba": numba.get_num_threads(), "pools": _pools()},
        "git_commit": git_commit(),
        "variables": {key: value for key, value in sorted(os.environ.items()) if key.startswith(VARIABLES)},
    }


def git_commit() -> str:
    """The commit of the checkout that holds this package, "-dirty" behind it where files differ, "" outside one."""
    if not _git("ls-files", Path(__file__).name):  # the repository around may be another project's
        return ""
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", *words],  # noqa: S607 - whichever git the user has
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _pools() -> list[dict[str, Any]]:
    keys = ("internal_api", "version", "num_threads", "architecture")
    return [{key: pool[key] for key in keys if key in pool} for pool in threadpoolctl.threadpool_info()]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
