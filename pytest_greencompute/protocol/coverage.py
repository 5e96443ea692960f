"""Whether counters see all of the time: the energy of short work at spread phases of the tick tells. No I/O.

A counter that sees a part of the time counts a *burst* of work of half a tick more or less often, as it falls: a sensor of 25 in 100 ms
shows four times of it or nothing. One that sees all of it shows the same wherever the burst lies. Bursts run the same batches, and all
are read over the same number of ticks, so that nothing else makes them differ, neither other queries nor idle power.

What a burst can differ by for its phase is what the counter does not see of a tick. So the spread of the bursts, times their length in
ticks, bounds the share of the time that is not seen (``UNSEEN``), and with it what the phase can do to any block of any load.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_greencompute.protocol.layout import phases
from pytest_greencompute.protocol.messages import Ask, Learn, Phase, Plan, Tell, Ticks, Wait, Work
from pytest_greencompute.protocol.parts import Part, Worked, spread
from pytest_greencompute.values.readings import Reading

if TYPE_CHECKING:
    import numpy as np

BURSTS = 5  # their phases are a fifth of a tick apart, so that each half of it holds two
BURSTS_AGAIN = 2  # of a counter that saw all of the time in an earlier session: half a tick apart, one sees what the other does not
BURST_TICKS = 0.5
LONGEST_TICKS = 0.75  # a burst of whole ticks is counted alike wherever it lies, by any sensor
UNSEEN = 0.03  # of a tick, at most: a block of five ticks is off by 0.6 % then, and one in step with the tick by no more than twice UNSEEN
LEAST_RISE = 0.2  # of idle power: bursts that draw less above it tell nothing
TRIES = 2  # the ticks that a burst takes are not known before
_ENDS_LATE = 0.1  # of a tick
_SLOW = 0.5  # of the slowest tick: to a counter that ticks faster, a burst is long and tells nothing of its phase


@dataclass(frozen=True, slots=True)
class Burst:
    """What the counters moved by from a tick before a burst to one after it: joules by domain, over so many ticks; busy seconds."""

    joules: Mapping[str, float]
    ticks: int
    busy_s: float


def find_coverage(plan: Plan, batch_s: float, rng: np.random.Generator) -> Generator[Ask, Any, bool]:
    """Whether all counters of the plan see all of the time. The session learns it. Where batches are too long to tell, what an earlier
    session has seen counts: blocks that follow the phase would show it.
    """
    part = burst(plan, batch_s)
    if len(part) * batch_s > LONGEST_TICKS * plan.tick_s:
        return plan.whole_before
    yield Tell("looking at how much of the time the meter sees")
    at: Mapping[str, Reading] = yield Ticks()
    bursts: list[Burst] = []
    idle_w = {idle.domain: idle.watts for idle in plan.quiet}
    for count in (*[BURSTS_AGAIN] * plan.whole_before, *[BURSTS] * TRIES):
        bursts = []
        for phase in phases(count, rng):
            each, at = yield from _one_burst(plan, part, phase, max((each.ticks for each in bursts), default=0), at)
            bursts.append(each)
        whole = sees_all(bursts, idle_w, plan.tick_s)
        if whole or (count == BURSTS and len({each.ticks for each in bursts}) == 1):
            break
    yield Learn(plan.sources, whole=whole)
    return whole


def burst(plan: Plan, batch_s: float) -> Part:
    """The batches of a burst: about half a tick of them, the same ones each time."""
    return spread(plan.batches, max(1, round(BURST_TICKS * plan.tick_s / batch_s)))


def burst_seconds(plan: Plan, batch_s: float) -> float:
    """What the look takes, about."""
    busy_s = len(burst(plan, batch_s)) * batch_s
    bursts = BURSTS_AGAIN if plan.whole_before else BURSTS
    return 0.0 if busy_s > LONGEST_TICKS * plan.tick_s else (2 * bursts + 0.5) * plan.tick_s


def sees_all(bursts: Sequence[Burst], idle_w: Mapping[str, float], tick_s: float) -> bool:
    """Whether the bursts of every domain that they show in agree well enough. Those of different lengths tell nothing."""
    if len({each.ticks for each in bursts}) != 1:
        return False
    busy_s = sum(each.busy_s for each in bursts) / len(bursts)
    shown = False
    for domain in bursts[0].joules:
        joules = [each.joules[domain] for each in bursts]
        quiet_j = idle_w.get(domain, 0.0) * bursts[0].ticks * tick_s
        net_j = sum(joules) / len(joules) - quiet_j
        if net_j < LEAST_RISE * idle_w.get(domain, 0.0) * busy_s:
            continue
        shown = True
        if (max(joules) - min(joules)) / net_j * busy_s / tick_s > UNSEEN:
            return False
    return shown


def _one_burst(
    plan: Plan, part: Part, phase: float, ticks: int, before: Mapping[str, Reading]
) -> Generator[Ask, Any, tuple[Burst, Mapping[str, Reading]]]:
    """One burst at a phase, read over ``ticks`` ticks since ``before``, or as many as it needs if that is more; and the last readings."""
    yield Phase(phase)
    worked: Worked = yield Work(part)
    # A tick right after the end may still lack the last of it where reads are late.
    until_ns = worked.end_ns + round(_ENDS_LATE * plan.tick_s * 1e9)
    first_ns = min(reading.t_ns for reading in before.values())
    yield Wait((first_ns - worked.end_ns) / 1e9 + (ticks - 1) * plan.tick_s)
    while True:
        after: Mapping[str, Reading] = yield Ticks()
        last_ns = min(reading.t_ns for reading in after.values())
        seen = round((last_ns - first_ns) / 1e9 / plan.tick_s)
        if last_ns >= until_ns and seen >= max(ticks, 1 + round(BURST_TICKS + 0.5)):
            break
    asked = [source.domain for source in plan.sources if source.domain not in plan.uncounted and source.tick_s >= _SLOW * plan.tick_s]
    joules = {each: after[each].energy_j - before[each].energy_j for each in asked if each in before and each in after}
    return Burst(joules, seen, worked.seconds), after
