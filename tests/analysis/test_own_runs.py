"""Own runs become points of the law by what they really kept and saw."""

from __future__ import annotations

import pytest
from nmsim_analysis import own_runs
from nmsim_analysis.pricing import Job, Phase
from nmsim_analysis.store import Store

from hwmodel.errors import UserError
from hwmodel.networks import MLPConfig
from hwmodel.pattern import Pattern
from hwmodel.workload import Plan, SitePlan

NETWORK = MLPConfig(inputs=16, width=32, depth=2, classes=4)
SPARSE = Plan({"layer1": SitePlan(fprop=Pattern(1, 4))})


def test_a_run_counts_the_non_zeros_of_its_last_plan_and_all_tokens_it_saw():
    job = Job(NETWORK, 8, (Phase(30, Plan()), Phase(10, SPARSE)))
    total, kept = 16 * 32 + 32 * 32 + 32 * 4, 16 * 32 + 32 * 32 / 4 + 32 * 4
    assert own_runs._point(job) == {
        "sparsity": pytest.approx(1 - kept / total),
        "parameters": kept,
        "data": 40 * 8,
    }


def test_a_store_without_finished_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        own_runs.points_of(Store(tmp_path))
