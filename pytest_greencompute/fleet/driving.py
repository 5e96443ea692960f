"""A schedule driven by an engine: parts are started, and what becomes of each is taken as it comes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.fleet.schedule import Host, PlannedPart, Schedule

STOPPED = "the fleet was stopped before it had come"


class EngineLostError(GreencomputeError):
    """The engine is gone, with all that ran on it."""


@dataclass(frozen=True, slots=True)
class PartEnd:
    """How a part ended on its host: with a ``report`` (JSON, as it was written), after ``seconds``; else ``why`` there is none.

    ``host_lost``: not the part failed, but what ran it. ``said``: the end of what pytest printed.
    """

    report: bytes | None = None
    seconds: float = 0.0
    why: str = ""
    host_lost: bool = False
    said: str = ""


class Engine(Protocol):
    """What runs parts on hosts."""

    def hosts(self) -> Sequence[Host]:
        """Those that are ready now."""

    def start(self, part: PlannedPart, host: Host) -> None:
        """Begin it there; returns at once."""

    def wait(self) -> Iterable[tuple[PlannedPart, PartEnd]]:
        """What has ended since; waits a moment for it, and no longer than a second."""


class Watcher(Protocol):
    """Who is told what becomes of parts."""

    def came(self, part: PlannedPart, host: Host, outcome: PartEnd) -> None: ...
    def again(self, part: PlannedPart, host: Host, outcome: PartEnd) -> None: ...
    def failed(self, part: PlannedPart, outcome: PartEnd) -> None: ...
    def lost(self, part: PlannedPart, why: str) -> None: ...


def drive(schedule: Schedule, engine: Engine, watcher: Watcher, is_stopped: Callable[[], bool]) -> None:
    """Run all parts, or those that have come to their end until it is stopped, or the engine is lost."""
    told: set[PlannedPart] = set()
    while not schedule.is_over:
        try:
            _step(schedule, engine, watcher)
        except EngineLostError as error:
            schedule.stop(error.message)
        if is_stopped():
            schedule.stop(STOPPED)
        for part in [each for each in schedule.lost if each not in told]:
            told.add(part)
            watcher.lost(part, schedule.lost[part])


def _step(schedule: Schedule, engine: Engine, watcher: Watcher) -> None:
    schedule.see(engine.hosts())
    for part, host in schedule.next():
        engine.start(part, host)
    if not schedule.is_over:
        for part, outcome in engine.wait():
            _ended(schedule, watcher, part, outcome)


def _ended(schedule: Schedule, watcher: Watcher, part: PlannedPart, outcome: PartEnd) -> None:
    host = schedule.running[part]
    if outcome.report is not None:
        schedule.ended(part, outcome.seconds)
        watcher.came(part, host, outcome)
    elif not outcome.host_lost:
        schedule.failed(part, f"{host.name}: {outcome.why}")
        watcher.failed(part, outcome)
    elif schedule.host_lost(part, outcome.why):
        watcher.again(part, host, outcome)


class Stopping:
    """Within a ``with`` block the first Ctrl-C or SIGTERM only asks to stop; the next one ends the process as ever.

    CI sends SIGINT, and some seconds later ends what still runs.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Stopping:
        self._before = {each: signal.signal(each, lambda *_: self._ask()) for each in self.SIGNALS}
        return self

    def _ask(self) -> None:
        self.asked = True
        self._put_back()

    def _put_back(self) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def __exit__(self, *error: object) -> None:
        self._put_back()
