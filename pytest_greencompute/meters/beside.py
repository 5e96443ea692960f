"""The power that devices show, sampled in the background while somebody measures: what their energy counters are held against.

A sample is what a driver keeps anyway, and nine a second are enough: what one misses of a load, the others see. A field that is dear to
read is left out where the device has another, and else is read so seldom that it costs no more (``SHARE``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from pytest_greencompute.estimates.against_power import Agreement, PowerSample, Standing, against, compared
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters.base import Counter
from pytest_greencompute.values.powers import MAY_COVER_MODULE, SCOPES, PowerField
from pytest_greencompute.values.readings import Reading, Source

PERIOD_S = 0.113  # no round share of 100 ms, so that no load in step with a tick is in step with this
SHARE = 0.001  # of a core, at most, for reading
DEAR_S = 0.0005
PowerReaders = Mapping[PowerField, Callable[[], float]]


@runtime_checkable
class ShowsPower(Protocol):
    """A counter whose device shows its power, too."""

    def power_fields(self) -> PowerReaders:
        """What reads each field that there is, in watts; may raise whatever it likes."""
        ...


class PowerBeside:
    """What one measurement has seen: ticks of the counters, and samples of the power beside them, by domain."""

    def __init__(self, end: Callable[[PowerBeside], None]) -> None:
        self.ticks: dict[str, list[Reading]] = {}
        self.samples: dict[str, dict[PowerField, list[PowerSample]]] = {}
        self._end = end

    def found(self, source: Source) -> Standing | None:
        """The counter of that source beside its power; None where that cannot be told."""
        fields = self.samples.get(source.domain, {})
        return against(self.agreements(source), SCOPES if source.note == MAY_COVER_MODULE else {field.scope for field in fields})

    def agreements(self, source: Source) -> tuple[Agreement, ...]:
        """The same beside each power field, where that can be told."""
        fields, ticks = self.samples.get(source.domain, {}), self.ticks.get(source.domain, [])
        found = (compared(field, ticks, samples, source.lag_s) for field, samples in fields.items())
        return tuple(each for each in found if each is not None)

    def ticked(self, readings: Mapping[str, Reading]) -> None:
        """Counters have ticked, or as before."""
        for domain, reading in readings.items():
            seen = self.ticks.setdefault(domain, [])
            if not seen or reading.t_ns > seen[-1].t_ns:
                seen.append(reading)

    def close(self) -> None:
        """No more is to be seen. May be called twice."""
        self._end(self)


class PowerSampler:
    """Samples devices as long as anybody looks on: several measurements by turns share one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looking: tuple[PowerBeside, ...] = ()  # replaced, never changed: the sampling goes on in another thread
        self._fields: dict[str, PowerReaders] = {}
        self._cancel: Callable[[], None] = lambda: None

    def look(self, counters: Sequence[Counter], since: Mapping[str, Reading]) -> PowerBeside:
        """Begin to see the power of the devices of ``counters`` that show it, until it is closed. ``since``: their last ticks."""
        beside = PowerBeside(self._end)
        beside.ticked(since)
        if not self._looking:
            showing = [each for each in counters if isinstance(each, ShowsPower) and each.source.tick_s > 0]
            shown = {each.source.domain: _affordable(each.power_fields(), self._clock) for each in showing}
            self._fields = {domain: fields for domain, (fields, _) in shown.items() if fields}
            if self._fields:
                took_s = sum(took_s for _, took_s in shown.values())
                self._cancel = self._clock.every(max(PERIOD_S, took_s / SHARE), self._sample)
        self._looking = (*self._looking, beside)
        return beside

    def ticked(self, readings: Mapping[str, Reading]) -> None:
        """Counters have ticked."""
        for beside in self._looking:
            beside.ticked(readings)

    def _sample(self) -> None:
        for domain, fields in self._fields.items():
            for field, read_w in fields.items():
                with contextlib.suppress(Exception):  # what is not seen is known to be missing; the counter says what is wrong
                    sample = read_w(), self._clock.now_ns()
                    for beside in self._looking:
                        beside.samples.setdefault(domain, {}).setdefault(field, []).append(sample[::-1])

    def _end(self, beside: PowerBeside) -> None:
        left = tuple(each for each in self._looking if each is not beside)
        if self._looking and not left:
            self._cancel()
            self._cancel = lambda: None
        self._looking = left


def _affordable(fields: PowerReaders, clock: Clock) -> tuple[PowerReaders, float]:
    """Those that work, without the dear ones where there are others, and what reading them takes: a busy machine only adds to it."""
    took_s: dict[PowerField, float] = {}
    for field, read_w in fields.items():
        with contextlib.suppress(Exception):  # one that does not work is not there
            read_w()
            took_s[field] = _seconds(read_w, clock)
            if took_s[field] > DEAR_S:
                took_s[field] = min(took_s[field], _seconds(read_w, clock))
    kept = [field for field, took in took_s.items() if took <= DEAR_S] or list(took_s)
    return {field: fields[field] for field in kept}, sum(took_s[field] for field in kept)


def _seconds(read_w: Callable[[], float], clock: Clock) -> float:
    start_ns = clock.now_ns()
    read_w()
    return (clock.now_ns() - start_ns) / 1e9
