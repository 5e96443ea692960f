"""A test that uses energy_meter, as pytest calls it; and a session of which nothing is asked. Loads little: what judges, others do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

import pytest

from pytest_greencompute.hooks.ledger import first_words, is_marked, ledger_of
from pytest_greencompute.hooks.names import METERED, TEST
from pytest_greencompute.session.energy_meter import EnergyMeter
from pytest_greencompute.session.once import Once, ran_unmetered
from pytest_greencompute.session.tests import MeteredTest

if TYPE_CHECKING:  # what a session that measures nothing does not load
    from pytest_greencompute.hooks.ledger import Ending
    from pytest_greencompute.judging.budget import Line
    from pytest_greencompute.results.result import Result
    from pytest_greencompute.session.modes import Mode
    from pytest_greencompute.session.session import Session


def meter_of(request: pytest.FixtureRequest) -> EnergyMeter | None:
    """The meter of the test that asks for a fixture; None where the test does not measure."""
    mode, test = ledger_of(request.config).mode, request.node.stash.get(TEST, None)
    return None if mode is None or test is None else EnergyMeter(mode, test, skip_rest)


def unplanned(request: pytest.FixtureRequest) -> NoReturn:
    raise pytest.UsageError(
        f"{request.node.nodeid}: energy_meter was asked for at run time (getfixturevalue), so its budgets were not read."
        " Name it in the test's arguments, or mark the test with @pytest.mark.usefixtures('energy_meter')."
    )


def skip_rest(reason: str) -> NoReturn:
    pytest.skip(reason)


class RunHooks:
    """The hooks of a session that has metered tests; other sessions never register them. What becomes of what a test measured is for those
    below this class to say.
    """

    def __init__(self, mode: Mode) -> None:
        self._mode = mode

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        test = item.stash.get(TEST, None)
        if test is not None:
            # A plugin that reruns tests sets one item up several times.
            item.user_properties[:] = [pair for pair in item.user_properties if pair not in test.properties]
            test.start_afresh()
            self._mode.begin(test)
        yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Judge after the body, so that the test itself fails. The body's own assertion wins; a skip does not hide a FAIL."""
        test = item.stash.get(TEST, None)
        if test is None:
            answer = yield
            self.ended_without(item)
            return answer
        answer, skipped = None, None
        try:
            answer = yield
        except pytest.skip.Exception as skip:
            skipped = skip
        except BaseException:
            with contextlib.suppress(Exception):  # nothing may take the place of what the body raised
                self.record(item, test, ended=False)
            raise
        ending = "skip" if skipped is not None else ending_of(item)
        if ending == "break":
            with contextlib.suppress(Exception):
                self.record(item, test, ended=False)
        elif ending == "end":
            self.enforce(item, test, only_failures=False)
        elif test.runs or test.windows:  # a test that skips before it measures is listed as not measured, with its own reason
            self.enforce(item, test, only_failures=True)  # outside the except, so that no skip is chained to the sentence
        if skipped is not None:
            raise skipped
        return answer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        test = item.stash.get(TEST, None)
        if test is not None:
            test.over = True
            self._mode.end(test)
        yield
        if test is not None:
            self._mode.after()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        test = item.stash.get(TEST, None)
        if test is not None:
            setattr(report, METERED, True)
        if test is not None and call.when == "call":
            ledger_of(item.config).put_on(report, test.results)
        if test is not None and report.failed:
            test.why_red = first_words(report).removeprefix("Failed: ")
        return report

    def ended_without(self, item: pytest.Item) -> None:
        """A test that does not use energy_meter has ended."""

    def record(self, item: pytest.Item, test: MeteredTest, *, ended: bool) -> None:
        """Keep what the test measured. ``ended``: its body came to its end."""

    def enforce(self, item: pytest.Item, test: MeteredTest, *, only_failures: bool) -> None:
        """Judge what the test measured, and end it as its verdicts ask for."""


class Judge(Protocol):
    """What becomes of a session's tests where there is something to judge (``judged.JudgedHooks``)."""

    @property
    def session(self) -> Session: ...

    @property
    def ending(self) -> Ending: ...

    def lines_of(self, item: pytest.Item) -> tuple[Line, ...]:
        """The lines of a test's budget: what pytest's marks and our settings say."""
        ...

    def record(self, item: pytest.Item, test: MeteredTest, *, ended: bool) -> None:
        """Judge the test's runs, and keep what came of it."""
        ...

    def enforce(self, item: pytest.Item, test: MeteredTest, *, only_failures: bool) -> None:
        """Judge the test's runs, and end it as their verdicts ask for."""
        ...


