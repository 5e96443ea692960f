"""The protocol as a state machine: a plain function answers what it asks, and no clock, meter or model is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.protocol.measurement import measuring
from pytest_greencompute.protocol.messages import (
    Agree,
    Ask,
    Enough,
    Learn,
    Marks,
    Measured,
    Phase,
    Plan,
    Probe,
    Probed,
    Rest,
    Spun,
    Tell,
    Ticks,
    Turn,
    Wait,
    Work,
)
from pytest_greencompute.protocol.parts import Worked
from pytest_greencompute.protocol.sets import lay_out, planned_looks, spanned
from pytest_greencompute.protocol.tail import Tail
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.names import highest_percentile
from pytest_greencompute.values.readings import Idle, Reading, Source, sets_of
from pytest_greencompute.values.run import Latency

SECOND = 1_000_000_000
TICK_NS = SECOND // 10
GPU = Source("made", "gpu:0", "counter", tick_s=0.1)
CPU = Source("made", "cpu", "modelled")


class Script:
    """Answers asks on a time line of its own: each batch takes ``batch_s``, idle draws 60 W and work 300 W, ticks come every 0.1 s."""

    def __init__(self, batch_s: float = 0.05, lose: Callable[[int], bool] = lambda _: False, marks: tuple[str, ...] = ()) -> None:
        self.now_ns = SECOND
        self.joules = 0.0
        self.batch_s, self.lose, self.marks = batch_s, lose, marks
        self.asked: list[Ask] = []
        self.ticks = 0
        self.enough: Callable[[Measured], bool] = lambda _: False

    def count(self, kind: type) -> int:
        return sum(isinstance(ask, kind) for ask in self.asked)

    def _pass_time(self, seconds: float, watts: float) -> None:
        self.now_ns += round(seconds * SECOND)
        self.joules += seconds * watts

    def answer(self, ask: Ask) -> Any:
        self.asked.append(ask)
        if isinstance(ask, Work):
            start, latencies = self.now_ns, []
            for _ in ask.part:
                self._pass_time(self.batch_s, 300)
                latencies.append(Latency(1, self.batch_s))
                if ask.timed and ask.seconds is not None and (self.now_ns - start) / SECOND >= ask.seconds:
                    break
            return Worked(start, self.now_ns, len(latencies), tuple(latencies) if ask.timed else ())
        if isinstance(ask, Ticks):
            self.ticks += 1
            if self.lose(self.ticks):
                raise MeterLostError("the counter went away.", remedy="Look for it.")
            self._pass_time((TICK_NS - self.now_ns % TICK_NS) / SECOND, 60)
            return {"gpu:0": Reading(self.joules, self.now_ns)}
        if isinstance(ask, Wait):
            self._pass_time(ask.seconds, 60)
        if isinstance(ask, Phase):
            self._pass_time((ask.fraction * TICK_NS - self.now_ns % TICK_NS) % TICK_NS / SECOND, 60)
        return {
            Agree: isinstance(ask, Agree) and ask.layout,
            Turn: True,
            Probe: Probed((GPU,), (Idle("gpu:0", 60.0, 1.0),)),
            Marks: self.marks,
            Enough: isinstance(ask, Enough) and self.enough(ask.measured),
        }.get(type(ask))


def drive(script: Script, plan: Plan | None = None) -> Measured:
    plan = plan or Plan(4, (GPU,), max_seconds=120)
    steps = measuring(plan, np.random.default_rng(0), Worked(0, round(plan.batches * script.batch_s * SECOND), plan.batches))
    answer, lost = None, None
    while True:
        try:
            ask = steps.send(answer) if lost is None else steps.throw(lost)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            answer, lost = script.answer(ask), None
        except MeterLostError as error:
            lost = error


def test_the_steps_come_in_their_order() -> None:
    script = Script()
    drive(script)
    said = list(dict.fromkeys(ask.what for ask in script.asked if isinstance(ask, Tell)))
    assert said[:3] == ["finding the meter's tick", "warming up", "timing batches"]
    assert said[3].startswith("set 1 of at most ")
    assert script.count(Probe) == 1


def test_a_set_waits_for_a_tick_and_each_block_for_its_phase_then_reads_at_the_next_tick_which_begins_the_next_block() -> None:
    script = Script()
    measured = drive(script)
    first = next(number for number, ask in enumerate(script.asked) if isinstance(ask, Tell) and ask.what.startswith("set 1"))
    block = [Phase, Marks, Work, Marks, Wait, Ticks]
    kinds = [type(ask) for ask in script.asked[first + 1 :]]
    assert kinds[: 2 + 9 * len(block) + 2] == [Turn, Ticks, *(9 * block), Wait, Ticks]
    for a, b in zip(measured.blocks[:8], measured.blocks[1:9], strict=True):
        assert a.spans["gpu:0"].b_ns == b.spans["gpu:0"].a_ns


def test_complete_sets_of_nine_blocks_hold_the_energy_of_their_work() -> None:
    measured = drive(Script())
    assert {len(group) for group in sets_of(measured.blocks)} == {9}
    for block in measured.blocks:
        span = block.spans["gpu:0"]
        assert span.energy_j == pytest.approx(300 * block.busy_s + 60 * (span.seconds - block.busy_s))
        assert block.busy_s >= 0.39  # four ticks
    assert len(measured.idles) == len(sets_of(measured.blocks)) + 1
    assert all(idle.watts == pytest.approx(60) for idle in measured.idles)


def test_every_batch_is_run_equally_often_over_the_blocks() -> None:
    script = Script(batch_s=0.2)
    drive(script, Plan(100, (GPU,), max_seconds=300))
    run = Counter(batch for ask in script.asked if isinstance(ask, Work) and not ask.timed for batch in list(ask.part))
    blocks = [ask for ask in script.asked if isinstance(ask, Work) and not ask.timed and not ask.again]
    assert set(Counter(batch for ask in blocks for batch in ask.part)) == set(range(100))
    assert set(run) <= set(range(100))


def test_the_verdicts_are_asked_at_planned_looks_only_and_a_yes_ends_it() -> None:
    looks: list[int] = []

    def at_the_second_look(measured: Measured) -> bool:
        looks.append(len(sets_of(measured.blocks)))
        return len(looks) == 2

    script = Script()
    script.enough = at_the_second_look
    measured = drive(script, Plan(4, (GPU,), max_seconds=600))
    assert looks == [1, 2]
    assert len(sets_of(measured.blocks)) == 2
    assert measured.looks > 2


def test_single_blocks_are_looked_at_from_the_third_on() -> None:
    looks: list[int] = []

    def note(measured: Measured) -> bool:
        looks.append(len(sets_of(measured.blocks)))
        return len(looks) == 3

    script = Script()
    script.enough = note
    measured = drive(script, Plan(4, (GPU,), max_seconds=60, whole=True))
    assert looks == [3, 4, 5]
    (agreed,) = (ask.layout for ask in script.asked if isinstance(ask, Agree))
    assert measured.looks == len(planned_looks(agreed)) > 5


def test_what_another_side_takes_in_its_turns_is_not_counted_against_the_time_limit() -> None:
    class Waiting(Script):
        def answer(self, ask: Ask) -> Any:
            if isinstance(ask, Turn):
                self._pass_time(30, 60)
            return super().answer(ask)

    plan = Plan(4, (GPU,), max_seconds=60)
    assert len(drive(Waiting(), plan).blocks) == len(drive(Script(), plan).blocks) > 9


def test_a_lost_set_is_given_up_and_noted_and_the_others_stay() -> None:
    script = Script(lose=lambda number: number == 20)
    measured = drive(script)
    assert measured.notes == ("set 2 was lost: the counter went away.",)
    kept = {block.set_index for block in measured.blocks}
    assert 1 not in kept
    assert 0 in kept
    assert len(kept) == len(sets_of(drive(Script()).blocks)) - 1


def test_three_lost_sets_are_a_meter_error_with_its_remedy() -> None:
    with pytest.raises(MeterError, match="3 sets were lost: the counter went away") as caught:
        drive(Script(lose=lambda number: number > 30))
    assert caught.value.remedy == "Look for it."
    assert not isinstance(caught.value, MeterLostError)


class Slow(Script):
    """Blocks whose number ``slow`` picks take five seconds longer, the first being number 0."""

    def __init__(self, slow: Callable[[int], bool], crowd: str) -> None:
        super().__init__()
        self.slow, self.crowd, self.number = slow, crowd, -1

    def answer(self, ask: Ask) -> Any:
        if not (isinstance(ask, Work) and self.asked and isinstance(self.asked[-1], Marks)):
            return super().answer(ask)
        self.number += 1
        if self.slow(self.number):
            self._pass_time(5.0, 60)
            worked = super().answer(ask)
            return replace(worked, start_ns=worked.start_ns - 5 * SECOND, crowd=self.crowd)
        return super().answer(ask)


BUSY = "load average 7.9, 9 at work now, 2 cores"


def test_a_busy_machine_is_named_by_its_load_and_the_sets_before_it_are_kept() -> None:
    measured = drive(Slow(lambda number: number >= 20, BUSY))
    assert {block.set_index for block in measured.blocks} == {0, 1}
    lost = [note for note in measured.notes if "was lost" in note]
    assert len(lost) == 3
    assert all(f"other work held the machine up ({BUSY})" in note for note in lost)
    assert not any("clock jumped" in note for note in lost)


def test_sets_lost_here_and_there_to_other_work_end_nothing() -> None:
    measured = drive(Slow(lambda number: number % 27 == 20, BUSY), Plan(4, (GPU,), max_seconds=600))
    assert sum("was lost" in note for note in measured.notes) > 3
    assert len(sets_of(measured.blocks)) > 6


def test_a_machine_too_busy_for_a_single_set_is_a_meter_error_that_says_so() -> None:
    with pytest.raises(MeterError, match=rf"3 sets were lost: .*{re.escape(BUSY)}") as caught:
        drive(Slow(lambda _: True, BUSY))
    assert "keep other work off it" in caught.value.remedy


def test_without_other_work_the_machine_was_stopped_or_the_queries_stalled() -> None:
    measured = drive(Slow(lambda number: number == 20, ""))
    assert any("its clock jumped" in note for note in measured.notes)


class OnProcessor(Script):
    """A processor's counter that ticks; ``spins``: its idle workers are awake in the gaps."""

    def __init__(self, *, spins: bool) -> None:
        super().__init__()
        self.spins = spins

    def answer(self, ask: Ask) -> Any:
        answer = super().answer(ask)
        if isinstance(ask, Ticks):
            return {"cpu": answer["gpu:0"]}
        return {Spun: self.spins, Probe: Probed((replace(GPU, domain="cpu"),))}.get(type(ask), answer)


