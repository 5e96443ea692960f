"""What becomes of what a test measured, under budgets: judged in its call phase, so that the test itself fails."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import NoReturn

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.hooks.collecting import collected_whole, tests_of
from pytest_greencompute.hooks.ending import EndOfProcess
from pytest_greencompute.hooks.given import usage_error
from pytest_greencompute.hooks.ledger import ledger_of
from pytest_greencompute.hooks.names import GROUP_MARKER, LATE, MARKER, TEST
from pytest_greencompute.hooks.other_plugins import short_limits
from pytest_greencompute.hooks.running import RunHooks, forget, unexpected_success
from pytest_greencompute.judging.budget import Line
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.report.junit import properties
from pytest_greencompute.session.modes import Mode
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import BudgetsFailedError, BudgetsSkippedError, MeteredTest


class JudgedHooks(RunHooks):
    """Of a session that judges what its tests measure, metered or not."""

    def __init__(self, mode: Mode, session: Session, ending: EndOfProcess) -> None:
        super().__init__(mode)
        self.session, self.ending = session, ending

    def lines_of(self, item: pytest.Item) -> tuple[Line, ...]:
        """The lines of a test's budget. Raises SettingsError for a mark that does not parse."""
        (test,) = tests_of([item], self.session.settings, MARKER).values()
        return test.lines

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Now it is known which tests run, and in which order: other commits run them likewise, and a group is compared in its last one."""
        self.session.expect_tests([item.nodeid for item in session.items if TEST in item.stash])
        groups = {test.group.name: test.group for item in session.items if (test := item.stash.get(TEST, None)) and test.group}
        try:
            for group in groups.values():
                group.choose([item.nodeid for item in session.items], whole=collected_whole(session.config))
        except SettingsError as error:
            raise usage_error(error) from error
        self.ending.groups = list(groups.values())

    def record(self, item: pytest.Item, test: MeteredTest, *, ended: bool = True) -> None:
        """Judge the test's runs, and keep what came of it."""
        self._verdicts(item, test, ended=ended)

    def _verdicts(self, item: pytest.Item, test: MeteredTest, *, ended: bool = True) -> list[Verdict]:
        verdicts = self.session.judge(test, ended=ended)
        test.properties = properties(test.results)
        item.user_properties.extend(test.properties)
        return verdicts

    def enforce(self, item: pytest.Item, test: MeteredTest, *, only_failures: bool) -> None:
        """Judge the test's runs, and end it as their verdicts ask for."""

        __tracebackhide__ = True
        ends: list[Callable[[], NoReturn]] = []
        try:
            self.refuse_late_marks(item, test)
            verdicts = self._verdicts(item, test)
            self.session.enforce(test, verdicts, only_failures=only_failures)
        except BudgetsFailedError as failed:
            # What unittest.expectedFailure expects has come true.
            expected = unexpected_success(item)
            ends.append(partial(pytest.xfail, str(failed)) if expected else partial(pytest.fail, str(failed), pytrace=False))
            forget(item)  # a skip, which would be shown in place of the sentence
        except SettingsError as late:
            ends.append(partial(pytest.fail, str(late), pytrace=False))
        except BudgetsSkippedError as skipped:
            ends.append(partial(pytest.skip, str(skipped)))
        for end in ends:  # outside the except, so that no second traceback is chained to the sentence
            end()

    def refuse_late_marks(self, item: pytest.Item, test: MeteredTest | None) -> None:
        """Where a mark of ours came while the test ran, too late to do anything: a failure, or a sentence where a budget without a figure
        is one. Budgets that came in time are judged.
        """
        __tracebackhide__ = True
        remedy = "Mark it in conftest.py while tests are collected."
        if test is None and item.get_closest_marker(MARKER) is not None:
            said = f"{item.nodeid} was marked {MARKER} while it ran, and does not use energy_meter: nothing was measured. {remedy}"
            fails = self.session.settings.policy.fails_unmeasured
        elif item.get_closest_marker(GROUP_MARKER) is not None and (test is None or test.group is None):
            said = f"{item.nodeid} was marked energy_group while it ran, when groups had been made. {remedy}"
            fails = self.session.settings.policy.enforce == "fail"
        else:
            return
        item.stash[LATE] = True
        self.refuse(item, said, fails=fails)

    @staticmethod
    def refuse(item: pytest.Item, said: str, *, fails: bool) -> None:
        """A mark came too late: a failure, or a sentence at the end of the session."""
        __tracebackhide__ = True
        if fails:
            pytest.fail(said, pytrace=False)
        ledger_of(item.config).say(said, bad=False)


class MeteredHooks(JudgedHooks):
    """Of a session under meters, in which a mark must not come too late, nor another plugin end a test while it is measured."""

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> str:
        """Said before anything is measured, since a plugin that ends the process leaves nobody to say it later."""
        metered = [item for item in items if TEST in item.stash]
        commits = len(self.session.settings.base_refs)
        return short_limits(metered, lambda item: self.session.budget(item.stash[TEST]).seconds(commits=commits))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        yield from super().pytest_runtest_teardown(item)
        self._refuse_marks_after(item, item.stash.get(TEST, None))

    def ended_without(self, item: pytest.Item) -> None:
        """Raises where the test was marked while it ran."""
        self.refuse_late_marks(item, None)

    def _refuse_marks_after(self, item: pytest.Item, test: MeteredTest | None) -> None:
        """Where a mark of ours came when the test had been judged: an error of its teardown."""
        __tracebackhide__ = True
        if test is None and not item.stash.get(LATE, False):
            self.refuse_late_marks(item, None)
        if test is None or not test.results:
            return
        judged = test.lines
        if any(line not in judged for line in test.now()):
            said = f"{item.nodeid} was marked {MARKER} when it had been judged. Mark it in conftest.py while tests are collected."
            self.refuse(item, said, fails=self.session.settings.policy.enforce == "fail")
