"""The measured part of the protocol: complete sets of blocks, idle power between them, and what makes a set worthless. No I/O."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.errors import HeldUpError, MeterError, MeterLostError
from pytest_greencompute.estimates.domains import net_energy
from pytest_greencompute.protocol.layout import SET_BLOCKS, Layout, block_seconds, blocks_per_set, phases, seconds_of_ticks, single_phase
from pytest_greencompute.protocol.messages import (
    Agree,
    Ask,
    Enough,
    Learn,
    Marks,
    Measured,
    Phase,
    Plan,
    Rest,
    Spun,
    Steps,
    Tell,
    Ticks,
    Turn,
    Wait,
    Work,
)
from pytest_greencompute.protocol.parts import Worked, spread
from pytest_greencompute.stats.looks import MIN_SAMPLES, early_and, looks, sets_that_fit
from pytest_greencompute.stats.phases import shows
from pytest_greencompute.values.readings import FOREIGN, Block, Idle, Reading, Source, Span, beside_others, sets_of
from pytest_greencompute.values.run import Latency

if TYPE_CHECKING:
    import numpy as np

IDLE_TICKS = 3
IDLE_SECONDS = 0.05
IDLE_LAGS = 0.5
IDLE_JITTERS = 16  # what a tick that comes early adds must not look like somebody else's work
IDLE_EVERY, IDLE_EVERY_IN_PAIRS = 4, 8  # sets; what both sides of a pair draw when idle is nearly the same, and cancels
IDLE_STEADY = 0.1  # two readings in a row that differ by no more: a GPU cools for some seconds after work
LOST_SETS = 3
LEAST_SINGLES = 3
ASLEEP_S = 0.05
JUMP_TIMES, JUMP_S = 3.0, 1.0
LEAST_OF_IDLE = 0.5
FOREIGN_TIMES, FOREIGN_W = 1.5, 10.0
RESET_REMEDY = "A driver reload or a reset of the GPU does this; measure again."
Readings = Mapping[str, Reading]
NO_READINGS: Readings = {}
_Blocks = Generator[Ask, Any, tuple[Block, Readings, tuple[Latency, ...]]]


def measure_sets(plan: Plan, rng: np.random.Generator, measured: Measured, batch_s: float, spent: float) -> Steps:
    """Complete sets of blocks until the verdicts are certain at a planned look, or the time limit."""
    layout: Layout = yield Agree(lay_out(plan, batch_s, spent))
    planned = planned_looks(layout)
    # Where others take turns, they may have agreed on more sets than fit into this one's share of the time.
    limit_s = max(plan.max_seconds - spent, layout.sets * _longest_set(plan, layout, batch_s))
    run, first = yield from begin(plan, layout, batch_s, rng)
    measured = replace(measured, looks=len(planned), idles=first)
    lost = held_up = 0
    for index in range(planned[-1]):
        yield Tell(f"set {index + 1} of at most {planned[-1]}", *sets_ahead(plan, layout, batch_s, index), measured)
        if not (yield Turn(index * layout.turns, measured)):
            break
        try:
            blocks, idles, latencies = yield from one_set(run, index, measured.idles, with_idle=run.reads_idle(index, measured.idles))
        except MeterLostError as error:
            delay = isinstance(error, HeldUpError)
            lost, held_up = lost + (not delay), held_up + delay
            over = max(lost, held_up) >= LOST_SETS
            if over and not (delay and len(sets_of(measured.blocks)) >= run.least):
                raise MeterError(f"{max(lost, held_up)} sets were lost: {error.message}", remedy=error.remedy) from error
            measured = replace(measured, notes=(*measured.notes, f"set {index + 1} was lost: {error.message}"))
            if over:  # what was measured before is sound, and the machine does not come to rest
                break
            yield Wait(plan.lag_s)  # the lost block's energy may still be arriving
            continue
        if not blocks:  # the other side has ended it
            break
        held_up = 0
        if layout.timed:
            run.at, latencies = NO_READINGS, latencies + (yield from _time_batches(layout, index))
        measured = replace(
            measured, blocks=measured.blocks + blocks, idles=measured.idles + idles, latencies=measured.latencies + latencies
        )
        if run.looks_again and follows_phase(measured.blocks, measured.idles, plan.uncounted):
            return (yield from _with_nine_phases(plan, rng, measured, batch_s, spent))
        if index + 1 in planned and (yield Enough(measured)):
            break
        if beside_others(blocks):
            break  # one block with a stranger on the GPU spoils the run, so there is nothing to wait for
        if _seconds_of(measured.blocks, layout) > limit_s and index + 1 >= run.least:
            break  # slower than planned; the time is up whatever the figures say
    return (yield from _with_last_idle(run, measured))


def _with_last_idle(run: Sets, measured: Measured) -> Generator[Ask, Any, Measured]:
    """What was measured, with idle power after its last set: whoever came since it was read last is seen now, and spoils those sets."""
    if run.unwatched is None or not measured.blocks:
        return measured
    try:
        gap, _ = yield from read_idle(run.plan.sources)
    except MeterLostError as error:
        return replace(measured, notes=(*measured.notes, f"idle power after the last set was not read: {error.message}"))
    blocks = measured.blocks
    if _disturbed(measured.idles, gap, run.plan.allowed):
        blocks = tuple(_foreign(block) if block.set_index >= run.unwatched else block for block in blocks)
    return replace(measured, blocks=blocks, idles=measured.idles + gap)


def follows_phase(blocks: Sequence[Block], idles: Sequence[Idle], uncounted: frozenset[str] = frozenset()) -> bool:
    """Whether the energy of single blocks, without idle power, follows the phase at which they began, in some domain that counts."""
    domains = {domain for block in blocks for domain in block.spans} - uncounted
    return any(_follows_phase(domain, [block for block in blocks if domain in block.spans], idles) for domain in domains)


def _follows_phase(domain: str, blocks: Sequence[Block], idles: Sequence[Idle]) -> bool:
    quiet = [idle for idle in idles if idle.domain == domain]
    idle_w = sum(idle.energy_j for idle in quiet) / max(sum(idle.seconds for idle in quiet), 1e-9)
    net_j = [net_energy(block, domain, idle_w) for block in blocks]
    if sum(net_j) <= 0:
        return False
    return shows([block.phase for block in blocks], [joules / max(block.busy_s, 1e-9) for joules, block in zip(net_j, blocks, strict=True)])


def _with_nine_phases(plan: Plan, rng: np.random.Generator, measured: Measured, batch_s: float, spent: float) -> Steps:
    """Begin again, in sets of nine phases: the phase shows after all. What was measured is kept apart, as what warmed up."""
    count, plan = len(measured.blocks), replace(plan, whole=False)
    note = f"the energy of {count} blocks followed the phase of the meter's tick: begun again, in sets of nine phases"
    yield Learn(plan.sources, whole=False)
    yield Wait(plan.lag_s)
    kept = tuple(replace(block, spans={}) for block in measured.blocks)
    again = replace(measured, blocks=(), warmup=measured.warmup + kept, idles=(), notes=(*measured.notes, note))
    return (yield from measure_sets(plan, rng, again, batch_s, spent))


def _foreign(block: Block) -> Block:
    return replace(block, marks=(*block.marks, FOREIGN))


def planned_looks(layout: Layout) -> tuple[int, ...]:
    """After how many sets to look. A set of phases has an interval of its own (``phases``); single blocks have one from their spread."""
    return early_and(looks(layout.sets)) if layout.size != SET_BLOCKS else looks(layout.sets, first=1, growth=2.0)


def sets_ahead(plan: Plan, layout: Layout, batch_s: float, done: int = 0) -> tuple[float, float]:
    """Seconds until the next planned look, and until the last, after ``done`` sets."""
    planned = planned_looks(layout)
    set_s = _set_seconds(plan, layout, batch_s, _idle_every(plan, layout))
    first_idle_s = _idle_seconds(plan.tick_s, plan.lag_s) if done == 0 else 0.0
    following = next((look for look in planned if look > done), planned[-1])
    return first_idle_s + (following - done) * set_s, first_idle_s + (planned[-1] - done) * set_s


def lay_out(plan: Plan, batch_s: float, spent: float) -> Layout:
    """How the sets look: how long a block works, how many there are in a set, and how many sets the time allows."""
    target_s = max(block_seconds(plan.tick_s, plan.lag_s, in_pairs=plan.in_pairs, whole=plan.whole and not plan.dear), batch_s)
    size = blocks_per_set(plan.tick_s, target_s, plan.lag_s, whole=plan.whole)
    if size > 1:
        target_s = max(block_seconds(plan.tick_s, plan.lag_s, in_pairs=plan.in_pairs, of_nine=True), batch_s)
    if plan.in_pairs and not plan.ticking:
        target_s = max(plan.turn_s, batch_s)
    if size == 1 and not plan.in_pairs and not plan.whole and MIN_SAMPLES * plan.batches * batch_s <= plan.max_seconds - spent:
        # Where there is no tick that matters and time allows, each block is a whole pass: blocks and runs then hold the same queries.
        # Pairs hold the same queries anyway, and short ones share more of what drifts.
        target_s = max(target_s, plan.batches * batch_s)
    layout = Layout(plan.batches, batch_s, target_s, size)
    fit = sets_that_fit(plan.max_seconds - spent, _longest_set(plan, layout, batch_s))
    return replace(layout, sets=max(_least(layout), fit))


def phase_matters(plan: Plan, batch_s: float) -> bool:
    """Whether the phase of a tick matters to blocks, unless the counters see all of the time."""
    return lay_out(replace(plan, whole=False), batch_s, 0.0).size > 1


def _least(layout: Layout) -> int:
    return LEAST_SINGLES if layout.size != SET_BLOCKS else 1  # one block alone has no interval


def _set_seconds(plan: Plan, layout: Layout, batch_s: float, idle_every: int) -> float:
    # A block begins on average half a tick after one, and ends half a tick before the next.
    edges_s = plan.lag_s + (1.5 * plan.tick_s if plan.ticking else 0.0)
    return layout.size * (len(layout.part(0)) * batch_s + edges_s) + _idle_seconds(plan.tick_s, plan.lag_s) / idle_every


def _longest_set(plan: Plan, layout: Layout, batch_s: float) -> float:
    """Alone, idle power may have to be read after each set, while it is unsteady; and where reads are slow, that takes long."""
    return _set_seconds(plan, layout, batch_s, _idle_every(plan, layout) if plan.in_pairs else 1)


def _idle_every(plan: Plan, layout: Layout) -> int:
    """After how many sets idle power is read: after each, but on GPUs every few while it is steady, where sets are single blocks or are
    held against those of another side.
    """
    if not plan.ticking or plan.idles_of_processor or (layout.size > 1 and not plan.in_pairs):
        return 1
    return IDLE_EVERY_IN_PAIRS if plan.in_pairs else IDLE_EVERY


@dataclass
class Sets:
    """What all sets of one measurement share. ``disturbed``: somebody else was seen on the GPU. ``unwatched``: the first set after which
    idle power was not read. ``start``: the phase from which those of single blocks are reckoned. ``at``: the readings at the end of the
    last set, which begin the next one where nothing happened since.
    """

    plan: Plan
    layout: Layout
    batch_s: float
    rng: np.random.Generator
    disturbed: bool
    start: float
    unwatched: int | None = None
    at: Readings = field(default_factory=dict)

    @property
    def block_s(self) -> float:
        return len(self.layout.part(0)) * self.batch_s

    @property
    def least(self) -> int:
        return _least(self.layout)

    @property
    def looks_again(self) -> bool:
        """Whether single blocks were chosen although there is a tick, and nobody else takes turns who would have to begin again as well."""
        return self.plan.whole and self.layout.size == 1 and not self.plan.in_pairs and phase_matters(self.plan, self.batch_s)

    def phases(self, index: int) -> tuple[float, ...]:
        """Those of the blocks of set ``index``, in the order in which they run."""
        if self.layout.size > 1:
            return phases(self.layout.size, self.rng)
        return (single_phase(index, self.start, float(self.rng.random())),)

    def reads_idle(self, index: int, idles: Sequence[Idle]) -> bool:
        """Whether idle power is read after set ``index``."""
        return (index + 1) % _idle_every(self.plan, self.layout) == 0 or not _steady(idles)


def begin(plan: Plan, layout: Layout, batch_s: float, rng: np.random.Generator) -> Generator[Ask, Any, tuple[Sets, tuple[Idle, ...]]]:
    """What the sets share, and the idle power right before the first of them."""
    if plan.idles_of_processor:
        yield Rest()
    first, _ = yield from read_idle(plan.sources, settle=True)
    return Sets(plan, layout, batch_s, rng, _disturbed(plan.quiet, first, plan.allowed), float(rng.random())), first


def one_set(
    run: Sets, index: int, idles: Sequence[Idle], at_phases: Sequence[float] = (), *, with_idle: bool = True
) -> Generator[Ask, Any, tuple[tuple[Block, ...], tuple[Idle, ...], tuple[Latency, ...]]]:
    """A set and (``with_idle``) the idle power after it; all blocks are marked where that idle power shows somebody else on the GPU.

    ``at_phases``: one for each block, where they are not to be drawn for this set alone. Its third part are the batches that were timed
    in its blocks. No blocks: the other side has ended it half-way.
    """
    blocks: list[Block] = []
    latencies: list[Latency] = []
    at, run.at = (yield Ticks(run.at)) if run.at else NO_READINGS, NO_READINGS
    for number, phase in enumerate(at_phases or run.phases(index), index * run.layout.size):
        if blocks and run.layout.turns > 1 and not (yield Turn(number, None)):
            return (), (), ()
        block, at, timed = yield from _one_block(run, index, number, phase, at)
        latencies.extend(timed)
        check_moved(block.spans, [idle for idle in idles if idle.domain not in run.plan.uncounted])
        blocks.append(block)
    run.at = at
    if not with_idle:
        run.unwatched = index if run.unwatched is None else run.unwatched
        return tuple(map(_foreign, blocks)) if run.disturbed else tuple(blocks), (), tuple(latencies)
    gap, run.at = yield from read_idle(run.plan.sources, since=at)
    run.unwatched = None
    if run.plan.idles_of_processor and (yield Spun()):  # then the processor was not idle
        gap = tuple(idle for idle in gap if idle.domain.startswith("gpu"))
    run.disturbed = run.disturbed or _disturbed(idles, gap, run.plan.allowed)
    if run.disturbed:
        blocks = [*map(_foreign, blocks)]
    return tuple(blocks), gap, tuple(latencies)


def _time_batches(layout: Layout, index: int) -> Generator[Ask, Any, tuple[Latency, ...]]:
    """Batches timed right after set ``index``, spread over the list, so that another side can time its own beside them."""
    worked: Worked = yield Work(spread(layout.batches, layout.timed, index), timed=True)
    return _of_set(index, worked)


def _of_set(index: int, worked: Worked) -> tuple[Latency, ...]:
    return tuple(replace(latency, set_index=index) for latency in worked.latencies)


def _one_block(run: Sets, index: int, number: int, phase: float, at: Readings) -> _Blocks:
    """A block, the readings at its end, and its batches if they are timed. ``at``: the readings at the end of the block before, which are
    where this one begins.

    One reading serves as the end of a block and the start of the next: a read can cost milliseconds of CPU, and what it rounds away
    on one side it gives back on the other.
    """
    plan = run.plan
    before, after = at, NO_READINGS
    if plan.ticking:
        before = at or (yield Ticks())
        yield Phase(phase)
    marks: tuple[str, ...] = yield Marks()
    worked: Worked = yield Work(run.layout.part(number), timed=run.layout.stamped)
    marks += yield Marks()
    if worked.asleep_s > ASLEEP_S:
        raise HeldUpError(f"the machine was suspended for {worked.asleep_s:.0f} s while the queries ran.", remedy="Measure again.")
    _check_took(worked, run.layout.turns * run.block_s)  # of a short turn, the whole set's: what is held up shortly is no stall
    if plan.ticking:
        yield Wait(plan.lag_s)
        after = yield Ticks()
    spans = {**worked.around, **between(before, after)}
    if before:  # the phase that it really had, since a program may be held up after its wait
        phase = (worked.start_ns - max(reading.t_ns for reading in before.values())) / 1e9 / plan.tick_s % 1.0
    block = Block(index, phase, worked.queries, worked.start_ns, worked.end_ns, spans, tuple(dict.fromkeys(marks)))
    return block, after, _of_set(index, worked)


def _seconds_of(blocks: Sequence[Block], layout: Layout) -> float:
    """What the sets took; between turns another side may have had its own."""
    if layout.turns > 1:
        return sum(block.busy_s for block in blocks)
    return sum(group[-1].end_ns - group[0].start_ns for group in sets_of(blocks)) / 1e9


def _check_took(worked: Worked, expected_s: float) -> None:
    """Raises HeldUpError for a block that took far longer than its batches do."""
    if worked.seconds > JUMP_TIMES * expected_s + JUMP_S:
        why = (
            f"other work held the machine up ({worked.crowd})"
            if worked.crowd
            else "the queries stalled, the machine was stopped, or its clock jumped"
        )
        raise HeldUpError(
            f"a block took {worked.seconds:.1f} s instead of {expected_s:.1f} s: {why}.",
            remedy="Measure again; on a shared machine, keep other work off it.",
        )


def check_moved(spans: Mapping[str, Span], idles: Sequence[Idle]) -> None:
    """Raises MeterLostError for a counter that moved by less than half of what idle power alone moves it by."""
    lowest = {idle.domain: idle.watts for idle in sorted(idles, key=lambda idle: -idle.watts)}
    for domain, span in spans.items():
        if span.energy_j < LEAST_OF_IDLE * lowest.get(domain, 0.0) * span.seconds:
            raise MeterLostError(
                f"the energy counter of {domain} moved by {span.energy_j:.3g} J in {span.seconds:.1f} s, less than idle power alone.",
                remedy=RESET_REMEDY,
            )


def _steady(idles: Sequence[Idle]) -> bool:
    """Whether the last two readings of every domain agree; also where there is only the one before the first set."""
    last: dict[str, list[float]] = {}
    for idle in idles:
        last[idle.domain] = [*last.get(idle.domain, [])[-1:], idle.watts]
    return all(max(watts) - min(watts) <= IDLE_STEADY * max(watts) for watts in last.values())


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


def between(before: Readings, after: Readings) -> dict[str, Span]:
    """The energy of each domain that was read both times; one in between may have been left out. Raises MeterLostError as ``spanned``."""
    return {domain: spanned(domain, a, after[domain]) for domain, a in before.items() if domain in after}


def spanned(domain: str, a: Reading, b: Reading) -> Span:
    """The energy of a domain between two readings. Raises MeterLostError where the counter ran backwards."""
    if b.energy_j < a.energy_j:
        raise MeterLostError(
            f"the energy counter of {domain} ran backwards by {a.energy_j - b.energy_j:.3g} J.",
            remedy=RESET_REMEDY,
        )
    return Span(b.energy_j - a.energy_j, a.t_ns, b.t_ns)


def _idle_seconds(tick: float, lag: float) -> float:
    return max(seconds_of_ticks(IDLE_TICKS, tick), IDLE_SECONDS, IDLE_LAGS * lag) if tick > 0 else 0.0


def read_idle(
    sources: Sequence[Source], *, settle: bool = False, since: Readings = NO_READINGS
) -> Generator[Ticks | Wait, Any, tuple[tuple[Idle, ...], Readings]]:
    """Idle power right after work, tick to tick, for the counters that tick, and the readings at the end; others are read without a gap.

    ``settle``: work has just ended and its energy may still be arriving. ``since``: readings at a tick by which it has arrived.
    """
    tick = max((source.tick_s for source in sources), default=0.0)
    lag = max((source.lag_s for source in sources), default=0.0)
    if tick == 0:
        return (), NO_READINGS
    steady = IDLE_JITTERS * max(source.jitter_s for source in sources)
    if settle:
        yield Wait(lag)
    before: Readings = since or (yield Ticks())
    yield Wait(max(_idle_seconds(tick, lag), steady) - tick)
    after: Readings = yield Ticks()
    spans = between(before, after)
    return tuple(Idle(domain, span.energy_j, span.seconds) for domain, span in spans.items()), after