@pytest.mark.parametrize("spins", [False, True])
def test_idle_power_of_a_processor_is_read_after_its_workers_have_gone_to_sleep(spins: bool) -> None:
    script = OnProcessor(spins=spins)
    measured = drive(script, Plan(4, (replace(GPU, domain="cpu"),), max_seconds=120))
    asked = [type(ask) for ask in script.asked]
    assert asked.count(Rest) == 1
    assert asked[asked.index(Rest) + 1 : asked.index(Rest) + 3] == [Wait, Ticks]
    sets = len(sets_of(measured.blocks))
    assert asked.count(Spun) == sets > 1
    assert len(measured.idles) == 1 + (0 if spins else sets)
    assert Rest not in {type(ask) for ask in _asked_of_a_gpu()}


def _asked_of_a_gpu() -> list[Ask]:
    script = Script()
    drive(script)
    return script.asked


def test_marks_of_both_ends_are_kept_once() -> None:
    measured = drive(Script(marks=("thermal slowdown",)))
    assert {block.marks for block in measured.blocks} == {("thermal slowdown",)}


def test_a_program_that_never_settles_is_cut_off_and_noted() -> None:
    script = Script()
    answer = script.answer

    def slowing(ask: Ask) -> Any:
        if isinstance(ask, Work) and not ask.timed and script.count(Work) < 40:
            script.batch_s *= 1.06
        return answer(ask)

    script.answer = slowing  # type: ignore[method-assign]
    (note,) = drive(script).notes
    assert note.startswith("time per query was still changing when warm-up ended after 1")


