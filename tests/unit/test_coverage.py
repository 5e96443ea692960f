"""Single blocks where a counter sees all of the time: how that is found out, used, doubted, and told to other processes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.pairing.channel import Channel
from pytest_greencompute.pairing.worker import Worker
from pytest_greencompute.protocol.coverage import Burst, sees_all
from pytest_greencompute.protocol.forecast import latency_batches
from pytest_greencompute.protocol.measurement import SURPRISED
from pytest_greencompute.protocol.messages import Learn, Plan, Tell
from pytest_greencompute.protocol.sets import lay_out
from pytest_greencompute.stats.phases import shows
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.readings import Source
from pytest_greencompute.values.run import Run

WHOLE, PART = Sensor(0.1, 0.1), Sensor(0.1, 0.025)


class Bench:
    """A simulated GPU and a query of two powers; ``at_call`` maps a call's number to what happens before it."""

    def __init__(self, sensor: Sensor, query_s: float = 0.02, at_call: dict[int, Callable[[], None]] | None = None) -> None:
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, sensor=replace(sensor, phase_s=0.0137))
        self.query_s, self.calls, self.at_call = query_s, 0, at_call or {}
        self.instruments = Instruments([self.gpu.energy_counter()], self.clock)
        self.said: list[str] = []

    def query(self, batch: list[int]) -> list[int]:
        self.calls += 1
        self.at_call.get(self.calls, lambda: None)()
        for watts in (350.0, 90.0):
            self.gpu.set_power(watts)
            self.clock.sleep(self.query_s / 2)
        self.gpu.set_power(60.0)
        return batch

    def tell(self, step: Tell) -> None:
        self.said.append(step.what)

    def run(self, seconds: float = 20.0, *, in_pairs: bool = False) -> Run:
        effort = Effort(seconds, timing="none", tell=self.tell, in_pairs=in_pairs)
        return run_metered(Task(self.query, list(range(16))), self.instruments, effort)[0]

    def joules(self, run: Run) -> float:
        """Net joules per query over all blocks."""
        net = [block.spans["gpu:0"].energy_j - 60.0 * (block.spans["gpu:0"].seconds - block.busy_s) for block in run.blocks]
        return sum(net) / sum(block.queries for block in run.blocks)


def sizes(run: Run) -> set[int]:
    by_set: dict[int, int] = {}
    for block in run.blocks:
        by_set[block.set_index] = by_set.get(block.set_index, 0) + 1
    return set(by_set.values())


@pytest.mark.parametrize("query_s", [0.0007, 0.005, 0.02, 0.0365, 0.05, 0.07])
@pytest.mark.parametrize(("sensor", "size"), [(WHOLE, 1), (PART, 9), (Sensor(0.1, 0.09), 9), (Sensor(0.02, 0.01), 9)])
def test_a_set_is_one_block_exactly_where_bursts_show_that_the_counter_sees_all(sensor: Sensor, size: int, query_s: float) -> None:
    bench = Bench(sensor, query_s)
    run = bench.run()
    assert sizes(run) == {size}
    assert bench.joules(run) == pytest.approx(220.0 * query_s, rel=0.01)


@pytest.mark.parametrize("sensor", [WHOLE, PART])
@pytest.mark.parametrize("query_s", [0.1, 0.2, 1.0])
def test_batches_of_whole_ticks_tell_nothing_and_nothing_is_learnt_of_them(sensor: Sensor, query_s: float) -> None:
    bench = Bench(sensor, query_s)
    assert sizes(bench.run()) == {9}
    assert bench.instruments.whole is None


def test_it_is_looked_at_once_in_a_session() -> None:
    bench = Bench(WHOLE)
    bench.run()
    assert "looking at how much of the time the meter sees" in bench.said
    bench.said.clear()
    before_ns = bench.clock.now_ns()
    assert sizes(bench.run()) == {1}
    assert not {"looking at how much of the time the meter sees", "finding the meter's tick", "looking for a lag of the meter"} & {
        *bench.said
    }
    first_block = bench.run().blocks[0].start_ns
    assert before_ns < first_block


def bursts(*joules: float, ticks: int = 2) -> list[Burst]:
    return [Burst({"gpu:0": each}, ticks, 0.05) for each in joules]


@pytest.mark.parametrize(
    ("found", "whole"),
    [
        (bursts(30.0, 30.2, 30.1, 30.0, 30.1), True),
        (bursts(30.0, 32.0, 30.1, 30.0, 30.1), False),
        (bursts(12.0, 30.0, 12.0, 30.0, 30.0), False),
        (bursts(12.1, 12.0, 12.1, 12.0, 12.1), False),  # no more than idle power: they show nothing
        ([*bursts(30.0, 30.0), *bursts(36.0, ticks=3)], False),
    ],
)
def test_bursts_must_agree_and_show_something(found: list[Burst], whole: bool) -> None:
    assert sees_all(found, {"gpu:0": 60.0}, 0.1) is whole


