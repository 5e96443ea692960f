"""What a verdict costs, by the benchmark's own cases: right, within bounds, and where the phase shows after all, begun again."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import pytest

from pytest_greencompute.protocol import measurement
from pytest_greencompute.protocol.messages import Learn
from tests.truth.benchmarks import load

seconds = load("verdicts", "seconds")
MOST = {  # by counter and work, in seconds of device time: a quarter more than was measured
    ("all", 0.0): 32,
    ("all", seconds.WORSE): 80,
    ("a quarter", 0.0): 60,
    ("a quarter", seconds.WORSE): 140,
}


@pytest.mark.parametrize("case", [case for case in seconds.CASES if case.budget is None], ids=str)
def test_a_comparison_is_right_and_takes_no_more_device_time_than_it_should(case: Any) -> None:
    spent = seconds.measured(case, 3, 0.0)
    assert {each.word for each in spent} == {"FAIL" if case.worse else "PASS"}
    assert {each.launches for each in spent} == {4 if case.worse else 1}
    assert statistics.median(each.total for each in spent) <= MOST[case.sees, case.worse]


@pytest.mark.parametrize("case", [case for case in seconds.CASES if case.budget is not None], ids=str)
def test_an_absolute_budget_a_fifth_away_passes(case: Any) -> None:
    assert {each.word for each in seconds.measured(case, 2, 0.0)} == {"PASS"}


@pytest.fixture
def misled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bursts that show every counter to see all of the time."""
    find: Callable[..., Generator[Any, Any, bool]] = measurement.find_coverage

    def find_all(plan: Any, batch_s: float, rng: Any) -> Generator[Any, Any, bool]:
        yield from find(plan, batch_s, rng)
        yield Learn(plan.sources, whole=True)
        return True

    monkeypatch.setattr(measurement, "find_coverage", find_all)


@pytest.mark.usefixtures("misled")
@pytest.mark.parametrize("worse", [0.0, seconds.WORSE])
def test_a_phase_that_shows_in_pairs_of_single_blocks_begins_them_again_in_fresh_launches(worse: float) -> None:
    spent = seconds.measured(seconds.Case("a quarter", 0.05, worse), 3, 0.0)
    assert {each.word for each in spent} == {"FAIL" if worse else "PASS"}
    assert {each.launches for each in spent} == {5 if worse else 2}


class InStepLater(seconds.World):  # type: ignore[misc, name-defined]
    """Power is even within queries, as if the phase did not matter, until ``even`` pairs have been measured."""

    pairs, even = 0, 1

    def task(self, longer: float) -> Any:
        task = super().task(longer)

        def model(batch: list[int]) -> list[int]:
            if self.pairs >= self.even:
                return task.model(batch)  # type: ignore[no-any-return]
            self.gpu.set_power((seconds.BUSY_W + seconds.LOW_W) / 2)
            self.clock.sleep(self.case.query_s * longer)
            self.gpu.set_power(seconds.IDLE_W)
            return batch

        return replace(task, model=model)


@pytest.mark.usefixtures("misled")
@pytest.mark.parametrize("worse", [0.0, seconds.WORSE])
@pytest.mark.parametrize("even", [1, 2])
def test_a_phase_that_begins_to_matter_between_pairs_of_single_blocks_begins_them_again(
    even: int, worse: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_set = seconds.Launch.run_set

    def counted(launch: Any, index: int) -> Any:
        launch.world.pairs = max(launch.world.pairs, index)
        return run_set(launch, index)

    monkeypatch.setattr(seconds.Launch, "run_set", counted)
    monkeypatch.setattr(InStepLater, "even", even)
    spent = [seconds.against_base(InStepLater(seconds.Case("a quarter", 0.05, worse), seed)) for seed in range(3)]
    assert {each.word for each in spent} == {"FAIL" if worse else "PASS"}
    again = [each.launches == (5 if worse else 2) for each in spent]
    # A change that is beyond doubt after six pairs, of which four are in step, needs no other launch.
    assert sum(again) >= (2 if worse and even == 2 else 3)
