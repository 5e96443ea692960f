"""One collected test that may measure, and what its verdicts raise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_greencompute.explaining.profile import Profile
    from pytest_greencompute.judging.budget import Budget, Line
    from pytest_greencompute.measuring.time_limit import TimeLimit
    from pytest_greencompute.measuring.window import Window
    from pytest_greencompute.models.watching import WatchedModel
    from pytest_greencompute.pairing.demands import Demands
    from pytest_greencompute.pairing.tests import Contest
    from pytest_greencompute.results.result import Result
    from pytest_greencompute.session.candidates import Comparison
    from pytest_greencompute.session.groups import Group
    from pytest_greencompute.values.run import Run

Planned = tuple[tuple["Line", ...], "Budget"]


class BudgetsFailedError(Exception):
    """Verdicts that turn the test red; the message is their sentences."""


class BudgetsSkippedError(Exception):
    """Verdicts that skip the test (``--energy-unmeasured skip``)."""


@dataclass
class MeteredTest:
    """One collected test that may measure: its budget's lines, in order of precedence, and what it has measured so far.

    ``demands`` are those of this commit alone, without the command line; only where commits are compared.
    ``attempts`` is how often it was begun, ``why_red`` what the last attempt that failed said. ``reread`` gives the lines as the test's
    marks are now; ``planned`` are the budgets that its runs were measured for, by name, and ``told`` the one that other commits were.
    ``measuring``: a run is under way. ``over``: its body has ended, and was judged.
    ``profiles``: what its models were seen to do, by the name of the run. ``locked``: it holds the devices' locks, in ``held``. ``limit``
    is what it may cost, from its first run on.
    """

    node_id: str
    subject: str
    lines: tuple[Line, ...] = ()
    runs: list[Run] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    properties: list[tuple[str, str]] = field(default_factory=list)
    contest: Contest | None = None
    comparisons: list[Comparison] = field(default_factory=list)
    group: Group | None = None
    watched: list[WatchedModel] = field(default_factory=list)
    demands: Demands | None = None
    attempts: int = 0
    why_red: str = ""
    reread: Callable[[], tuple[Line, ...]] | None = None
    planned: dict[str | None, Planned] = field(default_factory=dict)
    profiles: dict[str | None, Profile] = field(default_factory=dict)
    told: Planned | None = None
    said: tuple[str, ...] = ()
    held: ExitStack = field(default_factory=ExitStack)
    locked: bool = False
    measuring: bool = False
    over: bool = False
    limit: TimeLimit | None = None

    def now(self) -> tuple[Line, ...]:
        """The lines, with those of marks that have come since. Raises SettingsError for one that does not parse."""
        if self.reread is not None:
            self.lines = self.reread()
        return self.lines

    def plan(self, budget: Budget) -> Planned:
        """What is about to be measured for: the budget, and the lines that it was made of."""
        return self.lines, budget

    def start_afresh(self) -> None:
        """Forget what an earlier attempt at this test measured, but not that there was one (a plugin that reruns tests)."""
        self.attempts += 1
        self.runs.clear()
        self.windows.clear()
        self.comparisons.clear()
        self.watched.clear()
        self.planned.clear()
        self.profiles.clear()
        self.told = None
        self.locked, self.limit = False, None
        self.measuring = self.over = False
        self.results = []
        self.properties = []
