"""An energy counter held against the power that its device shows: by hand where the numbers are few, and on simulated GPUs."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.estimates.against_power import Agreement, Standing, against, compared
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import precise_enough
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.measuring.window import Window
from pytest_greencompute.meters.beside import SHARE, PowerBeside
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.testing.sensor import PROFILES, Sensor, Sensors
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedEnergyCounter, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.powers import COVERS_MODULE, DISAGREE, MAY_COVER_MODULE, SCOPES, PowerField
from pytest_greencompute.values.readings import Reading
from pytest_greencompute.values.run import Run

SECOND = 1_000_000_000
INSTANT, DRAW, MODULE = PowerField("instant", window_s=0.1), PowerField("draw"), PowerField("instant", "module", window_s=0.1)


def ticks(seconds: int = 10, watts: float = 100.0, every: int = 1) -> list[Reading]:
    return [Reading(5000 + watts * second, second * SECOND) for second in range(0, seconds + 1, every)]


def samples(seconds: float = 10, watts: float = 100.0, start: float = 0.0) -> list[tuple[int, float]]:
    return [(round((start + number * 0.07) * SECOND), watts) for number in range(round(seconds / 0.07) + 1)]


def test_a_counter_that_agrees_is_off_by_nothing_and_one_that_loses_some_by_what_it_loses() -> None:
    for lost, off in ((0.0, 0.0), (0.15, 0.15), (0.4, 0.4), (-0.25, 0.25)):
        found = compared(INSTANT, ticks(watts=100 * (1 - lost)), samples())
        assert found is not None
        assert [found.low, found.high] == pytest.approx([1 - lost] * 2)  # nothing changes, so nothing is open
        told = against([found])
        assert told is not None
        assert told.off == pytest.approx(off)
    assert str(told) == "125 W counted, 100 W shown: +25.0 % [+25.0, +25.0]"


def test_a_field_that_averages_over_a_second_is_held_against_what_such_a_mean_would_show() -> None:
    """Five seconds at 400 W after five at 100 W: the field rises over a second, and its last value is of the second before."""
    rising = [Reading(100 * second if second <= 5 else 500 + 400 * (second - 5), second * SECOND) for second in range(11)]
    shown = [(t_ns, 100 + 300 * min(max(t_ns / SECOND - 5, 0), 1)) for t_ns, _ in samples()]
    found = compared(DRAW, rising, shown)
    assert found is not None
    assert found.ratio == pytest.approx(1, abs=0.02)
    assert found.high - found.low < 0.15


def test_where_power_was_not_sampled_well_nothing_is_said_or_less() -> None:
    assert compared(INSTANT, ticks(3), samples(3)) is None  # less than three parts of a second
    assert compared(INSTANT, ticks(), samples(1)) is None
    assert compared(INSTANT, ticks(), []) is None
    assert compared(INSTANT, ticks(1)[:1], samples()) is None
    assert compared(INSTANT, ticks(), [(0, 0.0), (10 * SECOND, 0.0)]) is None
    whole, gone = (compared(INSTANT, ticks(20, 60), each) for each in (samples(20), samples(8) + samples(8, start=12)))
    assert whole is not None
    assert gone is not None
    assert gone.seconds < 17 < whole.seconds  # the parts without samples are no part of it
    assert gone.ratio == pytest.approx(0.6)


def test_a_counter_that_was_reset_is_compared_over_its_longest_rise() -> None:
    fallen = [*ticks(4), *(Reading(60.0 * second, second * SECOND) for second in range(5, 15))]
    found = compared(INSTANT, fallen, samples(14))
    assert found is not None
    assert found.ratio == pytest.approx(0.6)
    assert found.seconds < 9


def agreement(field: PowerField, low: float, high: float) -> Agreement:
    return Agreement(field, 10.0, (low + high) / 2 * 100, 100.0, low, high)


def told(*found: Agreement) -> Standing:
    known = against(found)
    assert known is not None
    return known


def test_the_counter_must_disagree_with_every_field_and_fields_that_contradict_each_other_say_nothing() -> None:
    assert told(agreement(INSTANT, 0.5, 0.6), agreement(DRAW, 0.5, 1.1)).off == pytest.approx(0.4)
    assert against([agreement(INSTANT, 0.5, 0.6), agreement(DRAW, 0.9, 1.1)]) is None
    assert against([]) is None
    assert told(agreement(INSTANT, 0.7, 1.1), agreement(DRAW, 0.8, 0.95)).off == pytest.approx(0.05)


def test_the_counter_covers_the_scope_that_it_is_nearest_to() -> None:
    both = told(agreement(INSTANT, 1.4, 1.5), agreement(MODULE, 0.98, 1.03))
    assert (both.scope, both.off, both.sure) == ("module", 0.0, True)
    gpu = told(agreement(INSTANT, 0.97, 1.03), agreement(MODULE, 0.6, 0.7))
    assert (gpu.scope, gpu.sure) == ("gpu", True)
    either = told(agreement(INSTANT, 0.9, 1.1), agreement(MODULE, 0.85, 1.05))
    assert (either.scope, either.sure) == ("gpu", False)
    contradicting = agreement(INSTANT, 1.4, 1.5), agreement(DRAW, 0.97, 1.03)
    assert told(*contradicting, agreement(MODULE, 0.98, 1.03)).scope == "module"
    assert against([*contradicting, agreement(MODULE, 0.6, 0.65)]) is None  # it may be the GPU's
    wide = told(agreement(INSTANT, 0.9, 2.9), agreement(MODULE, 1.01, 1.03))
    assert not wide.sure  # an interval that is wide enough holds any counter
    with pytest.raises(SettingsError):
        PowerField("instant", "board")  # type: ignore[arg-type]


def test_a_scope_whose_power_could_not_be_compared_leaves_it_open_whose_counter_it_is() -> None:
    assert against([agreement(INSTANT, 1.8, 1.9)], SCOPES) is None  # it may well be the module's
    assert told(agreement(INSTANT, 1.8, 1.9)).off == pytest.approx(0.8)  # of a device that has no other scope
    near = against([agreement(INSTANT, 0.98, 1.03)], SCOPES)
    assert near is not None
    assert near.sure
    wide = against([agreement(INSTANT, 0.9, 1.9)], SCOPES)
    assert wide is not None
    assert not wide.sure


# On simulated GPUs


def with_counter(profile: str, **changes: float) -> Sensors:
    """A GPU whose counter is ``changes`` apart from its power fields, whose ticks do not fall together."""
    sensors = PROFILES[profile]
    assert sensors.counter is not None
    apart = replace(sensors, draw=replace(sensors.draw, phase_s=0.031), instant=sensors.instant and replace(sensors.instant, phase_s=0.007))
    return replace(apart, counter=replace(sensors.counter, **changes))


class Bench:
    """A simulated GPU, and a model whose queries draw 350 W for half of their time and 90 W for the rest."""

    def __init__(self, sensors: Sensors, *, query_s: float = 0.02, seed: int = 1, noise: float = 0.03) -> None:
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, sensor=sensors)
        self.luck, self.query_s, self.noise, self.seed = random.Random(seed), query_s, noise, seed

    def model(self, batch: list[int]) -> list[int]:
        for watts in (350.0, 90.0):
            self.gpu.set_power(watts * self.luck.gauss(1, self.noise))
            self.clock.sleep(self.query_s / 2 * len(batch))
        self.gpu.set_power(self.gpu.idle_w)
        return batch

    def instruments(self, *allowed: str) -> Instruments:
        return Instruments([self.gpu.energy_counter()], self.clock, allowed_marks=frozenset(allowed))

    def run(self, *allowed: str, seconds: float = 15.0, whole: bool = False) -> Run:
        """``whole``: for all of the time, however certain the energy is."""
        effort = Effort(seconds, seed=self.seed, enough=lambda run: not whole and precise_enough(Aim())(run))
        return run_metered(Task(self.model, list(range(20))), self.instruments(*allowed), effort)[0]


def said(run: Run) -> list[str]:
    return [note for note in run.notes if "disagree" in note]


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("query_s", [0.003, 0.05, 0.1, 0.2, 0.9])
def test_an_honest_counter_is_silent_on_every_gpu_also_where_the_load_is_in_step_with_its_sensor(profile: str, query_s: float) -> None:
    for seed in (1, 2):
        run = Bench(with_counter(profile), query_s=query_s, seed=seed).run()
        assert not said(run)
        assert not run.problem


@pytest.mark.parametrize("profile", ["H100", "RTX 3090", "T4"])
def test_a_counter_that_loses_15_per_cent_is_noted_with_both_figures_and_still_has_a_figure(profile: str) -> None:
    run = Bench(with_counter(profile, gain=0.85)).run(seconds=40, whole=True)
    (note,) = said(run)
    assert "the energy counter of gpu:0 and its power disagree (" in note
    assert " W counted, " in note
    assert " W shown: -1" in note
    assert isinstance(estimate(run, METRICS["energy_per_query"], Aim()), Estimate)


@pytest.mark.parametrize("gain", [0.6, 1.5])
def test_a_counter_that_is_off_by_more_than_30_per_cent_leaves_no_figure_unless_that_is_allowed(gain: float) -> None:
    sensors = with_counter("H100", gain=gain)
    outcome = estimate(Bench(sensors).run(), METRICS["energy_per_query"], Aim())
    assert isinstance(outcome, Missing)
    assert "its power disagree" in outcome.reason
    assert f'allow = ["{DISAGREE}"]' in outcome.reason
    allowed = Bench(sensors).run(DISAGREE)
    assert said(allowed)[0].endswith(", which is allowed")
    assert isinstance(estimate(allowed, METRICS["energy_per_query"], Aim()), Estimate)


def test_a_counter_of_the_whole_module_is_said_to_be_one_and_one_of_the_gpu_beside_it_is_not() -> None:
    beside_w = 120.0  # what the processor draws on the same module
    for counter, note in ((Sensor(0.1, 0.1, offset_w=beside_w), COVERS_MODULE), (Sensor(0.1, 0.1), "")):
        bench = Bench(Sensors(counter, Sensor(0.1, 1.0), instant=Sensor(0.1, 0.1), module=Sensor(0.1, 0.1, offset_w=beside_w)))
        instruments = bench.instruments()
        shown = instruments.counters[0]
        assert isinstance(shown, SimulatedEnergyCounter)
        shown._source = replace(shown.source, note=MAY_COVER_MODULE)  # as nvml says where a module shows its power
        run, _ = run_metered(Task(bench.model, list(range(20))), instruments, Effort(15.0, enough=precise_enough(Aim())))
        assert (run.sources[0].note, said(run), run.problem) == (note, [], "")


def windowed(sensors: Sensors, seconds: float) -> Run:
    bench = Bench(sensors)
    window = Window("w", bench.instruments(), Aim(), pytest.fail)
    with window:
        bench.gpu.work(seconds, 300)
    return window.raw()


def test_a_window_of_some_seconds_is_held_against_power_and_a_short_one_is_not() -> None:
    assert "disagree" in windowed(with_counter("H100", gain=0.6), 20.0).problem
    assert not windowed(with_counter("H100", gain=0.6), 1.5).problem
    honest = windowed(with_counter("H100"), 20.0)
    assert not said(honest)
    assert not honest.problem


def test_sampling_ends_with_the_measurement_and_a_failure_in_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, reads = Bench(with_counter("H100")), 0
    instruments = bench.instruments()
    read = bench.gpu.read_power_w

    def counting(field: str) -> float:
        nonlocal reads
        reads += 1
        return read(field)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.gpu, "read_power_w", counting)
    run_metered(Task(bench.model, list(range(20))), instruments, Effort(5.0))
    assert reads > 100
    reads = 0
    bench.clock.sleep(5)
    assert reads == 0
    with pytest.raises(ZeroDivisionError), Window("w", instruments, Aim(), pytest.fail):
        bench.gpu.work(1 / 0, 300)
    reads = 0
    bench.clock.sleep(5)
    assert reads == 0

    def lost() -> dict[str, Reading]:
        raise MeterLostError("gone")

    monkeypatch.setattr(instruments, "read_continuous", lost)
    with pytest.raises(MeterLostError), Window("w", instruments, Aim(), pytest.fail):
        raise AssertionError("it did not open")
    reads = 0
    bench.clock.sleep(5)
    assert reads == 0


def reading(
    took_s: Mapping[str, float], clock: SimulatedClock, calls: dict[str, int]
) -> Callable[[object], Mapping[PowerField, Callable[[], float]]]:
    def reader(name: str) -> Callable[[], float]:
        def read_w() -> float:
            calls[name] = calls.get(name, 0) + 1
            if took_s[name] < 0:
                raise MeterError("It is not there.")
            clock.sleep(took_s[name])
            return 200.0

        return read_w

    return lambda _: {PowerField(name): reader(name) for name in took_s}


@pytest.mark.parametrize(
    ("took_s", "calls"),
    [
        ({"one": 0.00005}, {"one": (85, 95)}),
        ({"one": 0.00005, "dear": 0.003}, {"one": (85, 95), "dear": (3, 3)}),
        ({"dear": 0.003}, {"dear": (5, 7)}),  # each 3 s: what it says then is too little, and costs no more
        ({"one": 0.00005, "none": -1}, {"one": (85, 95), "none": (1, 1)}),
        ({"none": -1}, {"none": (1, 1)}),
    ],
)
def test_sampling_costs_no_more_than_its_share(
    monkeypatch: pytest.MonkeyPatch, took_s: dict[str, float], calls: dict[str, tuple[int, int]]
) -> None:
    bench, seen = Bench(with_counter("H100")), dict[str, int]()
    monkeypatch.setattr(SimulatedEnergyCounter, "power_fields", reading(took_s, bench.clock, seen))
    beside = bench.instruments().beside()
    bench.clock.sleep(10)
    beside.close()
    beside.close()
    for name, (least, most) in calls.items():
        assert least <= seen[name] <= most
        assert (seen[name] - 3) * max(took_s[name], 0) <= SHARE * 10 * 1.1


def test_a_power_that_was_not_seen_leaves_it_open_what_a_counter_covers() -> None:
    """The module's field is left out where it is dear to read: a counter of the module is then not held against the GPU's power alone."""
    beside = PowerBeside(lambda _: None)
    source = replace(Bench(with_counter("H100")).instruments().sources[0], note=MAY_COVER_MODULE)
    beside.ticks[source.domain] = ticks(watts=180.0, every=10)
    beside.samples[source.domain] = {INSTANT: samples()}
    assert beside.found(source) is None
    plain = beside.found(replace(source, note=""))
    assert plain is not None
    assert plain.off > 0.5


def test_measurements_by_turns_share_one_sampler_until_the_last_has_ended() -> None:
    bench = Bench(with_counter("H100"))
    instruments = bench.instruments()
    one, other = instruments.beside(), instruments.beside()
    bench.clock.sleep(1)
    one.close()
    bench.clock.sleep(1)
    other.close()
    bench.clock.sleep(1)
    (first,), (second,) = (each.samples.values() for each in (one, other))
    lengths = [len(each) for seen in (first, second) for each in seen.values()]
    assert lengths == [8, 8, 17, 17]
