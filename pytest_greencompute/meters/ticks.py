"""The counters that change in ticks: how long a tick is, when it comes, and what is read at it."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters.base import Counter
from pytest_greencompute.meters.learnt import Learnt
from pytest_greencompute.meters.polls import EARLY, SLOW_FROM_S, SLOW_READ_S, Poll, SeenTicks, sampled, stands_still, watch
from pytest_greencompute.meters.tick_clock import Due, Seen, TickClock
from pytest_greencompute.protocol.tail import LAG_SHORTEST_TICK_S, idle_over
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.readings import STILL_S, Idle, Reading, Source

PROBE_CHANGES = 5
RECHECKED_CHANGES = 1  # of a counter that another process has probed: one period, which must be as told
POLLS = 160  # a tick is found to within a 160th of its period; what watching it costs must stay within half a per cent of a core
DUE_MARGIN = (0.02, EARLY)  # of a period, before a tick is due: at least and at most
DUE_JITTERS = 3
DOUBT = 0.06  # of a tick: a tick that is known less well is watched for
WHOLE_DOUBT = 0.2  # likewise, jitter apart, where a counter sees all of the time: its joules lie between the ticks, whenever they came
MOST_DOUBT = 0.3  # with jitter: FAR after a tick was due it has come, and the next one has not
WHOLE_POLLS = 3  # to the middle of what is not known of a tick, likewise
LATE = 0.05  # of a tick, after the last moment at which it was due: then it came before it was looked for
FRESH_TICKS = 2  # a reading at the last tick begins the next block if it is no older
FAR = 0.4  # of a tick, well beyond DOUBT: within 25 ms of a tick a read of an H200's counter costs up to 16 ms of CPU, else 2.4 ms
UNSEEN_S = 60.0
LEAST_JITTER = 0.005  # of a tick
DRIFT = 1e-4  # of a period that was told: clocks drift with temperature
NO_READINGS: Mapping[str, Reading] = {}
AT_WORK = 1.05  # times idle power: a GPU that drew more on average since it was probed has worked


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
        self.learnt = Learnt(sources)
        self.late = False
        self._clock = clock
        self._take = take
        self._leave_out = leave_out
        self._ticked_ns: dict[str, int] = {}
        self._last_j: dict[str, float] = {}  # at its last tick
        self._clocks: dict[str, TickClock] = {}
        self._read_s = 0.0  # what a read of the slowest counter takes
        self._quiet: dict[str, tuple[Reading, float]] = {}  # the last reading of the probe, and idle power

    def next(self, since: Mapping[str, Reading] = NO_READINGS) -> Mapping[str, Reading]:
        """Wait until every counter has changed; each is read at its own tick. Raises MeterLostError if one stands still.

        ``since``: readings at earlier ticks, which are the answer where they are fresh and no other tick was waited for meanwhile: a read
        can be dear.
        """
        return since if self._is_fresh(since) else self._foretold() or self._watched()

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

    def _is_fresh(self, since: Mapping[str, Reading]) -> bool:
        now_ns = self._clock.now_ns()
        return bool(self.counters) and all(
            (reading := since.get(counter.source.domain)) is not None
            and reading.t_ns == self._ticked_ns.get(counter.source.domain)
            and now_ns - reading.t_ns <= FRESH_TICKS * self._tick_s(counter) * 1e9
            for counter in self.counters
        )

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
        for counter in self.counters if self.dear else ():
            clock = self._clocks[counter.source.domain]
            due = clock.next_after(now_ns)
            doubt = DOUBT
            if self.learnt.sees_all(counter.source.domain):
                doubt = min(WHOLE_DOUBT + clock.jitter_ns / clock.period_ns, MOST_DOUBT)
            if due.doubt_ns > doubt * clock.period_ns or clock.unseen_ns(now_ns) > UNSEEN_S * 1e9:
                return []
            dues.append((counter, due))
        return dues

    def _watched(self) -> dict[str, Reading]:
        """Sleep until shortly before the next tick is due, then poll: polling throughout would cost a tenth of a core."""
        if not self.counters:
            return {}
        waiting, over_ns, step_s = self._from_due(self.counters)
        ticks_s = [self._tick_s(poll.counter) for poll in waiting] or [0.0]
        until_ns = self._clock.now_ns() + int(max(STILL_S, 20 * max(ticks_s)) * 1e9)
        found: dict[str, Reading] = {}
        while waiting:
            self._clock.sleep(step_s)
            waiting = [poll for before in waiting if (poll := self._after(before, found)) is not None]
            if self._clock.now_ns() > until_ns:
                for poll in waiting:
                    still = stands_still(poll.counter)
                    if not self._leave_out(poll.counter, still):
                        raise still
                break
            if waiting and self._clock.now_ns() > over_ns:
                # It came too early to be seen, and polling for the next would take a whole period. Missed again, it is out of step.
                waiting, _, step_s = self._from_due([poll.counter for poll in waiting])
                over_ns = math.inf
        return found

    def _from_due(self, counters: Sequence[Counter]) -> tuple[list[Poll], float, float]:
        """Sleep until shortly before the first tick that is due. The first polls; when (ns) a tick that was not seen by then was missed;
        seconds from one poll to the next.
        """
        now_ns, over_ns = self._clock.now_ns(), math.inf
        step_s = 0.0 if self.dear else max(min(map(self._tick_s, counters), default=0.0) / POLLS, 50e-6)
        self._sleep_until_due()
        if self.dear and all(each.source.domain in self._clocks for each in counters):
            dues = [(clock, clock.next_after(now_ns)) for clock in (self._clocks[each.source.domain] for each in counters)]
            if all(due.doubt_ns < clock.period_ns / 2 for clock, due in dues):
                over_ns = max(due.t_ns + due.doubt_ns + LATE * clock.period_ns for clock, due in dues)
                if all(self.learnt.sees_all(each.source.domain) for each in counters):
                    step_s = min(due.doubt_ns for _, due in dues) / 1e9 / WHOLE_POLLS
        return [poll for counter in counters if (poll := self._polled(counter)) is not None], over_ns, step_s

    def _polled(self, counter: Counter) -> Poll | None:
        asked_ns = self._clock.now_ns()
        reading = self._take(counter)
        return None if reading is None else Poll(counter, reading, asked_ns, self._clock.now_ns())

    def _after(self, before: Poll, found: dict[str, Reading]) -> Poll | None:
        """The next poll of the same counter; None once it has ticked, and its reading is in ``found``, or is left out."""
        poll = self._polled(before.counter)
        if poll is None or poll.reading.energy_j == before.reading.energy_j:
            return poll
        counter, domain = poll.counter, poll.counter.source.domain
        # Only the poll that shows the tick counts: a slow one in between delays nothing.
        self.late |= poll.took_s > max(self._tick_s(counter) / 2, SLOW_READ_S)
        at_ns = poll.reading.t_ns
        if self.dear and domain in self._clocks:  # a window may wait for ticks before any was probed
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
            if self.dear:
                due = self._clocks[counter.source.domain].next_after(now_ns)
                wait_s[-1] = (due.t_ns - min(due.doubt_ns, period_s * 1e9 / 2) - now_ns) / 1e9 - self._read_s
        self._clock.sleep(min(wait_s))

    @property
    def dear(self) -> bool:
        """Whether a read costs so much CPU that watching every tick would be too dear."""
        return self._read_s > SLOW_FROM_S

    def _tick_s(self, counter: Counter) -> float:
        return self.learnt.source(counter).tick_s

    def _jitter_s(self, counter: Counter) -> float:
        return self.learnt.source(counter).jitter_s

    @property
    def lag_unknown(self) -> bool:
        """Whether some counter ticks slowly enough to hide a lag that no work has shown yet."""
        return any(not self.learnt.knows_lag(each.source.domain) and self._tick_s(each) >= LAG_SHORTEST_TICK_S for each in self.counters)

    @property
    def faint(self) -> dict[str, float]:
        """The idle power of those whose lag was looked for in vain; none where some other's lag was not looked for yet."""
        slow = [each.source.domain for each in self.counters if self._tick_s(each) >= LAG_SHORTEST_TICK_S]
        open_lags = [domain for domain in slow if not self.learnt.knows_lag(domain)]
        idle_w = self.learnt.idle_w
        return {each: idle_w[each] for each in open_lags} if all(map(self._is_faint, open_lags)) else {}

    def _is_faint(self, domain: str) -> bool:
        return self.learnt.is_faint(domain) and domain in self.learnt.idle_w

    @property
    def unprobed(self) -> bool:
        """Whether some counter's tick is not known yet, nor told by another process."""
        return not all(self.learnt.is_known(each.source.domain) for each in self.counters)

    @property
    def behaviours(self) -> tuple[Behaviour, ...]:
        """How the counters behave whose ticks are known, and whose lags were looked for."""
        known = (self.learnt.knows_lag, self.learnt.is_faint)
        return tuple(self._behaviour(source) for domain, source in self.learnt.probed.items() if any(each(domain) for each in known))

    def _behaviour(self, source: Source) -> Behaviour:
        clock, whole = self._clocks.get(source.domain), self.learnt.sees_all(source.domain)
        seen = Behaviour(source.domain, source.uuid, source.tick_s, source.jitter_s, source.lag_s, whole, self._read_s)
        seen = replace(seen, lag_shown=self.learnt.knows_lag(source.domain), idle_w=self.learnt.idle_w.get(source.domain))
        if clock is None or not math.isfinite(clock.period_doubt_s):
            return seen
        return replace(seen, tick_s=clock.period_ns / 1e9, doubt_s=clock.period_doubt_s)

    def recheck(self, counter: Counter) -> bool:
        """Whether a counter ticks as was told; then it is as good as probed. Raises MeterError as ``probe`` does."""
        told = self.learnt.told[counter.source.domain]
        watched = watch(counter, self._clock, RECHECKED_CHANGES, told.tick_s)
        first, last = watched.polls[0], watched.polls[-1]
        period_s = (last.reading.t_ns - first.reading.t_ns) / 1e9 / RECHECKED_CHANGES
        if abs(period_s - told.tick_s) > 2 * told.jitter_s + watched.blur_s + LEAST_JITTER * told.tick_s:
            return False
        doubt_s = math.inf if told.doubt_s is None else max(told.doubt_s, DRIFT * told.tick_s)
        self._follow(counter, watched, told.tick_s, told.jitter_s, doubt_s)
        self.learnt.probed[counter.source.domain] = replace(counter.source, tick_s=told.tick_s, jitter_s=told.jitter_s, lag_s=told.lag_s)
        return True

    def learn(
        self,
        sources: Sequence[Source],
        lags: frozenset[str] = frozenset(),
        *,
        whole: bool | None = None,
        quiet: Sequence[Idle] = (),
    ) -> None:
        """As the message ``Learn`` says."""
        for idle in quiet:
            self._rests(idle, Reading(self._last_j[idle.domain], self._ticked_ns[idle.domain]))
        self.learnt.learn(sources, lags, whole=whole)

    def _rests(self, idle: Idle, last: Reading) -> None:
        self._quiet[idle.domain] = last, idle.watts
        self.learnt.idle_w[idle.domain] = idle.watts

    def probe(self, counter: Counter) -> tuple[Reading, ...]:
        """Find the tick's period and jitter while the device idles; the readings at the ticks that were watched. Raises MeterError for a
        counter that does not change within two seconds, or runs backwards.
        """
        watched = sampled(counter, self._clock, PROBE_CHANGES) or watch(counter, self._clock, PROBE_CHANGES)
        readings = [poll.reading for poll in watched.polls]
        periods = [(b.t_ns - a.t_ns) / 1e9 for a, b in itertools.pairwise(readings)]
        tick_s, jitter_s = statistics.median(periods), max(counter.source.jitter_s, max(periods) - min(periods))
        self._follow(counter, watched, tick_s, jitter_s)
        self._rests(idle_over(counter.source.domain, readings), readings[-1])
        self.learnt.probed[counter.source.domain] = replace(counter.source, tick_s=tick_s, jitter_s=jitter_s)
        return tuple(readings)

    def _follow(self, counter: Counter, watched: SeenTicks, tick_s: float, jitter_s: float, doubt_s: float = math.inf) -> None:
        """Follow the ticks of a counter from those that were watched. ``doubt_s`` as for ``TickClock``."""
        self._read_s = max(self._read_s, watched.read_s)
        # A period is as long as both of its ticks are early or late, so each is so by half of the spread.
        jitter_s = max((jitter_s - watched.blur_s) / 2, LEAST_JITTER * tick_s)
        self._clocks[counter.source.domain] = clock = TickClock(tick_s, jitter_s, doubt_s)
        for seen in watched.ticks:
            clock.saw(seen)