@pytest.mark.parametrize("sensor", [WHOLE, PART])
def test_in_pairs_idle_power_is_read_every_few_sets_while_it_is_steady_and_at_the_end(sensor: Sensor) -> None:
    run = Bench(sensor).run(60.0, in_pairs=True)
    sets = len({block.set_index for block in run.blocks})
    assert 1 + sets // 8 <= len(run.idles) <= 2 + sets // 8


def test_a_stranger_who_comes_after_the_last_reading_of_idle_power_is_seen_at_the_end() -> None:
    bench = Bench(WHOLE)
    began: list[int] = []

    def enough(run: Run) -> bool:
        bench.gpu.idle_w = 200.0
        bench.gpu.set_power(200.0)
        began.append(len(run.blocks))
        return True

    run, _ = run_metered(Task(bench.query, list(range(16))), bench.instruments, Effort(20.0, timing="none", enough=enough))
    assert began
    assert any("another process" in block.marks for block in run.blocks)


def test_what_a_phase_does_to_single_values_is_seen_and_noise_is_not_taken_for_it() -> None:
    rng = np.random.default_rng(3)
    phases = rng.random(12)
    assert shows(phases.tolist(), (1 + 0.3 * np.cos(2 * np.pi * phases)).tolist())
    assert shows(phases.tolist(), (1 + 0.3 * np.sin(4 * np.pi * phases) + 0.01 * rng.standard_normal(12)).tolist())
    assert not shows(phases.tolist(), (1 + 0.005 * np.cos(2 * np.pi * phases)).tolist())
    assert not shows(phases[:5].tolist(), (1 + 0.3 * np.cos(2 * np.pi * phases[:5])).tolist())
    seen = sum(shows(rng.random(12).tolist(), (1 + 0.05 * rng.standard_normal(12)).tolist()) for _ in range(2000))
    assert seen <= 8


def test_a_phase_that_shows_after_single_blocks_were_chosen_begins_the_sets_again() -> None:
    bench = Bench(PART, 0.05)
    bench.run(1.0)
    bench.instruments.learn(
        Learn(bench.instruments.sources, frozenset({bench.gpu.domain}), whole=True)
    )  # as if its bursts had told otherwise
    run = bench.run(40.0)
    assert sizes(run) == {9}
    assert any("followed the phase of the meter's tick: begun again, in sets of nine phases" in note for note in run.notes)
    assert bench.instruments.whole is False
    assert bench.joules(run) == pytest.approx(220.0 * 0.05, rel=0.01)


# What one process has learnt, told to another


def other_process(bench: Bench) -> Instruments:
    return Instruments([bench.gpu.energy_counter()], bench.clock)


def test_a_process_that_is_told_looks_at_one_period_and_begins() -> None:
    bench = Bench(WHOLE)
    bench.run(1.0)
    told = bench.instruments.behaviours
    assert [(each.domain, each.whole, each.lag_s) for each in told] == [("gpu:0", True, 0.0)]
    bench.instruments = other_process(bench)
    bench.instruments.expect(told)
    bench.said.clear()
    start_ns = bench.clock.now_ns()
    run = bench.run()
    assert sizes(run) == {1}
    assert (run.blocks[0].start_ns - start_ns) / 1e9 < 3.0
    assert not [each for each in bench.said if "meter" in each]
    assert bench.joules(run) == pytest.approx(220.0 * 0.02, rel=0.01)


def test_what_is_told_is_looked_at_again_and_forgotten_where_it_is_not_so() -> None:
    bench = Bench(Sensor(0.05, 0.0125))
    bench.instruments.expect([Behaviour("gpu:0", bench.gpu.uuid, 0.1, 0.0, 0.0, whole=True)])
    run = bench.run()
    assert SURPRISED in run.notes
    assert run.sources[0].tick_s == pytest.approx(0.05, rel=0.02)
    assert sizes(run) == {9}


def test_what_is_told_of_another_card_is_not_taken() -> None:
    bench = Bench(PART)
    bench.instruments.expect([Behaviour("gpu:0", "GPU-other", 0.1, 0.0, 0.0, whole=True)])
    assert bench.instruments.unprobed
    assert bench.instruments.whole is None


