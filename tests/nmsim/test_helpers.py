"""Helping threads keep off the processor of the caller."""

from __future__ import annotations

import os
import threading

import pytest

from nmsim.kernels import helpers
from nmsim.kernels.helpers import Helpers

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no say in processors")


@pytest.fixture
def moves(monkeypatch):
    """What is asked of a system of three processors, and the caller's processor, which a test may change."""
    asked, here = [], [0]
    monkeypatch.setattr(helpers, "processor", lambda: here[0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, processors: asked.append((thread, set(processors))))
    return asked, here


def test_a_new_thread_keeps_off_the_callers_processor(moves):
    asked, _ = moves
    with Helpers(1) as pool:
        pool.submit(int).result()
    assert asked == [(0, {1, 2})]


def test_a_thread_follows_when_the_caller_moves_and_only_then(moves):
    asked, here = moves
    with Helpers(1) as pool:
        thread = pool.submit(threading.get_native_id).result()
        here[0] = 2
        pool.submit(int).result()
        pool.submit(int).result()
    assert asked[1:] == [(thread, {0, 1})]


def test_a_single_processor_is_shared(moves, monkeypatch):
    asked, _ = moves
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with Helpers(1) as pool:
        assert pool.submit(int).result() == 0
    assert asked == []


def test_a_system_that_forbids_it_runs_the_work_all_the_same(moves, monkeypatch):
    def forbid(thread, processors):
        raise PermissionError(1, "forbidden")

    monkeypatch.setattr(os, "sched_setaffinity", forbid)
    with Helpers(1) as pool:
        assert pool.submit(int).result() == 0


def test_the_system_tells_a_processor_of_this_thread():
    assert helpers.processor() in os.sched_getaffinity(0)


def test_where_the_system_does_not_tell_threads_run_anywhere(monkeypatch):
    monkeypatch.setattr(helpers, "_TELLS", False)
    assert helpers.processor() is None
    with Helpers(1) as pool:
        assert pool.submit(int).result() == 0
