"""Collects the results that come in on test reports, and at the end has them printed, written and saved.

Registered in every session, so its import and its hooks cost next to nothing where no test is metered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greencompute.hooks.names import CRASHED, METERED, PART, RERUN, WORKER, is_worker

if TYPE_CHECKING:
    from pytest_greencompute.results.result import Result, ShownVerdict
    from pytest_greencompute.results.session import Facts
    from pytest_greencompute.results.summary import Summary
    from pytest_greencompute.session.groups import Group
    from pytest_greencompute.session.session import Session

LEDGER: pytest.StashKey[Ledger] = pytest.StashKey()


class Ledger:
    """What one pytest session knows of energy. ``session`` is the measuring session, once tests have been collected."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.session: Session | None = None
        self.metered: set[str] = set()
        self.results: list[Result] = []
        self.failed: set[str] = set()
        self.broken: set[str] = set()
        self.not_measured: list[tuple[str, str]] = []
        self.broke: dict[str, str] = {}
        self.total: ShownVerdict | None = None
        self.said: list[tuple[str, bool]] = []
        self.groups: list[Group] = []
        self.workers: list[Facts] = []
        self.skipped: list[str] = []
        self.places: dict[str, tuple[str, int]] = {}
        self._made: dict[str, list[Result]] = {}
        self._superseded: dict[str, set[tuple[str, str]]] = {}
        self._environ = os.environ

    def put_on(self, report: pytest.TestReport, results: list[Result]) -> None:
        """Have the results of a test ride on its report as plain values, so that xdist carries them."""
        from pytest_greencompute.results.document import result_to_json

        self._made[report.nodeid] = results
        report.greencompute = [result_to_json(result) for result in results]  # type: ignore[attr-defined]

    def _on(self, report: pytest.TestReport) -> list[Result]:
        """The results that a report brings: those of this process as they are, those of another one out of the plain values."""
        told = getattr(report, "greencompute", None)
        if not told:
            return []
        made = self._made.pop(report.nodeid, None)
        if made is not None:
            return made
        from pytest_greencompute.results.document import result_from_json

        return [result_from_json(result) for result in told]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a phase of a test, or a part of its body (pytest's subtests), has come to. First of all: others write properties."""
        results = self._on(report)
        part = hasattr(report, PART)
        self._tell_the_other_side(report, part=part)
        if report.outcome == RERUN or (report.when == "teardown" and report.nodeid in self._superseded):
            self._forget_attempt(report, results)
            return
        crashed = report.when == CRASHED and self.session is not None and self.session.settings.enabled
        metered = getattr(report, METERED, crashed)  # who runs the tests of xdist's workers has collected none itself
        if results:
            mine = {run.test for run in results}
            self.results = [run for run in self.results if run.test not in mine] + results  # a rerun replaces what came before
        if metered:
            self.metered.add(report.nodeid)
            path, line, _ = report.location
            self.places[report.nodeid] = (path, (line or 0) + 1)
        if report.failed:
            self.failed.add(report.nodeid)
        if part and report.skipped:
            return
        if not report.passed and not _failed_by_budgets(report, results):
            self.broken.add(report.nodeid)
            if metered and report.failed:
                self.broke.setdefault(report.nodeid, first_words(report))
        if report.skipped and metered and not results:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
            self.not_measured.append((report.nodeid, str(reason).removeprefix("Skipped: ")))

    def _forget_attempt(self, report: pytest.TestReport, results: list[Result]) -> None:
        """Another plugin runs the test again: nothing of this attempt counts, and JUnit gets no figures of it."""
        test = report.nodeid
        mine = [run for run in self.results if run.test == test] + results
        if mine:
            from pytest_greencompute.report.junit import properties

            self._superseded[test] = set(properties(mine))
        ours = self._superseded.setdefault(test, set())
        report.user_properties = [pair for pair in report.user_properties if tuple(pair) not in ours]
        if report.when == "teardown":
            del self._superseded[test]
        self.failed.discard(test)
        self.broken.discard(test)
        self.broke.pop(test, None)
        self.results = [run for run in self.results if run.test != test]
        self.not_measured = [(each, reason) for each, reason in self.not_measured if each != test]

    def _tell_the_other_side(self, report: pytest.TestReport, *, part: bool) -> None:
        """In the process of a side: its test has ended."""
        worker = None if self.session is None else self.session.worker
        if worker is not None and hasattr(report, METERED) and not part and (report.when == "call" or not report.passed):
            worker.ended(report.outcome, str(report.longrepr or ""))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that is skipped whole has no test that could say so."""
        if report.skipped and _speaks_of_us(self.config.rootpath / report.nodeid.partition("::")[0]):
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        measuring = self.session
        if measuring is None:
            return
        measuring.close()
        if measuring.worker is not None:  # a side of a comparison: the process that compares tells of it
            return
        if is_worker(self.config):
            self.config.workeroutput[WORKER] = measuring.facts().to_json()  # type: ignore[attr-defined]
            return
        if measuring.settings.enabled:
            self._judge_session(session, measuring)
        self._judge_groups(session, measuring)
        if measuring.settings.enabled:
            self._update(session, measuring)
        self._save(session, measuring)
        self._report(session, measuring)
        if self.failed and (reporter := self.config.pluginmanager.get_plugin("terminalreporter")) is not None:
            from pytest_greencompute.report.terminal import fit_failures

            fit_failures(reporter, self.failed & {run.test for run in self.results})

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """An xdist worker has ended: what it measured with, unless it crashed."""
        if self.session is None or not self.session.settings.enabled:
            return
        from pytest_greencompute.results.session import Facts

        told = getattr(node, "workeroutput", {}).get(WORKER)
        lost = Facts(why_no_total=f"worker {node.gateway.id} ended without saying what it used")
        self.workers.append(lost if told is None else Facts.from_json(told))

    def _summary(self, measuring: Session, exit_status: int) -> Summary:
        from pytest_greencompute.results.document import now
        from pytest_greencompute.results.session import together
        from pytest_greencompute.results.summary import Summary

        return Summary(
            enabled=measuring.settings.enabled,
            facts=together(self.workers) if self.workers else measuring.facts(),
            results=sorted(self.results, key=lambda run: run.test) if self.workers else self.results,  # as they ended is no order
            metered=len(self.metered),
            not_measured=self.not_measured,
            broken=list(self.broke.items()),
            total=self.total,
            said=self.said,
            footprint=measuring.footprint,
            created=now(),
            exit_status=exit_status,
        )

    def _judge_session(self, session: pytest.Session, measuring: Session) -> None:
        """The total, which may be red, and a word where no test uses energy_meter (stale budgets are errors of collection)."""
        from pytest_greencompute.hooks.collecting import gone_since, gone_tests
        from pytest_greencompute.judging.judge import judge_total
        from pytest_greencompute.judging.verdict import effect
        from pytest_greencompute.results.result import ShownVerdict

        limit = measuring.settings.total_j
        if limit is not None:
            spent = self._summary(measuring, 0).facts
            verdict = judge_total(limit, spent.total_j, spent.why_no_total, modelled=spent.total_modelled)
            self.total = ShownVerdict.of(verdict, effect(verdict, measuring.settings.policy))
            if self.total.effect == "fail":
                self._redden(session)
        red = measuring.settings.policy.fails_unmeasured
        plain, gone = gone_since(session, self.config, measuring, self.metered)
        measuring.loosened += tuple(gone)
        for sentence in (*gone_tests(session, self.config, measuring, self.metered), *plain):
            self.say(sentence, bad=red)
            if red:
                self._redden(session)
        if not self.results:
            self._judge_nothing(session, measuring)

    def _judge_nothing(self, session: pytest.Session, measuring: Session) -> None:
        """A session that judged nothing is no green one where a budget without a figure is none, unless the user selected other tests."""
        from pytest_greencompute.hooks.collecting import why_nothing

        over = session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if session.config.getoption("setuponly", False) or (over and self.metered):
            return
        skip = self.config.option.energy_skip or measuring.settings.skip
        why, asked_for = why_nothing(session, self.metered, self.skipped, left_out=skip)
        red = measuring.settings.policy.fails_unmeasured and not asked_for and session.exitstatus == pytest.ExitCode.OK
        self.say(f"{why}{'. In CI, and with --energy-strict, that is red: --energy-unmeasured warn lets it pass' if red else ''}", bad=red)
        if red:
            self._redden(session)

    def _judge_groups(self, session: pytest.Session, measuring: Session) -> None:
        """What no test has said of the groups: that one was not judged, or a verdict that the marks of its last test have swallowed."""
        from pytest_greencompute.judging.verdict import effect

        for group in self.groups:
            late = not group.judged_in
            for verdict in group.judge_late(measuring.bench().aim):
                fails = effect(verdict, measuring.settings.policy) == "fail"
                own = group.members.get(group.judged_in) == group.default  # a mark on the configured candidate's own test is meant
                if fails and (late or (group.judged_in not in self.failed and not own)):
                    self.say(verdict.reason, bad=True)
                    self._redden(session)
            if measuring.settings.enabled and group.default is not None and group.problem:
                # Where its last test was skipped or broke before it could measure, what the others found must not pass for a green verdict.
                red = measuring.settings.policy.fails_unmeasured and not group.excused
                self.say(f"group {group.name!r} was not judged: {group.problem}", bad=red)
                if red:
                    self._redden(session)

    @staticmethod
    def _redden(session: pytest.Session) -> None:
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def say(self, sentence: str, *, bad: bool) -> None:
        """A line under the table."""
        self.said.append((sentence, bad))

    def _update(self, session: pytest.Session, measuring: Session) -> None:
        """New limits for the budget file (``--energy-update``); one that could not be written is red."""
        from pytest_greencompute.hooks.collecting import collected_roots, covered, tests_of
        from pytest_greencompute.hooks.names import MARKER
        from pytest_greencompute.settings.update import Findings, update

        settings = measuring.settings
        if settings.update is None:
            return
        if session.exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR):
            self.say("no limit was updated: the session did not end by itself", bad=False)
            return
        tests = tests_of([item for item in session.items if item.nodeid in self.metered], settings, MARKER)
        findings = Findings(
            self.results,
            {node_id: measuring.budget(test) for node_id, test in tests.items()},
            self.broken,
            self.metered,
            lambda pattern: covered(pattern, collected_roots(self.config), self.config.rootpath, settings.names),
        )
        for sentence, bad in update(settings.update, findings, settings):
            self.say(sentence, bad=bad)
            if bad:
                self._redden(session)

    def _save(self, session: pytest.Session, measuring: Session) -> None:
        from pytest_greencompute.errors import SettingsError
        from pytest_greencompute.store.runs import store_of

        name = measuring.settings.save
        if name is None or not measuring.settings.enabled:
            return
        if session.exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR):
            self.say(f"baseline {name!r} was not saved: the session did not end by itself", bad=False)
            return
        good = [run for run in self.results if self._may_be_saved(run)]
        if good:
            try:
                summary = replace(self._summary(measuring, int(session.exitstatus)), results=good)
                saved = store_of(measuring.home).save(name, summary)
            except SettingsError as error:
                self._redden(session)
                self.say(f"baseline {name!r} was not saved: {error}", bad=True)
                return
            left = len(self.results) - len(good)
            also = f"; {left} that failed or measured nothing left out" if left else ""
            self.say(f"saved {len(good)} run{'s' if len(good) > 1 else ''} to baseline {name!r} ({_short(saved)}){also}", bad=False)
        else:
            self.say(f"baseline {name!r} was not saved: no run passed", bad=False)

    def _may_be_saved(self, run: Result) -> bool:
        return run.metered and run.test not in self.failed and not any(verdict.word == "FAIL" for verdict in run.verdicts)

    def _report(self, session: pytest.Session, measuring: Session) -> None:
        """Write the reports that were asked for; one that could not be written is red, and keeps no other from being written."""
        from pytest_greencompute.report.forms import reports

        for report in reports(measuring.settings, measuring.home, self._environ):
            problem = report.write(self._summary(measuring, int(session.exitstatus)))
            if problem:
                self.say(f"the {report.name} {'were' if report.name.endswith('s') else 'was'} not written: {problem}", bad=report.wanted)
                if report.wanted:
                    self._redden(session)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        measuring = self.session
        if measuring is None or measuring.worker is not None or is_worker(self.config):
            return
        from pytest_greencompute.report.forms import log_lines
        from pytest_greencompute.report.terminal import Fitted, write

        before, after = log_lines(measuring.settings, self._environ)
        summary = self._summary(measuring, 0)
        for line in before:
            Fitted(terminalreporter).write_line(line)
        write(terminalreporter, summary)
        for line in after(summary, self.places, self.config.rootpath):
            Fitted(terminalreporter).write_line(line)

    def pytest_unconfigure(self) -> None:
        if self.session is not None:
            self.session.close()


def _failed_by_budgets(report: pytest.TestReport, results: Iterable[Result]) -> bool:
    """Whether a test failed with the sentences of its verdicts, and not by an assertion or an error of its own."""
    reasons = [verdict.reason for run in results for verdict in run.verdicts if verdict.effect == "fail"]
    return bool(report.failed and any(reason in report.longreprtext for reason in reasons))


def _speaks_of_us(path: Path) -> bool:
    """Whether a file of tests names the fixture or the marker."""
    try:
        text = path.read_bytes()
    except OSError:
        return False
    return b"energy_meter" in text or b"energy_budget" in text


def first_words(report: pytest.TestReport) -> str:
    """Why a test failed, in a line: the message of its error."""
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash is not None else report.longreprtext
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    return lines[0] if lines else f"it failed ({report.when})"


def _short(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def ledger_of(config: pytest.Config) -> Ledger:
    return config.stash[LEDGER]
