"""Watching a counter change: each poll of it, the ticks that polls show, and what a counter that does not work says."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters.base import Counter
from pytest_greencompute.meters.tick_clock import Seen
from pytest_greencompute.values.readings import STILL_S, Reading

SLOW_READ_S = 0.005
SLOW_FROM_S = 0.0005  # a read that takes longer is too slow to watch every tick with
POLL_S = 100e-6
EARLY = 0.08  # of a period, before a tick is due at the earliest: it jitters
LEAST_SAMPLED = 3  # ticks of a counter that somebody else samples, maybe every quarter of a minute
ROUGH_POLLS = 10  # of a period that was told, until its first tick


@dataclass(frozen=True, slots=True)
class Poll:
    """One read of a counter while a tick is waited for: when it was asked and when the answer was there."""

    counter: Counter
    reading: Reading
    asked_ns: int
    done_ns: int

    @property
    def took_s(self) -> float:
        return (self.done_ns - self.asked_ns) / 1e9


@dataclass(frozen=True, slots=True)
class SeenTicks:
    """The first polls after each of some ticks in a row, when each tick came, and what a read took, in the middle."""

    polls: tuple[Poll, ...]
    ticks: tuple[Seen, ...]
    read_s: float

    @property
    def blur_s(self) -> float:
        """How much of the spread of their periods may be that of the watching: each of two ticks was seen only to within two reads."""
        return 2 * max(seen.doubt_ns for seen in self.ticks) / 1e9


def _polled(counter: Counter, clock: Clock) -> Poll:
    asked_ns = clock.now_ns()
    reading = read_counter(counter)
    return Poll(counter, reading, asked_ns, clock.now_ns())


def watch(counter: Counter, clock: Clock, count: int, told_s: float = 0.0) -> SeenTicks:
    """The next ``count`` ticks and one. Raises MeterError for a counter that stands still or runs backwards.

    ``told_s``: the period as another process has seen it. Where reads are dear, only what is not known of a period is watched.
    """
    changes: list[Poll] = []
    ticks: list[Seen] = []
    last = _polled(counter, clock)
    took_s, since_ns, steady = [last.took_s], clock.now_ns(), last.took_s > SLOW_FROM_S
    while len(changes) <= count:
        slept_s = _until_next(ticks, told_s, clock, statistics.median(took_s)) if steady else 0.0
        clock.sleep(max(slept_s, POLL_S))
        poll = _polled(counter, clock)
        took_s.append(poll.took_s)
        if poll.reading.energy_j < last.reading.energy_j:
            raise ran_backwards(counter)
        if poll.reading.energy_j > last.reading.energy_j and ticks and slept_s > SLOW_READ_S:
            changes, ticks, steady = [], [], False  # it came before it was looked for: there is no period to go by
        elif poll.reading.energy_j > last.reading.energy_j:
            changes.append(poll)
            ticks.append(Seen(last.asked_ns, poll.done_ns))
            since_ns = poll.done_ns
        elif poll.done_ns - since_ns > STILL_S * 1e9:
            raise MeterError(f"The energy counter of {counter.source.domain} did not change for {STILL_S:g} s.", remedy=_STILL_REMEDY)
        last = poll
    return SeenTicks(tuple(changes), tuple(ticks), statistics.median(took_s))


def sampled(counter: Counter, clock: Clock, count: int) -> SeenTicks | None:
    """The last ``count`` ticks and one of a counter that has them (``recent``), once there are enough to show a period; None for one that
    has not. Raises MeterError where no more come.
    """
    recent: Callable[[], Sequence[Reading]] | None = getattr(counter, "recent", None)
    if recent is None:
        return None
    while len(readings := recent()[-count - 1 :]) < LEAST_SAMPLED:
        read_counter(counter)  # which says why no more come
        clock.sleep(max(counter.source.tick_s / ROUGH_POLLS, POLL_S))
    polls = tuple(Poll(counter, each, each.t_ns, each.t_ns) for each in readings)
    return SeenTicks(polls, tuple(Seen(each.t_ns, each.t_ns) for each in readings), 0.0)


def _until_next(seen: Sequence[Seen], told_s: float, clock: Clock, read_s: float) -> float:
    """Seconds until shortly before the next tick after those seen, as far as a period is known; 0 where it is to be looked for now."""
    if not seen:
        return told_s / ROUGH_POLLS
    first, last = seen[0], seen[-1]
    period_ns, doubt_ns = told_s * 1e9, last.doubt_ns
    if len(seen) > 1:
        period_ns = (last.middle_ns - first.middle_ns) / (len(seen) - 1)
        doubt_ns += (last.doubt_ns + first.doubt_ns) / (len(seen) - 1)
    early_ns = doubt_ns + EARLY * period_ns + read_s * 1e9
    return (last.middle_ns + period_ns - early_ns - clock.now_ns()) / 1e9


def read_counter(counter: Counter) -> Reading:
    """What a counter shows. Raises MeterError alone, whoever made the counter."""
    try:
        return counter.read()
    except MeterError:
        raise
    except Exception as error:
        said = f"The energy counter of {counter.source.domain} could not be read ({type(error).__name__}: {error})."
        raise MeterLostError(said, remedy=_STILL_REMEDY) from error


def ran_backwards(counter: Counter) -> MeterError:
    """What a counter that is lower than before says."""
    return MeterError(f"The energy counter of {counter.source.domain} ran backwards while it was probed.", remedy=_BACK_REMEDY)


def stands_still(counter: Counter) -> MeterLostError:
    """What a counter that worked and does not change any more says."""
    return MeterLostError(f"the energy counter of {counter.source.domain} stands still.", remedy=_STILL_REMEDY)


_STILL_REMEDY = "`greencompute doctor` shows which meters work here; a virtual GPU or an old driver may have no energy counter."
_BACK_REMEDY = "A driver reload resets it; measure again."
