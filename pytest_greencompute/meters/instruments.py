"""The open counters of a session and what is done with them: probe ticks, wait for ticks, read marks, lock the devices."""

from __future__ import annotations

import contextlib
import itertools
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.machine.clock import Clock, is_real
from pytest_greencompute.machine.spinning import Tail, wait_until_quiet
from pytest_greencompute.meters.base import STILL_S, Counter
from pytest_greencompute.meters.tick_clock import Due, Seen, TickClock
from pytest_greencompute.protocol.measurement import LAG_SHORTEST_TICK_S
from pytest_greencompute.protocol.messages import Probed
from pytest_greencompute.values.provenance import ByDomain, Device
from pytest_greencompute.values.readings import Idle, Reading, Source, counts, spared

PROBE_CHANGES = 5
POLLS = 160  # a tick is found to within a 160th of its period; what watching it costs must stay within half a per cent of a core
DUE_MARGIN = (0.02, 0.08)  # of a period, before a tick is due: at least and at most
DUE_JITTERS = 3
LOCK_WAIT_S = 600.0
SLOW_READ = "slow read"  # a read that took half a tick or more: the block's phase is not what it should be
SLOW_READ_S = 0.005
SLOW_FROM_S = 0.0005  # a read that takes longer is too slow to watch every tick with
DOUBT = 0.06  # of a tick: a tick that is known less well is watched for
FAR = 0.4  # of a tick, well beyond DOUBT: within 25 ms of a tick a read of an H200's counter costs up to 16 ms of CPU, else 2.4 ms
UNSEEN_S = 30.0
LEAST_JITTER = 0.005  # of a tick
RESTLESS = 3  # times in a row that something was still at work after the longest wait
AT_WORK = 1.05  # times idle power: a GPU that drew more on average since it was probed has worked


@dataclass(frozen=True, slots=True)
class _Poll:
    """One read of a counter while a tick is waited for: when it was asked and when the answer was there."""

    counter: Counter
    reading: Reading
    asked_ns: int
    done_ns: int


