"""A counter for devices that show only power: the readings are summed over time by a sampler in the background."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters.base import Condition, DeviceFacts
from pytest_greencompute.values.readings import Reading, Source

FIELD_UPDATE_S = 0.1  # power fields are renewed every 20 to 100 ms (arXiv 2312.02741): the last of a tail shows up to this late
_REMEDY = "Measure again; `greencompute doctor` shows whether the device still answers."


class PowerIntegrator:
    """Turns a function that reads power in watts into a counter in joules, with the method ``integrated``.

    A sample is taken when it is made and then every ``period_s`` seconds of ``clock``; between two samples the earlier one holds. The
    time of a reading is that of the last sample, so the samples are its ticks. ``window_s`` is the time over which the device averages
    its power field (one second on H100, Ada and most Ampere, arXiv 2312.02741); energy goes on arriving for that long and
    until the field's next update, so that is the source's ``lag_s``.

    A sample that fails, or a gap longer than ``window_s``, in which power went unseen, is never filled in: the next ``read`` raises
    MeterLostError, and sampling starts afresh. Safe to use from several threads.

    Raises MeterError from the constructor where the first sample fails.
    """

    def __init__(
        self,
        read_w: Callable[[], float],
        *,
        clock: Clock,
        meter: str,
        domain: str,
        device: str = "",
        uuid: str = "",
        period_s: float = 0.02,
        window_s: float = 1.0,
        systematic: float = 0.05,
        note: str = "",
        condition: Callable[[], Condition] = Condition,
        facts: Callable[[], DeviceFacts] = dict,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._source = Source(
            meter=meter,
            domain=domain,
            method="integrated",
            device=device,
            uuid=uuid,
            tick_s=period_s,
            lag_s=window_s + FIELD_UPDATE_S,
            systematic=systematic,
            note=note,
        )
        self._read_w = read_w
        self._clock = clock
        self._longest_gap_ns = round(max(window_s, 2 * period_s) * 1e9)
        self._condition = condition
        self._facts = facts
        self._on_close = on_close
        self._lock = threading.Lock()
        self._energy_j = 0.0
        self._lost: MeterError | None = None
        self._told = False
        self._closed = False
        self._watts = self._sample_w()
        self._t_ns = clock.now_ns()
        self._cancel = clock.every(period_s, self._sample)

    @property
    def source(self) -> Source:
        """Its description; ``tick_s`` is the sampling period."""
        return self._source

    def read(self) -> Reading:
        """Energy up to the last sample in joules, at the time of that sample. Raises MeterLostError where samples are missing."""
        with self._lock:
            if self._closed:
                raise MeterError(f"The power of {self._source.domain} is no longer sampled: its counter was closed.")
            late_ns = self._clock.now_ns() - self._t_ns
            # A sampler that died (a fork leaves its thread behind) or fell asleep looks like this.
            if self._lost is None and late_ns > self._longest_gap_ns:
                self._lost = self._unseen(late_ns)
            if self._lost is not None:
                self._told = True
                raise self._lost
            return Reading(self._energy_j, self._t_ns)

    def condition(self) -> Condition:
        """Marks and facts of this moment, from the device."""
        return self._condition()

    def facts(self) -> DeviceFacts:
        """What belongs into the provenance, from the device."""
        return self._facts()

    def close(self) -> None:
        """Stop sampling."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        # Outside the lock: cancelling waits for a sample under way, which needs the lock.
        self._cancel()
        if self._on_close is not None:
            self._on_close()

    def _sample_w(self) -> float:
        watts = self._read_w()
        if not math.isfinite(watts) or watts < 0:
            raise MeterError(f"The power of {self._source.domain} was read as {watts!r} W.", remedy=_REMEDY)
        return watts

    def _sample(self) -> None:
        try:
            watts = self._sample_w()
        except Exception as error:  # noqa: BLE001 - nobody hears what a background thread raises; the next read says it
            self._fail(error)
            return
        with self._lock:
            now_ns = self._clock.now_ns()
            gap_ns, self._t_ns = now_ns - self._t_ns, now_ns
            held_w, self._watts = self._watts, watts
            if self._lost is not None:
                if self._told:  # said once; whoever measures has thrown the set away, and a new one can begin
                    self._lost, self._told = None, False
            elif gap_ns > self._longest_gap_ns:
                self._lost = self._unseen(gap_ns)
            else:
                self._energy_j += held_w * (gap_ns / 1e9)

    def _fail(self, error: Exception) -> None:
        said = error.message if isinstance(error, MeterError) else repr(error)
        remedy = error.remedy if isinstance(error, MeterError) and error.remedy else _REMEDY
        lost = MeterLostError(f"The power of {self._source.domain} could not be sampled: {said}", remedy=remedy)
        lost.__cause__ = error
        with self._lock:
            if self._lost is None:
                self._lost, self._told = lost, False

    def _unseen(self, gap_ns: int) -> MeterLostError:
        return MeterLostError(f"The power of {self._source.domain} was not sampled for {gap_ns / 1e9:.2f} s.", remedy=_REMEDY)
