"""Turns of two sides: how many are a set, in which order they come, and what a side says after each."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.machine.processes import APART, descendants, workers
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.pairing.channel import Channel
from pytest_greencompute.pairing.launches import _whole_launch
from pytest_greencompute.pairing.layouts import ALIKE_BATCHES, ENOUGH_PAIRS, UNLIKE, common, in_turns, most_pairs, of_side, with_timing
from pytest_greencompute.pairing.outlook import Outlook
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.runs import BaseOfTest, Match, Pairing
from pytest_greencompute.pairing.started import OWN_GROUP, Side
from pytest_greencompute.pairing.verdicts import against_base
from pytest_greencompute.pairing.worker import NotWantedError, Worker
from pytest_greencompute.protocol.layout import PAIR_SECONDS, SET_BLOCKS, Layout
from pytest_greencompute.protocol.messages import Plan
from pytest_greencompute.protocol.sets import lay_out
from pytest_greencompute.testing.simulated import SimulatedClock
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.readings import Block, Source, Span
from pytest_greencompute.values.run import Run

P95 = METRICS["latency_p95"]
CPU = Source("cputime", "cpu", "modelled")


@given(st.integers(1, 500), st.floats(1e-4, 0.19), st.floats(0.02, 0.19), st.integers(5, 4000))
def test_a_set_holds_a_pairs_time_and_enough_batches_unless_the_time_is_short(
    batches: int, batch_s: float, turn_s: float, sets: int
) -> None:
    layout = Layout(batches, batch_s, max(turn_s, batch_s), 1, sets)
    found = in_turns(layout)
    per_turn = len(found.part(0))
    assert found.size % 2 == 0
    assert found.turns == found.size
    assert found.sets * found.size <= max(sets, 5 * found.size)
    if sets >= ENOUGH_PAIRS * (found.size + 2):
        assert found.size * found.target_s >= PAIR_SECONDS * (1 - 1e-9)
        assert found.size * per_turn >= min(ALIKE_BATCHES, batches)
    if sets > 4 * ENOUGH_PAIRS:
        assert found.sets >= ENOUGH_PAIRS / 2


@pytest.mark.parametrize("layout", [Layout(8, 0.01, 0.5, 1, 40), Layout(8, 0.01, 0.2, SET_BLOCKS, 40), Layout(8, 0.3, 0.3, 1, 40)])
def test_longer_turns_and_nine_phases_are_what_they_were(layout: Layout) -> None:
    assert in_turns(layout) is layout
    assert layout.turns == 1
    assert not layout.stamped


def test_short_turns_are_one_batch_where_that_fills_them_on_either_side() -> None:
    one, other = Layout(8, 0.044, 0.044, 1, 40), Layout(8, 0.045, 0.045, 1, 40)
    assert len(common(one, other).part(0)) == len(common(other, one).part(0)) == 1


@given(st.integers(1, 3000), st.floats(1e-5, 0.5), st.floats(1, 3000), st.booleans(), st.booleans())
def test_sides_of_any_speeds_have_blocks_that_can_be_read_and_waited_for(
    batches: int, fast_s: float, times: float, in_nine: bool, first: bool
) -> None:
    source = Source("made", "gpu:0", "counter", tick_s=0.1)
    plan = Plan(batches, (source,), in_pairs=True, whole=not in_nine)
    fast, slow = lay_out(plan, fast_s, 0.0), lay_out(plan, times * fast_s, 0.0)
    shared = common(fast, slow) if first else common(slow, fast)
    here, there = of_side(shared, fast), of_side(shared, slow)
    assert here == shared
    assert len(here.part(0)) * fast_s >= 0.98 * min(fast.target_s, shared.target_s) - 1e-9
    # A whole pass may be a quarter longer than a block should be.
    assert len(there.part(3)) * slow.batch_s <= 1.25 * UNLIKE * max(shared.target_s, slow.batch_s)
    assert len({len(there.part(number)) for number in range(4)}) == 1
    if times < 2:
        assert there == shared


def test_what_a_slower_side_leaves_out_differs_from_block_to_block() -> None:
    shared = Layout(64, 1e-4, 0.2, SET_BLOCKS, 9)
    slow = of_side(shared, Layout(64, 0.1, 0.2, SET_BLOCKS, 9))
    assert sorted(batch for number in range(32) for batch in slow.part(number)) == list(range(64))
    assert len(shared.part(0)) == 2048
    assert of_side(replace(shared, timed=104), Layout(64, 0.1, 0.2, SET_BLOCKS, 9)).timed == 20


def test_batches_timed_within_blocks_take_no_time_of_their_own() -> None:
    layout = in_turns(Layout(128, 0.044, 0.044, 1, 900))
    assert with_timing(layout, [P95]) == layout
    assert most_pairs(P95, layout) == layout.sets
    short = in_turns(Layout(8, 0.0003, 0.02, 1, 400))
    assert with_timing(short, [P95]).timed >= 20


def run_of(sets: int, size: int = 1, joules: float = 1.0) -> Run:
    blocks = [Block(number // size, 0.0, 1, number, number + 1, {"cpu": Span(joules, number, number + 1)}) for number in range(sets * size)]
    return Run("test_it", None, 8, 1, True, sources=(CPU,), blocks=tuple(blocks))


class Base:
    """The other side's process, which notes its turns."""

    def __init__(self, log: list[str], layout: Layout, *, takes_turns: bool = True) -> None:
        self.log, self.layout, self.takes_turns = log, layout, takes_turns
        self.run: Run | None = None
        self.is_over = False

    def wait_here(self, _name: str | None, _limit_s: float | None) -> None: ...

    def prepare(self, _learnt: object = ()) -> Layout:
        return self.layout

    def lay_out(self, layout: Layout) -> None:
        self.layout = layout

    def run_set(self, index: int) -> Run | None:
        self.log.append(f"base {index}")
        if (index + 1) % self.layout.turns == 0:
            self.run = run_of((index + 1) // self.layout.turns, self.layout.turns)
        return self.run


def pairing_with(base: Base) -> Pairing:
    side = cast("Side", None)
    here = BaseOfTest("HEAD", side, cast("Process", base))
    return Pairing([Match(here, {"energy_per_query": Rule()}, Aim())], side, cast("Callable[[Side], Process]", None), Aim())


SHORT = Layout(8, 0.05, 0.05, 1, 400)


def test_both_sides_take_their_turns_in_the_order_of_a_pair_and_its_mirror_image() -> None:
    log: list[str] = []
    pairing = pairing_with(Base(log, SHORT))
    size = pairing.agree(SHORT).size
    for number in range(3 * size):
        assert pairing.turn(number, run_of(number // size, size) if number % size == 0 and number else None if number else run_of(0))
        log.append(f"head {number}")
    first = ["head 0", "base 0", "base 1", "head 1", "head 2", "base 2", "base 3", "head 3"]
    assert log[:8] == first
    assert pairing.matches[0].tests["energy_per_query"].pairs == 2


def test_a_base_that_knows_no_turns_within_sets_runs_whole_ones() -> None:
    log: list[str] = []
    pairing = pairing_with(Base(log, replace(SHORT, target_s=PAIR_SECONDS, sets=40), takes_turns=False))
    assert pairing.agree(SHORT).turns == 1


def test_this_side_measures_no_further_for_a_base_whose_time_is_over() -> None:
    base = Base([], SHORT)
    pairing = pairing_with(base)
    size = pairing.agree(SHORT).size
    pairing.certain = True
    assert pairing.turn(size, run_of(1, size))
    base.is_over = True
    assert not pairing.turn(2 * size, run_of(2, size))


def test_what_was_not_measured_again_says_why() -> None:
    base = Base([], replace(SHORT, target_s=PAIR_SECONDS, sets=40))
    pairing = pairing_with(base)
    pairing.agree(base.layout)
    (match,) = pairing.matches
    match.run = run_of(8)
    match.begin_again(1, "the energy of this side followed the phase of the meter's tick")
    match.remark = "measuring it again did not fit into 60 s: needs about 30 s more"
    against = against_base(match, Figures(run_of(8), Aim()), "test_it")
    found = against.ratio(METRICS["energy_per_query"], Figures(run_of(8), Aim()).of(METRICS["energy_per_query"]))
    assert found.word == "UNMEASURED"
    assert match.remark in found.reason


def test_the_base_makes_up_for_the_turns_of_a_set_that_this_side_has_lost() -> None:
    log: list[str] = []
    pairing = pairing_with(Base(log, SHORT))
    size = pairing.agree(SHORT).size
    assert pairing.turn(0, run_of(0))
    assert pairing.turn(size, run_of(0))
    assert log == [f"base {number}" for number in range(size)]


def test_loading_is_on_nobodys_bill_where_fresh_launches_come_one_after_the_other() -> None:
    clock = SimulatedClock()

    class Loading(Base):
        def wait_here(self, _name: str | None, _limit_s: float | None = None) -> None:
            clock.sleep(0.0 if self.run else 1000.0)
            self.run = run_of(self.layout.sets)

        def end(self) -> Run:
            return run_of(self.layout.sets)

        def close(self) -> None: ...

    layout, side = replace(SHORT, target_s=PAIR_SECONDS, sets=5), Side("main", Path(), "", {})
    pairing = pairing_with(Base([], layout))
    pairing.outlook, pairing.start = Outlook(TimeLimit(clock, 60.0)), lambda _: cast("Process", Loading([], layout))
    (match,) = pairing.matches
    match.base.side, match.layout = side, layout
    with pairing.outlook.limit.counting():
        pairing._one_after_the_other(match, 2)
        assert pairing.outlook.limit.spent_s < 60
    assert pairing.outlook.limit.apart_s == pytest.approx(2000.0)


@pytest.mark.parametrize(("first_s", "then_s", "batches"), [(0.1, 1e-4, 2048), (0.1, 0.11, 2), (1e-4, 1e-4, 2048)])
def test_a_launch_that_is_far_faster_than_the_first_has_longer_blocks(first_s: float, then_s: float, batches: int) -> None:
    class Launch(Base):
        run_name = None

        def has_ended(self) -> bool:
            return self.run is not None

        def end(self) -> Run:
            self.run = run_of(1)
            return self.run

        def close(self) -> None: ...

    layouts: dict[str | None, Layout] = {}
    for batch_s in (first_s, then_s):
        launch = Launch([], Layout(64, batch_s, 0.2, SET_BLOCKS, 9))
        _whole_launch(cast("Process", launch), layouts, lambda _: [], 4, nullcontext)
    assert len(launch.layout.part(0)) == batches


@contextmanager
def conversation() -> Iterator[tuple[Worker, Channel]]:
    ours, theirs = socket.socketpair()
    with closing(Channel(ours)) as here, closing(Channel(theirs)) as there:
        yield Worker(there), here


def told(worker: Worker, turns: list[tuple[int, Run | None]]) -> tuple[threading.Thread, list[bool]]:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.extend(worker.turn(*each) for each in turns))
    thread.start()
    return thread, found


def said(channel: Channel, **message: Any) -> Any:
    channel.send(**message)
    return channel.receive(10.0)


def test_a_side_says_its_run_after_a_set_and_nothing_of_it_within() -> None:
    with conversation() as (worker, channel):
        thread, found = told(worker, [(0, run_of(0)), (1, None), (2, run_of(1, 2)), (3, None)])
        assert said(channel, what="set", index=0) == {"what": "measured", "run": None}
        assert len(said(channel, what="set", index=1)["run"]["raw"]["sets"]) == 1
        assert said(channel, what="set", index=2) == {"what": "measured", "run": None}
        channel.send(what="end")
        thread.join()
        assert found == [True, True, True, False]


def test_a_side_that_has_lost_a_set_lets_its_other_turns_pass() -> None:
    with conversation() as (worker, channel):
        thread, found = told(worker, [(0, run_of(0)), (1, None), (4, run_of(0)), (5, None)])
        said(channel, what="set", index=0)
        for number in (1, 2, 3):
            assert said(channel, what="set", index=number)["run"]["raw"]["sets"] == []
        assert said(channel, what="set", index=4) == {"what": "measured", "run": None}
        channel.send(what="end")
        thread.join()
        assert found == [True, True, True, False]


def test_a_test_that_is_not_wanted_ends_though_its_model_swallows_what_says_so() -> None:
    with conversation() as (worker, channel):
        channel.send(what="load", stops=True)
        worker.wait_to_load("tests/test_app.py::test_it", None)
        channel.send(what="next")
        with pytest.raises(NotWantedError):  # in the midst of the model's code, which may fall back to another device
            worker._stand_by("device")
        assert [channel.receive(10.0)["what"] for _ in range(2)] == ["collected", "device"]
        channel.close()
        with pytest.raises(NotWantedError):
            worker.wait_to_run()
        with pytest.raises(NotWantedError):
            worker.wait_to_begin(None)


@pytest.mark.parametrize("apart", [False, True])
def test_workers_are_the_processes_of_a_pool_and_not_the_other_side(apart: bool) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        if str(child.pid) not in descendants():
            pytest.skip("this system does not list the children of a process")
        if apart:
            APART.add(str(child.pid))
        assert (str(child.pid) in workers()) is not apart
        APART.discard(str(child.pid))
        child.communicate(b"\n")


def test_both_sides_have_their_share_of_the_processors_in_one_session() -> None:
    """Linux shares the processors out session by session: a side with a session of its own would be held up less than the other."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, **OWN_GROUP) as side:
        assert os.getsid(side.pid) == os.getsid(0)
        assert os.getpgid(side.pid) == side.pid != os.getpgrp()  # Ctrl-C does not reach it
        side.communicate(b"\n")
