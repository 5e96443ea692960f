"""Models that are awaited: the same loop, run by the test's own event loop, which waiting for counters does not hold up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.measuring.driver import arun_metered, run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.once import arun_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.awaiting import aside, finished, settled
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.run import Run

IN_ASYNCIO = pytest.param(asyncio.run, id="asyncio")
IN_TRIO = pytest.param(lambda coroutine: trio.run(_awaited, coroutine), id="trio")


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


def test_what_never_waits_is_run_to_its_end_and_may_raise() -> None:
    async def answers() -> int:
        return await settled(3)

    async def breaks() -> None:
        raise LookupError("broken")

    assert finished(answers()) == 3
    with pytest.raises(LookupError, match="broken"):
        finished(breaks())


def test_what_waits_after_all_is_an_error_and_no_answer() -> None:
    async def waits() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waited"):
        finished(waits())


@pytest.mark.parametrize("run", [IN_ASYNCIO, IN_TRIO])
def test_waiting_aside_happens_in_another_thread(run: Callable[[Any], Any]) -> None:
    assert run(aside(threading.get_ident)) != threading.get_ident()


def test_the_event_loop_goes_on_meanwhile() -> None:
    async def both() -> int:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.001)
                beats += 1

        task = asyncio.create_task(beat())
        await aside(lambda: time.sleep(0.2))
        task.cancel()
        return beats

    assert asyncio.run(both()) >= 5


class _Bench:
    """A simulated GPU whose counter ticks, and a model on it that uses 3 J a query; ``threads`` are those that slept for the counter."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, idle_w=50.0)
        self.instruments = Instruments([self.gpu.energy_counter()], _Watched(self.clock, self.threads))
        self.running_in: set[int] = set()

    def model(self, batch: list[int]) -> list[int]:
        self.running_in.add(threading.get_ident())
        self.gpu.work(0.01 * len(batch), 300.0)
        return batch

    async def awaited(self, batch: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return self.model(batch)


class _Watched:
    """The clock, noting who sleeps."""

    def __init__(self, clock: Clock, threads: set[int]) -> None:
        self._clock, self._threads = clock, threads

    def sleep(self, seconds: float) -> None:
        self._threads.add(threading.get_ident())
        self._clock.sleep(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)


def _joules(run: Run) -> list[float]:
    return [span.energy_j for block in run.blocks for span in block.spans.values()]


def test_an_awaited_model_gives_the_very_samples_of_one_that_is_called() -> None:
    called, awaited = _Bench(), _Bench()
    effort = Effort(max_seconds=5, count=("page_faults_per_query",))
    run, outputs = run_metered(Task(called.model, range(20), batch_size=4), called.instruments, effort)
    task = Task(awaited.awaited, range(20), batch_size=4, awaits=True)
    arun, aoutputs = asyncio.run(arun_metered(task, awaited.instruments, effort))
    assert aoutputs == outputs == list(range(20))
    assert _joules(arun) == _joules(run)
    assert arun.latencies == run.latencies
    assert arun.counts["page_faults_per_query"].value is not None


def test_counters_are_waited_for_beside_the_event_loop_and_the_model_runs_in_it() -> None:
    bench = _Bench()
    asyncio.run(arun_metered(Task(bench.awaited, range(8), awaits=True), bench.instruments, Effort(max_seconds=2)))
    assert bench.threads
    assert threading.get_ident() not in bench.threads
    assert bench.running_in == {threading.get_ident()}


def test_each_query_once_without_a_meter() -> None:
    bench = _Bench()
    run, outputs = asyncio.run(arun_once(Task(bench.awaited, range(8), references=range(8), awaits=True), bench.clock))
    assert outputs == list(range(8))
    assert run.scores == (1.0,) * 8
    assert not run.metered
