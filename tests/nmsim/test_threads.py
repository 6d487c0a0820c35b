"""Work that is shared among threads: every part once, in order, by whoever is free."""

import threading
from concurrent.futures import Future

import pytest

from nmsim.kernels import threads as sharing
from nmsim.kernels.threads import split, threads


def part(lo, hi):
    return lo, hi


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("total", "step"), [(1, 1), (5, 2), (24, 4), (1000, 7)])
def test_parts_cover_the_range_in_order_and_are_cut_at_steps(count, total, step):
    with threads(count):
        found = split(part, total, step)
    assert [lo for lo, _ in found] == [0, *(hi for _, hi in found[:-1])]
    assert found[-1][1] == total
    assert all(lo % step == 0 for lo, _ in found)
    assert len(found) <= (1 if count == 1 else count * sharing.PARTS)


def test_nothing_to_do_has_no_parts():
    assert split(part, 0, 4) == []


@pytest.mark.parametrize(("work", "parts"), [(None, 12), (5 * sharing.LEAST_WORK, 5), (1, 1)])
def test_little_work_is_cut_into_fewer_parts(work, parts):
    with threads(3):
        assert len(split(part, 120, 1, work=work)) == parts


def test_two_threads_are_inside_at_once():
    meeting = threading.Barrier(2, timeout=60)
    with threads(2):
        assert split(lambda lo, hi: meeting.wait() >= 0, 2, 1) == [True, True]


def test_a_thread_that_does_not_wake_is_not_waited_for(monkeypatch):
    class Asleep:
        def submit(self, share):
            return Future()

    monkeypatch.setattr(sharing, "_pool", lambda count: Asleep())
    with threads(2):
        assert split(part, 4, 1) == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("here", [True, False])
def test_an_error_of_any_part_reaches_the_caller(here):
    meeting, caller = threading.Barrier(2, timeout=60), threading.get_ident()

    def fails(lo, hi):
        meeting.wait()
        if (threading.get_ident() == caller) == here:
            raise IndexError("part")

    with threads(2), pytest.raises(IndexError, match="part"):
        split(fails, 2, 1)
