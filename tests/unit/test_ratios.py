"""Ratios with their intervals: how often they hold, what moves them, and what more launches buy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_greencompute.stats.ratios import PLAIN_SHARE, PRIORS, LaunchLevel, Ratio, launches_ratio, pairs_ratio

CHANGES = st.lists(st.floats(-3, 3), min_size=1, max_size=80)
ERROR = 0.005


def paired(changes: list[float], error: float = ERROR) -> Ratio:
    return pairs_ratio(changes, low_error=error, high_error=error)


@given(CHANGES)
def test_the_interval_holds_its_value_and_is_never_narrower_than_the_finest_step(changes: list[float]) -> None:
    found = paired(changes)
    assert 0 <= found.low < found.value < found.high


@given(CHANGES)
def test_turning_every_change_round_turns_the_ratio_round(changes: list[float]) -> None:
    found, turned = paired(changes), paired([-each for each in changes])
    assert turned.value == pytest.approx(1 / found.value, rel=1e-9)
    assert turned.low == pytest.approx(1 / found.high if math.isfinite(found.high) else 0.0, rel=1e-9)


@given(CHANGES, st.floats(-1, 1))
def test_a_common_factor_shifts_ratio_and_interval_alike(changes: list[float], shift: float) -> None:
    found, shifted = paired(changes), paired([each + shift for each in changes])
    assert shifted.value == pytest.approx(found.value * math.exp(shift), rel=1e-6)
    assert shifted.low == pytest.approx(found.low * math.exp(shift), rel=1e-6)


@given(CHANGES, st.floats(1e-6, 0.02), st.floats(1e-6, 0.02))
def test_less_error_is_a_wider_interval(changes: list[float], one: float, other: float) -> None:
    narrow, wide = paired(changes, max(one, other)), paired(changes, min(one, other))
    if len(changes) < 8:  # before the median can say something, the mean has all of the error to itself
        assert wide.low <= narrow.low
        assert wide.high >= narrow.high


@given(st.lists(st.floats(math.log(1100), 60), min_size=1, max_size=6))
def test_what_is_a_thousand_times_worse_in_every_pair_is_worse_however_much_the_pairs_differ(changes: list[float]) -> None:
    assert paired(changes).low > 1
    assert paired([-each for each in changes]).high < 1
    bases, heads = [LaunchLevel(0.0, 0.0) for _ in changes], [LaunchLevel(each, 0.0) for each in changes]
    assert launches_ratio(bases, heads, low_error=ERROR, high_error=ERROR).low > 1
    assert launches_ratio(heads, bases, low_error=ERROR, high_error=ERROR).high < 1


def test_few_pairs_get_students_interval() -> None:
    changes = [0.01, 0.02, 0.03, 0.02, 0.02]
    low, high = stats.t.interval(0.99, 4, loc=0.02, scale=stats.sem(changes))
    assert (math.log(paired(changes).low), math.log(paired(changes).high)) == pytest.approx((low, high), rel=1e-6)
    assert (paired([0.1]).low, paired([0.1]).high) == (0.0, math.inf)


def test_the_median_bounds_what_an_outlier_spoils() -> None:
    calm = [0.001 * each for each in range(-8, 9)]
    wild = [*calm, 30.0, -31.0, 32.0]
    found = paired(wild)
    assert found.high < 1.02
    assert found.low > 0.98
    rank = int(stats.binom.ppf((1 - PLAIN_SHARE) * ERROR, len(wild), 0.5))
    assert math.log(found.low) == pytest.approx(sorted(wild)[rank - 1])


def test_where_mean_and_median_do_not_meet_both_are_covered() -> None:
    changes = [0.0] * 80 + [0.3 + 0.001 * each for each in range(20)]
    found = paired(changes)
    assert found.low <= 1.0
    assert found.high > math.exp(sum(changes) / len(changes))


@pytest.mark.parametrize("noise", ["normal", "t3", "outliers"])
@pytest.mark.parametrize("n", [5, 12, 30])
def test_either_side_misses_the_truth_no_more_often_than_it_may(noise: str, n: int) -> None:
    rng = np.random.default_rng(n)
    trials, error = 4000, 0.01
    side = {
        "normal": lambda: 0.01 * rng.standard_normal((trials, n)),
        "t3": lambda: 0.01 * rng.standard_t(3, (trials, n)),
        "outliers": lambda: 0.01 * rng.standard_normal((trials, n)) + 0.26 * (rng.random((trials, n)) < 0.05),
    }[noise]
    found = [paired(changes, error) for changes in (side() - side()).tolist()]
    allowed = stats.binom.isf(0.001, trials, error) / trials
    assert sum(each.low > 1 for each in found) / trials <= allowed
    assert sum(each.high < 1 for each in found) / trials <= allowed


# Launches


def launched(*logs: float, error: float = 0.001) -> list[LaunchLevel]:
    return [LaunchLevel(log, error) for log in logs]


def halves(base: list[LaunchLevel], head: list[LaunchLevel]) -> tuple[float, float]:
    found = launches_ratio(base, head, low_error=ERROR, high_error=ERROR)
    return math.log(found.value / found.low), math.log(found.high / found.value)


def test_a_single_launch_a_side_gets_what_is_assumed_of_launches() -> None:
    expected = [stats.t.isf(ERROR, prior.degrees) * prior.spread * math.sqrt(2) for prior in (PRIORS["low"], PRIORS["high"])]
    assert halves(launched(0, error=0), launched(0, error=0)) == pytest.approx(tuple(expected), rel=1e-6)
    assert expected[0] < math.log(1.2 / 1.05)


@pytest.mark.parametrize("spread", [0.0, 0.005, 0.01, 0.02])
def test_more_launches_of_the_usual_spread_never_see_less(spread: float) -> None:
    """The saved launches have exactly this standard deviation, whatever their number."""
    widths = []
    for m in range(1, 15):
        apart = np.linspace(-1, 1, m)
        scale = spread / apart.std(ddof=1) if m > 1 else 0.0
        widths.append(halves(launched(*map(float, scale * apart)), launched(0)))
    for side in (0, 1):
        assert all(wider[side] > narrower[side] for wider, narrower in itertools.pairwise(widths))


def test_launches_that_fall_apart_widen_the_interval() -> None:
    calm, wild = halves(launched(0, 0.001, -0.001), launched(0)), halves(launched(0, 0.1, -0.1), launched(0))
    assert wild[0] > 2 * calm[0]


def test_noise_within_launches_is_not_taken_for_spread_between_them() -> None:
    rng = np.random.default_rng(3)
    logs = [float(each) for each in 0.05 * rng.standard_normal(6)]
    noisy = halves(launched(*logs[:3], error=0.05), launched(*logs[3:], error=0.05))
    pure = halves(launched(*logs[:3], error=0.0), launched(*logs[3:], error=0.0))
    alone = halves(launched(0, 0, 0, error=0.0), launched(0, 0, 0, error=0.0))
    assert noisy[0] < math.hypot(pure[0], stats.t.isf(ERROR, 9) * 0.05 * math.sqrt(2 / 3))
    assert noisy[0] > alone[0]


@pytest.mark.parametrize(("base", "head"), [(1, 1), (2, 1), (4, 1), (2, 2), (3, 3)])
def test_launches_that_vary_by_a_few_per_cent_are_covered(base: int, head: int) -> None:
    rng = np.random.default_rng(base * 10 + head)
    trials = 2000
    for spread in (0.005, 0.02):
        logs = (spread * rng.standard_normal((trials, base + head))).tolist()
        found = [launches_ratio(launched(*each[:base]), launched(*each[base:]), low_error=ERROR, high_error=ERROR) for each in logs]
        assert sum(each.low > 1 for each in found) <= stats.binom.isf(0.001, trials, ERROR)
        assert sum(each.high < 1 for each in found) <= stats.binom.isf(0.001, trials, 2 * ERROR)


@given(st.floats(-600, 600), st.floats(0, 1))
def test_no_level_however_wild_breaks_the_ratio(log: float, error: float) -> None:
    found = launches_ratio(launched(-log, error=error), launched(log, error=error), low_error=ERROR, high_error=ERROR)
    assert 0 <= found.low <= found.value <= found.high