def test_a_steady_program_warms_up_in_six_chunks_without_energy() -> None:
    measured = drive(Script())
    assert len(measured.warmup) == 6
    assert all(not block.spans for block in measured.warmup)
    assert measured.notes == ()


@pytest.mark.parametrize(("percentile", "batches"), [(0.95, 104), (0.99, 528)])
def test_latency_is_timed_until_its_percentiles_are_bounded(percentile: float, batches: int) -> None:
    assert len(drive(Script(batch_s=0.01), Plan(4, (GPU,), percentile=percentile)).latencies) == batches


@pytest.mark.parametrize("metric", [each for each in METRICS.values() if each.kind == "latency"], ids=lambda each: each.name)
def test_a_limit_on_any_percentile_of_the_latency_asks_for_it(metric: Metric) -> None:
    assert highest_percentile(("energy_per_query", metric.name, "time_to_first_token_p99"), 0.25) == metric.fraction
    assert highest_percentile((metric.name,), 0.999) == 0.999


def test_slow_batches_are_timed_for_a_share_of_the_limit_only() -> None:
    latencies = drive(Script(batch_s=2.0), Plan(4, (GPU,), max_seconds=60)).latencies
    assert sum(each.seconds for each in latencies) == pytest.approx(18, abs=2)


def test_a_latency_that_is_all_there_is_to_show_is_timed_for_two_seconds_and_that_of_another_side_not_at_all() -> None:
    latencies = drive(Script(batch_s=0.1), Plan(4, (), timing="short")).latencies
    assert sum(each.seconds for each in latencies) == pytest.approx(2, abs=0.11)
    script = Script(batch_s=0.1)
    assert drive(script, Plan(4, (GPU,), timing="none")).latencies == ()
    assert not any(isinstance(ask, Work) and ask.timed for ask in script.asked)