class Instruments:
    """The counters that a session has opened. ``counters`` are all of them; ``refusals`` the meters that do not work, and why.

    ``domains`` are those whose energy is judged, as in the settings. A counter that fails is left out from then on, and ``left_out`` says
    why, where the judged figure can do without it; every other failure is raised.

    Ticks are probed once per counter and kept. ``lock_folder`` holds one lock file per device, so that two measured runs on one
    device wait for each other; containers may share one. ``own`` are the domains of counters that see this process and its children alone.
    """

    def __init__(
        self,
        counters: Sequence[Counter],
        clock: Clock,
        *,
        refusals: Sequence[tuple[str, MeterError]] = (),
        lock_folder: Path | None = None,
        allowed_marks: frozenset[str] = frozenset(),
        own: frozenset[str] = frozenset(),
        domains: Sequence[str] = ("auto",),
    ) -> None:
        self.counters = tuple(counters)
        self.clock = clock
        self.refusals = tuple(refusals)
        self._lock_folder = lock_folder or Path(tempfile.gettempdir()) / "greencompute-locks"
        self.allowed = allowed_marks
        self.own = own
        self._judged = tuple(domains)
        self._left: dict[str, str] = {}  # by domain: why its counter is not read any more
        self._late = False
        self._restless = 0
        self._probed: dict[str, Source] = {}
        self._ticked_ns: dict[str, int] = {}
        self._last_j: dict[str, float] = {}  # at its last tick
        self._shown_j: dict[str, float] = {}  # at its last reading
        self.dropped_j: dict[str, float] = {}  # by how much counters have run backwards between two readings, in all
        self._clocks: dict[str, TickClock] = {}
        self._read_s = 0.0  # what a read of the slowest counter takes
        self._lag_known = {counter.source.domain for counter in self.counters if counter.source.lag_s > 0}
        self._quiet: dict[str, tuple[Reading, float]] = {}  # the last reading of the probe, and idle power
        self._sort()

    def _sort(self) -> None:
        self._live = tuple(counter for counter in self.counters if counter.source.domain not in self._left)
        self._ticking = tuple(counter for counter in self._live if counter.source.tick_s > 0)
        self._continuous = tuple(counter for counter in self._live if counter.source.tick_s == 0)

    @property
    def sources(self) -> tuple[Source, ...]:
        """One per domain that is read, with the tick as probed where that has happened."""
        return tuple(self._probed.get(counter.source.domain, counter.source) for counter in self._live)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Sentences about the domains that are not read any more."""
        return tuple(f"{domain} is left out, its counter does not work: {why}" for domain, why in self._left.items())

    @property
    def uncounted(self) -> frozenset[str]:
        """Domains that are read, and whose energy is in no figure that is judged."""
        here = [counter.source.domain for counter in self._live]
        return frozenset(domain for domain in here if not counts(domain, self._judged, here))

    def stopped(self, since: Mapping[str, Reading]) -> dict[str, float]:
        """By domain that was left out on the way: what its counter had moved by since those readings. One that never moved did not stop."""
        moved = {domain: self._shown_j[domain] - reading.energy_j for domain, reading in since.items() if domain in self._left}
        return {domain: joules for domain, joules in moved.items() if joules > 0}

    def kept(self, sources: Sequence[Source]) -> tuple[Source, ...]:
        """Those of the sources that are still read."""
        return tuple(source for source in sources if source.domain not in self._left)

    @property
    def ticking(self) -> bool:
        """Whether any counter changes in ticks that must be waited for."""
        return bool(self._ticking)

    def facts(self) -> dict[str, Device]:
        """What the counters know of their devices, by domain, for the provenance."""
        return {
            source.domain: Device(source.device, source.uuid, source.meter, source.method, counter.facts())
            for counter in self._live
            for source in [counter.source]
        }

    def conditions(self) -> ByDomain:
        """Temperature, clocks and the like of this moment, by domain."""
        return {counter.source.domain: dict(facts) for counter in self._live if (facts := counter.condition().facts)}

    def rest(self) -> Tail:
        """Wait until the idle workers of the last call have gone to sleep, where their energy is metered: what comes next must not pay for
        it. Where something is always at work, as a server in this process may be, it is no use.
        """
        metered = any(not counter.source.domain.startswith("gpu") for counter in self._live)
        if not metered or self._restless >= RESTLESS or not is_real(self.clock):
            return Tail()
        tail = wait_until_quiet()
        self._restless = 0 if tail.ended else self._restless + 1
        return tail

    def marks(self) -> tuple[str, ...]:
        """What would spoil a block right now, except what the user allowed by name; of a device that is judged, or may have to be."""
        uncounted = self.uncounted
        marks = [mark for counter in self._live if counter.source.domain not in uncounted for mark in counter.condition().marks]
        if self._left:
            marks += [f"{each.source.domain} in use, and not metered" for each in self.counters if self._is_missed(each)]
        if self._late:
            marks.append(SLOW_READ)
            self._late = False
        return tuple(mark for mark in marks if mark not in self.allowed)

    def read(self) -> dict[str, Reading]:
        """Every counter, now, without waiting for a tick."""
        return self._read(self._live)

    def read_continuous(self) -> dict[str, Reading]:
        """The counters that change continuously, now."""
        return self._read(self._continuous)

    def _read(self, counters: Sequence[Counter]) -> dict[str, Reading]:
        readings = {counter.source.domain: self._take(counter) for counter in counters}
        return {domain: reading for domain, reading in readings.items() if reading is not None}

    def _take(self, counter: Counter) -> Reading | None:
        """What a counter shows now; None where it fails or has run backwards, and is left out from here on."""
        domain = counter.source.domain
        try:
            reading = _read(counter)
        except MeterError as error:
            if self._leave_out(counter, error):
                return None
            raise
        dropped_j = self._shown_j.get(domain, reading.energy_j) - reading.energy_j
        self._shown_j[domain] = reading.energy_j
        if dropped_j > 0:
            if self._leave_out(counter, _backwards(counter)):
                return None
            self.dropped_j[domain] = self.dropped_j.get(domain, 0.0) + dropped_j
        return reading

    def _leave_out(self, counter: Counter, error: MeterError, here: Sequence[str] | None = None) -> bool:
        """Do without a counter from here on, if the figure can: then nothing of it is in any block that is yet to come.

        ``here``: the domains whose counters work (default: all that are read).
        """
        domain = counter.source.domain
        live = [each.source.domain for each in self._live] if here is None else here
        may = spared(domain, self._judged, live)
        if may and counts(domain, self._judged, live):
            seen_to_work = domain in self._probed or counter.source.tick_s == 0
            may = self._idles(counter) if domain.startswith("gpu") else not seen_to_work  # else a figure had its energy until now
        if may:
            self._left[domain] = error.message
            self._sort()
        return may

    def _idles(self, counter: Counter) -> bool:
        """Whether a GPU has done nothing of ours until now: it says so itself, and its readings since it was probed show nothing else."""
        domain, in_use = counter.source.domain, getattr(counter, "in_use", None)
        if in_use is None or in_use():
            return False
        last_j = self._last_j.get(domain)
        if domain not in self._quiet or last_j is None:
            return True
        since, idle_w = self._quiet[domain]
        seconds = (self._ticked_ns.get(domain, since.t_ns) - since.t_ns) / 1e9
        return last_j - since.energy_j <= AT_WORK * idle_w * seconds

    def _is_missed(self, counter: Counter) -> bool:
        """Whether a GPU that was left out is at work, so that its energy is missing from what is judged."""
        domain, in_use = counter.source.domain, getattr(counter, "in_use", None)
        here = [each.source.domain for each in self._live]
        return domain in self._left and in_use is not None and counts(domain, self._judged, (*here, domain)) and in_use()

    def ticks(self) -> dict[str, Reading]:
        """Wait until every ticking counter has changed; each is read at its own tick. Raises MeterLostError if one stands still."""
        return self._foretold() or self._watched()

    def wait_for_phase(self, fraction: float) -> None:
        """Wait until ``fraction`` of a tick of the slowest counter has passed since one of its ticks; needs a tick that was waited for."""
        if not self._ticking:
            return
        slowest = max(self._ticking, key=self._tick_s)
        tick_ns = self._tick_s(slowest) * 1e9
        since_ns = self.clock.now_ns() - self._ticked_ns[slowest.source.domain]
        self.clock.sleep((fraction * tick_ns - since_ns) % tick_ns / 1e9)

    def _foretold(self) -> dict[str, Reading]:
        """One read of each counter well after a tick that is known to have come; nothing where that is not known well enough.

        Only where a read is slow: watching for a tick takes several.
        """
        dues = self._dues()
        found: dict[str, Reading] = {}
        for counter, due in sorted(dues, key=lambda each: each[1].t_ns + each[1].doubt_ns):
            domain, period_ns = counter.source.domain, self._clocks[counter.source.domain].period_ns
            self.clock.sleep((due.t_ns + FAR * period_ns - self.clock.now_ns()) / 1e9)
            reading = self._take(counter)
            if reading is None:
                continue
            if reading.energy_j == self._last_j.get(domain):
                return {}  # the tick did not come, or the counter stands still: watching will show which
            self._late |= self.clock.now_ns() > due.t_ns + period_ns - due.doubt_ns
            found[domain] = self._ticked(counter, reading, round(due.t_ns))
        return found

    def _dues(self) -> list[tuple[Counter, Due]]:
        """The next tick of every counter; nothing where one is not known well enough, or was not watched for long."""
        now_ns, dues = self.clock.now_ns(), []
        for counter in self._ticking if self._slow else ():
            clock = self._clocks[counter.source.domain]
            due = clock.next_after(now_ns)
            if due.doubt_ns > DOUBT * clock.period_ns or clock.unseen_ns(now_ns) > UNSEEN_S * 1e9:
                return []
            dues.append((counter, due))
        return dues

    def _watched(self) -> dict[str, Reading]:
        """Sleep until shortly before the next tick is due, then poll: polling throughout would cost a tenth of a core."""
        if not self._ticking:
            return {}
        self._sleep_until_due()
        waiting = [poll for counter in self._ticking if (poll := self._polled(counter)) is not None]
        ticks_s = [self._tick_s(poll.counter) for poll in waiting] or [0.0]
        step_s = 0.0 if self._slow else max(min(ticks_s) / POLLS, 50e-6)
        until_ns = self.clock.now_ns() + int(max(STILL_S, 20 * max(ticks_s)) * 1e9)
        found: dict[str, Reading] = {}
        while waiting:
            self.clock.sleep(step_s)
            waiting = [poll for before in waiting if (poll := self._after(before, found)) is not None]
            if self.clock.now_ns() > until_ns:
                for poll in waiting:
                    still = _stands_still(poll.counter)
                    if not self._leave_out(poll.counter, still):
                        raise still
                break
        return found

    def _polled(self, counter: Counter) -> _Poll | None:
        asked_ns = self.clock.now_ns()
        reading = self._take(counter)
        return None if reading is None else _Poll(counter, reading, asked_ns, self.clock.now_ns())

    def _after(self, before: _Poll, found: dict[str, Reading]) -> _Poll | None:
        """The next poll of the same counter; None once it has ticked, and its reading is in ``found``, or is left out."""
        poll = self._polled(before.counter)
        if poll is None or poll.reading.energy_j == before.reading.energy_j:
            return poll
        counter, domain = poll.counter, poll.counter.source.domain
        # Only the poll that shows the tick counts: a slow one in between delays nothing.
        self._late |= poll.done_ns - poll.asked_ns > max(self._tick_s(counter) / 2, SLOW_READ_S) * 1e9
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
        now_ns = self.clock.now_ns()
        wait_s = []
        for counter in self._ticking:
            period_s, last_ns = self._tick_s(counter), self._ticked_ns.get(counter.source.domain)
            if last_ns is None or period_s < LAG_SHORTEST_TICK_S:
                return
            least, most = DUE_MARGIN
            early_s = min(max(DUE_JITTERS * self._jitter_s(counter), least * period_s), most * period_s)
            wait_s.append(period_s - (now_ns - last_ns) / 1e9 % period_s - early_s)
            if self._slow:
                due = self._clocks[counter.source.domain].next_after(now_ns)
                wait_s[-1] = (due.t_ns - min(due.doubt_ns, period_s * 1e9 / 2) - now_ns) / 1e9 - self._read_s
        self.clock.sleep(min(wait_s))

    @property
    def _slow(self) -> bool:
        """Whether watching every tick would cost too much CPU."""
        return self._read_s > SLOW_FROM_S

    def _tick_s(self, counter: Counter) -> float:
        return self._probed.get(counter.source.domain, counter.source).tick_s

    def _jitter_s(self, counter: Counter) -> float:
        return self._probed.get(counter.source.domain, counter.source).jitter_s

    def probe(self) -> Probed:
        """The sources with tick period and jitter as seen, and idle power; looked at once per session, while the device idles.

        Raises MeterError for a counter that is needed and does not change within two seconds or runs backwards; others are left out.
        """
        quiet, dead = [], []
        for counter in self._ticking:
            if counter.source.domain not in self._probed:
                try:
                    self._probed[counter.source.domain], drawn = self._probe(counter)
                except MeterError as error:
                    dead.append((counter, error))
                else:
                    quiet.append(drawn)
        here = [counter.source.domain for counter in self._live if counter not in [each for each, _ in dead]]
        for counter, refusal in dead:
            if not self._leave_out(counter, refusal, here):
                raise refusal
        # Only now: by a later run the idle power may have changed for good reasons, such as a GPU that has started to be used.
        return Probed(self.sources, tuple(quiet))

    @property
    def lag_unknown(self) -> bool:
        """Whether some counter ticks slowly enough to hide a lag that nobody has looked for yet in this session."""
        return any(each.source.domain not in self._lag_known and self._tick_s(each) >= LAG_SHORTEST_TICK_S for each in self._ticking)

    def learn(self, sources: Sequence[Source]) -> None:
        """Keep the lags that a run has found."""
        for source in sources:
            self._probed[source.domain] = source
            self._lag_known.add(source.domain)

    def _probe(self, counter: Counter) -> tuple[Source, Idle]:
        changes, took_ns = self._watch_changes(counter)
        readings = [poll.reading for poll, _ in changes]
        periods = [(b.t_ns - a.t_ns) / 1e9 for a, b in itertools.pairwise(readings)]
        tick_s, jitter_s = statistics.median(periods), max(periods) - min(periods)
        self._read_s = max(self._read_s, took_ns / 1e9)
        # Some of the spread is that of the watching itself: each of two ticks was seen only to within two reads.
        blur_s = 2 * max(seen.doubt_ns for _, seen in changes) / 1e9
        self._clocks[counter.source.domain] = clock = TickClock(tick_s, max(jitter_s - blur_s, LEAST_JITTER * tick_s))
        for _, seen in changes:
            clock.saw(seen)
        idle = Idle(counter.source.domain, readings[-1].energy_j - readings[0].energy_j, (readings[-1].t_ns - readings[0].t_ns) / 1e9)
        self._quiet[counter.source.domain] = readings[-1], idle.watts
        return replace(counter.source, tick_s=tick_s, jitter_s=jitter_s), idle

    def _probed_once(self, counter: Counter) -> _Poll:
        """A poll whose failure is the probe's to judge."""
        asked_ns = self.clock.now_ns()
        reading = _read(counter)
        return _Poll(counter, reading, asked_ns, self.clock.now_ns())

    def _watch_changes(self, counter: Counter) -> tuple[list[tuple[_Poll, Seen]], float]:
        """The first polls after each of the next ticks, when each tick came, and nanoseconds that a read takes."""
        changes: list[tuple[_Poll, Seen]] = []
        took_ns: list[int] = []
        last = self._probed_once(counter)
        since_ns = self.clock.now_ns()
        while len(changes) <= PROBE_CHANGES:
            self.clock.sleep(100e-6)
            poll = self._probed_once(counter)
            took_ns.append(poll.done_ns - poll.asked_ns)
            if poll.reading.energy_j < last.reading.energy_j:
                raise _backwards(counter)
            if poll.reading.energy_j > last.reading.energy_j:
                changes.append((poll, Seen(last.asked_ns, poll.done_ns)))
                since_ns = poll.done_ns
            elif poll.done_ns - since_ns > STILL_S * 1e9:
                raise MeterError(f"The energy counter of {counter.source.domain} did not change for {STILL_S:g} s.", remedy=_STILL_REMEDY)
            last = poll
        return changes, statistics.median(took_ns)

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of every metered device. ``waiting`` is told the device while another measured run holds it.

        Raises MeterError after ten minutes. The operating system frees the locks of a process that was killed.
        """
        import filelock

        names = sorted({counter.source.uuid or counter.source.domain for counter in self.counters})
        try:
            with contextlib.suppress(FileExistsError):  # another worker may make it at the same moment
                self._lock_folder.mkdir(parents=True)
                self._lock_folder.chmod(0o1777)  # other users' runs wait for ours, too
        except OSError as error:
            raise SettingsError(
                f"The folder for device locks, {self._lock_folder}, cannot be made: {error.strerror}.", remedy="Set lock_folder to another."
            ) from error
        with contextlib.ExitStack() as held:
            for name in names:
                lock = filelock.FileLock(str(self._lock_folder / (re.sub(r"[^\w.-]", "_", name) + ".lock")), mode=0o666)
                self._acquire(lock, name, waiting)
                held.callback(lock.release)
            yield

    @staticmethod
    def _acquire(lock: Any, name: str, waiting: Callable[[str], None]) -> None:
        import filelock

        try:
            lock.acquire(timeout=0)
            return
        except filelock.Timeout:
            waiting(name)
        except OSError as error:
            remedy = "Set lock_folder to a folder of yours."
            raise SettingsError(f"The device lock {lock.lock_file} cannot be opened: {error.strerror}.", remedy=remedy) from error
        try:
            lock.acquire(timeout=LOCK_WAIT_S)
        except filelock.Timeout as error:
            raise MeterError(
                f"Another measured run held {name} for {LOCK_WAIT_S / 60:.0f} minutes ({lock.lock_file}).",
                remedy="Wait for it to end, or measure on another device.",
            ) from error

    def close(self) -> None:
        """Close every counter; may be called twice."""
        for counter in self.counters:
            with contextlib.suppress(MeterError):  # the others must be closed, and the reports written, all the same
                counter.close()


def _read(counter: Counter) -> Reading:
    """What a counter shows. Raises MeterError alone, whoever made the counter."""
    try:
        return counter.read()
    except MeterError:
        raise
    except Exception as error:
        said = f"The energy counter of {counter.source.domain} could not be read ({type(error).__name__}: {error})."
        raise MeterLostError(said, remedy=_STILL_REMEDY) from error


def _backwards(counter: Counter) -> MeterError:
    return MeterError(f"The energy counter of {counter.source.domain} ran backwards while it was probed.", remedy=_BACK_REMEDY)


def _stands_still(counter: Counter) -> MeterLostError:
    return MeterLostError(f"the energy counter of {counter.source.domain} stands still.", remedy=_STILL_REMEDY)


_STILL_REMEDY = "`greencompute doctor` shows which meters work here; a virtual GPU or an old driver may have no energy counter."
_BACK_REMEDY = "A driver reload resets it; measure again."
