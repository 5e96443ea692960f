"""The open counters of a session: those that are read, those that are left out, and what they see of their devices."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pytest_greencompute.errors import MeterError
from pytest_greencompute.machine.clock import Clock, is_real
from pytest_greencompute.machine.spinning import Spin, wait_until_quiet
from pytest_greencompute.meters.base import Counter
from pytest_greencompute.meters.beside import PowerBeside, PowerSampler
from pytest_greencompute.meters.locks import locked
from pytest_greencompute.meters.polls import ran_backwards, read_counter
from pytest_greencompute.meters.ticks import NO_READINGS, TickingCounters
from pytest_greencompute.protocol.measurement import SURPRISED
from pytest_greencompute.protocol.messages import Learn, Probed
from pytest_greencompute.protocol.tail import LAG_SHORTEST_TICK_S, idle_over
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.memory import Memory
from pytest_greencompute.values.provenance import ByDomain, Device
from pytest_greencompute.values.readings import Reading, Source, counts, spared

SLOW_READ = "slow read"  # a read that took half a tick or more: the block's phase is not what it should be
RESTLESS = 3  # times in a row that something was still at work after the longest wait


class Instruments:
    """The counters that a session has opened. ``counters`` are all of them; ``refusals`` the meters that do not work, and why.

    ``domains`` are those whose energy is judged, as in the settings. A counter that fails is left out from then on, and ``left_out`` says
    why, where the judged figure can do without it; every other failure is raised.

    Ticks are probed once per counter and kept. ``lock_folder`` holds one lock file per device, so that two measured runs on one
    device wait for each other; containers may share one. ``own`` are the domains of counters that see this process and its children alone,
    ``elsewhere`` those of hosts that the user names.
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
        elsewhere: frozenset[str] = frozenset(),
        domains: Sequence[str] = ("auto",),
    ) -> None:
        self.counters = tuple(counters)
        self.clock = clock
        self.refusals = tuple(refusals)
        self._lock_folder = lock_folder or Path(tempfile.gettempdir()) / "greencompute-locks"
        self.allowed = allowed_marks
        self.own, self.elsewhere = own, elsewhere
        self._judged = tuple(domains)
        self._left: dict[str, str] = {}  # by domain: why its counter is not read any more
        self._restless = 0
        self._shown_j: dict[str, float] = {}  # at its last reading
        self.remarks: tuple[str, ...] = ()  # on the devices, for whoever measures next
        self.dropped_j: dict[str, float] = {}  # by how much counters have run backwards between two readings, in all
        self._sampler = PowerSampler(clock)
        self._ticks = TickingCounters(clock, self._take, self._leave_out, [each.source for each in counters])
        self._sort()

    def _sort(self) -> None:
        self._live = tuple(counter for counter in self.counters if counter.source.domain not in self._left)
        self._ticks.counters = tuple(counter for counter in self._live if counter.source.tick_s > 0)
        self._continuous = tuple(counter for counter in self._live if counter.source.tick_s == 0)

    @property
    def sources(self) -> tuple[Source, ...]:
        """One per domain that is read, with the tick as probed where that has happened."""
        return tuple(map(self._ticks.learnt.source, self._live))

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
        return bool(self._ticks.counters)

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

    def memory(self) -> dict[str, Memory | None]:
        """The memory of each GPU that is read, by domain; None for one whose counter does not tell."""
        live = [counter for counter in self._live if counter.source.domain.startswith("gpu")]
        return {each.source.domain: getattr(each, "memory", lambda: None)() for each in live}

    def rest(self) -> Spin:
        """Wait until the idle workers of the last call have gone to sleep, where their energy is metered: what comes next must not pay for
        it. Where something is always at work, as a server in this process may be, it is no use.
        """
        metered = any(not counter.source.domain.startswith("gpu") for counter in self._live)
        if not metered or self._restless >= RESTLESS or not is_real(self.clock):
            return Spin()
        tail = wait_until_quiet()
        self._restless = 0 if tail.ended else self._restless + 1
        return tail

    def marks(self) -> tuple[str, ...]:
        """What would spoil a block right now, except what the user allowed by name; of a device that is judged, or may have to be."""
        uncounted = self.uncounted
        marks = [mark for counter in self._live if counter.source.domain not in uncounted for mark in counter.condition().marks]
        if self._left:
            marks += [f"{each.source.domain} in use, and not metered" for each in self.counters if self._is_missed(each)]
        if self._ticks.late:
            marks.append(SLOW_READ)
            self._ticks.late = False
        return tuple(mark for mark in marks if mark not in self.allowed)

    def read(self) -> dict[str, Reading]:
        """Every counter, now, without waiting for a tick."""
        return self._read(self._live)

    def read_before(self) -> dict[str, Reading]:
        """The counter whose ticks are long enough to hide a lag, now, where that is not known yet and there is only one.

        Nothing where it cannot be read: whoever needs it says so.
        """
        slow = [counter for counter in self._ticks.counters if counter.source.tick_s >= LAG_SHORTEST_TICK_S]
        with contextlib.suppress(MeterError):
            if self.unprobed and len(slow) == 1:
                return {slow[0].source.domain: read_counter(slow[0])}
        return {}

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
            reading = read_counter(counter)
        except MeterError as error:
            if self._leave_out(counter, error):
                return None
            raise
        dropped_j = self._shown_j.get(domain, reading.energy_j) - reading.energy_j
        self._shown_j[domain] = reading.energy_j
        if dropped_j > 0:
            if self._leave_out(counter, ran_backwards(counter)):
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
            seen_to_work = domain in self._ticks.learnt.probed or counter.source.tick_s == 0
            may = self._idles(counter) if domain.startswith("gpu") else not seen_to_work  # else a figure had its energy until now
        if may:
            self._left[domain] = error.message
            self._sort()
        return may

    def _idles(self, counter: Counter) -> bool:
        """Whether a GPU has done nothing of ours until now: it says so itself, and its readings since it was probed show nothing else."""
        domain, in_use = counter.source.domain, getattr(counter, "in_use", None)
        return in_use is not None and not in_use() and self._ticks.idled(domain)

    def _is_missed(self, counter: Counter) -> bool:
        """Whether a GPU that was left out is at work, so that its energy is missing from what is judged."""
        domain, in_use = counter.source.domain, getattr(counter, "in_use", None)
        here = [each.source.domain for each in self._live]
        return domain in self._left and in_use is not None and counts(domain, self._judged, (*here, domain)) and in_use()

    def ticks(self, since: Mapping[str, Reading] = NO_READINGS) -> Mapping[str, Reading]:
        """Wait until every ticking counter has changed; each is read at its own tick. Raises MeterLostError if one stands still.

        ``since``: readings at the last tick, which are the answer as long as they are fresh.
        """
        readings = self._ticks.next(since)
        self._sampler.ticked(readings)
        return readings

    def beside(self, since: Mapping[str, Reading] = NO_READINGS) -> PowerBeside:
        """Begin to sample the power of the devices that are judged, where they show it; to be closed. ``since``: the last readings."""
        uncounted = self.uncounted
        return self._sampler.look([counter for counter in self._live if counter.source.domain not in uncounted], since)

    def wait_for_phase(self, fraction: float) -> None:
        """Wait until ``fraction`` of a tick of the slowest counter has passed since one of its ticks; needs a tick that was waited for."""
        self._ticks.wait_for_phase(fraction)

    def probe(self, *, again: bool = False) -> Probed:
        """The sources with tick period and jitter as seen, and idle power; each looked at once per session, or ``again``.

        Raises MeterError for a counter that is needed and does not change within two seconds or runs backwards; others are left out.
        """
        seen, dead = {}, []
        for counter in self._ticks.counters:
            if again or counter.source.domain not in self._ticks.learnt.probed:
                try:
                    if counter.source.domain not in self._ticks.learnt.told:
                        seen[counter.source.domain] = self._ticks.probe(counter)
                    elif not self._ticks.recheck(counter):
                        self._ticks.learnt.forget()
                        return Probed(self.sources, surprised=True)
                except MeterError as error:
                    dead.append((counter, error))
        here = [counter.source.domain for counter in self._live if counter not in [each for each, _ in dead]]
        for counter, refusal in dead:
            if not self._leave_out(counter, refusal, here):
                raise refusal
        # Only now: by a later run the idle power may have changed for good reasons, such as a GPU that has started to be used.
        return Probed(
            self.sources, tuple(idle_over(domain, readings) for domain, readings in seen.items()), seen=seen, dear=self._ticks.dear
        )

    def look(self) -> tuple[str, ...]:
        """Probe what nobody has probed, anew where a counter does not tick as was told; what there is to say of the devices. Raises as
        ``probe`` does.
        """
        said, self.remarks = self.remarks, ()
        if not self.probe().surprised:
            return said
        self.probe()
        return (*said, SURPRISED)

    @property
    def lag_unknown(self) -> bool:
        """Whether some counter ticks slowly enough to hide a lag that no work has shown yet."""
        return self._ticks.lag_unknown

    @property
    def faint(self) -> dict[str, float]:
        """By domain, the idle power of those whose lag was looked for in vain; none where some other's lag was not looked for yet."""
        return self._ticks.faint

    @property
    def unprobed(self) -> bool:
        """Whether some counter's tick is not known yet, so that the device must come to rest before it is found."""
        return self._ticks.unprobed

    @property
    def behaviours(self) -> tuple[Behaviour, ...]:
        """How the ticking counters behave, as far as this session has found out."""
        return self._ticks.behaviours

    def expect(self, told: Iterable[Behaviour], *, remembered: bool = False) -> None:
        """What another process has found out of the same devices (``remembered``: in an earlier session): looked at again, not trusted."""
        self._ticks.learnt.expect(self._ticks.counters, told, remembered=remembered)

    @property
    def whole(self) -> bool | None:
        """Whether all ticking counters see all of the time; None where that was not looked at yet."""
        return self._ticks.learnt.whole(self._ticks.counters)

    @property
    def whole_before(self) -> bool:
        """Whether all ticking counters saw all of the time in an earlier session."""
        return self._ticks.learnt.whole_before(self._ticks.counters)

    def doubt(self) -> None:
        """The phase of a tick shows after all: no counter is taken to see all of the time any more."""
        self._ticks.learnt.doubt(self._ticks.counters)

    def learn(self, learn: Learn) -> None:
        """Keep what a run has found out."""
        self._ticks.learn(learn.sources, learn.lags, whole=learn.whole, quiet=learn.quiet)

    def locked(self, waiting: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of every metered device, as ``locks.locked`` does."""
        return locked((counter.source.uuid or counter.source.domain for counter in self.counters), self._lock_folder, waiting)

    def close(self) -> None:
        """Close every counter; may be called twice."""
        for counter in self.counters:
            with contextlib.suppress(Exception):  # whoever made it: the others must be closed, and the reports written, all the same
                counter.close()