@pytest.mark.parametrize(("in_pairs", "turn_s", "queries"), [(False, 0.02, 40), (True, 0.02, 1), (True, 0.2, 4)])
def test_where_there_is_no_tick_a_block_is_a_whole_pass_but_in_pairs_a_turn(in_pairs: bool, turn_s: float, queries: int) -> None:
    layout = lay_out(Plan(40, (CPU,), in_pairs=in_pairs, turn_s=turn_s), 0.05, 0.0)
    assert len(layout.part(0)) == queries


class Beside(Script):
    """A continuous counter beside another side: four turns are a set, and ``turns`` are the numbers of those that were asked for."""

    def __init__(self, batch_s: float, until: int = 10**9, lose: int = -1) -> None:
        super().__init__(batch_s)
        self.turns: list[int] = []
        self.until, self.lose_turn = until, lose

    def answer(self, ask: Ask) -> Any:
        if isinstance(ask, Agree):
            return replace(ask.layout, size=4, sets=3)
        if isinstance(ask, Turn):
            self.turns.append(ask.index)
            assert (ask.measured is None) == (ask.index % 4 > 0)
            return ask.index < self.until
        worked = super().answer(ask)
        if isinstance(ask, Work):
            if self.turns and self.turns[-1] == self.lose_turn:
                raise MeterLostError("the counter went away.", remedy="Look for it.")
            span = spanned("cpu", Reading(0.0, worked.start_ns), Reading(5.0, worked.end_ns))
            return replace(worked, around={"cpu": span})
        return worked

    def measured(self) -> Measured:
        return drive(self, Plan(40, (CPU,), in_pairs=True, timing="none"))


def test_where_nothing_ticks_each_block_of_a_set_is_a_turn_whose_batches_are_timed() -> None:
    side = Beside(0.01)
    measured = side.measured()
    assert side.turns == [*range(12)]
    assert [block.set_index for block in measured.blocks] == [0] * 4 + [1] * 4 + [2] * 4
    assert [latency.set_index for latency in measured.latencies] == [0] * 8 + [1] * 8 + [2] * 8
    assert all(block.queries == 2 for block in measured.blocks)


def test_batches_too_short_to_be_stamped_are_not_timed_within_a_block() -> None:
    assert Beside(0.001).measured().latencies == ()


