"""The measuring protocol as a state machine that asks and is told: no clock, no hardware, no model in here.

``measuring(plan, rng)`` is a generator. It yields *asks* ("run this part", "wait for a tick of every counter") and is sent
the answers; whoever drives it (measure.py, and later an async and a two-process driver) owns all I/O. It returns
``Measured``, the raw samples. The steps are those of docs/explanation/measuring.md.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.samples import FOREIGN, Block, Idle, Latency, Reading, Source, Span
from pytest_greencompute.schedule import Part, block_seconds, blocks_per_set, part, phases, spread, whole_pass
from pytest_greencompute.sequential import MIN_SAMPLES, looks, sets_that_fit

if TYPE_CHECKING:
    import numpy as np

WARMUP_CHUNK_S = 0.2
WARMUP_LIMIT_S = 10.0
WARMUP_CHUNKS = 6  # the last three against the three before them
PLATEAU = 0.02
IDLE_TICKS = 5
IDLE_SECONDS = 0.05
IDLE_LAGS = 0.5
LATENCY_BATCHES = 104  # bounds p95 on both sides at 99 %
LATENCY_BATCHES_P99 = 528
PASS_TIMES = 4
LATENCY_SHARE = 0.3  # of the time limit, at most
LOST_SETS = 3
LEAST_SINGLES = 3
ASLEEP_S = 0.05
SETTLE_S = 1.2  # longer than any running mean: the first pass must not be in the idle power that the probe sees
JUMP_TIMES, JUMP_S = 3.0, 1.0
LEAST_OF_IDLE = 0.5
FOREIGN_TIMES, FOREIGN_W = 1.5, 10.0
FASTEST_BATCH_S = 1e-7  # what a call costs in Python: a clock that shows less has stood still
LAG_WORK_S = 1.5
LAG_LOOK_S = 3.0
LAG_TICKS = 20
LAG_SHARE = 0.05
LAG_FROM_TICK = 2
LAG_SHORTEST_TICK_S = 0.005


# --- asks, and what their answers are ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """Find each ticking counter's tick while the device idles. Answer: Probed."""


@dataclass(frozen=True, slots=True)
class Work:
    """Run a part, device synchronised at both ends (``timed``: and around every batch). Answer: Worked."""

    part: Part
    timed: bool = False
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Ticks:
    """Wait until every ticking counter has changed. Answer: Mapping[domain, Reading], each at its own tick."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds. Answer: None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Marks:
    """What would spoil a block right now. Answer: tuple of marks."""


@dataclass(frozen=True, slots=True)
class Learn:
    """Keep what was found out about the sources for the session's later runs. Answer: None."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Enough:
    """Are the verdicts certain on what has been measured so far? Answer: bool."""

    measured: Measured


@dataclass(frozen=True, slots=True)
class Tell:
    """Say how far it is: ``done`` of ``total`` seconds (an estimate; 0: not known yet). Answer: None."""

    what: str
    done_s: float = 0.0
    total_s: float = 0.0


Ask = Probe | Work | Ticks | Wait | Marks | Learn | Enough | Tell
Steps = Generator[Ask, Any, "Measured"]


@dataclass(frozen=True, slots=True)
class Probed:
    """The sources with tick and jitter as seen, and what each domain drew meanwhile: the idle power that later gaps are held against."""

    sources: tuple[Source, ...]
    quiet: tuple[Idle, ...] = ()


