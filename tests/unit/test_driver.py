"""The measuring loop on a simulated clock and simulated GPUs: the truth is known, and what goes wrong is said."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.script import measure, precise_enough
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.measuring.window import Window
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.watching import watched
from pytest_greencompute.protocol.layout import Layout, Timing
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedCounter, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Machine, Provenance
from pytest_greencompute.values.readings import Reading
from pytest_greencompute.values.run import Run

FULL = Sensor(update_s=0.1, window_s=0.1)
PART = Sensor(update_s=0.1, window_s=0.025)
FAST = Sensor(update_s=0.02, window_s=0.01)
LAGGING = Sensor(update_s=0.1, window_s=1.0)  # a counter made of a running mean: the hardest lag
AIM = Aim()


def skipping(metric: str) -> NoReturn:
    raise MeterError(f"{metric} was asked of a run without a meter")


class Bench:
    """A clock, its GPUs and CPU, and a model whose batches take ``query_s`` a query at ``watts`` on the first GPU."""

    def __init__(
        self, sensor: Sensor = FULL, *, gpus: int = 1, cpu: bool = False, query_s: float = 0.01, watts: float = 300.0, noise: float = 0.0
    ) -> None:
        self.clock = SimulatedClock()
        self.gpus = [
            SimulatedGpu(
                self.clock, sensor=replace(sensor, phase_s=0.37 * index * sensor.update_s), domain=f"gpu:{index}", uuid=f"GPU-{index}"
            )
            for index in range(gpus)
        ]
        self.cpu = SimulatedCounter(self.clock) if cpu else None
        self.query_s, self.watts, self.noise = query_s, watts, noise
        self.rng = random.Random(5)
        self.calls = 0
        counters: list[Any] = [gpu.energy_counter() for gpu in self.gpus]
        self.instruments = Instruments(counters + ([self.cpu] if self.cpu else []), self.clock)

    def model(self, batch: list[int]) -> list[int]:
        self.calls += 1
        watts = self.watts * (1 + self.noise * self.rng.gauss(0, 1))
        if self.cpu:
            self.cpu.set_power(80)
        self.gpus[0].work(self.query_s * len(batch), watts)
        if self.cpu:
            self.cpu.set_power(self.cpu.idle_w)
        return list(batch)

    def run(self, task: Task | None = None, **effort: Any) -> Run:
        return run_metered(task or Task(self.model, range(20)), self.instruments, Effort(**{"enough": precise_enough(AIM), **effort}))[0]


def energy(run: Run, aim: Aim = AIM, metric: str = "energy_per_query") -> Estimate:
    outcome = estimate(run, METRICS[metric], aim)
    assert isinstance(outcome, Estimate), outcome
    return outcome


# The truth


@pytest.mark.parametrize("query_s", [0.0007, 0.01, 0.05, 0.1, 0.13, 0.3, 2.0])
@pytest.mark.parametrize("sensor", [FULL, PART, FAST], ids=["100/100 ms", "100/25 ms", "20/10 ms"])
def test_energy_per_query_is_the_true_one_within_a_per_cent(sensor: Sensor, query_s: float) -> None:
    bench = Bench(sensor, query_s=query_s)
    found = energy(bench.run())
    assert found.value == pytest.approx(300 * query_s, rel=0.01)
    assert found.half_width is not None
    assert found.half_width < 0.02 * found.value


@pytest.mark.parametrize("query_s", [0.01, 0.1, 0.3])
def test_a_counter_that_lags_behind_by_a_running_mean_is_waited_for(query_s: float) -> None:
    bench = Bench(LAGGING, query_s=query_s)
    run = bench.run()
    assert run.sources[0].lag_s > 0.5
    assert energy(run).value == pytest.approx(300 * query_s, rel=0.02)


@pytest.mark.parametrize("sensor", [PART, FAST], ids=["100/25 ms", "20/10 ms"])
@pytest.mark.parametrize("duty_s", [0.05, 0.1, 0.033])
def test_a_load_in_step_with_a_part_time_sensor_is_measured_right(sensor: Sensor, duty_s: float) -> None:
    """Half of each query at full power and half at little: a single phase would be off by half."""
    bench = Bench(sensor)

    def model(batch: list[int]) -> list[int]:
        for _ in batch:
            bench.gpus[0].work(duty_s / 2, 350)
            bench.clock.sleep(duty_s / 2)
        return batch

    found = energy(bench.run(Task(model, list(range(20)))))
    truth = duty_s / 2 * (350 + 60)
    assert found.value == pytest.approx(truth, rel=0.02)


def test_energy_above_idle_power_throughput_and_latency_are_the_true_ones_too() -> None:
    run = Bench(PART, query_s=0.02).run(max_seconds=120.0)
    assert energy(run, metric="energy_above_idle_per_query").value == pytest.approx(240 * 0.02, rel=0.02)
    assert energy(run, metric="average_power").value == pytest.approx(300, rel=0.01)
    assert energy(run, metric="throughput").value == pytest.approx(50, rel=0.001)
    for percentile in ("latency_p50", "latency_p95", "latency_p99"):
        assert energy(run, metric=percentile).value == pytest.approx(0.02, rel=0.001)
    assert energy(run, metric="latency_p95").high is not None


def test_a_limit_on_p99_is_bounded_by_more_batches() -> None:
    bench = Bench(query_s=0.005)
    assert energy(bench.run(percentile=0.99), metric="latency_p99").high is not None
    assert energy(bench.run(), metric="latency_p99").high is None


def test_the_interval_holds_the_truth_where_queries_differ() -> None:
    inside = 0
    for seed in range(12):
        bench = Bench(PART, noise=0.1, query_s=0.04)
        bench.rng.seed(seed)
        found = energy(bench.run(seed=seed))
        inside += found.low <= 12.0 <= found.high  # type: ignore[operator]
    assert inside >= 11


def test_the_same_seed_gives_the_same_run() -> None:
    assert Bench(PART).run(seed=3).blocks == Bench(PART).run(seed=3).blocks
    assert [each.phase for each in Bench(PART).run(seed=3).blocks] != [each.phase for each in Bench(PART).run(seed=4).blocks]


# Several domains


def test_two_gpus_with_ticks_out_of_step_are_both_read_around_the_work() -> None:
    bench = Bench(PART, gpus=2)

    def both(batch: list[int]) -> list[int]:
        for gpu, watts in zip(bench.gpus, (300, 200), strict=True):
            gpu.set_power(watts)
        bench.clock.sleep(0.01 * len(batch))
        for gpu in bench.gpus:
            gpu.set_power(gpu.idle_w)
        return batch

    found = energy(bench.run(Task(both, list(range(20)))))
    assert found.domain == "gpu:0+gpu:1"
    assert found.value == pytest.approx(5.0, rel=0.01)


def test_a_second_gpu_without_work_is_left_out() -> None:
    found = energy(Bench(PART, gpus=2).run())
    assert found.domain == "gpu:0"
    assert found.value == pytest.approx(3.0, rel=0.01)


def test_a_gpu_on_which_the_model_did_not_run_has_no_figure() -> None:
    bench = Bench(PART)

    def elsewhere(batch: list[int]) -> list[int]:
        bench.clock.sleep(0.01 * len(batch))
        return batch

    outcome = estimate(bench.run(Task(elsewhere, list(range(20)))), METRICS["energy_per_query"], AIM)
    assert isinstance(outcome, Missing)
    assert "did not run there" in outcome.reason


def test_a_cpu_that_counts_continuously_is_read_beside_the_gpu() -> None:
    run = Bench(PART, cpu=True).run()
    assert energy(run).domain == "gpu:0"
    assert energy(run, Aim(domains=("cpu",))).value == pytest.approx(0.8, rel=0.01)
    assert energy(run, Aim(domains=("all",))).value == pytest.approx(3.8, rel=0.01)


def test_a_cpu_alone_needs_no_ticks() -> None:
    clock = SimulatedClock()
    cpu = SimulatedCounter(clock)

    def model(batch: list[int]) -> list[int]:
        cpu.work(0.01 * len(batch), 100)
        return batch

    run, outputs = run_metered(Task(model, list(range(7)), batch_size=3), Instruments([cpu], clock), Effort(enough=precise_enough(AIM)))
    assert outputs == list(range(7))
    assert energy(run).value == pytest.approx(1.0, rel=0.001)
    assert run.idles == ()


# What the loop keeps of a run


def test_answers_come_in_query_order_and_each_query_is_scored_once() -> None:
    bench = Bench()
    task = Task(bench.model, list(range(7)), batch_size=3, references=[0, 1, 2, 3, 4, 5, 99])
    run, outputs = run_metered(task, bench.instruments, Effort(max_seconds=5))
    assert outputs == list(range(7))
    assert run.scores == (1.0,) * 6 + (0.0,)
    assert (run.queries, run.batch_size, run.metered) == (7, 3, True)


def test_what_goes_into_the_model_is_collated() -> None:
    bench = Bench()
    task = Task(
        lambda batch: bench.model(batch["ids"]), ["1", "2", "3"], batch_size=2, collate=lambda texts: {"ids": [int(t) for t in texts]}
    )
    assert run_once(task, bench.clock)[1] == [1, 2, 3]


def test_a_generator_is_collected_and_that_is_noted() -> None:
    bench = Bench()
    run = bench.run(Task(bench.model, (each for each in range(5))), max_seconds=5)
    assert run.queries == 5
    assert run.notes == ("queries came from a generator: all 5 were collected before measuring",)


def test_the_provenance_holds_devices_and_conditions() -> None:
    bench = Bench()
    run = bench.run(provenance=Provenance(machine=Machine(commit="abc")), max_seconds=5)
    assert run.provenance.machine.commit == "abc"
    assert run.provenance.batch_size == 1
    assert run.provenance.devices["gpu:0"].method == "counter"
    assert run.provenance.conditions is not None
    assert run.provenance.conditions.start["gpu:0"]["temperature_c"] == 45


def test_blocks_come_in_complete_sets_whose_phases_cover_the_tick() -> None:
    run = Bench(PART).run(max_seconds=30)
    by_set = {index: sorted(block.phase for block in group) for index, group in itertools.groupby(run.blocks, lambda each: each.set_index)}
    assert by_set
    for phases in by_set.values():
        assert len(phases) == 9
        assert [b - a for a, b in itertools.pairwise(phases)] == pytest.approx([1 / 9] * 8)
    assert all(block.busy_s >= 0.39 for block in run.blocks)


def test_the_first_pass_and_the_warm_up_stay_outside_the_blocks() -> None:
    bench = Bench()
    slow = itertools.count()

    def model(batch: list[int]) -> list[int]:
        bench.gpus[0].work(0.5 if next(slow) < 10 else 0.01, 300)
        return batch

    run = bench.run(Task(model, list(range(20))))
    assert energy(run).value == pytest.approx(3.0, rel=0.01)
    assert run.warmup
    assert all(not block.spans for block in run.warmup)


def test_a_model_that_never_settles_is_measured_and_noted() -> None:
    bench = Bench()
    batches = itertools.count()

    def model(batch: list[int]) -> list[int]:
        bench.gpus[0].work(0.02 * 1.01 ** min(next(batches), 300), 300)
        return batch

    run = bench.run(Task(model, list(range(4))), max_seconds=5)
    assert any("still changing when warm-up ended" in note for note in run.notes)


def test_enough_ends_the_measurement_early() -> None:
    asked: list[int] = []

    def enough(run: Run) -> bool:
        asked.append(len({block.set_index for block in run.blocks}))
        return True

    run = Bench(FAST).run(enough=enough)
    assert asked == [1]
    assert len(run.blocks) == 9
    assert run.looks > 1


def test_the_progress_is_told() -> None:
    told: list[Tell] = []
    Bench(PART).run(tell=told.append, max_seconds=30)
    said = " ".join(dict.fromkeys(tell.what for tell in told))
    for step in ("first pass", "warming up", "timing batches", "set 1 of at most"):
        assert step in said


def test_the_time_limit_holds_apart_from_warm_up_and_one_set() -> None:
    bench = Bench(PART, query_s=0.05)
    start = bench.clock.now_ns()
    bench.run(enough=lambda _: False, max_seconds=60)
    assert 40 < (bench.clock.now_ns() - start) / 1e9 < 60 + 20


# Without a meter


def test_without_a_meter_latency_and_accuracy_are_measured_and_energy_says_why_not() -> None:
    bench = Bench()
    none = Instruments([], bench.clock)
    run, _ = run_metered(Task(bench.model, range(20), references=range(20)), none, Effort(), problem="no meter works here")
    assert energy(run, metric="latency_p95").value == pytest.approx(0.01)
    assert energy(run, metric="accuracy").value == 1.0
    assert estimate(run, METRICS["energy_per_query"], AIM) == Missing("no meter works here")


def test_an_unmetered_run_runs_each_query_once() -> None:
    bench = Bench()
    run, outputs = run_once(Task(bench.model, range(20), batch_size=8, references=range(20)), bench.clock)
    assert bench.calls == 3
    assert outputs == list(range(20))
    assert (run.metered, run.blocks, run.scores) == (False, (), (1.0,) * 20)


def test_an_unmetered_run_may_keep_only_the_first_queries_and_says_so() -> None:
    bench = Bench()
    run, outputs = run_once(Task(bench.model, range(20), batch_size=8, references=range(20)), bench.clock, keep=10)
    assert outputs == list(range(10))
    assert run.scores == (1.0,) * 10
    assert run.notes == ("unmetered: the first 10 of 20 queries",)
    assert run_once(Task(bench.model, range(3)), bench.clock, keep=10)[0].notes == ()


# Bad input, before anything is measured


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"queries": []}, "empty"),
        ({"queries": "one long text"}, "queries is a str"),
        ({"queries": {"a": 1}}, "queries is a dict"),
        ({"queries": 5}, "queries is a int"),
        ({"references": [1, 2]}, "2 references for 20 queries"),
        ({"references": set(range(20))}, "references is a set"),
        ({"queries": set("abc"), "references": ["A", "B", "C"]}, "queries is a set, which has no order for references to follow"),
        ({"queries": frozenset("abc"), "references": iter("ABC")}, "queries is a frozenset"),
        ({"score": "f1"}, "score is 'f1'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": 2.0}, "batch_size is 2.0"),
        ({"model": None}, "NoneType"),
    ],
)
def test_bad_input_is_refused_before_anything_is_run(fields: dict[str, Any], says: str) -> None:
    bench = Bench()
    task = Task(**{"model": bench.model, "queries": range(20), **fields})
    for call in (lambda: bench.run(task), lambda: run_once(task, bench.clock)):
        with pytest.raises(SettingsError) as caught:
            call()
        assert says in str(caught.value)
    assert bench.calls == 0


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (lambda batch: batch[:-1], "3 answers for 4 queries (queries 0 to 3)"),
        (lambda batch: [*batch, 1], "5 answers for 4 queries"),
        (lambda batch: None, "returned a NoneType for queries 0 to 3"),
        (lambda batch: "text", "returned a str"),
        (dict.fromkeys, "returned a dict"),
        (set, "returned a set"),  # in whatever order
        (frozenset, "returned a frozenset"),
        (lambda batch: (each for each in batch), "returned a generator"),
        (lambda batch: 3.0, "returned a float"),
    ],
)
def test_a_model_that_does_not_answer_each_query_is_refused(answers: Callable[[Any], Any], says: str) -> None:
    bench = Bench()
    with pytest.raises(SettingsError) as caught:
        bench.run(Task(answers, list(range(8)), batch_size=4))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("score", "says"), [(math.nan, "nan"), (math.inf, "inf"), ("good", "'good', not a number"), (None, "None, not a number")]
)
def test_a_score_that_is_no_finite_number_is_refused_with_its_query(score: Any, says: str) -> None:
    bench = Bench()
    task = Task(bench.model, range(4), references=range(4), score=lambda answer, _: score if answer == 2 else 1.0)
    with pytest.raises(SettingsError) as caught:
        bench.run(task)
    assert says in str(caught.value)
    assert "query 2" in str(caught.value)


@pytest.mark.parametrize("fails_at", [5, 200])
def test_what_the_model_raises_goes_through_untouched_and_leaves_things_closable(fails_at: int) -> None:
    bench = Bench()
    calls = itertools.count()

    def model(batch: list[int]) -> list[int]:
        if next(calls) == fails_at:
            raise ZeroDivisionError("mine")
        return bench.model(batch)

    with pytest.raises(ZeroDivisionError, match="mine"):
        bench.run(Task(model, list(range(20))))
    bench.instruments.close()
    bench.instruments.close()
    assert energy(bench.run()).value == pytest.approx(3.0, rel=0.01)


# Meters that fail


def test_a_counter_that_stands_still_is_an_error_that_names_the_doctor() -> None:
    bench = Bench()
    bench.gpus[0].fault("stuck")
    with pytest.raises(MeterError, match=r"gpu:0 did not change for 2 s\. .*greencompute doctor"):
        bench.run()


def test_one_reset_counter_costs_one_set_and_is_noted() -> None:
    bench = Bench(FAST)
    until_reset: list[int] = []  # batches still to run before the counter starts afresh, once the second set has begun

    def tell(tell: Tell) -> None:
        if tell.what.startswith("set 2 of"):
            until_reset.append(300)

    def model(batch: list[int]) -> list[int]:
        if until_reset:
            until_reset[0] -= 1
            if until_reset[0] == 0:
                bench.gpus[0].fault("reset")
        return bench.model(batch)

    run = bench.run(Task(model, list(range(20))), tell=tell, enough=lambda _: False)
    assert any("set 2 was lost: the energy counter of gpu:0 ran backwards" in note for note in run.notes)
    assert 1 not in {block.set_index for block in run.blocks}
    assert energy(run).value == pytest.approx(3.0, rel=0.01)


@pytest.mark.parametrize(("in_pairs", "kept"), [(True, {0, 2, 3}), (False, {0, 1, 2, 3})])
def test_a_reset_while_another_side_has_its_turn_costs_the_set_that_would_be_held_against_it(in_pairs: bool, kept: set[int]) -> None:
    bench = Bench(FAST)

    def turn(index: int, _: Run) -> bool:
        if index == 1:
            bench.clock.sleep(1.0)
            bench.gpus[0].fault("reset")
        return index < 4

    run = bench.run(turn=turn, in_pairs=in_pairs, enough=lambda _: False)
    assert {block.set_index for block in run.blocks} == kept
    said = "set 2 was lost: the energy counter of gpu:0 ran backwards between the sets of both sides"
    assert any(said in note for note in run.notes) is in_pairs


@pytest.mark.parametrize("timing", ["short", "whole"])
def test_nothing_is_timed_while_another_side_loads_and_what_has_cooled_is_warmed_up_again(timing: Timing) -> None:
    bench = Bench(FAST)
    events: list[str] = []

    def model(batch: list[int]) -> list[int]:
        events.append("work")
        return bench.model(batch)

    def alone() -> float:
        events.append("alone")
        return 1.0 if events.count("alone") == 1 else 0.0

    run = bench.run(Task(model, range(20)), answered=lambda: events.append("answered"), alone=alone, timing=timing, in_pairs=True)
    assert events[:21] == ["work"] * 20 + ["answered"]
    warm_up = events[21 : events.index("alone")]
    assert (len(warm_up) > 20) is (timing == "whole")  # which are timed for the pass of its own; what is only shown, from the first on
    before = bench.run(Task(bench.model, range(20)), timing=timing, in_pairs=True)
    assert len(run.latencies) == len(before.latencies)  # of the second warm-up, none


def test_a_reset_before_the_first_set_of_both_costs_nothing() -> None:
    bench = Bench(FAST)

    def agree(layout: Layout) -> Layout:
        bench.gpus[0].fault("reset")
        return layout

    run = bench.run(agree=agree, in_pairs=True, turn=lambda index, _: index < 3, enough=lambda _: False)
    assert {block.set_index for block in run.blocks} == {0, 1, 2}


def test_a_device_that_stays_lost_is_a_meter_error() -> None:
    bench = Bench(FAST)

    def tell(tell: Tell) -> None:
        if tell.what.startswith("set 2 of"):
            bench.gpus[0].fault("lost")

    with pytest.raises(MeterError, match="3 sets were lost") as caught:
        bench.run(tell=tell, enough=lambda _: False)
    assert caught.value.remedy


def test_a_throttled_device_spoils_the_figure_and_another_process_does_at_once() -> None:
    bench = Bench(FAST)
    bench.gpus[0].fault("throttled")
    outcome = estimate(bench.run(), METRICS["energy_per_query"], AIM)
    assert isinstance(outcome, Missing)
    assert "thermal slowdown" in outcome.reason
    bench = Bench(FAST)
    bench.gpus[0].fault("foreign")
    outcome = estimate(bench.run(), METRICS["energy_per_query"], AIM)
    assert isinstance(outcome, Missing)
    assert "another process" in outcome.reason


def test_a_mark_that_is_allowed_by_name_spoils_nothing() -> None:
    bench = Bench(FAST)
    bench.gpus[0].fault("foreign")
    bench.instruments = Instruments([bench.gpus[0].energy_counter()], bench.clock, allowed_marks=frozenset({"another process"}))
    assert energy(bench.run()).value == pytest.approx(3.0, rel=0.01)


# Windows


def windowed(bench: Bench, seconds: float, watts: float = 300, **fields: Any) -> Window:
    window = Window(fields.get("name"), bench.instruments, AIM, skipping)
    with window:
        bench.gpus[0].work(seconds, watts)
    return window


@pytest.mark.parametrize("sensor", [FULL, PART, FAST], ids=["100/100", "100/25", "20/10"])
def test_the_energy_of_a_window_is_the_true_one_within_its_interval(sensor: Sensor) -> None:
    for seconds in (2.03, 3.51, 5.0):
        found = windowed(Bench(sensor), seconds).energy
        assert found.low <= 300 * seconds <= found.high
        assert found.value == pytest.approx(300 * seconds, rel=0.05)


def test_a_short_window_has_no_figure_but_says_how_long_it_must_be() -> None:
    window = windowed(Bench(FULL), 0.4)
    with pytest.raises(MeterError, match=r"0\.4 s; with this meter's ticks it must last 1\.\d+ s"):
        _ = window.energy
    assert window.seconds == pytest.approx(0.4, abs=0.001)


def test_a_window_asked_too_early_or_left_by_an_error_has_no_energy() -> None:
    bench = Bench()
    window = Window(None, bench.instruments, AIM, skipping)
    with window, pytest.raises(SettingsError, match="after the with block"):
        _ = window.energy
    failed = Window(None, bench.instruments, AIM, skipping)
    with pytest.raises(ZeroDivisionError), failed:
        raise ZeroDivisionError
    assert not failed.closed
    assert failed.seconds == 0.0


def test_a_window_whose_meter_is_lost_at_its_end_watches_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    model = watched(len, bench.clock)

    def lost() -> dict[str, Reading]:
        raise MeterLostError("gone")

    def body() -> None:
        model("ab")
        monkeypatch.setattr(bench.instruments, "read_continuous", lost)

    with pytest.raises(MeterLostError), Window("w", bench.instruments, AIM, skipping, watched=[model]):
        body()
    model("ab")
    assert model.calls == 2


def test_a_window_without_instruments_only_runs_its_body() -> None:
    window = Window("prefill", None, AIM, skipping)
    with window:
        pass
    assert not window.raw().metered
    with pytest.raises(MeterError, match="without a meter"):
        _ = window.energy


def test_windows_look_at_a_gpu_that_does_nothing_but_once() -> None:
    bench, took_s = Bench(gpus=2), []
    for _ in range(2):
        start_ns = bench.clock.now_ns()
        windowed(bench, 2.0)
        took_s.append((bench.clock.now_ns() - start_ns) / 1e9)
    assert took_s[0] - took_s[1] > 2.0
    bench.gpus[0], bench.gpus[1] = bench.gpus[1], bench.gpus[0]  # and once more, when it does something
    start_ns = bench.clock.now_ns()
    windowed(bench, 2.0)
    assert (bench.clock.now_ns() - start_ns) / 1e9 - took_s[1] > 1.0
    assert bench.instruments.lag_unknown is False


def test_a_window_in_which_the_gpu_rested_has_no_energy() -> None:
    with pytest.raises(MeterError, match="did not run there"):
        _ = windowed(Bench(), 3.0, watts=60).energy


# The function for notebooks


def test_measure_stops_when_the_energy_is_known_to_two_per_cent(tmp_path: Path) -> None:
    bench = Bench(FAST)
    instruments = Instruments([gpu.energy_counter() for gpu in bench.gpus], bench.clock, lock_folder=tmp_path)
    run = measure(bench.model, range(20), references=range(20), instruments=instruments, name="mine")
    assert isinstance(run, MeasuredRun)
    assert run.energy_per_query.value == pytest.approx(3.0, rel=0.01)
    assert run.energy_per_query < "3.1 J"
    assert run.latency_p50 < "11 ms"
    assert run.throughput > 99
    assert run.accuracy == 1.0
    assert run.outputs == list(range(20))
    assert repr(run) == "<MeasuredRun mine 20 queries>"
    assert [path.name for path in tmp_path.iterdir()] == ["GPU-0.lock"]


def test_asking_for_a_figure_that_could_not_be_had_raises_its_reason() -> None:
    bench = Bench()
    run = MeasuredRun(bench.run(max_seconds=5), [], Aim(domains=("cpu",)), skipping)
    with pytest.raises(MeterError, match="There is no energy_per_query: no meter reads cpu here"):
        _ = run.energy_per_query
    with pytest.raises(MeterError, match="no references"):
        _ = run.accuracy


# How long it will take, known in advance


class Told:
    """What a measurement said of itself, and when."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self.steps: list[tuple[float, Tell]] = []

    def __call__(self, step: Tell) -> None:
        self.steps.append((self._clock.now_ns() / 1e9, step))


