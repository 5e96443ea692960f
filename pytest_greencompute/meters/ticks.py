"""The counters that change in ticks: how long a tick is, when it comes, and what is read at it."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters.base import STILL_S, Counter
from pytest_greencompute.meters.tick_clock import Due, Seen, TickClock
from pytest_greencompute.protocol.tail import LAG_SHORTEST_TICK_S, idle_over
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.readings import Idle, Reading, Source

PROBE_CHANGES = 5
RECHECKED_CHANGES = 1  # of a counter that another process has probed: one period, which must be as told
POLLS = 160  # a tick is found to within a 160th of its period; what watching it costs must stay within half a per cent of a core
DUE_MARGIN = (0.02, 0.08)  # of a period, before a tick is due: at least and at most
DUE_JITTERS = 3
SLOW_READ_S = 0.005
SLOW_FROM_S = 0.0005  # a read that takes longer is too slow to watch every tick with
DOUBT = 0.06  # of a tick: a tick that is known less well is watched for
FAR = 0.4  # of a tick, well beyond DOUBT: within 25 ms of a tick a read of an H200's counter costs up to 16 ms of CPU, else 2.4 ms
UNSEEN_S = 30.0
LEAST_JITTER = 0.005  # of a tick
AT_WORK = 1.05  # times idle power: a GPU that drew more on average since it was probed has worked


@dataclass(frozen=True, slots=True)
class _Poll:
    """One read of a counter while a tick is waited for: when it was asked and when the answer was there."""

    counter: Counter
    reading: Reading
    asked_ns: int
    done_ns: int


class TickingCounters:
    """Probes the ticks of ``counters`` and waits for them. Each is probed once and kept.

    ``sources``: those of all counters of the session. ``take`` reads a counter, and gives None for one that is left out from then on;
    ``leave_out`` says whether the figure can do without one that fails, and then leaves it out. ``late``: a read took half a tick or more
    since that was last asked.
    """

    def __init__(
        self,
        clock: Clock,
        take: Callable[[Counter], Reading | None],
        leave_out: Callable[[Counter, MeterError], bool],
        sources: Iterable[Source],
    ) -> None:
        self.counters: tuple[Counter, ...] = ()
        self.probed: dict[str, Source] = {}
        self.late = False
        self._clock = clock
        self._take = take
        self._leave_out = leave_out
        self._ticked_ns: dict[str, int] = {}
        self._last_j: dict[str, float] = {}  # at its last tick
        self._clocks: dict[str, TickClock] = {}
        self._read_s = 0.0  # what a read of the slowest counter takes
        self._lag_known = {source.domain for source in sources if source.lag_s > 0}
        self._told: dict[str, Behaviour] = {}
        self._whole: dict[str, bool] = {}  # whether it sees all of the time, where that was looked at
        self._quiet: dict[str, tuple[Reading, float]] = {}  # the last reading of the probe, and idle power

    def source(self, counter: Counter) -> Source:
        """Its source, with the tick as probed where that has happened."""
        return self.probed.get(counter.source.domain, counter.source)

    def next(self) -> dict[str, Reading]:
        """Wait until every counter has changed; each is read at its own tick. Raises MeterLostError if one stands still."""
        return self._foretold() or self._watched()

    def idled(self, domain: str) -> bool:
        """Whether its readings since it was probed show no more than idle power; also where it was not probed, or has not ticked since."""
        last_j = self._last_j.get(domain)
        if domain not in self._quiet or last_j is None:
            return True
        since, idle_w = self._quiet[domain]
        seconds = (self._ticked_ns.get(domain, since.t_ns) - since.t_ns) / 1e9
        return last_j - since.energy_j <= AT_WORK * idle_w * seconds

    def wait_for_phase(self, fraction: float) -> None:
        """Wait until ``fraction`` of a tick of the slowest counter has passed since one of its ticks; needs a tick that was waited for."""
        if not self.counters:
            return
        slowest = max(self.counters, key=self._tick_s)
        tick_ns = self._tick_s(slowest) * 1e9
        since_ns = self._clock.now_ns() - self._ticked_ns[slowest.source.domain]
        self._clock.sleep((fraction * tick_ns - since_ns) % tick_ns / 1e9)

    def _foretold(self) -> dict[str, Reading]:
        """One read of each counter well after a tick that is known to have come; nothing where that is not known well enough.

        Only where a read is slow: watching for a tick takes several.
        """
        dues = self._dues()
        found: dict[str, Reading] = {}
        for counter, due in sorted(dues, key=lambda each: each[1].t_ns + each[1].doubt_ns):
            domain, period_ns = counter.source.domain, self._clocks[counter.source.domain].period_ns
            self._clock.sleep((due.t_ns + FAR * period_ns - self._clock.now_ns()) / 1e9)
            reading = self._take(counter)
            if reading is None:
                continue
            if reading.energy_j == self._last_j.get(domain):
                return {}  # the tick did not come, or the counter stands still: watching will show which
            self.late |= self._clock.now_ns() > due.t_ns + period_ns - due.doubt_ns
            found[domain] = self._ticked(counter, reading, round(due.t_ns))
        return found

    def _dues(self) -> list[tuple[Counter, Due]]:
        """The next tick of every counter; nothing where one is not known well enough, or was not watched for long."""
        now_ns, dues = self._clock.now_ns(), []
        for counter in self.counters if self._slow else ():
            clock = self._clocks[counter.source.domain]
            due = clock.next_after(now_ns)
            if due.doubt_ns > DOUBT * clock.period_ns or clock.unseen_ns(now_ns) > UNSEEN_S * 1e9:
                return []
            dues.append((counter, due))
        return dues

    def _watched(self) -> dict[str, Reading]:
        """Sleep until shortly before the next tick is due, then poll: polling throughout would cost a tenth of a core."""
        if not self.counters:
            return {}
        self._sleep_until_due()
        waiting = [poll for counter in self.counters if (poll := self._polled(counter)) is not None]
        ticks_s = [self._tick_s(poll.counter) for poll in waiting] or [0.0]
        step_s = 0.0 if self._slow else max(min(ticks_s) / POLLS, 50e-6)
        until_ns = self._clock.now_ns() + int(max(STILL_S, 20 * max(ticks_s)) * 1e9)
        found: dict[str, Reading] = {}
        while waiting:
            self._clock.sleep(step_s)
            waiting = [poll for before in waiting if (poll := self._after(before, found)) is not None]
            if self._clock.now_ns() > until_ns:
                for poll in waiting:
                    still = _stands_still(poll.counter)
                    if not self._leave_out(poll.counter, still):
                        raise still
                break
        return found

    def _polled(self, counter: Counter) -> _Poll | None:
        asked_ns = self._clock.now_ns()
        reading = self._take(counter)
        return None if reading is None else _Poll(counter, reading, asked_ns, self._clock.now_ns())

    def _after(self, before: _Poll, found: dict[str, Reading]) -> _Poll | None:
        """The next poll of the same counter; None once it has ticked, and its reading is in ``found``, or is left out."""
        poll = self._polled(before.counter)
        if poll is None or poll.reading.energy_j == before.reading.energy_j:
            return poll
        counter, domain = poll.counter, poll.counter.source.domain
        # Only the poll that shows the tick counts: a slow one in between delays nothing.
        self.late |= poll.done_ns - poll.asked_ns > max(self._tick_s(counter) / 2, SLOW_READ_S) * 1e9
        at_ns = poll.reading.t_ns
        if self._slow and domain in self._clocks:  # a window may wait for ticks before any was probed
            seen = Seen(before.asked_ns, poll.done_ns)
            at_ns = round(seen.middle_ns)
            if not self._clocks[domain].saw(seen):
                raise MeterLostError(f"the energy counter of {domain} ticked when no tick was due.", remedy="Measure again.")
        found[domain] = self._ticked(counter, poll.reading, at_ns)
        return None

    def _ticked(self, counter: Counter, reading: Reading, at_ns: int) -> Reading:
        domain = counter.source.domain
        self._ticked_ns[domain] = at_ns
        self._last_j[domain] = reading.energy_j
        return Reading(reading.energy_j, at_ns)

    def _sleep_until_due(self) -> None:
        """Sleep until shortly before the first tick that any counter has due. A tick that comes earlier is missed; the next one counts."""
        now_ns = self._clock.now_ns()
        wait_s = []
        for counter in self.counters:
            period_s, last_ns = self._tick_s(counter), self._ticked_ns.get(counter.source.domain)
            if last_ns is None or period_s < LAG_SHORTEST_TICK_S:
                return
            least, most = DUE_MARGIN
            early_s = min(max(DUE_JITTERS * self._jitter_s(counter), least * period_s), most * period_s)
            wait_s.append(period_s - (now_ns - last_ns) / 1e9 % period_s - early_s)
            if self._slow:
                due = self._clocks[counter.source.domain].next_after(now_ns)
                wait_s[-1] = (due.t_ns - min(due.doubt_ns, period_s * 1e9 / 2) - now_ns) / 1e9 - self._read_s
        self._clock.sleep(min(wait_s))

    @property
    def _slow(self) -> bool:
        """Whether watching every tick would cost too much CPU."""
        return self._read_s > SLOW_FROM_S

    def _tick_s(self, counter: Counter) -> float:
        return self.source(counter).tick_s

    def _jitter_s(self, counter: Counter) -> float:
        return self.source(counter).jitter_s

    @property
    def lag_unknown(self) -> bool:
        """Whether some counter ticks slowly enough to hide a lag that nobody has looked for yet in this session."""
        return any(each.source.domain not in self._lag_known and self._tick_s(each) >= LAG_SHORTEST_TICK_S for each in self.counters)

    @property
    def unprobed(self) -> bool:
        """Whether some counter's tick is not known yet, nor told by another process."""
        return any(each.source.domain not in {**self.probed, **self._told} for each in self.counters)

    @property
    def behaviours(self) -> tuple[Behaviour, ...]:
        """How the counters behave whose ticks and lags are known."""
        known = [source for domain, source in self.probed.items() if domain in self._lag_known]
        return tuple(
            Behaviour(each.domain, each.uuid, each.tick_s, each.jitter_s, each.lag_s, self._whole.get(each.domain)) for each in known
        )

    def expect(self, told: Iterable[Behaviour]) -> None:
        """What another process has seen of these devices: looked at again by ``recheck`` before it is used."""
        devices = {(each.source.domain, each.source.uuid) for each in self.counters if each.source.domain not in self.probed}
        for each in told:
            if (each.domain, each.uuid) in devices:
                self._told[each.domain] = each
                self._lag_known.add(each.domain)
                if each.whole is not None:
                    self._whole[each.domain] = each.whole

    def forget(self) -> None:
        """What another process has told is not so."""
        for domain in self._told:
            self._lag_known.discard(domain)
            self._whole.pop(domain, None)
            self.probed.pop(domain, None)
        self._told = {}

    def recheck(self, counter: Counter) -> bool:
        """Whether a counter ticks as was told; then it is as good as probed. Raises MeterError as ``probe`` does."""
        told = self._told[counter.source.domain]
        changes, took_ns = self._watch_changes(counter, RECHECKED_CHANGES)
        period_s = (changes[-1][0].reading.t_ns - changes[0][0].reading.t_ns) / 1e9 / (len(changes) - 1)
        blur_s = 2 * max(seen.doubt_ns for _, seen in changes) / 1e9
        if abs(period_s - told.tick_s) > 2 * told.jitter_s + blur_s + LEAST_JITTER * told.tick_s:
            return False
        self._follow(counter, changes, took_ns, told.tick_s, told.jitter_s)
        self.probed[counter.source.domain] = replace(counter.source, tick_s=told.tick_s, jitter_s=told.jitter_s, lag_s=told.lag_s)
        return True

    def is_told(self, counter: Counter) -> bool:
        """Whether another process has told of it."""
        return counter.source.domain in self._told

    @property
    def whole(self) -> bool | None:
        """Whether all of them see all of the time; None where that was not looked at yet."""
        seen = [self._whole.get(each.source.domain) for each in self.counters]
        return False if False in seen else None if None in seen else bool(seen)

    def doubt(self) -> None:
        """No counter is taken to see all of the time any more."""
        self._whole = {counter.source.domain: False for counter in self.counters}

    def learn(self, sources: Sequence[Source], *, whole: bool | None = None, quiet: Sequence[Idle] = ()) -> None:
        """Keep the lags that a run has found, and whether the counters see all of the time where it has looked; idle power as seen last."""
        for idle in quiet:
            self._quiet[idle.domain] = Reading(self._last_j[idle.domain], self._ticked_ns[idle.domain]), idle.watts
        for source in sources:
            self.probed[source.domain] = source
            self._lag_known.add(source.domain)
            if whole is not None:
                self._whole[source.domain] = whole

    def probe(self, counter: Counter) -> tuple[Reading, ...]:
        """Find the tick's period and jitter while the device idles; the readings at the ticks that were watched. Raises MeterError for a
        counter that does not change within two seconds, or runs backwards.
        """
        changes, took_ns = self._watch_changes(counter, PROBE_CHANGES)
        readings = [poll.reading for poll, _ in changes]
        periods = [(b.t_ns - a.t_ns) / 1e9 for a, b in itertools.pairwise(readings)]
        tick_s, jitter_s = statistics.median(periods), max(periods) - min(periods)
        self._follow(counter, changes, took_ns, tick_s, jitter_s)
        self._quiet[counter.source.domain] = readings[-1], idle_over(counter.source.domain, readings).watts
        self.probed[counter.source.domain] = replace(counter.source, tick_s=tick_s, jitter_s=jitter_s)
        return tuple(readings)

    def _follow(self, counter: Counter, changes: Sequence[tuple[_Poll, Seen]], took_ns: float, tick_s: float, jitter_s: float) -> None:
        """Follow the ticks of a counter from those that were watched."""
        self._read_s = max(self._read_s, took_ns / 1e9)
        # Some of the spread is that of the watching itself: each of two ticks was seen only to within two reads.
        blur_s = 2 * max(seen.doubt_ns for _, seen in changes) / 1e9
        self._clocks[counter.source.domain] = clock = TickClock(tick_s, max(jitter_s - blur_s, LEAST_JITTER * tick_s))
        for _, seen in changes:
            clock.saw(seen)

    def _probed_once(self, counter: Counter) -> _Poll:
        """A poll whose failure is the probe's to judge."""
        asked_ns = self._clock.now_ns()
        reading = read_counter(counter)
        return _Poll(counter, reading, asked_ns, self._clock.now_ns())

    def _watch_changes(self, counter: Counter, count: int) -> tuple[list[tuple[_Poll, Seen]], float]:
        """The first polls after each of the next ``count`` ticks and one, when each tick came, and nanoseconds that a read takes."""
        changes: list[tuple[_Poll, Seen]] = []
        took_ns: list[int] = []
        last = self._probed_once(counter)
        since_ns = self._clock.now_ns()
        while len(changes) <= count:
            self._clock.sleep(100e-6)
            poll = self._probed_once(counter)
            took_ns.append(poll.done_ns - poll.asked_ns)
            if poll.reading.energy_j < last.reading.energy_j:
                raise ran_backwards(counter)
            if poll.reading.energy_j > last.reading.energy_j:
                changes.append((poll, Seen(last.asked_ns, poll.done_ns)))
                since_ns = poll.done_ns
            elif poll.done_ns - since_ns > STILL_S * 1e9:
                raise MeterError(f"The energy counter of {counter.source.domain} did not change for {STILL_S:g} s.", remedy=_STILL_REMEDY)
            last = poll
        return changes, statistics.median(took_ns)


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
    return MeterError(f"The energy counter of {counter.source.domain} ran backwards while it was probed.", remedy=_BACK_REMEDY)


def _stands_still(counter: Counter) -> MeterLostError:
    return MeterLostError(f"the energy counter of {counter.source.domain} stands still.", remedy=_STILL_REMEDY)


_STILL_REMEDY = "`greencompute doctor` shows which meters work here; a virtual GPU or an old driver may have no energy counter."
_BACK_REMEDY = "A driver reload resets it; measure again."
