"""What holds for every test: shapes are checked, floating-point faults raise, and a skip needs a listed reason."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]
CHECKED = (  # the hook breaks @njit, so nmsim.kernels is left out
    "hwmodel",
    "nmsim_analysis",
    *(
        f"nmsim.{path.stem}"
        for path in (ROOT / "nmsim").iterdir()
        if path.stem not in ("__init__", "__pycache__", "kernels")
    ),
)
install_import_hook(list(CHECKED), "typecheck.check")

np.seterr(all="raise", under="ignore")

# On two shared cores a slow draw says nothing about the code.
hypothesis.settings.register_profile(
    "ci", max_examples=50, derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "deep", parent=hypothesis.settings.get_profile("ci"), derandomize=False, max_examples=2000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

ALLOWED_SKIPS = [
    line.split("|")[0].strip()
    for line in (ROOT / "tests" / "allowed_skips.txt").read_text(encoding="utf-8").splitlines()
    if "|" in line
]


def _refuse_unlisted_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that tests/allowed_skips.txt does not list into a failure."""
    listed = any(fnmatch.fnmatch(report.nodeid, glob) for glob in ALLOWED_SKIPS)
    if report.skipped and not hasattr(report, "wasxfail") and not listed:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {reason}; a skip must be listed in tests/allowed_skips.txt"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _refuse_unlisted_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _refuse_unlisted_skip(report)
    return report
