"""What has been seen of one device that somebody else samples: its readings, how often a new one comes, and when none does. Pure.

The readings carry the times of their own samples, so they are the ticks: nobody has to watch for them.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence

from pytest_greencompute.errors import MeterLostError
from pytest_greencompute.meters.series import HostDevice
from pytest_greencompute.values.readings import Reading, Source

LEAST_READINGS = 3  # that show a period
KEPT = 16  # readings: enough for a period and for idle power
STEADY = 4  # in a row, between which the power may be taken to be the same
STALE_TICKS = 3.0  # without a new sample: one that was missed, and one that is late, are none
STALE_S = 2.0  # beside that
MISSED = 1.5  # periods: so old the last sample may be where none is late
MOST_DELAY_S = 15.0
FAR = 0.2  # of a period: a change that was seen only to within so much shows no tick
LEAST_FAR_S = 0.15
_SYSTEMATIC = 0.05  # of a GPU's own counter, as for nvml
_RESET = "The host was restarted, or its exporter counts from its own start; measure again."
_STALE = "Look whether its exporter runs and is scraped, and whether the series still has the labels that are meant."


class Track:
    """The readings of ``device``. ``hint_s`` is how often a new sample is taken to come until that was seen; ``aged``: a server takes the
    samples of an exporter that has its own times.

    A power is integrated: between two samples it is taken to have gone straight from one to the other.
    """

    def __init__(self, device: HostDevice, hint_s: float, *, aged: bool = False) -> None:
        self.device = device
        self.readings: tuple[Reading, ...] = ()  # replaced, never changed: other threads look at it
        self._hint_s = hint_s
        self._aged = aged
        self._first: Reading | None = None
        self._last: tuple[float, int] | None = None
        self._energy_j = 0.0
        self._lost: MeterLostError | None = None
        self._delay_s: float | None = None  # how late a new sample is seen, at least
        self._guessed_delay_s = 0.0

    @property
    def period_s(self) -> float:
        """Seconds from one new sample to the next, in the middle."""
        gaps = [(b.t_ns - a.t_ns) / 1e9 for a, b in itertools.pairwise(self.readings)]
        return statistics.median(gaps) if gaps else self._hint_s

    @property
    def last_ns(self) -> int:
        """When the last new sample was taken; 0 before any."""
        return self._newest.t_ns if self._newest is not None else 0

    @property
    def _newest(self) -> Reading | None:
        return self.readings[-1] if self.readings else self._first

    @property
    def stale_s(self) -> float:
        """After how many seconds without a new sample the series is stale."""
        return STALE_TICKS * self.period_s + STALE_S + self.delay_s

    @property
    def delay_s(self) -> float:
        """How late samples are seen: a server may hand them on later than it took them."""
        return self._guessed_delay_s if self._delay_s is None else self._delay_s

    @property
    def aged_s(self) -> float:
        """By how many seconds some samples are older than others when they are taken.

        By so much energy runs ahead of time and behind it in readings between which the power is the same; where it changes, nobody can
        tell, so the steadiest few of all count.
        """
        runs = [self.readings[at : at + STEADY] for at in range(len(self.readings) - STEADY + 1)]
        return min(map(_aged_s, runs), default=0.0) if self._aged else 0.0

    def source_of(self, meter: str) -> Source:
        """What its numbers are, as ``meter`` reads them. A sample may be a period old when it is taken, so energy arrives that late."""
        metric, device = self.device.metric, self.device
        return Source(
            meter=meter,
            domain=device.domain,
            method="integrated" if metric.is_power else "counter",
            device=device.device,
            uuid=device.uuid,
            tick_s=self.period_s,
            jitter_s=self.aged_s,
            step_j=0.0 if metric.is_power else metric.unit,
            lag_s=self.period_s + self.delay_s,
            systematic=_SYSTEMATIC if device.uuid else 0.0,
            note=f"{metric.exporter} on {device.host}" + (": power summed over time" if metric.is_power else ""),
        )

    def take(self, samples: Iterable[tuple[float, int]], now_ns: int, doubt_s: float = 0.0) -> None:
        """Samples in order of time, each a value as the exporter shows it and when it was taken (ns), seen at ``now_ns``.

        What was taken before is known already. ``doubt_s``: how far off their times may be.
        """
        before_ns, first = self.last_ns, self._last is None
        for value, t_ns in samples:
            if self._last is None or t_ns > self._last[1]:
                self._new(value * self.device.metric.unit, t_ns, doubt_s)
        if first:  # what was lost before it was looked at was nobody's
            self._lost = None
        if self.last_ns > before_ns:
            late_s = max(now_ns - self.last_ns, 0) / 1e9
            if first:  # of what was there before it was first looked at nobody has seen when it came
                self._guessed_delay_s = min(max(late_s - MISSED * self.period_s, 0.0), MOST_DELAY_S)
            else:
                self._delay_s = late_s if self._delay_s is None else min(self._delay_s, late_s)

    def _new(self, value: float, t_ns: int, doubt_s: float) -> None:
        (last, last_ns), is_power = self._last or (value, t_ns), self.device.metric.is_power
        self._last = value, t_ns
        if is_power:
            if (t_ns - last_ns) / 1e9 > self.stale_s:
                self._lose(f"the power of {self.device.domain} was not sampled for {(t_ns - last_ns) / 1e9:.3g} s.", _STALE)
            self._energy_j += (last + value) / 2 * ((t_ns - last_ns) / 1e9)
        elif value < last:
            self._lose(f"the energy counter of {self.device.domain} ran backwards by {last - value:.3g} J.", _RESET)
            self._hint_s, self.readings, self._first = self.period_s, (), None
        reading = Reading(self._energy_j if is_power else value, t_ns)
        self._first = self._first or reading
        if (is_power or value != last or not self.readings) and doubt_s <= max(FAR * self.period_s, LEAST_FAR_S):
            self.readings = (*self.readings, reading)[-KEPT:]

    def _lose(self, said: str, remedy: str) -> None:
        self._lost = MeterLostError(said, remedy=remedy)

    def is_stale(self, now_ns: int) -> bool:
        """Whether no new sample has come for too long."""
        return now_ns - self.last_ns > self.stale_s * 1e9

    def read(self, now_ns: int, problem: str) -> Reading:
        """The last reading. ``problem`` says why its source cannot be asked, if it cannot. Raises MeterLostError for a series that is
        stale, and once for what was lost since the last call.
        """
        if self._lost is not None:
            lost, self._lost = self._lost, None
            raise lost
        newest = self._newest
        if newest is None or self.is_stale(now_ns):
            since = "yet" if newest is None else f"for {(now_ns - newest.t_ns) / 1e9:.0f} s"
            raise MeterLostError(
                f"the series of {self.device.domain} has shown nothing new {since}, and a sample comes every {self.period_s:.3g} s."
                + (f" {problem}" if problem else ""),
                remedy=_STALE,
            )
        return newest


def _aged_s(readings: Sequence[Reading]) -> float:
    first, last = readings[0], readings[-1]
    seconds, joules = (last.t_ns - first.t_ns) / 1e9, last.energy_j - first.energy_j
    if joules <= 0:
        return 0.0
    ahead_s = [(each.energy_j - first.energy_j) / joules * seconds - (each.t_ns - first.t_ns) / 1e9 for each in readings]
    return min(max(ahead_s) - min(ahead_s), seconds / (len(readings) - 1))
