"""A metered test from its set-up to its verdicts, as pytest calls it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_greencompute.hooks.ending import first_words, ledger_of
from pytest_greencompute.hooks.given import usage_error
from pytest_greencompute.hooks.names import LATE, MARKER, METERED, TEST

if TYPE_CHECKING:
    from pytest_greencompute.judging.verdict import Verdict
    from pytest_greencompute.session.energy_meter import EnergyMeter
    from pytest_greencompute.session.session import Session
    from pytest_greencompute.session.tests import MeteredTest


def meter_of(measuring: Session, request: pytest.FixtureRequest) -> EnergyMeter | None:
    """The meter of a test whose benchmark is to be measured; closed when its fixtures are."""
    from pytest_greencompute.session.energy_meter import EnergyMeter

    test = request.node.stash.get(TEST, None)
    if test is None:
        return None
    meter = EnergyMeter(measuring, test, skip_rest)
    request.addfinalizer(meter.close)
    return meter


def unplanned(request: pytest.FixtureRequest) -> NoReturn:
    raise pytest.UsageError(
        f"{request.node.nodeid}: energy_meter was asked for at run time (getfixturevalue), so its budgets were not read."
        " Name it in the test's arguments, or mark the test with @pytest.mark.usefixtures('energy_meter')."
    )


def skip_rest(reason: str) -> NoReturn:
    pytest.skip(reason)


class MeteredHooks:
    """The hooks of a session that has metered tests; other sessions never register them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Now it is known which tests run, and in which order: a group is compared in its last one."""
        from pytest_greencompute.errors import SettingsError
        from pytest_greencompute.hooks.collecting import collected_whole

        groups = {test.group.name: test.group for item in session.items if (test := item.stash.get(TEST, None)) and test.group}
        try:
            for group in groups.values():
                group.choose([item.nodeid for item in session.items], whole=collected_whole(session.config))
        except SettingsError as error:
            raise usage_error(error) from error
        ledger_of(session.config).groups = list(groups.values())

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> str:
        """Said before anything is measured, since a plugin that ends the process leaves nobody to say it later."""
        from pytest_greencompute.hooks.other_plugins import short_limits

        if not self._session.settings.enabled:
            return ""
        metered = [item for item in items if TEST in item.stash]
        return short_limits(metered, lambda item: self._session.budget(item.stash[TEST]).max_seconds)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        test = item.stash.get(TEST, None)
        if test is not None:
            # A plugin that reruns tests sets one item up several times.
            item.user_properties[:] = [pair for pair in item.user_properties if pair not in test.properties]
            test.start_afresh()
            if self._session.settings.enabled:
                self._session.open()
                self._session.contend(test)
            if self._session.worker is not None:
                self._session.worker.wait_to_load(test.demands)
        yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Judge after the body, so that the test itself fails. The body's own assertion wins; a skip does not hide a FAIL."""
        from pytest_greencompute.hooks import unittest_case

        test = item.stash.get(TEST, None)
        if test is None or self._session.worker is not None:
            answer = yield
            if test is None and self._session.worker is None and self._session.settings.enabled:
                self._refuse_late_marks(item, None)
            return answer
        answer, skipped = None, None
        try:
            answer = yield
        except pytest.skip.Exception as skip:
            skipped = skip
        except BaseException:
            with contextlib.suppress(Exception):  # nothing may take the place of what the body raised
                self._record(item, test, ended=False)
            raise
        ending = "skip" if skipped is not None else unittest_case.ending(item)
        if ending == "break":
            with contextlib.suppress(Exception):
                self._record(item, test, ended=False)
        elif ending == "end":
            self._enforce(item, test, only_failures=False)
        elif test.runs or test.windows:  # a test that skips before it measures is listed as not measured, with its own reason
            self._enforce(item, test, only_failures=True)  # outside the except, so that no skip is chained to the sentence
        if skipped is not None:
            raise skipped
        return answer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        test = item.stash.get(TEST, None)
        if test is not None:
            self._session.part(test)
        yield
        if test is not None:
            self._session.note_total()
        if self._session.worker is None and self._session.settings.enabled:
            self._refuse_marks_after(item, test)

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

    def _refuse_late_marks(self, item: pytest.Item, test: MeteredTest | None) -> None:
        """Where a mark of ours came while the test ran, too late to do anything: a failure, or a sentence where a budget without a figure
        is one. Budgets that came in time are judged.
        """
        __tracebackhide__ = True
        remedy = "Mark it in conftest.py while tests are collected."
        if test is None and item.get_closest_marker(MARKER) is not None:
            said = f"{item.nodeid} was marked {MARKER} while it ran, and does not use energy_meter: nothing was measured. {remedy}"
            fails = self._session.settings.policy.fails_unmeasured
        elif item.get_closest_marker("energy_group") is not None and (test is None or test.group is None):
            said = f"{item.nodeid} was marked energy_group while it ran, when groups had been made. {remedy}"
            fails = self._session.settings.policy.enforce == "fail"
        else:
            return
        item.stash[LATE] = True
        self._refuse(item, said, fails=fails)

    @staticmethod
    def _refuse(item: pytest.Item, said: str, *, fails: bool) -> None:
        """A mark came too late: a failure, or a sentence at the end of the session."""
        __tracebackhide__ = True
        if fails:
            pytest.fail(said, pytrace=False)
        ledger_of(item.config).say(said, bad=False)

    def _refuse_marks_after(self, item: pytest.Item, test: MeteredTest | None) -> None:
        """Where a mark of ours came when the test had been judged: an error of its teardown."""
        __tracebackhide__ = True
        if test is None and not item.stash.get(LATE, False):
            self._refuse_late_marks(item, None)
        if test is None or not test.results:
            return
        judged = test.lines
        if any(line not in judged for line in test.now()):
            said = f"{item.nodeid} was marked {MARKER} when it had been judged. Mark it in conftest.py while tests are collected."
            self._refuse(item, said, fails=self._session.settings.policy.enforce == "fail")

    def _record(self, item: pytest.Item, test: MeteredTest, *, ended: bool = True) -> list[Verdict]:
        from pytest_greencompute.report.junit import properties

        verdicts = self._session.judge(test, ended=ended)
        test.properties = properties(test.results)
        item.user_properties.extend(test.properties)
        return verdicts

    def _enforce(self, item: pytest.Item, test: MeteredTest, *, only_failures: bool) -> None:
        from pytest_greencompute.errors import SettingsError
        from pytest_greencompute.hooks import unittest_case
        from pytest_greencompute.session.tests import BudgetsFailedError, BudgetsSkippedError

        __tracebackhide__ = True
        ends: list[Callable[[], NoReturn]] = []
        try:
            self._refuse_late_marks(item, test)
            verdicts = self._record(item, test)
            self._session.enforce(verdicts, only_failures=only_failures)
        except BudgetsFailedError as failed:
            # What unittest.expectedFailure expects has come true.
            expected = unittest_case.unexpected_success(item)
            ends.append(partial(pytest.xfail, str(failed)) if expected else partial(pytest.fail, str(failed), pytrace=False))
            unittest_case.forget(item)  # a skip, which would be shown in place of the sentence
        except SettingsError as late:
            ends.append(partial(pytest.fail, str(late), pytrace=False))
        except BudgetsSkippedError as skipped:
            ends.append(partial(pytest.skip, str(skipped)))
        for end in ends:  # outside the except, so that no second traceback is chained to the sentence
            end()
