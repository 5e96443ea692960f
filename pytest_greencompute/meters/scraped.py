"""Counters of devices that somebody else samples: one look at a server, in the background, is for all of its devices.

A counter that is read shows the last sample, at the time of that sample, and asks nobody: reading costs nothing, and the meter's ticks are
the samples.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_greencompute.errors import MeterError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters.base import Condition, DeviceFacts
from pytest_greencompute.meters.tracks import LEAST_READINGS, Track
from pytest_greencompute.values.readings import Reading, Source

STEP_S = 0.1  # how close together two looks may be
RETRIES = 20.0  # looks in a period, at most, once a sample is due
MOST_RETRY_S = 2.0
REFUSED_S = 1.5  # after a look that showed nothing


@dataclass(frozen=True, slots=True)
class Look:
    """What a look has shown of the device of ``track``: its samples, as for ``Track.take``, and how far off their times may be."""

    track: Track
    samples: tuple[tuple[float, int], ...]
    doubt_s: float = 0.0


class Samples(Protocol):
    """A server of samples, at the address ``where``. ``early_s``: how long before a sample is due it is to be looked at, since it must be
    seen to change. ``pace_s``: looks are so far apart where each shows something new (0: it does not).
    """

    where: str
    early_s: float
    pace_s: float

    def look(self, tracks: Sequence[Track]) -> Sequence[Look]:
        """What it shows of the devices of these tracks. Raises MeterError where the server does not answer as it should."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...


class Scraper:
    """Looks at ``samples`` whenever something new is due, until the last of its counters is closed."""

    def __init__(self, samples: Samples, tracks: Sequence[Track], clock: Clock, meter: str) -> None:
        self.samples = samples
        self.tracks = tuple(tracks)
        self.clock = clock
        self.meter = meter
        self._lock = threading.Lock()
        self._problem = ""
        self._open = len(self.tracks)
        self._next_ns = clock.now_ns()
        self._cancel: Callable[[], None] | None = None

    def start(self) -> list[ScrapedCounter]:
        """Begin to look; the counters of the tracks."""
        self._cancel = self.clock.every(STEP_S, self._step)
        return [ScrapedCounter(self, track) for track in self.tracks]

    def _step(self) -> None:
        if self.clock.now_ns() < self._next_ns:
            return
        problem, seen = "", list[Look]()
        try:
            seen = [*self.samples.look(self.tracks)]
        except MeterError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - nobody hears what a background thread raises; the series grows stale, and says it
            problem = f"{self.samples.where} could not be read ({type(error).__name__})."
        self.hand_on(seen, problem)

    def hand_on(self, seen: Iterable[Look], problem: str = "") -> None:
        """What a look has shown, and why there is no more of it."""
        with self._lock:
            self._problem = problem
            for each in seen:
                each.track.take(each.samples, self.clock.now_ns(), each.doubt_s)
            self._next_ns = self.clock.now_ns() + round(self._pause_s() * 1e9)

    def _pause_s(self) -> float:
        """Seconds until the next look: until the first sample is due, and often once it is. Stale series are not waited for."""
        now_ns, samples = self.clock.now_ns(), self.samples
        if samples.pace_s:
            return samples.pace_s - STEP_S / 2
        live = [track for track in self.tracks if not track.is_stale(now_ns)]
        if self._problem or not live:
            return REFUSED_S
        if samples.early_s and any(len(track.readings) < LEAST_READINGS for track in live):
            return STEP_S / 2  # nobody knows yet when something new is due
        shortest_s = min(track.period_s for track in live)
        due_s = min((track.last_ns - now_ns) / 1e9 + track.period_s + track.delay_s for track in live) - samples.early_s
        retry_s = STEP_S if samples.early_s else min(max(STEP_S, shortest_s / RETRIES), MOST_RETRY_S)
        return min(max(due_s, retry_s), shortest_s) - STEP_S / 2  # the clock calls every STEP_S

    def read(self, track: Track) -> Reading:
        """The last reading of a track; raises as that does."""
        with self._lock:
            return track.read(self.clock.now_ns(), self._problem)

    def release(self) -> None:
        """One counter less."""
        self._open -= 1
        if self._open == 0:
            self.stop()

    def stop(self) -> None:
        """No more looks."""
        if self._cancel is not None:
            self._cancel()
        self.samples.close()


class ScrapedCounter:
    """The energy of one device of a host, as its exporter shows it."""

    __slots__ = ("_closed", "_scraper", "_track")

    def __init__(self, scraper: Scraper, track: Track) -> None:
        self._scraper = scraper
        self._track = track
        self._closed = False

    @property
    def source(self) -> Source:
        """Its description, with the period of its samples as seen so far as the tick."""
        return self._track.source_of(self._scraper.meter)

    @property
    def host(self) -> str:
        """Whose device it is, as its exporter says."""
        return self._track.device.host

    def read(self) -> Reading:
        """Joules as the exporter counts them, at the time of the last sample. Raises MeterLostError where that is stale, or was reset."""
        return self._scraper.read(self._track)

    def recent(self) -> tuple[Reading, ...]:
        """The readings at its last ticks; where a server keeps them, of before it was opened, too."""
        return self._track.readings

    def condition(self) -> Condition:
        """Nothing is known of this moment."""
        return Condition()

    def facts(self) -> DeviceFacts:
        """The host, who counts there, and where that was read."""
        device = self._track.device
        facts = {"host": device.host, "exporter": device.metric.exporter, "read_at": self._scraper.samples.where}
        return {**facts, **({"gpu": device.device, "uuid": device.uuid, "driver": device.driver} if device.uuid else {})}

    def close(self) -> None:
        """The last one to close ends the looks."""
        if not self._closed:
            self._closed = True
            self._scraper.release()
