"""One device looked at closely: tick, cost of reads, lag, coverage, counter against power, and the same work against itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_greencompute.estimates.against_power import Agreement, Standing
from pytest_greencompute.estimates.by_metric import estimate, of_set
from pytest_greencompute.estimates.estimate import Aim, Outcome
from pytest_greencompute.judging.pairs import judge_pairs
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.beside import ShowsPower
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.protocol.layout import SETTLE_S
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Device
from pytest_greencompute.values.readings import Idle, Source
from pytest_greencompute.values.run import Run

ENERGY = METRICS["energy_per_query"]
QUERIES = 8
READS = 40
BETWEEN_READS_S = 0.037  # of no round share of a tick: a read right after one may cost more
IDLE_S = 8.0
RUN_S = 45.0


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """Work for the device: ``work`` keeps it busy for some milliseconds. ``name`` says what it is."""

    name: str
    work: Callable[[], object]


@dataclass(frozen=True, slots=True)
class ReadCost:
    """What one kind of read takes: seconds in the middle and at most, and seconds of CPU in the middle."""

    what: str
    median_s: float
    most_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class DeviceLook:
    """What was found. ``energy`` and ``itself`` (the same work against itself) are None where there was no load; ``left_out`` says why.

    ``agreements``: the counter beside each power field, ``against`` what they say together; None where that cannot be told.
    """

    source: Source
    device: Device
    idle: Idle | None
    behaviour: Behaviour | None
    costs: tuple[ReadCost, ...]
    agreements: tuple[Agreement, ...]
    against: Standing | None
    load: str
    energy: Outcome | None
    itself: Verdict | None
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


def look_closely(instruments: Instruments, load: DeviceLoad | None, say: Callable[[str], None], *, run_s: float = RUN_S) -> DeviceLook:
    """Look at the device of the only counter, with a run of ``run_s`` seconds of the load, what gets it ready aside; without a load, what
    needs one is left out. Raises MeterError, and what the load raises.
    """
    clock = instruments.clock
    start_ns = clock.now_ns()
    say("finding the tick of the counter")
    clock.sleep(SETTLE_S)
    quiet = instruments.probe().quiet
    say("timing reads")
    costs = _costs(instruments)
    beside = instruments.beside()
    run: Run | None = None
    left_out: tuple[str, ...] = ()
    try:
        if load is None:
            left_out = ("lag, coverage and the same work against itself: there was no load",)
            say("the counter against power, idle")
            _idle(instruments, clock.now_ns() + round(IDLE_S * 1e9))
        else:
            say(f"measuring {load.name}: lag, coverage, the counter against power, the work against itself")
            run, _ = run_metered(_task(load), instruments, Effort(run_s, timing="none"))
    finally:
        beside.close()
    (source,) = instruments.sources
    return DeviceLook(
        source=run.sources[0] if run is not None and run.sources else source,
        device=instruments.facts()[source.domain],
        idle=next(iter(quiet), None),
        behaviour=next(iter(instruments.behaviours), None),
        costs=costs,
        agreements=beside.agreements(source),
        against=beside.found(source),
        load="" if load is None else load.name,
        energy=None if run is None else estimate(run, ENERGY, Aim()),
        itself=None if run is None else _against_itself(run),
        left_out=left_out,
        notes=() if run is None else run.notes,
        seconds=(clock.now_ns() - start_ns) / 1e9,
    )


def _task(load: DeviceLoad) -> Task:
    def model(batch: Sequence[int]) -> list[int]:
        for _ in batch:
            load.work()
        return list(batch)

    return Task(model, list(range(QUERIES)))


def _costs(instruments: Instruments) -> tuple[ReadCost, ...]:
    (counter,) = instruments.counters
    calls: dict[str, Callable[[], object]] = {"energy counter": counter.read, "condition": counter.condition}
    if isinstance(counter, ShowsPower):
        calls |= {f"power ({field.name}, {field.scope})": read_w for field, read_w in counter.power_fields().items()}
    return tuple(cost for what, call in calls.items() if (cost := _cost(what, call, instruments)) is not None)


def _cost(what: str, call: Callable[[], object], instruments: Instruments) -> ReadCost | None:
    """None where it cannot be read here."""
    took: list[tuple[float, float]] = []
    for _ in range(READS):
        instruments.clock.sleep(BETWEEN_READS_S)
        start_ns, cpu_s = instruments.clock.now_ns(), time.thread_time()
        try:
            call()
        except Exception:  # noqa: BLE001  a field that this device does not have
            return None
        took.append(((instruments.clock.now_ns() - start_ns) / 1e9, time.thread_time() - cpu_s))
    walls, cpus = zip(*took, strict=True)
    return ReadCost(what, statistics.median(walls), max(walls), statistics.median(cpus))


def _idle(instruments: Instruments, until_ns: int) -> None:
    """Let the counter tick until then, nothing at work."""
    while instruments.clock.now_ns() < until_ns:
        instruments.ticks()
        instruments.clock.sleep(0.5)


def _against_itself(run: Run) -> Verdict:
    """The sets of a run, each held against the next, first and last by turns: how much the same work seems to differ from itself."""
    found = [of_set(run, ENERGY, index, Aim()) for index in dict.fromkeys(block.set_index for block in run.blocks)]
    joules = [each for each in found if each is not None]
    pairs = [pair[:: 1 if number % 2 else -1] for number, pair in enumerate(zip(joules[::2], joules[1::2], strict=False))]
    return judge_pairs([one for one, _ in pairs], [other for _, other in pairs])
