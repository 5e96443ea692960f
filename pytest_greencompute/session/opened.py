"""The meters that a session opens, the total that they count, and the end of a session that is cancelled."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_greencompute.errors import MeterError, NoMeterError, NothingThereError
from pytest_greencompute.machine import facts as machine
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.meters.base import traits_of
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.meters.registry import ORDER_BY_DEFAULT, meter
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.store.devices import DeviceCache
from pytest_greencompute.values.provenance import Device
from pytest_greencompute.values.readings import WHOLES, Reading
from pytest_greencompute.values.units import ENERGY, show


class _Terminated(KeyboardInterrupt):
    """SIGTERM, in the clothes that pytest already knows how to end a session for."""


def terminate(_: int, __: FrameType | None) -> None:
    raise _Terminated("terminated (SIGTERM)")


class OpenMeters:
    """The meters of a session, from the first metered test's set-up to the end of the last, and what they counted in all.

    ``problem`` is why there is none, in whole; empty where there is one. ``seconds`` is how long the total has been counted.
    """

    def __init__(
        self, settings: Settings, clock: Clock, environ: Mapping[str, str], root: Path, extra: Mapping[str, Any], *, is_side: bool
    ) -> None:
        options: dict[str, Any] = {"lock_folder": settings.lock_folder, "allowed_marks": settings.allow}
        self.clock, self.problem, self.seconds = clock, "", 0.0
        try:
            self.instruments = open_instruments(
                settings.meters or ORDER_BY_DEFAULT,
                clock=clock,
                environ=environ,
                extra=extra,
                cpu_watts_per_core=settings.cpu_watts_per_core,
                family=os.getppid() if is_side else None,  # the process that compares, whose other side shares the device
                domains=settings.domains,
                **options,
            )
        except NoMeterError as error:
            self.problem = str(error).removeprefix("No meter works here. ")
            self.instruments = Instruments((), clock, refusals=error.refusals, **options)
        self.machine = machine.facts(environ, root)
        self._refusal = _missing_gpu(self.instruments, settings, extra)
        self.problem = self._refusal or self.problem
        self._start_ns = clock.now_ns()
        self._signal = _handle_termination()
        self._total_problem = ""
        self._devices = DeviceCache.of(environ) if settings.remember_devices and not is_side else DeviceCache(None)
        self._recalled = False
        self._last: dict[str, Reading] = {}
        self._first = self._last = self._read_total()

    @property
    def why_unmeasured(self) -> str:
        """Why a run has no energy; the whole reason is said once, at the end of the session. Empty where it has."""
        if not self.problem:
            return ""
        # Of a device that is here and refuses, the remedy is worth saying at every budget; of hardware that is not here, once.
        return self._refusal or "no energy meter works here"

    def note_total(self) -> None:
        """Read the counters once more: the total ends here unless another metered test follows."""
        self._last = self._read_total()
        self.seconds = (self.clock.now_ns() - self._start_ns) / 1e9

    def _read_total(self) -> dict[str, Reading]:
        try:
            return self.instruments.read()
        except MeterError as error:
            self._total_problem = str(error)
            return self._last

    def total(self) -> tuple[dict[str, float], str]:
        """Joules by domain from the first metered test's set-up to the end of the last; or none, and why there is no honest figure."""
        if not self._first or self._total_problem:
            return {}, self.problem or self._total_problem
        dropped = self.instruments.dropped_j
        read = [domain for domain in self._last if domain in self._first]
        spent = {domain: self._last[domain].energy_j - self._first[domain].energy_j + dropped.get(domain, 0.0) for domain in read}
        # What a model forgets when a process ends was used all the same; a counter that starts anew has lost something nobody knows.
        reset = [source.domain for source in self.instruments.sources if source.domain in dropped and source.method != "modelled"]
        stopped = self.instruments.stopped(self._first)
        if reset or stopped or min(spent.values(), default=0.0) < 0:
            at_least = show(sum(spent.values()) + sum(stopped.values()), ENERGY)
            how = "was reset" if reset or not stopped else "stopped working"
            return {}, f"the energy counter of {' and '.join(reset or stopped) or 'a domain'} {how}; at least {at_least} were used"
        return spent, ""

    @contextlib.contextmanager
    def lock(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the locks of all metered devices; what earlier sessions saw of them is recalled first, and what is new kept in the end."""
        with self.instruments.locked(waiting):
            if not self._recalled:
                self._recalled = True
                self._recall()
            yield
            if seen := self.instruments.behaviours:
                self._devices.keep(seen, self._facts(), datetime.now(timezone.utc))

    def _facts(self) -> Mapping[str, Device]:
        with contextlib.suppress(Exception):  # of a meter that cannot say what it reads: whoever measures meets the same, and says so
            return self.instruments.facts()
        return {}

    def _recall(self) -> None:
        now = datetime.now(timezone.utc)
        found = [self._devices.recall(domain, device, now) for domain, device in self._facts().items()]
        self.instruments.expect([each.behaviour for each, _ in found if each is not None], remembered=True)
        self.instruments.remarks = tuple(why for _, why in found if why)

    def close(self) -> None:
        """Close the meters and put the signal handler back; may be called twice."""
        if self._signal is not None:
            signal.signal(signal.SIGTERM, self._signal)
            self._signal = None
        self.instruments.close()


def _missing_gpu(instruments: Instruments, settings: Settings, extra: Mapping[str, Any]) -> str:
    """Why no energy may be judged where a GPU is here that could not be metered: its joules would be missing; or empty."""
    if settings.domains != ("auto",) or any(source.domain in WHOLES for source in instruments.sources):
        return ""
    refusals = [each for each in instruments.refusals if not isinstance(each[1], NothingThereError)]
    refused = [error for name, error in refusals if traits_of(meter(name, extra)).reads_gpus]
    return f"a GPU is here that could not be metered: {refused[0]} Or judge other energy by name: domains = 'cpu'" if refused else ""


def _handle_termination() -> Any:
    """Make SIGTERM end the session as Ctrl-C does, so that a cancelled CI job still writes what it has. What handled it before, if that
    is to be put back.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        return signal.signal(signal.SIGTERM, terminate)
    return None
