"""The measuring protocol as a state machine that asks and is told: no clock, no hardware, no model in here.

``measuring(plan, rng)`` is a generator. It yields *asks* (``messages.py``: "run this part", "wait for a tick of every counter") and is sent
the answers; whoever drives it owns all I/O. It returns ``Measured``, the raw samples. The steps are those of
docs/explanation/measuring.md; the sets of blocks are in ``sets.py``.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.protocol.coverage import find_coverage
from pytest_greencompute.protocol.forecast import ahead, latency_batches
from pytest_greencompute.protocol.layout import LAG_FLAT_TICKS, SETTLE_S, WARMUP_CHUNK_S, WARMUP_CHUNKS, lag_ticks
from pytest_greencompute.protocol.messages import Ask, Learn, Measured, Plan, Probe, Probed, Steps, Tell, Ticks, Wait, Work
from pytest_greencompute.protocol.parts import Worked, part, spread, whole_pass
from pytest_greencompute.protocol.sets import Readings, measure_sets, phase_matters
from pytest_greencompute.values.readings import Block, Reading, Source
from pytest_greencompute.values.run import Latency

if TYPE_CHECKING:
    import numpy as np

Protocol = Callable[[Plan, "np.random.Generator", Worked], Steps]  # what is done after the first pass, which took so long
WARMUP_LIMIT_S = 10.0
SHORT_WARMUP_S = WARMUP_CHUNKS * WARMUP_CHUNK_S  # where no energy is metered, and latency is only shown
LEAST_CHUNKS = 3
ASKED_AGAIN = 32  # batches whose answers and times are held against those of the first pass
PLATEAU = 0.02
PASS_TIMES = 4
FASTEST_BATCH_S = 1e-7  # what a call costs in Python: a clock that shows less has stood still
LAG_SHARE = 0.05
LAG_RISE = 0.2  # of idle power: work that draws less above it shows no lag
LAG_FROM_TICK = 2
SURPRISED = "the meter does not tick as it did for the process before: it was looked at anew"
LAG_RESTS = 0.15  # of the work's rise: a hot GPU idles higher than a cold one
LAG_SHORTEST_TICK_S = 0.005


def measuring(plan: Plan, rng: np.random.Generator, first_pass: Worked) -> Steps:
    """The whole protocol after the first pass over the queries, which the driver ran to collect the answers."""
    ready = yield from get_ready(plan, first_pass)
    plan, batch_s = ready.plan, ready.batch_s
    if plan.find_whole and phase_matters(plan, batch_s):
        plan = replace(plan, whole=(yield from find_coverage(plan, batch_s, rng)))
    latencies, spent = yield from _time_batches(plan, batch_s)
    measured = replace(ready.measured, latencies=latencies)
    if not plan.sources:
        return measured
    return (yield from measure_sets(plan, rng, measured, batch_s, spent))


@dataclass(frozen=True, slots=True)
class Ready:
    """What is known before the first block: the plan with the sources as probed, seconds of a batch, and the warm-up."""

    plan: Plan
    batch_s: float
    measured: Measured


def get_ready(plan: Plan, first_pass: Worked) -> Generator[Ask, Any, Ready]:
    """Find the tick while the device idles, warm up, and find the lag."""
    batch_s = max(first_pass.seconds / plan.batches, FASTEST_BATCH_S)
    said: tuple[str, ...] = ()
    if plan.ticking:
        plan, said = yield from _find_tick(plan, batch_s)
    find_lag = plan.find_lag and plan.ticking and plan.tick_s >= LAG_SHORTEST_TICK_S
    before: Readings = (yield Ticks()) if find_lag else {}
    warmup, batch_s, notes = yield from _warm_up(plan, batch_s)
    if find_lag:
        plan = replace(plan, sources=(yield from _find_lag(plan, batch_s, before, warmup[-1].end_ns)))
    elif plan.find_lag and plan.ticking:
        yield Learn(plan.sources)
    return Ready(plan, batch_s, Measured(plan.sources, warmup=warmup, notes=said + notes))


def _find_tick(plan: Plan, batch_s: float) -> Generator[Ask, Any, tuple[Plan, tuple[str, ...]]]:
    """The plan with the sources as probed, and what there is to say. What another process has told is looked at again, not trusted."""
    said: tuple[str, ...] = ()
    if not plan.settle:
        known: Probed = yield Probe()
        if not known.surprised:
            return replace(plan, sources=known.sources, quiet=known.quiet), said
        plan, said = replace(plan, settle=True, find_lag=True, whole=False, find_whole=True), (SURPRISED,)
    yield Tell("finding the meter's tick", *ahead(plan, batch_s, from_step="probe"))
    yield Wait(SETTLE_S)
    found: Probed = yield Probe()
    return replace(plan, sources=found.sources, quiet=found.quiet), said


def _warm_up(plan: Plan, batch_s: float) -> Generator[Ask, Any, tuple[tuple[Block, ...], float, tuple[str, ...]]]:
    """Run until the time per query has stopped trending, or the limit; those blocks are kept apart, with no energy."""
    judged = bool(plan.sources) or plan.timing == "whole"
    limit_s, spent, again = WARMUP_LIMIT_S if judged else SHORT_WARMUP_S, 0.0, 0
    chunks: list[Block] = []
    rates: list[float] = []
    while True:
        chunk = part(len(chunks), plan.batches, batch_s, WARMUP_CHUNK_S)
        yield Tell("warming up", *ahead(plan, batch_s, from_step="warm-up", spent=spent))
        worked: Worked = yield Work(chunk, again=again < min(ASKED_AGAIN, plan.batches))
        again += len(chunk)
        chunks.append(Block(len(chunks), 0.0, worked.queries, worked.start_ns, worked.end_ns, {}))
        spent += worked.seconds
        batch_s = max(worked.seconds / len(chunk), FASTEST_BATCH_S)
        rates.append(worked.seconds / worked.queries)
        if _levelled(rates):
            return tuple(chunks), batch_s, ()
        if spent >= limit_s and len(chunks) >= LEAST_CHUNKS:
            return (
                tuple(chunks),
                batch_s,
                () if not judged else (f"time per query was still changing when warm-up ended after {spent:.0f} s",),
            )


def _find_lag(plan: Plan, batch_s: float, before: Readings, end_ns: int) -> Generator[Ask, Any, tuple[Source, ...]]:
    """How long energy goes on arriving after work has stopped: a counter that integrates a running mean has such a tail.

    Looks at the power between ticks after the warm-up, which ended at ``end_ns``, until it has come down to its level at the end of the
    look. ``before``: readings at a tick before the warm-up.
    """
    yield Tell("looking for a lag of the meter", *ahead(plan, batch_s, from_step="lag"))
    idle_w = {idle.domain: idle.watts for idle in plan.quiet}
    sources, _ = yield from watch_tail(plan.sources, before, end_ns, always=True, idle_w=idle_w)
    return sources


def watch_tail(
    sources: tuple[Source, ...],
    before: Readings,
    end_ns: int,
    *,
    always: bool = False,
    idle_w: Mapping[str, float] | None = None,
) -> Generator[Ticks | Learn, Any, tuple[tuple[Source, ...], list[Readings]]]:
    """Read tick after tick since work ended at ``end_ns``; the sources with the lag that shows, and the readings.

    ``before``: readings at a tick before the work. The session learns the lags (``always``, or where some device
    worked hard enough to show one). The look ends early where every domain has come to rest, ``idle_w`` being what each drew before.
    """
    seen: list[Readings] = []
    for _ in range(lag_ticks(max(source.tick_s for source in sources))):
        seen.append((yield Ticks()))
        if idle_w and all(domain in idle_w and _rests(before[domain], seen, domain, idle_w[domain]) for domain in seen[-1]):
            break
    tails = {domain: Tail.of(before[domain], [readings[domain] for readings in seen]) for domain in seen[-1]}
    sources = tuple(
        replace(each, lag_s=max(each.lag_s, tails[each.domain].lag_s(end_ns))) if each.domain in tails else each for each in sources
    )
    if always or any(tail.shows for tail in tails.values()):
        yield Learn(sources)
    return sources, seen


def _rests(before: Reading, seen: Sequence[Readings], domain: str, idle_w: float) -> bool:
    """Whether a domain's power has been flat for many ticks, and low: a running mean would still be falling, a delayed one high."""
    after = [readings[domain] for readings in seen if domain in readings]
    if len(after) <= LAG_FLAT_TICKS:
        return False
    rise_w = _watts(before, after[0]) - idle_w
    last = [_watts(a, b) for a, b in itertools.pairwise(after[-LAG_FLAT_TICKS - 1 :])]
    return max(last) - min(last) <= LAG_SHARE * rise_w and max(last) - idle_w <= LAG_RESTS * rise_w