class Unasked(RunHooks):
    """Of a session of which nothing is asked: its metered tests run once, and it says so in a line.

    Most runs of a suite are such, so little is loaded for them: settings are read, and a session is made, when a test has something to
    judge, or a figure that a report could show.
    """

    metered = False

    def __init__(self, config: pytest.Config, metered: Sequence[pytest.Item], make: Callable[..., Judge]) -> None:
        super().__init__(Once(lambda: self._judged.session))
        self._ledger, self._items, self._make = ledger_of(config), metered, make
        self._ran: dict[str, MeteredTest] = {}

    def register(self) -> None:
        """Measure the collected tests."""
        for item in self._items:
            subject = item.nodeid.partition("::")[2] or item.name
            item.stash[TEST] = MeteredTest(item.nodeid, subject, reread=partial(self._lines, item))
        self._ledger.mode, self._ledger.ending = self._mode, self
        self._ledger.metered = {item.nodeid for item in self._items}
        self._ledger.config.pluginmanager.register(self, "greencompute-metered")

    @cached_property
    def _judged(self) -> Judge:
        """A session after all, with settings."""
        return self._make(self._ledger, self._mode, self._items)

    @property
    def _has_a_session(self) -> bool:
        return "_judged" in vars(self) or bool(self._ledger.results)  # which workers of xdist's have found

    def _lines(self, item: pytest.Item) -> tuple[Line, ...]:
        return self._judged.lines_of(item)

    def record(self, item: pytest.Item, test: MeteredTest, *, ended: bool) -> None:
        """Keep that the test ran, or what it measured."""
        if _has_nothing_to_say(item, test):
            self._note(test)
        else:
            self._judged.record(item, test, ended=ended)

    def enforce(self, item: pytest.Item, test: MeteredTest, *, only_failures: bool) -> None:
        """There is no verdict where there is no budget."""
        if _has_nothing_to_say(item, test):
            self._note(test)
        else:
            self._judged.enforce(item, test, only_failures=only_failures)

    def _note(self, test: MeteredTest) -> None:
        if test.runs or test.windows:
            self._ran[test.node_id] = test

    # --- at the end ---

    def properties(self, results: Sequence[Result]) -> list[tuple[str, str]]:
        """The properties that JUnit gets of these results: they came from the session that was made."""
        return self._judged.ending.properties(results)

    def told(self, results: Sequence[Result]) -> list[Any]:
        """The results as plain values."""
        return self._judged.ending.told(results)

    def read(self, told: Sequence[Any]) -> list[Result]:
        """The results out of plain values: those of workers of xdist's."""
        return self._judged.ending.read(told)

    def finish(self, session: pytest.Session) -> None:
        """Judge with the others what had nothing to say, where there is a session now."""
        if self._has_a_session:
            for test in self._ran.values():
                self._judged.session.judge(test)
                self._ledger.results.extend(test.results)
            self._judged.ending.finish(session)

    def node_ended(self, _: Any) -> None:
        """It has no workers."""

    def show(self, reporter: Any) -> None:
        """One quiet line, so that nobody takes a green run for a measured one."""
        if self._has_a_session:
            self._judged.ending.show(reporter)
        elif self._ran:
            reporter.write_line(f"energy: {ran_unmetered(len(self._ran))}")

    def close(self) -> None:
        """Nothing was opened."""


def _has_nothing_to_say(item: pytest.Item, test: MeteredTest) -> bool:
    """Whether nothing that the test measured is a figure, and no mark has come that asks for one."""
    plain = not any(run.scores is not None or run.tokens is not None or run.watching or run.serving or run.counts for run in test.runs)
    return plain and not test.comparisons and all(window.tokens is None for window in test.windows) and not is_marked(item)


# --- unittest.TestCase: what the body of such a test raised does not reach pytest's hooks; unittest hands it to the item, which keeps it


def _kept(item: pytest.Item) -> list[BaseException]:
    return [info.value for info in getattr(item, "_excinfo", None) or ()]


def ending_of(item: pytest.Item) -> Literal["end", "skip", "break"]:
    """How the body of a test that raised nothing ended: for a TestCase it may have been skipped, or broken, all the same."""
    kept = _kept(item)
    if not kept or unexpected_success(item):
        return "end"
    return "skip" if all(isinstance(each, pytest.skip.Exception) for each in kept) else "break"


def unexpected_success(item: pytest.Item) -> bool:
    """Whether the test is marked with ``unittest.expectedFailure``, and its body found nothing wrong."""
    kept = _kept(item)
    return len(kept) == 1 and isinstance(kept[0], pytest.fail.Exception) and str(kept[0]).startswith("Unexpected success")


def forget(item: pytest.Item) -> None:
    """Make pytest show what a hook raises, in place of what unittest has kept."""
    if _kept(item):
        item._excinfo = None  # type: ignore[attr-defined]