@pytest.mark.parametrize("goes_on", [True, False], ids=["to the time limit", "to the first look"])
@pytest.mark.parametrize("max_seconds", [15.0, 60.0])
@pytest.mark.parametrize("query_s", [0.0007, 0.02, 0.3, 2.0])
@pytest.mark.parametrize("sensor", [PART, FAST, FULL, None], ids=["100/25 ms", "20/10 ms", "100/100 ms", "CPU alone"])
def test_how_long_it_will_take_is_known_to_within_a_factor_of_two(
    sensor: Sensor | None, query_s: float, max_seconds: float, goes_on: bool
) -> None:
    bench = Bench(sensor or FULL, query_s=query_s, cpu=sensor is None)
    if sensor is None:
        assert bench.cpu is not None
        bench.instruments = Instruments([bench.cpu], bench.clock)
    told = Told(bench.clock)
    bench.run(enough=lambda _: not goes_on, tell=told, max_seconds=max_seconds)
    end_s = bench.clock.now_ns() / 1e9
    known = [(at_s, step) for at_s, step in told.steps if step.most_s > 0]
    first = known[0][1]
    assert first.what.startswith("first pass")
    for at_s, step in known:
        if not step.what.startswith("first pass") and end_s - at_s > 1.5:
            foretold = step.most_s if goes_on else step.least_s
            assert 0.5 <= foretold / (end_s - at_s) <= 2.0, step


