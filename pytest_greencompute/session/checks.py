"""The arguments of the fixture's methods, checked, and what all of these methods share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.queries import Queries, collected
from pytest_greencompute.models.scoring import Score, check_paired
from pytest_greencompute.session.tests import MeteredTest

if TYPE_CHECKING:  # it names what only a metered session loads
    from pytest_greencompute.session.modes import Mode

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


@dataclass(frozen=True)
class Asking:
    """A test that asks for something to be measured: how its session measures, and what ends it as skipped, with a reason."""

    mode: Mode
    test: MeteredTest
    skip: Callable[[str], NoReturn]

    def check_name(self, name: str | None) -> None:
        """Raises SettingsError for a name of a run that is none, or is taken."""
        if name is not None:
            check_name(name, "a run", "name='prefill'")
        if name in [run.name for run in self.test.runs] + [window.name for window in self.test.windows]:
            which = f"a run named {name!r}" if name else "a run without a name"
            raise SettingsError(f"This test has measured {which} already.", remedy="Tell its runs apart: measure(..., name='large').")

    def refuse_out_of_turn(self) -> None:
        """Raises SettingsError where a window is open, something else is being measured, or the test has been judged."""
        test = self.test
        if any(window.running for window in test.windows):
            raise SettingsError(
                "A window is open: what is measured inside it would be counted twice.", remedy="Measure before or after it."
            )
        if test.measuring:
            raise SettingsError(
                "This test is measuring something else: each would pay for the other, too.", remedy="Measure one after the other."
            )
        if test.over:
            raise SettingsError(
                f"{test.subject} has ended and was judged: what its energy_meter measures now would be in no verdict and no report.",
                remedy="Measure before it ends, with the energy_meter of the test that is running.",
            )

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """While it is measured nothing else of the test is."""
        self.test.measuring = True
        try:
            yield
        finally:
            self.test.measuring = False

    def run_nothing(self) -> None:
        """Skip the test where no model is to run."""
        if self.mode.why_nothing_runs:
            self.skip(self.mode.why_nothing_runs)

    def unmetered(self, metric: str) -> NoReturn:
        """Skip the test, which asks for a figure of something that was not metered."""
        self.skip(f"{metric} was not measured: run pytest with --energy-budget")

    def task(
        self,
        model: Any,
        queries: Queries,
        batch_size: int = 1,
        references: Iterable[Any] | None = None,
        score: Score = "accuracy",
        collate: Callable[[Any], Any] | None = None,
        name: str | None = None,
        *,
        reasoning: Sequence[str] | None = None,
        **others: Any,
    ) -> Task:
        """What is to be measured of this test, as for ``Task``. ``model`` None: of several candidates, each has its own."""
        check_paired(queries, references)  # whoever collects the queries for several candidates makes a list of a set
        fields = (model, queries, batch_size, references, score, collate, name, self.test.node_id)
        return Task(*fields, reasoning=self.markers(reasoning), watched=self.test.watched, **others)

    def markers(self, reasoning: Sequence[str] | None) -> Sequence[str] | None:
        """The markers of reasoning: those of the call, else those of the settings; None: the usual ones."""
        return self.mode.markers if reasoning is None else reasoning


def by_candidate(what: str, given: Any, candidates: Mapping[str, object]) -> Mapping[str, Any]:
    """An argument that is one for all candidates, or one by name. Raises SettingsError where it names others."""
    by_name = given if isinstance(given, Mapping) else dict.fromkeys(candidates, given)
    if set(by_name) != set(candidates):
        raise SettingsError(f"{what} names {', '.join(map(str, by_name))}.", remedy=f"Name each of {', '.join(candidates)}.")
    return by_name


def check_name(name: object, what: str, such: str) -> None:
    """Raises SettingsError for a name that is no text, or one that no file could hold."""
    if not isinstance(name, str) or not name:
        raise SettingsError(f"name is {name!r}.", remedy=f"Name {what} with a text, such as {such}.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"name is {name!r}, which is no whole text.", remedy="It holds half of a character: decode it first."
        ) from error


def check_seconds(seconds: object) -> None:
    """Raises SettingsError for what is no time to look at a model for."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise SettingsError(f"seconds is {seconds!r}.", remedy="Write for how long the model may be looked at, such as 15.")


def repeatable(queries: Queries) -> Any:
    """Queries that every candidate can have: those of a generator are collected once. Raises SettingsError for what is no list of them."""
    return queries if hasattr(queries, "__len__") and hasattr(queries, "__getitem__") else collected(queries)[0]
