"""The end of a session: what only the whole shows is judged, reports are written, the section of the terminal is printed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.hooks.collecting import collected_roots, covered, tests_of
from pytest_greencompute.hooks.ledger import Ledger
from pytest_greencompute.hooks.missing import cut_off, gone_since, gone_tests, why_nothing
from pytest_greencompute.hooks.names import MARKER, WORKER
from pytest_greencompute.judging.judge import judge_total
from pytest_greencompute.judging.verdict import effect
from pytest_greencompute.report.forms import log_lines, reports
from pytest_greencompute.report.junit import properties
from pytest_greencompute.report.terminal import Fitted, fit_failures, write
from pytest_greencompute.results.document import now, result_from_json, result_to_json
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.results.session import Facts, together
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.session.groups import Group
from pytest_greencompute.session.session import Session
from pytest_greencompute.store.runs import store_of
from pytest_greencompute.values.names import listed


class EndOfProcess:
    """In a process that another one tells of: one side of a comparison, and a worker of xdist's (``tells``), which tells what it measured
    with.
    """

    def __init__(self, ledger: Ledger, measuring: Session, *, tells: bool = False) -> None:
        self.ledger, self.measuring, self._tells = ledger, measuring, tells
        self.metered = measuring.settings.enabled
        self.groups: list[Group] = []

    @staticmethod
    def properties(results: Sequence[Result]) -> list[tuple[str, str]]:
        """The properties that JUnit gets of these results."""
        return properties(results)

    @staticmethod
    def told(results: Sequence[Result]) -> list[Any]:
        """The results as plain values, for a report that xdist carries."""
        return [result_to_json(result) for result in results]

    @staticmethod
    def read(told: Sequence[Any]) -> list[Result]:
        """What ``told`` told, in another process."""
        return [result_from_json(result) for result in told]

    def finish(self, _: pytest.Session) -> None:
        """The tests have run."""
        self.measuring.close()
        if self._tells:
            self.ledger.config.workeroutput[WORKER] = self.measuring.facts().to_json()  # type: ignore[attr-defined]

    def node_ended(self, _: Any) -> None:
        """It has no workers."""

    def show(self, _: Any) -> None:
        """It has no terminal."""

    def close(self) -> None:
        """pytest ends."""
        self.measuring.close()


class EndUnmetered(EndOfProcess):
    """Of a session that metered nothing: what was asked for all the same is judged and written."""

    def __init__(self, ledger: Ledger, measuring: Session) -> None:
        super().__init__(ledger, measuring)
        self.total: ShownVerdict | None = None
        self.workers: list[Facts] = []
        self._environ = os.environ

    def finish(self, session: pytest.Session) -> None:
        """Judge what only the whole shows, write and save."""
        self.measuring.close()
        self._judge(session)
        self._report(session)
        if self.ledger.failed and (reporter := self.ledger.config.pluginmanager.get_plugin("terminalreporter")) is not None:
            fit_failures(reporter, self.ledger.failed & {run.test for run in self.ledger.results})

    def _judge(self, session: pytest.Session) -> None:
        self._judge_groups(session)

    def _summary(self, exit_status: int) -> Summary:
        results = self.ledger.results
        if self.workers:  # as they ended is no order
            results = sorted(results, key=lambda run: run.test)
        return Summary(
            enabled=self.metered,
            facts=together(self.workers) if self.workers else self.measuring.facts(),
            results=results,
            metered=len(self.ledger.metered),
            not_measured=self.ledger.not_measured,
            broken=list(self.ledger.broke.items()),
            total=self.total,
            said=self.ledger.said,
            footprint=self.measuring.footprint,
            created=now(),
            exit_status=exit_status,
        )

    def _judge_groups(self, session: pytest.Session) -> None:
        """What no test has said of the groups: that one was not judged, or a verdict that the marks of its last test have swallowed."""
        for group in self.groups:
            late = not group.judged_in
            for verdict in group.judge_late(self.measuring.bench().aim):
                fails = effect(verdict, self.measuring.settings.policy) == "fail"
                own = group.members.get(group.judged_in) == group.default  # a mark on the configured candidate's own test is meant
                if fails and (late or (group.judged_in not in self.ledger.failed and not own)):
                    self._say(session, verdict.reason, red=True)
            if self.metered and group.default is not None and group.problem:
                # Where its last test was skipped or broke before it could measure, what the others found must not pass for a green verdict.
                red = self.measuring.settings.policy.fails_unmeasured and not group.excused
                self._say(session, f"group {group.name!r} was not judged: {group.problem}", red=red)

    def _say(self, session: pytest.Session, sentence: str, *, red: bool) -> None:
        """A line under the table; ``red``: the session is, for that."""
        self.ledger.say(sentence, bad=red)
        if red:
            self._redden(session)

    @staticmethod
    def _redden(session: pytest.Session) -> None:
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _report(self, session: pytest.Session) -> None:
        """Write the reports that were asked for; one that could not be written is red, and keeps no other from being written."""
        for report in reports(self.measuring.settings, self.measuring.home, self._environ):
            problem = report.write(self._summary(int(session.exitstatus)))
            if problem:
                were = "were" if report.name.endswith("s") else "was"
                self._say(session, f"the {report.name} {were} not written: {problem}", red=report.wanted)

    def show(self, reporter: Any) -> None:
        """Print what there is to say."""
        before, after = log_lines(self.measuring.settings, self._environ)
        summary = self._summary(0)
        for line in before:
            Fitted(reporter).write_line(line)
        write(reporter, summary)
        for line in after(summary, self.ledger.places, self.ledger.config.rootpath):
            Fitted(reporter).write_line(line)


class EndMetered(EndUnmetered):
    """Of a session under meters."""

    def node_ended(self, node: Any) -> None:
        """An xdist worker has ended: what it measured with, unless it crashed."""
        told = getattr(node, "workeroutput", {}).get(WORKER)
        lost = Facts(why_no_total=f"worker {node.gateway.id} ended without saying what it used")
        self.workers.append(lost if told is None else Facts.from_json(told))

    def _judge(self, session: pytest.Session) -> None:
        self._judge_session(session)
        self._judge_groups(session)
        self._update(session)
        self._save(session)

    def _judge_session(self, session: pytest.Session) -> None:
        """The total, which may be red, and a word where no test uses energy_meter (stale budgets are errors of collection)."""
        limit = self.measuring.settings.total_j
        if limit is not None:
            spent = self._summary(0).facts
            verdict = judge_total(limit, spent.total_j, spent.why_no_total, modelled=spent.total_modelled)
            self.total = ShownVerdict.of(verdict, effect(verdict, self.measuring.settings.policy))
            if self.total.effect == "fail":
                self._redden(session)
        red = self.measuring.settings.policy.fails_unmeasured
        plain, gone = gone_since(session, self.ledger.config, self.measuring, self.ledger.metered)
        self.measuring.loosened += tuple(gone)
        for sentence in (*gone_tests(session, self.ledger.config, self.measuring, self.ledger.metered), *plain):
            self._say(session, sentence, red=red)
        if left := cut_off(session, self.ledger.metered, self.ledger.ended):
            were = "1 test that uses energy_meter was" if len(left) == 1 else f"{len(left)} tests that use energy_meter were"
            self._say(session, f"the session was stopped: {were} not judged ({listed(left, 3)})", red=red)
        elif not self.ledger.results:
            self._judge_nothing(session)

    def _judge_nothing(self, session: pytest.Session) -> None:
        """A session that judged nothing is no green one where a budget without a figure is none, unless the user selected other tests."""
        over = session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if session.config.getoption("setuponly", False) or (over and self.ledger.metered):
            return
        skip = self.ledger.config.option.energy_skip or self.measuring.settings.skip
        why, asked_for = why_nothing(session, self.ledger.metered, self.ledger.skipped, self.ledger.uncollected, left_out=skip)
        red = self.measuring.settings.policy.fails_unmeasured and not asked_for and session.exitstatus == pytest.ExitCode.OK
        also = ". In CI, and with --energy-strict, that is red: --energy-unmeasured warn lets it pass" if red else ""
        self._say(session, f"{why}{also}", red=red)

    def _update(self, session: pytest.Session) -> None:
        """New limits for the budget file (``--energy-update``); one that could not be written is red."""
        settings = self.measuring.settings
        if settings.update is None:
            return
        from pytest_greencompute.settings.update import Findings, update

        if self._was_stopped(session):
            self.ledger.say("no limit was updated: the session did not end by itself", bad=False)
            return
        tests = tests_of([item for item in session.items if item.nodeid in self.ledger.metered], settings, MARKER)
        findings = Findings(
            self.ledger.results,
            {node_id: self.measuring.budget(test) for node_id, test in tests.items()},
            self.ledger.broken,
            self.ledger.metered,
            lambda pattern: covered(pattern, collected_roots(self.ledger.config), self.ledger.config.rootpath, settings.names),
        )
        for sentence, bad in update(settings.update, findings, settings):
            self._say(session, sentence, red=bad)

    def _save(self, session: pytest.Session) -> None:
        name = self.measuring.settings.save
        if name is None:
            return
        if self._was_stopped(session):
            self.ledger.say(f"baseline {name!r} was not saved: the session did not end by itself", bad=False)
            return
        good = [run for run in self.ledger.results if self._may_be_saved(run)]
        if good:
            try:
                summary = replace(self._summary(int(session.exitstatus)), results=good)
                saved = store_of(self.measuring.home).save(name, summary)
            except SettingsError as error:
                self._say(session, f"baseline {name!r} was not saved: {error}", red=True)
                return
            left = len(self.ledger.results) - len(good)
            also = f"; {left} that failed or measured nothing left out" if left else ""
            self.ledger.say(f"saved {len(good)} run{'s' if len(good) > 1 else ''} to baseline {name!r} ({_short(saved)}){also}", bad=False)
        else:
            self.ledger.say(f"baseline {name!r} was not saved: no run passed", bad=False)

    def _was_stopped(self, session: pytest.Session) -> bool:
        """Whether the session did not come to its end; ``pytest.exit`` may end it with any status, 0 too."""
        stopped = session.exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        return stopped or bool(cut_off(session, self.ledger.metered, self.ledger.ended))

    def _may_be_saved(self, run: Result) -> bool:
        return run.metered and run.test not in self.ledger.failed and not any(verdict.word == "FAIL" for verdict in run.verdicts)


def _short(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
