"""The plan of looks."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.stats.looks import GROWTH, LAST_SHARE, MIN_SAMPLES, early_and, lead, looks, sets_that_fit, share, shares


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


def test_looks_may_start_elsewhere_and_lie_closer() -> None:
    assert looks(64, first=5, growth=1.3) == (5, 6, 8, 11, 14, 19, 24, 31, 41, 53, 64)
    assert looks(3, first=5, growth=1.3) == (3,)


@given(st.floats(1e-6, 0.5), st.integers(1, 30), st.integers(1, 100))
def test_the_parts_of_an_error_add_up_to_it(error: float, planned: int, budgets: int) -> None:
    assert sum(share(error, planned, budgets=budgets) for _ in range(planned * budgets)) == pytest.approx(error)


@given(st.integers(1, 300), st.floats(1e-6, 0.5))
def test_the_parts_of_looks_add_up_and_early_ones_get_more_but_the_last_a_tenth(longest: int, error: float) -> None:
    plan = early_and(looks(longest))
    parts = shares(plan, error)
    assert math.fsum(parts) == pytest.approx(error)
    assert parts[-1] >= LAST_SHARE * error * (1 - 1e-9)
    assert all(a > b for a, b in itertools.pairwise(parts[:-1]))


@pytest.mark.parametrize("error", [0.3, 0.0875, 0.01])
@pytest.mark.parametrize("longest", [1, 4, 7, 12, 16])
def test_a_fair_coin_gets_the_lead_no_more_often_than_it_may_and_a_smaller_one_more_often(longest: int, error: float) -> None:
    """By following every walk."""
    paths = {(0, 0): 1.0}  # (lead now, highest lead so far): probability
    for _ in range(longest):
        after: dict[tuple[int, int], float] = {}
        for (now, best), chance in paths.items():
            for there in (now + 1, now - 1):
                key = (there, max(best, there))
                after[key] = after.get(key, 0.0) + chance / 2
        paths = after

    def has_led(by: int) -> float:
        return sum(chance for (_, best), chance in paths.items() if best >= by)

    needed = lead(longest, error)
    assert has_led(needed) <= error
    assert needed == 1 or has_led(needed - 1) > error


@pytest.mark.parametrize(("left", "each", "sets"), [(60, 10, 6), (59.9, 10, 5), (5, 10, 1), (-3, 10, 1)])
def test_at_least_one_set_is_run(left: float, each: float, sets: int) -> None:
    assert sets_that_fit(left, each) == sets


def test_a_set_that_takes_no_time_is_no_division_by_zero() -> None:
    assert sets_that_fit(1, 0) > 1000
