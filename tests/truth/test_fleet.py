"""More hosts resolve smaller regressions, and unchanged code on them is no FAIL: a part of the benchmark."""

from __future__ import annotations

from pathlib import Path

from tests.truth.benchmarks import load

TRIALS = 600

fleet = load("verdicts", "fleet")


def by_chance(rate: float) -> float:
    """What a share may be above a true rate in so many trials: three standard deviations."""
    return 3 * float((rate / TRIALS) ** 0.5)


def test_three_hosts_see_regressions_that_are_a_third_smaller_than_one_does_and_raise_no_false_alarm() -> None:
    (one, *_), (three, alarms, at_tolerance) = (fleet.smallest_seen(hosts, TRIALS) for hosts in (1, 3))
    assert three <= one * 2 / 3
    assert alarms <= 0.005
    assert at_tolerance <= 0.005 + by_chance(0.005)


def test_hosts_that_differ_more_than_is_assumed_raise_few_false_alarms() -> None:
    _, alarms, _ = fleet.smallest_seen(3, TRIALS, between=0.03)
    assert alarms <= 0.005 + by_chance(0.005)


def test_gathering_ten_times_the_reports_takes_no_more_memory(tmp_path: Path) -> None:
    """In two processes of their own, so that nothing of this one counts; the limit is a share of what the smaller one took."""
    (_, _, few, status), (_, _, many, other) = (fleet.gathered(count, sets=2) for count in (20, 200))
    assert (status, other) == (0, 0)
    assert many < 1.25 * few
