"""Candidates measured by turns on simulated devices: the true ratio, the order, what breaks, and how they share the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pytest_greencompute.errors import CannotError, MeterError, SettingsError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.choice import Candidate, Choice
from pytest_greencompute.measuring.by_turns import Entrant, measure_abreast, run_all_once
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.workload import is_out_of_memory
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedCounter, SimulatedGpu

PART = Sensor(update_s=0.1, window_s=0.025)
QUERIES = list(range(20))
Model = Callable[[Sequence[int]], Any]


def never(_candidates: Sequence[Candidate], _looks: int) -> Sequence[str]:
    return ()


def settled(candidates: Sequence[Candidate], looks: int) -> Sequence[str]:
    return [each.name for each in candidates if Choice(tuple(candidates), Aim(), looks=looks).settled()]


class Bench:
    """A GPU that looks at a quarter of the time (or a CPU that is read without ticks), and models on it."""

    def __init__(self, *, cpu: bool = False) -> None:
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, sensor=PART)
        self.cpu = SimulatedCounter(self.clock)
        self.on_cpu = cpu
        self.drift_per_s = 0.0
        self.instruments = Instruments([self.cpu] if cpu else [self.gpu.energy_counter()], self.clock)
        self.outputs: dict[str, list[Any]] = {}

    def model(self, query_s: float, watts: float = 300.0) -> Model:
        def run(batch: Sequence[int]) -> list[int]:
            drawn = watts * (1 + self.drift_per_s * self.clock.now_ns() / 1e9)
            (self.cpu if self.on_cpu else self.gpu).work(query_s * len(batch), drawn)
            return list(batch)

        return run

    def measure(self, models: dict[str, Model], enough: Any = settled, max_seconds: float = 60.0, **task: Any) -> Choice:
        entrants = [entrant(name, model, **task) for name, model in models.items()]
        effort = Effort(max_seconds, keep_answers=True)
        found, self.outputs, looks = measure_abreast(entrants, self.instruments, lambda _: effort, enough)
        return Choice(found, Aim(), looks=looks)


def entrant(name: str, model: Model, **task: Any) -> Entrant:
    given = Task(model, **{"queries": QUERIES, "references": QUERIES, "name": name, "test": "tests/test_x.py::test_y", **task})
    return Entrant(name, lambda: given, {})


def at_call(number: int, error: BaseException, model: Model) -> Model:
    """A model that raises from one of its calls on."""
    calls = 0

    def run(batch: Sequence[int]) -> Any:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise error
        return model(batch)

    return run


# The truth


@pytest.mark.parametrize(("one_s", "other_s"), [(0.05, 0.1), (0.1, 0.13), (0.02, 0.3)])
def test_the_ratio_is_the_true_one_within_a_per_cent_on_a_sensor_that_looks_part_of_the_time(one_s: float, other_s: float) -> None:
    bench = Bench()
    found = bench.measure({"one": bench.model(one_s), "other": bench.model(other_s, 200.0)})
    ratio = found.ratio(*found.candidates)
    truth = one_s * 300 / (other_s * 200)
    assert ratio is not None
    assert ratio.value == pytest.approx(truth, rel=0.01)
    assert ratio.low <= truth <= ratio.high


def test_a_drift_that_all_share_cancels() -> None:
    bench = Bench(cpu=True)
    bench.drift_per_s = 0.02
    found = bench.measure({"one": bench.model(0.02), "other": bench.model(0.01)}, never)
    ratio = found.ratio(*found.candidates)
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0, rel=0.005)
    assert ratio.high / ratio.low < 1.06


def test_sets_take_turns_and_the_order_turns_round_each_time() -> None:
    bench = Bench(cpu=True)
    found = bench.measure({name: bench.model(0.01) for name in "abc"}, never, 12.0)
    starts = {each.name: [block.start_ns for block in each.run.blocks] for each in found.candidates if each.run is not None}
    sets = len(starts["a"])
    assert sets >= 4
    orders = ["".join(sorted("abc", key=lambda name: starts[name][index])) for index in range(sets)]
    assert orders == ["abc" if index % 2 == 0 else "cba" for index in range(sets)]


def test_one_that_needs_no_more_sets_ends_alone_and_the_others_go_on_without_it() -> None:
    bench = Bench(cpu=True)
    found = bench.measure({name: bench.model(0.01) for name in "abc"}, lambda *_: ["b"], 12.0)
    sets = [len(each.run.blocks) for each in found.candidates if each.run is not None]
    assert sets[1] == 3
    assert sets[0] == sets[2] > 3


def test_it_ends_at_the_look_where_all_ratios_are_known() -> None:
    def sets(enough: Any) -> int:
        bench = Bench(cpu=True)
        found = bench.measure({"one": bench.model(0.02), "other": bench.model(0.01)}, enough)
        return min(len(each.run.blocks) for each in found.candidates if each.run is not None)

    assert sets(settled) == 3
    assert sets(never) > 15


# Time


def spent_s(choice: Choice) -> float:
    """Seconds of sets and of timed batches of all candidates together."""
    runs = [each.run for each in choice.candidates if each.run is not None]
    return sum(block.busy_s for run in runs for block in run.blocks) + sum(each.seconds for run in runs for each in run.latencies)


@pytest.mark.parametrize("count", [2, 8])
def test_candidates_share_the_time_limit(count: int) -> None:
    bench = Bench(cpu=True)
    found = bench.measure({f"m{number}": bench.model(0.02) for number in range(count)}, never, 60.0)
    assert 30 < spent_s(found) < 66


def test_what_a_light_candidate_leaves_of_its_share_the_heavy_one_may_use() -> None:
    bench = Bench(cpu=True)
    found = bench.measure({"heavy": bench.model(1.0), "light": bench.model(0.001)}, never, 60.0)
    assert 40 < spent_s(found) < 66
    assert sum(block.busy_s for block in _blocks(found, "heavy")) > 24  # of its own 30 s, 9 s went into timing batches
    assert {len(each.run.blocks) for each in found.candidates if each.run is not None} == {len(_blocks(found, "light"))}


def _blocks(found: Choice, name: str) -> tuple[Any, ...]:
    run = found.candidate(name).run
    assert run is not None
    return run.blocks


# What breaks


@pytest.mark.parametrize("call", [1, 15, 240], ids=["at once", "in the first pass", "in a later set"])
def test_a_candidate_that_raises_is_a_row_that_says_so_and_the_others_stand(call: int) -> None:
    bench = Bench(cpu=True)
    broken = at_call(call, ValueError("no weights\nat all"), bench.model(0.02))
    found = bench.measure({"one": bench.model(0.02), "broken": broken, "other": bench.model(0.01)})
    assert found.candidate("broken").run is None
    assert found.candidate("broken").problem == "it raised ValueError: no weights"
    assert not found.candidate("broken").impossible
    ratio = found.ratio(found.candidate("one"), found.candidate("other"))
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0, rel=0.001)


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    "error",
    [OutOfMemoryError("tried to allocate 2 GiB"), MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")],
    ids=["torch's", "Python's", "CUDA's words"],
)
@pytest.mark.parametrize("call", [1, 240])
def test_out_of_memory_is_a_row_that_nobody_could_have_chosen_here(error: Exception, call: int) -> None:
    bench = Bench(cpu=True)
    found = bench.measure({"one": bench.model(0.02), "big": at_call(call, error, bench.model(0.02))})
    big = found.candidate("big")
    assert (big.problem, big.impossible, big.run) == ("out of memory", True, None)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory("RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    assert not is_out_of_memory("KeyError: 'memory'")


def test_what_this_machine_cannot_do_is_said_and_nobody_could_have_chosen_it() -> None:
    bench = Bench(cpu=True)

    def task() -> Task:
        raise CannotError("this device lacks fp16")

    effort = Effort(10.0)
    entrants = [entrant("one", bench.model(0.02)), Entrant("half", task, {})]
    found, _, _ = measure_abreast(entrants, bench.instruments, lambda _: effort, settled)
    assert (found[1].problem, found[1].impossible) == ("this device lacks fp16", True)


@pytest.mark.parametrize("metered", [True, False])
def test_where_no_candidate_runs_that_is_an_error_with_the_reasons_and_the_first_cause(metered: bool) -> None:
    bench = Bench(cpu=True)
    models = {name: at_call(1, ValueError(name), bench.model(0.02)) for name in ("a", "b")}
    entrants = [entrant(name, model) for name, model in models.items()]
    with pytest.raises(SettingsError) as refused:
        bench.measure(models) if metered else run_all_once(entrants, bench.clock, None)
    assert str(refused.value) == (
        "No candidate could be measured. a: it raised ValueError: a; b: it raised ValueError: b. One at least must run."
    )
    assert isinstance(refused.value.__cause__, ValueError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("call", [1, 240])
def test_ctrl_c_is_no_candidates_fault(error: type[BaseException], call: int) -> None:
    bench = Bench(cpu=True)
    with pytest.raises(error):
        bench.measure({"one": bench.model(0.02), "other": at_call(call, error(), bench.model(0.02))})


def test_fewer_answers_than_queries_is_bad_input_that_names_the_candidate_and_the_numbers() -> None:
    bench = Bench(cpu=True)
    with pytest.raises(SettingsError) as refused:
        bench.measure({"a": bench.model(0.02), "b": lambda batch: list(batch)[:-1]}, batch_size=8)
    assert str(refused.value) == "b: The model returned 7 answers for 8 queries (queries 0 to 7). One answer per query, in order."


def test_a_score_that_fails_on_one_candidates_answers_is_that_candidates_row() -> None:
    bench = Bench(cpu=True)
    found = bench.measure(
        {"one": bench.model(0.02), "words": lambda batch: ["x"] * len(batch)}, score=lambda answer, reference: 1 / (answer + 1)
    )
    assert found.candidate("words").problem.startswith("it raised TypeError: ")


def test_a_meter_that_is_lost_is_everybodys_trouble() -> None:
    bench = Bench(cpu=True)

    def losing(batch: Sequence[int]) -> list[int]:
        if bench.clock.now_ns() > 20e9:
            bench.cpu.fault("lost")
        return list(bench.model(0.02)(batch))

    with pytest.raises(MeterError):
        bench.measure({"one": bench.model(0.02), "other": losing}, never)


# Answers


def test_answers_are_kept_and_held_against_the_first_candidates() -> None:
    bench = Bench(cpu=True)

    def odd(batch: Sequence[int]) -> list[int]:
        return [query - query % 2 for query in bench.model(0.01)(batch)]

    found = bench.measure({"one": bench.model(0.02), "odd": odd}, max_seconds=10.0)
    assert bench.outputs["one"] == QUERIES
    assert [each.alike for each in found.candidates] == [1.0, 0.5]
    unmetered, outputs = run_all_once([entrant("one", bench.model(0.02)), entrant("odd", odd)], bench.clock, 4)
    assert outputs["odd"] == [0, 0, 2, 2]
    assert [(each.alike, each.run.metered) for each in unmetered if each.run is not None] == [(1.0, False), (0.5, False)]


def test_without_a_meter_latency_and_accuracy_are_measured_and_energy_has_its_reason() -> None:
    clock = SimulatedClock()

    def model(batch: Sequence[int]) -> list[int]:
        clock.sleep(0.01 * len(batch))
        return list(batch)

    entrants = [entrant("one", model), entrant("other", model)]
    found, _, _ = measure_abreast(entrants, Instruments((), clock), lambda _: Effort(10.0), settled, "no energy meter works here")
    for each in found:
        assert each.run is not None
        assert each.run.problem == "no energy meter works here"
        assert each.run.latencies