@dataclass(frozen=True, slots=True)
class Tail:
    """Power from tick to tick after work: ``powers_w``, the level at which it ends, and how far the work's own mean power was above it."""

    ticks_ns: tuple[int, ...]
    powers_w: tuple[float, ...]
    level_w: float
    rise_w: float

    @classmethod
    def of(cls, before: Reading, after: Sequence[Reading]) -> Tail:
        """From a reading before the work, and those at the ticks after it."""
        powers = tuple(_watts(a, b) for a, b in itertools.pairwise(after))
        level = statistics.median(powers[len(powers) // 2 :])
        return cls(tuple(reading.t_ns for reading in after), powers, level, _watts(before, after[0]) - level)

    @property
    def shows(self) -> bool:
        """Whether the work drew enough to tell its tail from noise."""
        return self.rise_w > LAG_RISE * self.level_w

    def lag_s(self, end_ns: int) -> float:
        """Seconds from the end of work to the tick at which power had come down to its last level; 0 where the first two ticks hold it all.

        Measured against the work's power, since a hot GPU idles some per cent higher for a second: 148 W after 560 W, then 141 (H100). The
        first whole tick may hold the end of the work, so only what comes later is a tail.
        """
        if not self.shows:
            return 0.0
        low = self.level_w + LAG_SHARE * self.rise_w
        # The first return to the level, not the last point above it: one late tick anywhere in the look must not pass for a lag.
        tail = next((index for index, power in enumerate(self.powers_w) if power <= low), len(self.powers_w) - 1)
        return (self.ticks_ns[tail] - end_ns) / 1e9 if tail > LAG_FROM_TICK else 0.0


def _watts(a: Reading, b: Reading) -> float:
    return (b.energy_j - a.energy_j) / ((b.t_ns - a.t_ns) / 1e9)


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
    want, limit = latency_batches(plan)
    latencies: list[Latency] = []
    spent = 0.0
    # A pass that holds many more batches than are wanted is walked, so that a sorted list gives short and long ones alike.
    few = spread(plan.batches, want) if plan.batches > PASS_TIMES * want else whole_pass(plan.batches)
    while len(latencies) < want and spent < limit:
        yield Tell("timing batches", *ahead(plan, batch_s, from_step="latency", spent=spent))
        worked: Worked = yield Work(few, timed=True, seconds=limit - spent)
        latencies.extend(worked.latencies)
        spent += worked.seconds
    return tuple(latencies), spent
