"""What a session's mode answers for: how a test measures.

A session has one of four, chosen once: ``Metered`` (--energy-budget), ``AsAdvised`` (--energy-advise), ``Once`` (each query once, without
a meter) and ``AsSide`` (in a process that another one has started to compare commits).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.measuring.once import Answered
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.session.under_meters import UnderMeters
from pytest_greencompute.values.provenance import Provenance

if TYPE_CHECKING:  # loaded where candidates are compared, or a model is looked at
    from pytest_greencompute.explaining.profile import Profile
    from pytest_greencompute.session.spread import SpreadOut

T = TypeVar("T")


class Mode(Protocol):
    """How the tests of a session measure. ``test`` is always the one that is running.

    ``metered``: whether a run may have a figure of energy. ``in_pairs``: whether another commit measures the same by turns, so that both
    must measure alike.
    """

    metered: bool

    @property
    def in_pairs(self) -> bool: ...

    @property
    def clock(self) -> Clock: ...

    def sees_hosts(self) -> bool:
        """Whether the session's meters are some of other hosts."""
        ...

    @property
    def home(self) -> Path:
        """The folder of the project."""
        ...

    @property
    def markers(self) -> tuple[str, str] | None:
        """The markers of reasoning that the settings name."""
        ...

    @property
    def why_nothing_runs(self) -> str:
        """Why no model is to be run at all; empty where models run."""
        ...

    def aim(self, test: MeteredTest | None) -> Aim:
        """What is asked of the test's runs: the session's aim, as sure as the test's budget wants it."""
        ...

    def begin(self, test: MeteredTest) -> None:
        """The test is about to be set up."""
        ...

    def end(self, test: MeteredTest) -> None:
        """The body of the test has ended, its fixtures have not."""
        ...

    def after(self) -> None:
        """A test and its fixtures have ended."""
        ...

    async def measure(self, test: MeteredTest, task: Task) -> Answered:
        """A run of the test."""
        ...

    def look(self, test: MeteredTest, task: Task, seconds: float, /) -> Profile | None:
        """What the model is seen to do; None where nothing is looked at."""
        ...

    def either(
        self,
        test: MeteredTest,
        metered: Callable[[UnderMeters], T],
        once: Callable[[int | None], T],
        spread: SpreadOut | None = None,
        /,
    ) -> T:
        """``metered`` under the session's meters, or ``once`` without: told how many queries are to run, None for all. ``spread``: what the
        process of one card does of it.
        """
        ...

    def around(self, test: MeteredTest) -> tuple[Instruments | None, Provenance]:
        """What a window is read with, if it is, and what ran where."""
        ...

    def not_by_turns(self, test: MeteredTest, why: str) -> tuple[str, ...]:
        """``why`` as a note, where the test is compared with other commits and this run of it is not."""
        ...

    def release(self, test: MeteredTest) -> None:
        """Free the devices for other measured runs."""
        ...


MODES = {"metered": "Metered", "as_advised": "AsAdvised", "once": "Once"}  # module -> class


def mode_of(session: Session) -> Mode:
    """How this session's tests measure, by its settings. A mode's module is loaded where it is chosen."""
    name = (
        "as_advised" if session.settings.advise or session.settings.advise_students else "metered" if session.settings.enabled else "once"
    )
    mode: Mode = getattr(import_module(f"pytest_greencompute.session.{name}"), MODES[name]).of(session)
    return mode
