"""What a test may cost: what is counted, what is apart, who shares it, and when another set fits."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from making import run

from pytest_greencompute.judging.budget import Line, Terms, resolve
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.measuring.time_limit import TimeLimit, seconds_a_set
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.sides import side_seconds
from pytest_greencompute.testing.simulated import SimulatedClock
from pytest_greencompute.values.readings import Block
from pytest_greencompute.values.run import Run


def budget(seconds: float | None = None) -> object:
    return resolve((Line("a marker", terms=Terms(max_seconds=seconds)),), {})


@pytest.mark.parametrize(
    ("given", "runs", "commits", "seconds"),
    [(None, 1, 0, 60.0), (None, 3, 0, 180.0), (None, 1, 1, 300.0), (None, 2, 2, 1080.0), (40.0, 3, 2, 40.0)],
)
def test_what_is_given_holds_for_the_whole_test_and_the_default_grows_with_it(
    given: float | None, runs: int, commits: int, seconds: float
) -> None:
    assert budget(given).seconds(runs=runs, commits=commits) == seconds  # type: ignore[attr-defined]


def test_time_apart_is_on_nobodys_bill() -> None:
    clock = SimulatedClock()
    limit = TimeLimit(clock, 60.0)
    clock.sleep(5.0)
    with limit.counting():
        clock.sleep(10.0)
        assert limit.left_s == pytest.approx(50.0)
        with limit.apart():
            clock.sleep(7.0)
        clock.sleep(1.0)
        assert (limit.left_s, limit.left_at_first_s) == pytest.approx((49.0, 60.0))
    with limit.apart():
        clock.sleep(2.0)
    with limit.counting():
        clock.sleep(4.0)
    assert (limit.spent_s, limit.apart_s, limit.left_s) == pytest.approx((15.0, 9.0, 45.0))


def test_what_raises_has_been_counted() -> None:
    clock = SimulatedClock()
    limit = TimeLimit(clock, 60.0)

    def broken() -> None:
        with limit.counting(), limit.apart():
            clock.sleep(3.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    with limit.counting():
        clock.sleep(2.0)
    assert (limit.spent_s, limit.apart_s) == pytest.approx((2.0, 3.0))


def blocks(starts_s: list[float], *, size: int = 1, busy_s: float = 1.0) -> Run:
    """A run of sets that began so."""
    made = [Block(index, 0.0, 4, int(at * 1e9), int((at + busy_s) * 1e9), {}) for index, at in enumerate(starts_s) for _ in range(size)]
    return replace(run(), sources=(), blocks=tuple(made), idles=())


def test_a_pair_is_timed_over_both_turns_of_each_side() -> None:
    """This side at 0, 3, 4, 7, 8: the other has two turns of a second between the first two, and so on."""
    assert seconds_a_set(blocks([0.0, 3.0, 4.0, 7.0, 8.0])) == pytest.approx(2.0)
    assert seconds_a_set(blocks([0.0, 3.0, 4.0])) == pytest.approx(2.0)
    assert seconds_a_set(blocks([0.0])) == pytest.approx(2.0)
    assert seconds_a_set(blocks([])) == 0.0


@pytest.mark.parametrize(("sets", "size", "left_s", "up"), [(2, 1, 0.5, False), (3, 1, 0.5, True), (3, 1, 2.5, False), (1, 9, 0.5, True)])
def test_another_set_is_begun_where_it_fits_or_what_there_is_says_nothing(sets: int, size: int, left_s: float, up: bool) -> None:
    assert TimeLimit(SimulatedClock(), left_s).is_up(blocks([2.0 * index for index in range(sets)], size=size)) is up


@pytest.mark.parametrize(
    ("settings", "given", "seconds"),
    [
        ({"base_ref": "HEAD"}, None, 150.0),
        ({"base_ref": "HEAD,main"}, None, 180.0),
        ({"base_ref": "HEAD"}, 40.0, 20.0),
        ({"base_ref": "HEAD", "base_turns": "launches"}, None, 60.0),
        ({}, None, 60.0),
    ],
)
def test_all_sides_have_equal_parts(settings: dict[str, object], given: float | None, seconds: float, tmp_path: object) -> None:
    made = build({"budget": True, **settings}, (), {}, tmp_path)  # type: ignore[arg-type]
    assert side_seconds(made, budget(given)) == pytest.approx(seconds)  # type: ignore[arg-type]


def test_the_machine_s_clock_runs_on_where_a_test_has_frozen_the_functions_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = RealClock()
    with monkeypatch.context() as frozen:
        for name in ("perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time_ns"):
            frozen.setattr(time, name, lambda: 0)
        frozen.setattr(time, "sleep", lambda _: None)
        begun_ns = clock.now_ns()
        clock.sleep(0.01)
        took_ns = clock.now_ns() - begun_ns
        worked_ns = clock.processor_ns()
    assert took_ns >= 10_000_000
    assert worked_ns > 0
