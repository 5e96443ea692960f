"""Without --energy-budget: each query once, without a meter. Loads little: so most runs of a suite are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_greencompute.machine.clock import Clock, RealClock
from pytest_greencompute.measuring.once import arun_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.values.provenance import Provenance
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:  # what only a metered session needs
    from pathlib import Path

    from pytest_greencompute.estimates.estimate import Aim
    from pytest_greencompute.session.session import Session
    from pytest_greencompute.session.spread import SpreadOut
    from pytest_greencompute.session.under_meters import UnderMeters

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

T = TypeVar("T")


class Once:
    """Each query once (or the first ``unmetered``; "skip": none), without a meter.

    ``session`` gives the session, which may be made only when something is judged or asked for.
    """

    metered = False
    in_pairs = False

    def __init__(
        self,
        session: Callable[[], Session],
        clock: Clock | None = None,
        unmetered: str | int = "once",
        markers: tuple[str, str] | None = None,
    ) -> None:
        self._session = session
        self.clock = clock or RealClock()
        self.markers = markers
        self._keep = unmetered if isinstance(unmetered, int) else None
        self.why_nothing_runs = 'not measured: unmetered = "skip" and no --energy-budget' if unmetered == "skip" else ""

    @classmethod
    def of(cls, session: Session) -> Once:
        """The mode of a session that has been made."""
        return cls(lambda: session, session.clock, session.settings.unmetered, session.settings.reasoning_markers)

    def sees_hosts(self) -> bool:
        """Whether the session's meters are some of other hosts."""
        return self._session().sees_hosts()

    @property
    def home(self) -> Path:
        """The folder of the project."""
        return self._session().home

    def aim(self, test: MeteredTest | None) -> Aim:
        """The session's aim, as sure as the test's budget wants it."""
        return self._session().aim(test)

    def begin(self, test: MeteredTest) -> None:
        """Nothing is opened."""

    def end(self, test: MeteredTest) -> None:
        """Nothing is to be ended."""

    def after(self) -> None:
        """Nothing is counted."""

    async def measure(self, _: MeteredTest, task: Task) -> tuple[Run, list[Any]]:
        """Each query once."""
        return await arun_once(task, self.clock, self._keep)

    def look(self, _: MeteredTest, __: Task, ___: float, /) -> None:
        """Nothing is looked at, which takes seconds."""

    def either(self, _: MeteredTest, __: Callable[[UnderMeters], T], once: Callable[[int | None], T], ___: SpreadOut | None = None, /) -> T:
        """What is done without a meter."""
        return once(self._keep)

    def around(self, _: MeteredTest) -> tuple[None, Provenance]:
        """A window only runs its body."""
        return None, Provenance()

    def not_by_turns(self, _: MeteredTest, __: str) -> tuple[str, ...]:
        """No other commit is compared with."""
        return ()

    def release(self, _: MeteredTest) -> None:
        """No device is held."""


def ran_unmetered(tests: int) -> str:
    """So many tests could have been measured."""
    return f"{tests} {'test' if tests == 1 else 'tests'} ran unmetered; pytest --energy-budget measures {'it' if tests == 1 else 'them'}"
