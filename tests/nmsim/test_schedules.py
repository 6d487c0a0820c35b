"""Schedules against their equations."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodel.errors import UserError
from nmsim.schedules import (
    Constant,
    Cosine,
    Cubic,
    Cycle,
    Every,
    Exponential,
    InverseSquareRoot,
    Linear,
    Once,
    Piecewise,
    Staircase,
    stages,
    values,
    warm_up,
)

DECAYS = [Linear(1.0, 0.25, 40), Cosine(1.0, 0.25, 40), Cubic(1.0, 0.25, 40)]


@pytest.mark.parametrize("schedule", DECAYS)
def test_a_decay_begins_at_its_start_never_rises_and_stays_at_its_end(schedule) -> None:
    curve = [schedule(step) for step in range(50)]
    assert curve[0] == 1
    assert curve == sorted(curve, reverse=True)
    assert curve[40:] == [0.25] * 10


@given(st.integers(0, 10_000))
def test_exponential_and_linear_decay_are_the_published_formulas(j: int) -> None:
    assert Exponential(1e-4)(j) == math.exp(-1e-4 * j)
    assert Linear(1.0, 0.0, 1 / 2e-4)(j) == pytest.approx(max(1 - 2e-4 * j, 0), abs=1e-15)


@pytest.mark.parametrize("step", [0, 10, 25, 74, 99])
def test_the_cubic_is_that_of_zhu_and_gupta_and_jaxpruner_reads_it_one_step_ahead(step: int) -> None:
    final, start, end = 0.75, 25, 75
    kept = Piecewise(((0, Constant(1.0)), (start, Cubic(1.0, 1 - final, end - start))))
    clip = min(max((step - start) / (end - start), 0), 1)
    assert 1 - kept(step) == pytest.approx(final * (1 - (1 - clip) ** 3))
    ahead = min(max((step + 1 - start) / (end - start), 0), 1)
    assert 1 - kept(step + 1) == pytest.approx(final * (1 - (1 - ahead) ** 3))


def test_warm_up_rises_to_its_peak_and_hands_over() -> None:
    schedule = warm_up(4, 2.0, Cosine(2.0, 0.0, 10))
    assert [schedule(step) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert schedule(14) == 0
    assert warm_up(0, 2.0, Constant(2.0)) == Constant(2.0)


def test_inverse_square_root_continues_a_warm_up() -> None:
    schedule = warm_up(100, 1.0, InverseSquareRoot(1.0, 100))
    assert schedule(300) == pytest.approx(math.sqrt(100 / 300))


@given(st.integers(0, 30))
def test_pieces_have_clocks_of_their_own(step: int) -> None:
    schedule = Piecewise(((0, Constant(5.0)), (10, Linear(1.0, 0.0, 5)), (20, Constant(-1.0))))
    assert schedule(step) == (5.0 if step < 10 else Linear(1.0, 0.0, 5)(step - 10) if step < 20 else -1.0)


@given(st.integers(0, 100))
def test_a_cycle_repeats(step: int) -> None:
    schedule = Cycle(((3, Constant("a")), (2, Constant("b"))))
    assert schedule(step) == "aaabb"[step % 5]


def test_flags_are_true_at_their_steps_alone() -> None:
    every, once = Every(3, first=2, until=9), Once(4)
    assert [step for step in range(12) if every(step)] == [2, 5, 8]
    assert [step for step in range(12) if once(step)] == [4]


def test_a_staircase_reads_by_the_number_of_the_stair() -> None:
    assert [Staircase(Linear(1.0, 0.0, 4), 2)(step) for step in (0, 1, 2, 3, 9)] == [1, 1, 0.75, 0.75, 0]


def test_stages_share_the_steps_evenly() -> None:
    # The boundaries that the curves of arXiv 2402.04744, figure 6, show in a run of 350 epochs.
    assert [start for start, _ in stages("abcd", 0, 350)] == [0, 87, 175, 262]
    assert [start for start, _ in stages("abcdef", 0, 350)] == [0, 58, 116, 175, 233, 291]


def test_values_are_those_that_a_schedule_holds() -> None:
    nested = Piecewise(((0, Constant(1)), (5, Cycle(((1, Constant(2)), (1, Constant(1)))))))
    assert values(nested) == (1, 2)
    assert values(Linear(0.0, 1.0, 5)) == ()


@pytest.mark.parametrize("schedule", [*DECAYS, Every(3), Once(2), Exponential(0.1), Staircase(Constant(1.0), 2)])
def test_schedules_print_compare_and_return_plain_values(schedule) -> None:
    assert eval(repr(schedule)) == schedule if "inf" not in repr(schedule) else "Every" in repr(schedule)  # noqa: S307
    assert type(schedule(3)) in (float, bool)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Piecewise(((1, Constant(0)),)),
        lambda: Piecewise(((0, Constant(0)), (5, Constant(1)), (3, Constant(2)))),
        lambda: Piecewise(()),
        lambda: Cycle(()),
        lambda: Cycle(((0, Constant(1)),)),
        lambda: Every(0),
        lambda: Staircase(Constant(1.0), 0),
    ],
)
def test_impossible_schedules_are_refused(make) -> None:
    with pytest.raises(UserError, match="needs"):
        make()
