"""The plan of looks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.sequential import GROWTH, MIN_SAMPLES, looks, sets_that_fit


@given(st.integers(-5, 100_000))
def test_looks_rise_to_the_longest_and_start_with_enough_sets(longest: int) -> None:
    plan = looks(longest)
    assert plan[-1] == max(1, longest)
    assert all(a < b for a, b in itertools.pairwise(plan))
    assert all(each >= MIN_SAMPLES for each in plan[:-1])
    assert all(b / a <= GROWTH + 0.1 for a, b in itertools.pairwise(plan))


@pytest.mark.parametrize(("longest", "plan"), [(1, (1,)), (5, (5,)), (6, (5, 6)), (21, (5, 8, 13, 20, 21)), (0, (1,))])
def test_looks_by_hand(longest: int, plan: tuple[int, ...]) -> None:
    assert looks(longest) == plan


@pytest.mark.parametrize(("left", "each", "sets"), [(60, 10, 6), (59.9, 10, 5), (5, 10, 1), (-3, 10, 1)])
def test_at_least_one_set_is_run(left: float, each: float, sets: int) -> None:
    assert sets_that_fit(left, each) == sets


def test_a_set_that_takes_no_time_is_no_division_by_zero() -> None:
    assert sets_that_fit(1, 0) > 1000
