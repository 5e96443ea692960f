"""The protocol is right on every kind of sensor: a part of the benchmark's grid, with the benchmark's bounds."""

from __future__ import annotations

import statistics

import pytest

from tests.truth.benchmarks import load

grid = load("truth", "grid")
QUERY_S = (0.0007, 0.005, 0.0365, 0.05, 0.1, 0.2, 0.7, 2.3)


@pytest.mark.parametrize("name", grid.SENSORS)
def test_energy_per_query_is_right_and_its_interval_honest(name: str) -> None:
    sensor = grid.SENSORS[name]
    cases = [grid.Case(sensor, query_s, duty, seed, naive=False) for query_s in QUERY_S for duty in grid.DUTIES for seed in (1, 5)]
    outcomes = list(map(grid.run, cases))
    worst_rms, worst = (0.01, 0.02) if sensor.counter else (0.02, 0.04)
    errors = [outcome.error for outcome in outcomes]
    assert grid.rms(errors) <= worst_rms
    assert max(map(abs, errors)) <= worst
    assert statistics.fmean(outcome.covered for outcome in outcomes) >= 0.98
    assert statistics.median(outcome.half_width for outcome in outcomes) <= 0.03
    assert all(outcome.seconds <= grid.MAX_SECONDS or outcome.queries <= grid.LONG_QUERIES for outcome in outcomes)


def test_single_blocks_are_right_on_either_kind_of_sensor_whatever_the_phase_does_and_from_whenever_on() -> None:
    for name, outcomes in grid.single_blocks(1, duties=(0.5,), naive=False).items():
        assert max(abs(outcome.error) for outcome in outcomes) <= 0.01, name
        assert all(outcome.covered for outcome in outcomes), name


def test_reading_the_counter_at_both_ends_would_be_wrong_on_such_a_sensor() -> None:
    outcome = grid.run(grid.Case(grid.SENSORS["100/25 ms"], 0.1, 0.5, 1))
    assert abs(outcome.naive_long) > 0.2
    assert abs(outcome.error) < 0.02
