"""The measuring protocol as a state machine that asks and is told: no clock, no hardware, no model in here.

``measuring(plan, rng)`` is a generator. It yields *asks* (``messages.py``: "run this part", "wait for a tick of every counter") and is sent
the answers; whoever drives it owns all I/O. It returns ``Measured``, the raw samples. The steps are those of
docs/explanation/measuring.md; the sets of blocks are in ``sets.py``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.protocol.coverage import find_coverage
from pytest_greencompute.protocol.forecast import ahead, latency_batches, least_chunks
from pytest_greencompute.protocol.layout import PAIR_SECONDS, SETTLE_S, STAMPED_S, WARMUP_CHUNK_S, WARMUP_CHUNKS
from pytest_greencompute.protocol.messages import Ask, Learn, Measured, Plan, Probe, Probed, Steps, Tell, Ticks, Wait, Work
from pytest_greencompute.protocol.parts import Part, Worked, part, spread, whole_pass
from pytest_greencompute.protocol.sets import Readings, lay_out, measure_sets, phase_matters
from pytest_greencompute.protocol.tail import LAG_SHORTEST_TICK_S, SHOWS_REST_S, come_to_rest, draws, watch_tail
from pytest_greencompute.values.readings import Block, Source
from pytest_greencompute.values.run import Latency

if TYPE_CHECKING:
    import numpy as np

Protocol = Callable[[Plan, "np.random.Generator", Worked], Steps]  # what is done after the first pass, which took so long
WARMUP_LIMIT_S = 10.0
SHORT_WARMUP_S = WARMUP_CHUNKS * WARMUP_CHUNK_S  # where no energy is metered, and latency is only shown
LEAST_CHUNKS = 3
PLATEAU = 0.02
FIRST_OF_PASS = 3  # batches, which load, allocate and start threads: what they took tells nothing of the others
PASS_TIMES = 4
LONGEST_TURN_S = 0.95 * PAIR_SECONDS
FASTEST_BATCH_S = 1e-7  # what a call costs in Python: a clock that shows less has stood still
FINDING = "finding the meter's tick"
SURPRISED = "the meter does not tick as it did for the process before: it was looked at anew"


def measuring(plan: Plan, rng: np.random.Generator, first_pass: Worked) -> Steps:
    """The whole protocol after the first pass over the queries, which the driver ran to collect the answers."""
    expected_s = first_pass.seconds / plan.batches
    if plan.timing == "whole" and lay_out(plan, expected_s, 0.0).short and expected_s >= STAMPED_S:
        plan = replace(plan, timing="short")  # the batches of the blocks are timed
    ready = yield from get_ready(plan, first_pass)
    plan, batch_s = ready.plan, ready.batch_s
    if plan.find_whole and phase_matters(plan, batch_s):
        plan = replace(plan, whole=(yield from find_coverage(plan, batch_s, rng)))
    latencies, spent = yield from _time_batches(plan, batch_s)
    measured = replace(ready.measured, latencies=latencies or ready.measured.latencies)
    if not plan.sources:
        return measured
    if measured.latencies and lay_out(plan, batch_s, spent).short:  # where other work holds batches up, a turn is as much work as it was
        held_up = batch_s / max(statistics.median(each.seconds for each in measured.latencies), FASTEST_BATCH_S)
        plan = replace(plan, turn_s=min(max(held_up, 1.0) * plan.turn_s, LONGEST_TURN_S))
    return (yield from measure_sets(plan, rng, measured, batch_s, spent))


@dataclass(frozen=True, slots=True)
class Ready:
    """What is known before the first block: the plan with the sources as probed, seconds of a batch, and the warm-up."""

    plan: Plan
    batch_s: float
    measured: Measured


def get_ready(plan: Plan, first_pass: Worked) -> Generator[Ask, Any, Ready]:
    """Warm up, and find the tick and the lag while the device comes to rest: after the first pass, where that is long enough to show a lag,
    else after the warm-up. Where that look shows no rest, find the tick while the device idles, and look for a lag after the warm-up.
    """
    warm = Warm(max(first_pass.seconds / plan.batches, FASTEST_BATCH_S))
    said: tuple[str, ...] = ()
    if plan.before:
        if first_pass.seconds < SHOWS_REST_S:
            warm = yield from _warm_up(plan, warm, first_pass.seconds)
        plan = yield from _rested(plan, warm.batch_s, warm.chunks[-1].end_ns if warm.chunks else first_pass.end_ns)
    if plan.ticking and not plan.before:
        plan, said = yield from _find_tick(plan, warm.batch_s)
    find_lag = plan.find_lag and plan.ticking and plan.tick_s >= LAG_SHORTEST_TICK_S
    before: Readings = (yield Ticks()) if find_lag else {}
    if find_lag and plan.faint:
        warm = yield from _warm_up(plan, warm, first_pass.seconds)
        after: Readings = yield Ticks()
        find_lag = any(draws(before[domain], after[domain], plan.faint[domain]) for domain in plan.faint if domain in after)
        plan = replace(plan, find_lag=find_lag)
    if find_lag or not warm.chunks:
        # A delayed counter would not show work that is shorter than its delay.
        warm = yield from _warm_up(plan, warm, None if find_lag else first_pass.seconds)
    if find_lag:
        plan = replace(plan, sources=(yield from _find_lag(plan, warm.batch_s, before, warm.chunks[-1].end_ns)))
    elif plan.find_lag and plan.ticking:
        yield Learn(plan.sources)
    shown = warm.latencies if plan.timing == "short" and plan.sources else ()
    return Ready(plan, warm.batch_s, Measured(plan.sources, warmup=warm.chunks, latencies=shown, notes=said + warm.notes))


def _rested(plan: Plan, batch_s: float, end_ns: int) -> Generator[Ask, Any, Plan]:
    """The plan with the sources as they show while the device comes to rest after work that ended at ``end_ns``; without ``before`` where
    they do not.
    """
    yield Tell(FINDING, *ahead(plan, batch_s, from_step="rest"))
    ((domain, before),) = plan.before.items()
    seen: Probed = yield Probe()
    if domain in seen.seen:
        found = yield from come_to_rest(seen, before, domain, end_ns)
        if found is not None:
            return replace(plan, sources=found.sources, quiet=found.quiet, dear=seen.dear, find_lag=False)
    return replace(plan, before={})


def _find_tick(plan: Plan, batch_s: float) -> Generator[Ask, Any, tuple[Plan, tuple[str, ...]]]:
    """The plan with the sources as probed, and what there is to say. What another process has told is looked at again, not trusted."""
    said: tuple[str, ...] = ()
    if not plan.settle:
        known: Probed = yield Probe()
        if not known.surprised:
            return replace(plan, sources=known.sources, quiet=known.quiet, dear=known.dear), said
        plan, said = replace(plan, settle=True, find_lag=True, faint={}, whole=False, find_whole=True), (SURPRISED,)
    yield Tell(FINDING, *ahead(plan, batch_s, from_step="probe"))
    yield Wait(SETTLE_S)
    found: Probed = yield Probe(again=True)
    if found.surprised:  # one of several was told, and the others were not
        plan, said = replace(plan, find_lag=True, faint={}, whole=False, find_whole=True), (SURPRISED,)
        found = yield Probe(again=True)
    return replace(plan, sources=found.sources, quiet=found.quiet, dear=found.dear), said


@dataclass(frozen=True, slots=True)
class Warm:
    """The warm-up: seconds of a batch, its chunks, which hold no energy, the batches timed at its end, and what there is to say."""

    batch_s: float
    chunks: tuple[Block, ...] = ()
    latencies: tuple[Latency, ...] = ()
    notes: tuple[str, ...] = ()


def _warm_up(plan: Plan, sofar: Warm, first_pass_s: float | None) -> Generator[Ask, Any, Warm]:
    """Run until the time per query has stopped trending, or the limit; those blocks are kept apart, with no energy.

    ``first_pass_s``: how long the first pass took; None: whatever it took, all chunks are run.
    """
    judged = bool(plan.sources) or plan.timing == "whole"
    least = WARMUP_CHUNKS if first_pass_s is None else least_chunks(first_pass_s)
    limit_s, spent, batch_s = WARMUP_LIMIT_S if judged else SHORT_WARMUP_S, 0.0, sofar.batch_s
    limit_s = LEAST_CHUNKS * WARMUP_CHUNK_S if plan.rough and first_pass_s is not None else limit_s
    chunks: list[tuple[Part, Worked]] = []
    while True:
        chunk = part(len(chunks), plan.batches, batch_s, WARMUP_CHUNK_S)
        yield Tell("warming up", *ahead(plan, batch_s, from_step="warm-up", first_pass_s=first_pass_s, spent=spent))
        worked: Worked = yield Work(chunk, again=True)
        chunks.append((chunk, worked))
        spent += worked.seconds
        batch_s = max(worked.seconds / len(chunk), FASTEST_BATCH_S)
        proven = len(chunks) >= least and _as_at_first(chunks, (first_pass_s or 0.0) + spent)
        level = proven or _levelled([each.seconds / each.queries for _, each in chunks])
        if level or (spent >= limit_s and (plan.rough or len(chunks) >= LEAST_CHUNKS)):
            break
    timed = [latency for _, each in chunks[-LEAST_CHUNKS:] for latency in each.latencies]
    trend = () if level or not judged or plan.rough else (f"time per query was still changing when warm-up ended after {spent:.0f} s",)
    blocks = [Block(number, 0.0, each.queries, each.start_ns, each.end_ns, {}) for number, (_, each) in enumerate(chunks, 1)]
    return Warm(batch_s, (*sofar.chunks, *blocks), tuple(timed), trend)


def _as_at_first(chunks: Sequence[tuple[Part, Worked]], worked_s: float) -> bool:
    """Whether the batches that were asked again take what the same batches took in the first pass, to within 2 %, and do not trend.

    Over six chunks ``_levelled`` compares times half of those chunks apart. What is nearer to each other must agree the better: the first
    pass and these chunks are on average half of the ``worked_s`` of both apart. Chunks must agree twice as well, since clocks that ramp
    begin again after a pause, and then the first pass had as little of them.
    """
    ratios, again_s, first_s = [], 0.0, 0.0
    for chunk, worked in chunks:
        pairs = zip(chunk, worked.latencies, worked.first_s, strict=False)
        taken = [(latency.seconds, before_s) for batch, latency, before_s in pairs if batch >= FIRST_OF_PASS]
        later, sooner = (sum(each) for each in zip(*taken, strict=True)) if taken else (0.0, 0.0)
        if later > 0 and sooner > 0:
            ratios.append(later / sooner)
            again_s, first_s = again_s + later, first_s + sooner
    if len(ratios) < LEAST_CHUNKS - 1:
        return False
    half = WARMUP_CHUNKS / 2
    change, trend = abs(again_s / first_s - 1), abs(ratios[-1] - ratios[0])
    return change <= PLATEAU * min(1.0, worked_s / 2 / (half * WARMUP_CHUNK_S)) and trend <= PLATEAU / 2 * (len(ratios) - 1) / half


def _find_lag(plan: Plan, batch_s: float, before: Readings, end_ns: int) -> Generator[Ask, Any, tuple[Source, ...]]:
    """How long energy goes on arriving after work has stopped: a counter that integrates a running mean has such a tail.

    Looks at the power between ticks after the warm-up, which ended at ``end_ns``, until it has come down to its level at the end of the
    look. ``before``: readings at a tick before the warm-up.
    """
    yield Tell("looking for a lag of the meter", *ahead(plan, batch_s, from_step="lag"))
    idle_w = {**plan.faint, **{idle.domain: idle.watts for idle in plan.quiet}}
    sources, _ = yield from watch_tail(plan.sources, before, end_ns, always=True, idle_w=idle_w)
    return sources


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