def test_a_turn_is_as_much_work_where_other_work_holds_up_some_batches() -> None:
    class HeldUp(Beside):
        def answer(self, ask: Ask) -> Any:
            warming_up = isinstance(ask, Work) and ask.again
            self.batch_s = 0.02 if warming_up else 0.005
            found = super().answer(ask)
            return replace(found, latencies=tuple(Latency(1, 0.005) for _ in ask.part)) if warming_up else found

    blocks = drive(HeldUp(0.02), Plan(40, (CPU,), in_pairs=True, timing="short")).blocks
    assert {block.queries for block in blocks} == {4}


def test_a_set_that_the_other_side_ends_half_way_is_left_out() -> None:
    side = Beside(0.01, until=6)
    assert [block.set_index for block in side.measured().blocks] == [0] * 4
    assert side.turns[-1] == 6


def test_the_turns_of_a_set_that_was_lost_are_left_out() -> None:
    side = Beside(0.01, lose=5)
    assert [block.set_index for block in side.measured().blocks] == [0] * 4 + [2] * 4
    assert side.turns == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]


def test_without_sources_only_latency_is_measured() -> None:
    script = Script()
    measured = drive(script, Plan(4, ()))
    assert measured.latencies
    assert measured.blocks == ()
    assert script.count(Ticks) == script.count(Probe) == 0


def test_a_continuous_counter_needs_no_tick_no_phase_and_no_idle() -> None:
    script = Script()
    answer = script.answer

    def around(ask: Ask) -> Any:
        worked = answer(ask)
        if isinstance(ask, Work) and not ask.timed:
            span = spanned("cpu", Reading(0.0, worked.start_ns), Reading(5.0, worked.end_ns))
            return replace(worked, around={"cpu": span})
        return worked

    script.answer = around  # type: ignore[method-assign]
    measured = drive(script, Plan(4, (CPU,), max_seconds=20))
    assert script.count(Ticks) == 0
    assert measured.idles == ()
    assert {len(group) for group in sets_of(measured.blocks)} == {1}
    assert all(block.spans["cpu"].energy_j == 5.0 for block in measured.blocks)


def test_a_lag_is_looked_for_where_asked_and_learnt() -> None:
    script = Script()
    measured = drive(script, Plan(4, (GPU,), max_seconds=60, find_lag=True))
    assert script.count(Learn) == 1
    assert measured.sources[0].lag_s == 0.0


def readings(watts: list[float]) -> list[Reading]:
    found, joules = [Reading(0.0, SECOND)], 0.0
    for number, each in enumerate(watts, 1):
        joules += each * 0.1
        found.append(Reading(joules, SECOND + number * SECOND // 10))
    return found


def lag_of(powers: list[float], working_w: float = 300.0) -> float:
    """The lag that a second of work at ``working_w``, and then these powers from tick to tick, show."""
    after = readings(powers)
    return Tail.of(Reading(after[0].energy_j - working_w, after[0].t_ns - SECOND), after).lag_s(SECOND)


def test_the_lag_is_the_time_until_power_has_come_down() -> None:
    assert lag_of([60.0] * 30) == 0.0
    assert lag_of([300.0, 100.0] + [60.0] * 28) == 0.0
    assert lag_of([300 - 24.0 * k for k in range(10)] + [60.0] * 20) == pytest.approx(1.0)


def test_a_hot_gpu_that_cools_is_not_a_lag() -> None:
    # Power after work as a real H100 showed it: 569 W before.
    cooling = [148.1, 143.5, 140.4, 141.6, 141.2, 141.5, 141.2, 141.0]
    assert lag_of(cooling + [140.5] * 22, working_w=569.0) == 0.0
    assert lag_of([160.0, 152.0, 149.0, 146.0, 144.0, 143.0] + [141.0] * 24, working_w=569.0) == 0.0


def test_work_that_hardly_draws_power_shows_no_lag() -> None:
    assert lag_of([66.0, 65.0, 64.5, 64.0, 63.5] + [63.0] * 25, working_w=66.0) == 0.0


def test_a_counter_that_ran_backwards_loses_its_set() -> None:
    assert spanned("gpu:0", Reading(1.0, 5), Reading(3.0, 9)).energy_j == 2.0
    with pytest.raises(MeterLostError, match="gpu:0 ran backwards by 2 J"):
        spanned("gpu:0", Reading(3.0, 5), Reading(1.0, 9))
