"""Ways to measure the energy of a query on GPU 0: a long reference, the same over all phases of the sensor, the protocol, two readings."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_greencompute.errors import MeterError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.readings import Reading, Source
from pytest_greencompute.values.run import Run
from tests.gpu.load import Load, Matmuls, cuda

QUERIES = 8  # in the list of queries, which is cycled
SETTLE_S = 1.5
IDLE_TICKS = 10
GROUP_TICKS = 3  # between two waits of the swept reference
GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, cover a tick evenly however many there are
PLAIN_S = 0.7


@dataclass(frozen=True)
class Loop:
    """One way's answer: joules per query, wall seconds per query, and the true joules per query where they are known."""

    joules: float
    seconds: float
    truth_j: float | None


@dataclass(frozen=True)
class Measured:
    """One run of the protocol: its estimate, its raw run, the truth, and seconds a query took beside it.

    ``cpu_share``: CPU time over wall time that went into waiting for ticks and reading meters.
    """

    energy: Estimate
    raw: Run
    truth_j: float | None
    plain_s: float
    cpu_share: float


@dataclass
class Bench:
    """GPU 0 under a load, with its counter. ``max_seconds`` is the time limit of the protocol's runs."""

    load: Load
    instruments: Instruments
    max_seconds: float = 15.0
    _luck: random.Random = field(default_factory=lambda: random.Random(1))
    _runs: dict[tuple[float, float], Measured] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """The counter's description, as far as it is known by now."""
        return self.instruments.sources[0]

    def ready(self) -> None:
        """Find the tick, on an idle GPU, once."""
        time.sleep(SETTLE_S)
        self.instruments.probe()

    def tick(self) -> Reading:
        """The counter at its next tick."""
        return self.instruments.ticks()[self.source.domain]

    def read(self) -> Reading:
        """The counter now."""
        return self.instruments.counters[0].read()

    def query(self, seconds: float, duty: float) -> None:
        """One query: busy for ``duty`` of its time, then a pause."""
        self.load.busy(seconds * duty)
        if duty < 1:
            time.sleep(seconds * (1 - duty))

    def steady(self, query_s: float, duty: float, seconds: float) -> Loop:
        """The reference: one long loop, tick to tick, less idle power for the time before and after it."""
        return self._tick_to_tick(query_s, duty, seconds, sweep=False)

    def swept(self, query_s: float, duty: float, seconds: float) -> Loop:
        """The reference for loads in step with the tick: stretches of three ticks or so that begin at all phases of a tick alike."""
        return self._tick_to_tick(query_s, duty, seconds, sweep=True)

    def _tick_to_tick(self, query_s: float, duty: float, seconds: float, *, sweep: bool) -> Loop:
        tick_s, queries, busy_ns, groups = self.source.tick_s, 0, 0, 0
        truth: float | None = 0.0
        a = self.tick()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            if sweep:
                self.tick()
                time.sleep(groups * GOLDEN % 1 * tick_s)
            group = self._group(query_s, duty, GROUP_TICKS * tick_s if sweep else seconds)
            queries, busy_ns, groups = queries + group.queries, busy_ns + group.b_ns - group.a_ns, groups + 1
            part = self.load.truth_j(group.a_ns, group.b_ns)
            truth = None if part is None or truth is None else truth + part
        time.sleep(self.source.lag_s)
        b = self.tick()
        gap_s = (b.t_ns - a.t_ns - busy_ns) / 1e9
        joules = b.energy_j - a.energy_j - self.idle_w() * gap_s
        return Loop(joules / queries, busy_ns / 1e9 / queries, None if truth is None else truth / queries)

    def _group(self, query_s: float, duty: float, seconds: float) -> _Group:
        start_ns, queries = time.perf_counter_ns(), 0
        until_ns = start_ns + int(seconds * 1e9)
        while time.perf_counter_ns() < until_ns or not queries:
            self.query(query_s, duty)
            queries += 1
        return _Group(start_ns, time.perf_counter_ns(), queries)

    def idle_w(self) -> float:
        """Idle power in watts, over ten ticks, right after work."""
        a = self.tick()
        time.sleep((IDLE_TICKS - 1) * self.source.tick_s)
        b = self.tick()
        return (b.energy_j - a.energy_j) / ((b.t_ns - a.t_ns) / 1e9)

    def naive(self, query_s: float, duty: float, seconds: float) -> Loop:
        """Two readings around a loop, at any phase of the tick."""
        time.sleep(self._luck.uniform(0.1, 0.4))
        a = self.read()
        group = self._group(query_s, duty, seconds)
        joules = self.read().energy_j - a.energy_j
        truth = self.load.truth_j(group.a_ns, group.b_ns)
        took_s = (group.b_ns - group.a_ns) / 1e9
        return Loop(joules / group.queries, took_s / group.queries, None if truth is None else truth / group.queries)

    def protocol(self, query_s: float, duty: float) -> Measured:
        """The plugin's protocol; each load is measured once and kept. Raises MeterError where there is no energy figure."""
        key = (query_s, duty)
        if key not in self._runs:
            self._runs[key] = self._protocol(query_s, duty)
        return self._runs[key]

    def _protocol(self, query_s: float, duty: float) -> Measured:
        def model(batch: Sequence[int]) -> Sequence[int]:
            self.query(query_s, duty)
            return batch

        plain = [self._plain(model)]
        wall = time.perf_counter()
        with self._cpu_of_sampling() as cpu:
            raw, _ = run_metered(Task(model, list(range(QUERIES))), self.instruments, Effort(self.max_seconds))
        wall = time.perf_counter() - wall
        plain.append(self._plain(model))
        energy = estimate(raw, METRICS["energy_per_query"], Aim())
        if not isinstance(energy, Estimate):
            raise MeterError(f"The protocol gave no energy per query: {energy.reason}.")
        return Measured(energy, raw, self._truth(raw), sum(plain) / 2, sum(cpu) / wall)

    @contextlib.contextmanager
    def _cpu_of_sampling(self) -> Iterator[list[float]]:
        """Seconds of CPU that each call of the instruments took, while the context is open."""
        took: list[float] = []

        def timed(call: Callable[..., Any]) -> Callable[..., Any]:
            def timing(*args: Any) -> Any:
                start = time.thread_time()
                try:
                    return call(*args)
                finally:
                    took.append(time.thread_time() - start)

            return timing

        with pytest.MonkeyPatch.context() as patch:
            for name in ("ticks", "wait_for_phase", "marks", "read_continuous", "conditions", "facts"):
                patch.setattr(self.instruments, name, timed(getattr(self.instruments, name)))
            yield took

    def _plain(self, model: Callable[[Sequence[int]], object]) -> float:
        """Seconds per query where nothing is measured."""
        start, queries = time.perf_counter(), 0
        while time.perf_counter() < start + PLAIN_S:
            model((0,))
            queries += 1
        return (time.perf_counter() - start) / queries

    def _truth(self, raw: Run) -> float | None:
        parts = [self.load.truth_j(block.start_ns, block.end_ns) for block in raw.blocks]
        if None in parts:
            return None
        return sum(part for part in parts if part is not None) / sum(block.queries for block in raw.blocks)


@dataclass(frozen=True)
class _Group:
    a_ns: int
    b_ns: int
    queries: int


def on_cuda() -> Bench | None:
    """A bench on CUDA's GPU 0, or None where there is none. Where the environment names no GPU, GPU 0 of the bus is taken."""
    # Both libraries must number alike, and CUDA reads these when it starts.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    torch = cuda()
    return None if torch is None else of_load(Matmuls(torch))


def of_load(load: Load, max_seconds: float = 15.0) -> Bench:
    """A bench with the one visible GPU's counter. Raises MeterError where there are several."""
    instruments = open_instruments(["nvml"])
    if len(instruments.counters) != 1:
        raise MeterError("Several GPUs are visible.", remedy="Name one in CUDA_VISIBLE_DEVICES.")
    return Bench(load, instruments, max_seconds)