@dataclass(frozen=True, slots=True)
class Worked:
    """What a Work did: monotonic times of its ends, queries run, latencies if timed, readings of the continuous counters.

    ``asleep_s``: how long the machine was suspended meanwhile.
    """

    start_ns: int
    end_ns: int
    queries: int
    latencies: tuple[Latency, ...] = ()
    around: Mapping[str, Span] = field(default_factory=dict)
    asleep_s: float = 0.0

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: batches in a pass, the sources found, the limits of effort.

    Whether p99 must be bounded, whether a lag is to be looked for, the marks that the user allowed, and the idle power seen by the probe.
    """

    batches: int
    sources: tuple[Source, ...]
    max_seconds: float = 60.0
    needs_p99: bool = False
    find_lag: bool = False
    allowed: frozenset[str] = frozenset()
    quiet: tuple[Idle, ...] = ()

    @property
    def ticking(self) -> bool:
        return any(source.tick_s > 0 for source in self.sources)


@dataclass(frozen=True, slots=True)
class Measured:
    """The raw samples of one measurement, as Run holds them."""

    sources: tuple[Source, ...]
    blocks: tuple[Block, ...] = ()
    warmup: tuple[Block, ...] = ()
    idles: tuple[Idle, ...] = ()
    latencies: tuple[Latency, ...] = ()
    notes: tuple[str, ...] = ()
    looks: int = 1


# --- the steps --------------------------------------------------------------------------------------------------------


def measuring(plan: Plan, rng: np.random.Generator, first_pass: Worked) -> Steps:
    """The whole protocol after the first pass over the queries, which the driver ran to collect the answers."""
    if plan.ticking:
        yield Tell("finding the meter's tick")
        yield Wait(SETTLE_S)
        probed: Probed = yield Probe()
        plan = replace(plan, sources=probed.sources, quiet=probed.quiet)
    warmup, batch_s, notes = yield from _warm_up(plan, first_pass)
    if plan.find_lag and plan.ticking:
        plan = replace(plan, sources=(yield from _find_lag(plan, batch_s)))
    latencies, spent = yield from _time_batches(plan, batch_s)
    measured = Measured(plan.sources, warmup=warmup, latencies=latencies, notes=notes)
    if not plan.sources:
        return measured
    return (yield from _sets(plan, rng, measured, batch_s, spent))


def _warm_up(plan: Plan, first_pass: Worked) -> Generator[Ask, Any, tuple[tuple[Block, ...], float, tuple[str, ...]]]:
    """Run until the time per query has stopped trending, or the limit; those blocks are kept apart, with no energy."""
    batch_s = max(first_pass.seconds / plan.batches, FASTEST_BATCH_S)
    spent = 0.0
    chunks: list[Block] = []
    rates: list[float] = []
    while True:
        chunk = part(len(chunks), plan.batches, batch_s, WARMUP_CHUNK_S)
        yield Tell("warming up", spent, 0.0)
        worked: Worked = yield Work(chunk)
        chunks.append(Block(len(chunks), 0.0, worked.queries, worked.start_ns, worked.end_ns, {}))
        spent += worked.seconds
        batch_s = max(worked.seconds / len(chunk), FASTEST_BATCH_S)
        rates.append(worked.seconds / worked.queries)
        if _levelled(rates):
            return tuple(chunks), batch_s, ()
        if spent >= WARMUP_LIMIT_S and len(chunks) >= LEAST_SINGLES:
            return tuple(chunks), batch_s, (f"time per query was still changing when warm-up ended after {spent:.0f} s",)


def _find_lag(plan: Plan, batch_s: float) -> Generator[Ask, Any, tuple[Source, ...]]:
    """How long energy goes on arriving after work has stopped: a counter that integrates a running mean has such a tail.

    Looks at the power between ticks after a stretch of work, until it has come down to its level at the end of the look.
    """
    tick = max(source.tick_s for source in plan.sources)
    if tick < LAG_SHORTEST_TICK_S:
        yield Learn(plan.sources)
        return plan.sources
    yield Tell("looking for a lag of the meter")
    worked: Worked = yield Work(part(0, plan.batches, batch_s, LAG_WORK_S))
    sources, _ = yield from watch_tail(plan.sources, worked.end_ns)
    return sources


def watch_tail(
    sources: tuple[Source, ...], end_ns: int
) -> Generator[Ticks | Learn, Any, tuple[tuple[Source, ...], list[Mapping[str, Reading]]]]:
    """Read tick after tick since work ended at ``end_ns``; the sources with the lag that shows, and the readings."""
    tick = max(source.tick_s for source in sources)
    seen: list[Mapping[str, Reading]] = []
    for _ in range(max(LAG_TICKS, math.ceil(LAG_LOOK_S / tick))):
        seen.append((yield Ticks()))
    lags = {domain: lag_of([readings[domain] for readings in seen], end_ns) for domain in seen[0]}
    sources = tuple(replace(each, lag_s=max(each.lag_s, lags.get(each.domain, 0.0))) for each in sources)
    yield Learn(sources)
    return sources, seen


def lag_of(readings: Sequence[Reading], end_ns: int) -> float:
    """Seconds from the end of work to the tick at which power had come down to its last level; 0 where the first two ticks hold it all.

    ``readings`` are at ticks after ``end_ns``. The first whole tick may hold the end of the work, so only what comes later is a tail.
    """
    powers = [(b.energy_j - a.energy_j) / ((b.t_ns - a.t_ns) / 1e9) for a, b in itertools.pairwise(readings)]
    level = statistics.median(powers[len(powers) // 2 :])
    low = level + LAG_SHARE * max(powers[0] - level, 0.2 * level)
    # The first return to the level, not the last point above it: one late tick anywhere in the look must not pass for a lag.
    tail = next((index for index, power in enumerate(powers) if power <= low), len(powers) - 1)
    return (readings[tail].t_ns - end_ns) / 1e9 if tail > LAG_FROM_TICK else 0.0


def _levelled(rates: list[float]) -> bool:
    """Whether the last three chunks differ from the three before by no more than 2 %, or by no more than their own noise."""
    if len(rates) < WARMUP_CHUNKS:
        return False
    before, last = rates[-6:-3], rates[-3:]
    change = abs(statistics.fmean(last) - statistics.fmean(before))
    noise = (statistics.stdev(before) + statistics.stdev(last)) / 2
    return change <= max(PLATEAU * statistics.fmean(before), noise)


def _time_batches(plan: Plan, batch_s: float) -> Generator[Ask, Any, tuple[tuple[Latency, ...], float]]:
    """The latency pass: whole batches, each synchronised, until a percentile can be bounded or the time share is spent."""
    want = LATENCY_BATCHES_P99 if plan.needs_p99 else LATENCY_BATCHES
    limit = LATENCY_SHARE * plan.max_seconds
    latencies: list[Latency] = []
    spent = 0.0
    # A pass that holds many more batches than are wanted is walked, so that a sorted list gives short and long ones alike.
    few = spread(plan.batches, want) if plan.batches > PASS_TIMES * want else whole_pass(plan.batches)
    while len(latencies) < want and spent < limit:
        yield Tell("timing batches", spent, min(limit, want * batch_s))
        worked: Worked = yield Work(few, timed=True, seconds=limit - spent)
        latencies.extend(worked.latencies)
        spent += worked.seconds
    return tuple(latencies), spent


def _sets(plan: Plan, rng: np.random.Generator, measured: Measured, batch_s: float, spent: float) -> Steps:
    """Complete sets of blocks until the verdicts are certain at a planned look, or the time limit."""
    tick = max(source.tick_s for source in plan.sources)
    lag = max(source.lag_s for source in plan.sources)

    target_s = max(block_seconds(tick, lag), batch_s)
    size = blocks_per_set(tick, target_s, lag)
    if size == 1 and MIN_SAMPLES * plan.batches * batch_s <= plan.max_seconds - spent:
        # Where the phase does not matter and time allows, each block is a whole pass: blocks and runs then hold the same queries.
        target_s = max(target_s, plan.batches * batch_s)

    def share(number: int) -> Part:
        return part(number, plan.batches, batch_s, target_s)

    block_s = len(share(0)) * batch_s
    set_s = size * (block_s + lag + (2 * tick if plan.ticking else 0.0)) + _idle_seconds(tick, lag)
    least = LEAST_SINGLES if size == 1 else 1  # one block alone has no interval
    planned = looks(max(least, sets_that_fit(plan.max_seconds - spent, set_s)))
    first = yield from read_idle(plan.sources, settle=True)
    disturbed = _disturbed(plan.quiet, first, plan.allowed)
    measured = replace(measured, looks=len(planned), idles=first)
    lost = 0
    for index in range(planned[-1]):
        yield Tell(f"set {index + 1} of at most {planned[-1]}", index * set_s, planned[-1] * set_s)
        try:
            blocks = yield from _one_set(plan, share, phases(size, rng), index * size, index, tick, lag)
            for block in blocks:
                _check_block(block, block_s, measured.idles)
            idles = yield from read_idle(plan.sources)
            disturbed = disturbed or _disturbed(measured.idles, idles, plan.allowed)
            if disturbed:
                blocks = tuple(replace(block, marks=(*block.marks, FOREIGN)) for block in blocks)
        except MeterLostError as error:
            lost += 1
            if lost >= LOST_SETS:
                raise MeterError(f"{lost} sets were lost: {error.message}", remedy=error.remedy) from error
            measured = replace(measured, notes=(*measured.notes, f"set {index + 1} was lost: {error.message}"))
            yield Wait(lag)  # the lost block's energy may still be arriving
            continue
        measured = replace(measured, blocks=measured.blocks + blocks, idles=measured.idles + idles)
        if index + 1 in planned and (yield Enough(measured)):
            break
        if _seconds_of(measured.blocks) > plan.max_seconds - spent and index + 1 >= least:
            break  # slower than planned; the time is up whatever the figures say
    return measured


def _seconds_of(blocks: Sequence[Block]) -> float:
    return (blocks[-1].end_ns - blocks[0].start_ns) / 1e9 if blocks else 0.0


def _one_set(
    plan: Plan, share: Callable[[int], Part], offsets: tuple[float, ...], first: int, index: int, tick: float, lag: float
) -> Generator[Ask, Any, tuple[Block, ...]]:
    blocks: list[Block] = []
    for number, phase in enumerate(offsets):
        before: Mapping[str, Reading] = {}
        if plan.ticking:
            before = yield Ticks()
            yield Wait(phase * tick)
        marks: tuple[str, ...] = yield Marks()
        worked: Worked = yield Work(share(first + number))
        marks += yield Marks()
        if worked.asleep_s > ASLEEP_S:
            raise MeterLostError(f"the machine was suspended for {worked.asleep_s:.0f} s while the queries ran.", remedy="Measure again.")
        after: Mapping[str, Reading] = {}
        if plan.ticking:
            yield Wait(lag)
            after = yield Ticks()
        spans = dict(worked.around)
        for domain, a in before.items():
            b = after[domain]
            spans[domain] = spanned(domain, a, b)
        unique = tuple(dict.fromkeys(marks))
        started = (worked.start_ns - max(reading.t_ns for reading in before.values())) / 1e9 / tick % 1.0 if before else phase
        blocks.append(Block(index, started, worked.queries, worked.start_ns, worked.end_ns, spans, unique))
    return tuple(blocks)


def _check_block(block: Block, expected_s: float, idles: Sequence[Idle]) -> None:
    """Raises MeterLostError for what no load can cause: a clock that jumped, a counter that moved less than idle power moves it."""
    if block.busy_s > JUMP_TIMES * expected_s + JUMP_S:
        raise MeterLostError(
            f"a block took {block.busy_s:.1f} s instead of {expected_s:.1f} s: the machine was stopped or its clock jumped.",
            remedy="Measure again; on a shared machine, keep other work off it.",
        )
    lowest = {idle.domain: idle.watts for idle in sorted(idles, key=lambda idle: -idle.watts)}
    for domain, span in block.spans.items():
        if span.energy_j < LEAST_OF_IDLE * lowest.get(domain, 0.0) * span.seconds:
            raise MeterLostError(
                f"the energy counter of {domain} moved by {span.energy_j:.3g} J in {span.seconds:.1f} s, less than idle power alone.",
                remedy="A driver reload or a reset of the GPU does this; measure again.",
            )


def _disturbed(before: Sequence[Idle], now: Sequence[Idle], allowed: frozenset[str]) -> bool:
    """Whether a GPU draws far more in this gap than in the quietest one so far: somebody else uses it.

    Process lists are often empty in containers; power in our own gaps shows on every machine. Who was there from the first moment on is
    not seen this way.
    """
    for idle in now:
        quietest = min((each.watts for each in before if each.domain == idle.domain), default=idle.watts)
        if idle.domain.startswith("gpu") and idle.watts > FOREIGN_TIMES * quietest + FOREIGN_W:
            return FOREIGN not in allowed
    return False


def spanned(domain: str, a: Reading, b: Reading) -> Span:
    """The energy of a domain between two readings. Raises MeterLostError where the counter ran backwards."""
    if b.energy_j < a.energy_j:
        raise MeterLostError(
            f"the energy counter of {domain} ran backwards by {a.energy_j - b.energy_j:.3g} J.",
            remedy="A driver reload or a reset of the GPU does this; measure again.",
        )
    return Span(b.energy_j - a.energy_j, a.t_ns, b.t_ns)


def _idle_seconds(tick: float, lag: float) -> float:
    return max(IDLE_TICKS * tick, IDLE_SECONDS, IDLE_LAGS * lag) if tick > 0 else 0.0


def read_idle(sources: Iterable[Source], *, settle: bool = False) -> Generator[Ticks | Wait, Any, tuple[Idle, ...]]:
    """Idle power right after work, tick to tick, for the counters that tick; the others are read without a gap.

    ``settle``: work has just ended and its energy may still be arriving.
    """
    tick = max((source.tick_s for source in sources), default=0.0)
    lag = max((source.lag_s for source in sources), default=0.0)
    if tick == 0:
        return ()
    if settle:
        yield Wait(lag)
    before: Mapping[str, Reading] = yield Ticks()
    yield Wait(_idle_seconds(tick, lag) - tick)
    after: Mapping[str, Reading] = yield Ticks()
    spans = {domain: spanned(domain, a, after[domain]) for domain, a in before.items()}
    return tuple(Idle(domain, span.energy_j, span.seconds) for domain, span in spans.items())
