"""Under --energy-budget: the whole protocol under the session's meters, by turns with other commits where there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.explaining.profile import Profile, ticking_of
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.measuring.driver import arun_metered
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.profiling.passes import profile
from pytest_greencompute.profiling.replay import ReplayMeter
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.session.under_meters import UnderMeters
from pytest_greencompute.values.provenance import Provenance
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:  # loaded where candidates are compared
    from pytest_greencompute.session.spread import SpreadOut

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

T = TypeVar("T")


class Metered:
    """Measures under the session's meters, whose devices a test holds from its first run to its end."""

    metered = True
    why_nothing_runs = ""

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def of(cls, session: Session) -> Metered:
        """The mode of a session."""
        return cls(session)

    @property
    def in_pairs(self) -> bool:
        """Whether other commits are compared with."""
        return self._session.bases is not None

    @property
    def clock(self) -> Clock:
        """The session's."""
        return self._session.clock

    def sees_hosts(self) -> bool:
        """Whether the session's meters are some of other hosts."""
        return self._session.sees_hosts()

    @property
    def home(self) -> Path:
        """The folder of the project."""
        return self._session.home

    @property
    def markers(self) -> tuple[str, str] | None:
        """The markers of reasoning that the settings name."""
        return self._session.settings.reasoning_markers

    def aim(self, test: MeteredTest | None) -> Aim:
        """The session's aim, as sure as the test's budget wants it."""
        return self._session.aim(test)

    def begin(self, test: MeteredTest) -> None:
        """Open the meters, and start the test at the other commits."""
        self._session.open()
        self._session.contend(test)

    def end(self, test: MeteredTest) -> None:
        """End the test's processes at the other commits."""
        if test.contest is not None:
            test.contest.close()
            test.contest = None

    def after(self) -> None:
        """The total ends here unless another metered test follows."""
        self._session.note_total()

    async def measure(self, test: MeteredTest, task: Task) -> tuple[Run, list[Any]]:
        """The whole protocol. Errors as for ``measuring.driver.metering``."""
        under, limit = self._locked(test), self._session.limit(test)
        with limit.counting():
            return await self._measured(under, task, limit)

    async def _measured(self, under: UnderMeters, task: Task, limit: TimeLimit) -> tuple[Run, list[Any]]:
        test = under.test
        pairing = None if test.contest is None else test.contest.pairing(task.name)
        try:
            if pairing is None:
                effort = under.effort(task.name)
                raw, outputs = await arun_metered(task, under.instruments, effort, under.problem)
                said = effort.outlook(raw) if limit.is_up(raw) else ""
                return replace(raw, notes=(*raw.notes, said)) if said else raw, outputs
            pairing.learnt, pairing.doubt = (lambda: under.instruments.behaviours), under.instruments.doubt
            with limit.apart():
                pairing.begin()
            raw, outputs = await arun_metered(task, under.instruments, under.effort(task.name, pairing), under.problem)
            pairing.end(raw)
        finally:
            self._session.told()
        return raw, outputs

    def look(self, test: MeteredTest, task: Task, seconds: float, /) -> Profile:
        """What the model is seen to do, on the devices that the test has locked."""
        under = self._locked(test)
        _wait_still(test)
        ticking = ticking_of(each.domain for each in under.instruments.sources)
        with self._session.limit(test).counting():
            found = profile(task, ticking=ticking, limit_s=seconds, metering=ReplayMeter(under.instruments, self.aim(test)))
        test.profiles[task.name] = found
        return found

    def either(
        self, test: MeteredTest, metered: Callable[[UnderMeters], T], _: Callable[[int | None], T], __: SpreadOut | None = None, /
    ) -> T:
        """What is done under meters."""
        under = self._locked(test)
        _wait_still(test)
        try:
            with self._session.limit(test).counting():
                return metered(under)
        finally:
            self._session.told()

    def around(self, test: MeteredTest) -> tuple[Instruments, Provenance]:
        """The open meters, and what ran where."""
        _wait_still(test)
        return self._locked(test).instruments, self._session.provenance()

    def not_by_turns(self, test: MeteredTest, why: str) -> tuple[str, ...]:
        """``why`` as a note, where the test is compared with other commits."""
        return () if test.contest is None else (why,)

    def release(self, test: MeteredTest) -> None:
        """Free the devices for other measured runs."""
        test.held.close()
        self._session.note_cost(test)

    def _locked(self, test: MeteredTest) -> UnderMeters:
        """The session's meters, open, its devices this test's alone until ``release``."""
        if not test.locked:
            self._session.open()
            test.held.enter_context(self._session.lock())
            test.locked = True
        return UnderMeters(self._session, test)


def _wait_still(test: MeteredTest) -> None:
    """Wait until no other commit loads beside what is metered without it."""
    if test.contest is not None:
        test.contest.wait_still()
