"""What measuring costs: memory per query and time per query. CPU of the sampler on a (stand-in) GPU is in tests/gpu."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable

import pytest

from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.protocol.parts import part
from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.run import Run
from tests.quiet import in_steps

BYTES_A_QUERY = 64
STEPS_A_QUERY = 220  # of Python (tests/quiet.py); a per cent of a millisecond where a step takes 45 ns
FEW, MANY = 2_000, 22_000


class Queries:
    """``count`` queries that take no memory: number k is k modulo 7."""

    # No __iter__: what has a length and can be sliced is enough (a tensor, a dataset).

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, where: slice) -> list[int]:
        return [index % 7 for index in range(*where.indices(self._count))]


def metered(queries: int, score: Callable[[int, int], float] | str) -> Run:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=PROFILES["T4"])

    def model(batch: list[int]) -> list[int]:
        gpu.work(0.001 * len(batch), 200.0)
        return batch

    task = Task(model, Queries(queries), 50, [1] * queries, score)  # type: ignore[arg-type]
    return run_metered(task, Instruments([gpu.energy_counter()], clock), Effort(max_seconds=20, percentile=0.99))[0]


def unmetered(queries: int, score: Callable[[int, int], float] | str) -> Run:
    task = Task(lambda batch: batch, Queries(queries), 50, [1] * queries, score)  # type: ignore[arg-type]
    return run_once(task, SimulatedClock())[0]


def kept_bytes(run: Callable[[], Run]) -> int:
    """What is still held once a run is there, its outputs thrown away."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = run()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept.queries
    return held


@pytest.mark.parametrize("score", ["accuracy", lambda answer, reference: answer / 3 + reference], ids=["accuracy", "own score"])
@pytest.mark.parametrize("run", [metered, unmetered])
def test_a_run_keeps_at_most_64_bytes_a_query(run: Callable[[int, Callable[[int, int], float] | str], Run], score: str) -> None:
    run(FEW, score)  # imports and caches
    grown = kept_bytes(lambda: run(MANY, score)) - kept_bytes(lambda: run(FEW, score))
    assert grown / (MANY - FEW) <= BYTES_A_QUERY


@pytest.mark.alone
def test_the_loop_adds_at_most_some_steps_of_python_to_a_query() -> None:
    def nothing(batch: list[int]) -> list[int]:
        return batch

    clock, workload = RealClock(), Workload(nothing, list(range(1000)), 1, None)

    def added_s() -> float:
        worked = workload.run(part(0, 1000, 0.001, 1.0), clock)
        start = time.perf_counter()
        for _ in range(1000):
            nothing([0])
        return worked.seconds / worked.queries - (time.perf_counter() - start) / 1000

    assert in_steps(added_s) <= STEPS_A_QUERY