@pytest.mark.parametrize("also", [{}, {"of_a_newer_version": 1}])
def test_what_is_learnt_crosses_the_channel_and_a_process_that_tells_nothing_is_understood(also: dict[str, int]) -> None:
    ours, theirs = socket.socketpair()
    here, worker = Channel(ours), Worker(Channel(theirs))
    behaviour = Behaviour("gpu:0", "GPU-1", 0.1, 0.002, 0.0, whole=True)
    here.send(what="prepare", learnt=[{**asdict(behaviour), **also}])
    assert worker.wait_to_begin(None)
    assert worker.learnt == (behaviour,)
    here.send(what="prepare")  # an older version
    assert worker.wait_to_begin(None)
    assert worker.learnt == ()
    here.close()
    theirs.close()


@pytest.mark.parametrize(("in_pairs", "whole", "busy_s"), [(True, True, 0.5), (True, False, 0.2), (False, True, 0.5), (False, False, 0.4)])
def test_in_pairs_and_where_a_counter_sees_all_of_the_time_blocks_are_shorter(in_pairs: bool, whole: bool, busy_s: float) -> None:
    plan = Plan(64, (Source("made", "gpu:0", "counter", tick_s=0.1),), in_pairs=in_pairs, whole=whole)
    for batch_s in (0.0499, 0.02):  # four batches of just under half a tick are two ticks
        assert len(lay_out(plan, batch_s, 0.0).part(0)) * batch_s == pytest.approx(busy_s, rel=0.051)


def test_a_latency_that_is_only_shown_has_a_pass_of_its_own_where_nothing_else_is_measured_alone() -> None:
    plan = Plan(16, (), timing="short")
    assert latency_batches(plan)[1] == 2.0
    assert latency_batches(replace(plan, sources=(Source("made", "gpu:0", "counter", tick_s=0.1),)))[1] == 0.0


def test_a_behaviour_that_no_counter_has_is_refused() -> None:
    with pytest.raises(SettingsError, match="was said to tick every 0"):
        Behaviour("gpu:0", "GPU-1", 0.0, 0.0, 0.0)


# What an earlier session has learnt


def remembering(sensor: Sensor, query_s: float = 0.02, **said: Any) -> Bench:
    """A bench whose session remembers a counter that ticks every 100 ms and sees all of the time, or what is ``said``."""
    bench = Bench(sensor, query_s)
    seen = {"tick_s": 0.1, "jitter_s": 0.0, "lag_s": 0.0, "lag_shown": True, "whole": True, **said}
    bench.instruments.expect([Behaviour("gpu:0", bench.gpu.uuid, **seen)], remembered=True)
    return bench


def until_first_block(bench: Bench) -> float:
    start_ns = bench.clock.now_ns()
    return (bench.run().blocks[0].start_ns - start_ns) / 1e9


def test_what_is_remembered_of_a_device_saves_seconds_and_the_figure_is_right_all_the_same() -> None:
    anew, remembered = until_first_block(Bench(WHOLE)), until_first_block(remembering(WHOLE))
    assert anew - remembered > 1.0
    bench = remembering(WHOLE)
    run = bench.run()
    assert sizes(run) == {1}
    assert not {"finding the meter's tick", "looking for a lag of the meter"} & {*bench.said}
    assert bench.joules(run) == pytest.approx(220.0 * 0.02, rel=0.001)


@pytest.mark.parametrize("phase_s", [0.0, 0.031, 0.057, 0.088])
@pytest.mark.parametrize("query_s", [0.005, 0.05])
def test_that_a_device_saw_all_of_the_time_is_looked_at_again_with_two_bursts(query_s: float, phase_s: float) -> None:
    bench = remembering(replace(PART, phase_s=phase_s), query_s)
    run = bench.run()
    assert sizes(run) == {9}
    assert not any("begun again" in note for note in run.notes), "it was seen before the first block"
    assert bench.joules(run) == pytest.approx(220.0 * query_s, rel=0.01)


def test_where_batches_are_too_long_to_look_again_a_phase_that_shows_begins_the_sets_again() -> None:
    seen, unseen = remembering(WHOLE, 0.1), remembering(PART, 0.1)
    assert sizes(seen.run()) == {1}
    run = unseen.run(60.0)
    assert sizes(run) == {9}
    assert any("begun again, in sets of nine phases" in note for note in run.notes)


def test_a_tick_that_is_not_as_remembered_is_looked_at_anew_and_so_is_all_else() -> None:
    bench = remembering(Sensor(0.05, 0.0125))
    run = bench.run()
    assert SURPRISED in run.notes
    assert run.sources[0].tick_s == pytest.approx(0.05, rel=0.02)
    assert sizes(run) == {9}
    assert not bench.instruments.whole_before
