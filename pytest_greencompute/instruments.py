"""The open counters of a session and what is done with them: probe ticks, wait for ticks, read marks, lock the devices."""

from __future__ import annotations

import contextlib
import itertools
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_greencompute.clock import Clock
from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.meters.base import Counter
from pytest_greencompute.protocol import LAG_SHORTEST_TICK_S, Probed
from pytest_greencompute.samples import Idle, Reading, Source

PROBE_CHANGES = 5
POLLS = 200  # a tick is found to within a 200th of its period
DUE_MARGIN = 0.08  # of a period, before a tick is due
STILL_S = 2.0  # a counter that has not changed for so long stands still
LOCK_WAIT_S = 600.0
SLOW_READ = "slow read"  # a read that took half a tick or more: the block's phase is not what it should be
SLOW_READ_S = 0.005


class Instruments:
    """The counters that a session has opened. ``counters`` are those that work; ``refusals`` the meters that do not, and why.

    Ticks are probed once per counter and kept. ``lock_folder`` holds one lock file per device, so that two measured runs on one
    device wait for each other; containers may share one.
    """

    def __init__(
        self,
        counters: Sequence[Counter],
        clock: Clock,
        *,
        refusals: Sequence[tuple[str, MeterError]] = (),
        lock_folder: Path | None = None,
        allowed_marks: frozenset[str] = frozenset(),
    ) -> None:
        self.counters = tuple(counters)
        self.clock = clock
        self.refusals = tuple(refusals)
        self._lock_folder = lock_folder or Path(tempfile.gettempdir()) / "greencompute-locks"
        self.allowed = allowed_marks
        self._late = False
        self._probed: dict[str, Source] = {}
        self._ticked_ns: dict[str, int] = {}
        self._lag_known = {counter.source.domain for counter in self.counters if counter.source.lag_s > 0}
        self._ticking = tuple(counter for counter in self.counters if counter.source.tick_s > 0)
        self._continuous = tuple(counter for counter in self.counters if counter.source.tick_s == 0)

    @property
    def sources(self) -> tuple[Source, ...]:
        """One per domain, with the tick as probed where that has happened."""
        return tuple(self._probed.get(counter.source.domain, counter.source) for counter in self.counters)

    @property
    def ticking(self) -> bool:
        """Whether any counter changes in ticks that must be waited for."""
        return bool(self._ticking)

    def facts(self) -> dict[str, Any]:
        """What the counters know of their devices, by domain, for the provenance."""
        return {
            counter.source.domain: {
                **counter.facts(),
                "device": counter.source.device,
                "uuid": counter.source.uuid,
                "meter": counter.source.meter,
                "method": counter.source.method,
            }
            for counter in self.counters
        }

    def conditions(self) -> dict[str, Any]:
        """Temperature, clocks and the like of this moment, by domain."""
        return {counter.source.domain: dict(facts) for counter in self.counters if (facts := counter.condition().facts)}

    def marks(self) -> tuple[str, ...]:
        """What would spoil a block right now, except what the user allowed by name."""
        marks = [mark for counter in self.counters for mark in counter.condition().marks]
        if self._late:
            marks.append(SLOW_READ)
            self._late = False
        return tuple(mark for mark in marks if mark not in self.allowed)

    def read(self) -> dict[str, Reading]:
        """Every counter, now, without waiting for a tick."""
        return {counter.source.domain: counter.read() for counter in self.counters}

    def read_continuous(self) -> dict[str, Reading]:
        """The counters that change continuously, now."""
        return {counter.source.domain: counter.read() for counter in self._continuous}

    def ticks(self) -> dict[str, Reading]:
        """Wait until every ticking counter has changed; each is read at its own tick. Raises MeterLostError if one stands still.

        Sleeps until shortly before the next tick is due, then polls: polling throughout would cost a tenth of a core.
        """
        if not self._ticking:
            return {}
        self._sleep_until_due()
        waiting = [(counter, counter.read()) for counter in self._ticking]
        step_s = min(max(self._tick_s(counter) / POLLS, 50e-6) for counter in self._ticking)
        until_ns = self.clock.now_ns() + int(max(STILL_S, 20 * max(self._tick_s(c) for c in self._ticking)) * 1e9)
        found: dict[str, Reading] = {}
        while waiting:
            self.clock.sleep(step_s)
            waiting = [(counter, before) for counter, before in waiting if not self._has_ticked(counter, before, found)]
            if waiting and self.clock.now_ns() > until_ns:
                raise MeterLostError(f"the energy counter of {waiting[0][0].source.domain} stands still.", remedy=_STILL_REMEDY)
        return found

    def _has_ticked(self, counter: Counter, before: Reading, found: dict[str, Reading]) -> bool:
        domain = counter.source.domain
        asked_ns = self.clock.now_ns()
        reading = counter.read()
        if reading.energy_j == before.energy_j:
            return False
        # Only the poll that shows the tick counts: a slow one in between delays nothing.
        self._late |= self.clock.now_ns() - asked_ns > max(self._tick_s(counter) / 2, SLOW_READ_S) * 1e9
        found[domain] = reading
        self._ticked_ns[domain] = reading.t_ns
        return True

    def _sleep_until_due(self) -> None:
        """Sleep until shortly before the first tick that any counter has due. A tick that comes earlier is missed; the next one counts."""
        now_ns = self.clock.now_ns()
        due_s = []
        for counter in self._ticking:
            period_s, last_ns = self._tick_s(counter), self._ticked_ns.get(counter.source.domain)
            if last_ns is None or period_s < LAG_SHORTEST_TICK_S:
                return
            due_s.append(period_s - (now_ns - last_ns) / 1e9 % period_s - period_s * DUE_MARGIN)
        self.clock.sleep(min(due_s))

    def _tick_s(self, counter: Counter) -> float:
        return self._probed.get(counter.source.domain, counter.source).tick_s

    def probe(self) -> Probed:
        """The sources with tick period and jitter as seen, and idle power; looked at once per session, while the device idles.

        Raises MeterError for a counter that does not change within two seconds or runs backwards.
        """
        quiet = []
        for counter in self._ticking:
            if counter.source.domain not in self._probed:
                self._probed[counter.source.domain], drawn = self._probe(counter)
                quiet.append(drawn)
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
        changes: list[Reading] = []
        last = counter.read()
        since_ns = self.clock.now_ns()
        while len(changes) <= PROBE_CHANGES:
            self.clock.sleep(100e-6)
            reading = counter.read()
            if reading.energy_j < last.energy_j:
                raise MeterError(f"The energy counter of {counter.source.domain} ran backwards while it was probed.", remedy=_BACK_REMEDY)
            if reading.energy_j > last.energy_j:
                changes.append(reading)
                since_ns = self.clock.now_ns()
            elif self.clock.now_ns() - since_ns > STILL_S * 1e9:
                raise MeterError(f"The energy counter of {counter.source.domain} did not change for {STILL_S:g} s.", remedy=_STILL_REMEDY)
            last = reading
        periods = [(b.t_ns - a.t_ns) / 1e9 for a, b in itertools.pairwise(changes)]
        source = replace(counter.source, tick_s=statistics.median(periods), jitter_s=max(periods) - min(periods))
        first, last = changes[0], changes[-1]
        return source, Idle(source.domain, last.energy_j - first.energy_j, (last.t_ns - first.t_ns) / 1e9)

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of every metered device. ``waiting`` is told the device while another measured run holds it.

        Raises MeterError after ten minutes. The operating system frees the locks of a process that was killed.
        """
        import filelock

        names = sorted({counter.source.uuid or counter.source.domain for counter in self.counters})
        try:
            if not self._lock_folder.exists():
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


_STILL_REMEDY = "`greencompute doctor` shows which meters work here; a virtual GPU or an old driver may have no energy counter."
_BACK_REMEDY = "A driver reload resets it; measure again."