def test_the_first_pass_of_a_slow_model_says_how_far_it_is() -> None:
    bench = Bench(query_s=10.0)
    told = Told(bench.clock)
    bench.run(Task(bench.model, range(6)), tell=told, max_seconds=5)
    said = [(step.what, step.most_s) for _, step in told.steps if step.what.startswith("first pass")]
    assert said[0] == ("first pass, 0 of 6 queries", 0.0)
    assert said[4] == ("first pass, 4 of 6 queries", pytest.approx(20.0))


def test_the_figure_so_far_is_told_once_there_is_one() -> None:
    bench = Bench(PART)
    told = Told(bench.clock)
    bench.run(enough=lambda _: False, tell=told, figure=lambda run: f"{len(run.blocks)} blocks", max_seconds=60)
    said = [step.figure for _, step in told.steps if step.what.startswith("set ")]
    assert said[:3] == ["", "9 blocks", "18 blocks"]


@pytest.mark.parametrize("query_s", [0.01, 0.1, 0.3])
def test_work_that_draws_too_little_to_show_a_lag_hides_none_from_the_runs_after_it(query_s: float) -> None:
    bench = Bench(LAGGING, query_s=query_s, watts=66.0)
    assert bench.run().sources[0].lag_s == 0.0
    (told,) = bench.instruments.behaviours
    bench.watts = 300.0
    run = bench.run()
    assert run.sources[0].lag_s > 0.5
    assert energy(run).value == pytest.approx(300 * query_s, rel=0.02)
    other = Bench(LAGGING, query_s=query_s)
    other.instruments.expect([told], remembered=True)  # nor from the next session
    assert energy(other.run()).value == pytest.approx(300 * query_s, rel=0.02)


def test_a_device_that_never_works_is_looked_at_but_once() -> None:
    bench, said = Bench(gpus=2), list[str]()
    bench.run(tell=lambda step: said.append(step.what))
    assert "looking for a lag of the meter" in said
    said.clear()
    bench.run(tell=lambda step: said.append(step.what))
    assert "looking for a lag of the meter" not in said
    assert said.count("warming up") < 6
