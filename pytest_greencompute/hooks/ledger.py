"""What every session does for us: look whether anything is asked, and collect the results that come in on test reports.

So its import and its hooks cost next to nothing where no test is metered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pytest_greencompute.hooks.names import CRASHED, FIXTURE, GROUP_MARKER, MARKER, METERED, PART, RERUN, is_worker, options_given
from pytest_greencompute.settings.folders import Where, mentioned

if TYPE_CHECKING:  # what a session without metered tests does not load
    from pytest_greencompute.results.result import Result
    from pytest_greencompute.session.modes import Mode

LEDGER: pytest.StashKey[Ledger] = pytest.StashKey()


class Ending(Protocol):
    """What becomes of what a session has found. ``metered``: it measures energy."""

    metered: bool

    def properties(self, results: Sequence[Result]) -> list[tuple[str, str]]:
        """The properties that JUnit gets of these results."""
        ...

    def told(self, results: Sequence[Result]) -> list[Any]:
        """The results as plain values, for a report that xdist carries."""
        ...

    def read(self, told: Sequence[Any]) -> list[Result]:
        """What ``told`` told, in another process."""
        ...

    def finish(self, session: pytest.Session) -> None:
        """The tests have run: judge what only the whole shows, write and save."""
        ...

    def node_ended(self, node: Any) -> None:
        """One of xdist's workers has ended."""
        ...

    def show(self, reporter: Any) -> None:
        """Print the section of the terminal's summary."""
        ...

    def close(self) -> None:
        """pytest ends."""
        ...


class Ledger:
    """What one pytest session knows of energy. ``mode`` is how its tests measure, and ``ending`` what becomes of that, once tests have been
    collected that measure, or something was asked for. ``collected``: all tests have been.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.mode: Mode | None = None
        self.ending: Ending | None = None
        self.metered: set[str] = set()
        self.ended: set[str] = set()
        self.results: list[Result] = []
        self._made: dict[str, list[Result]] = {}
        self.failed: set[str] = set()
        self.broken: set[str] = set()
        self.not_measured: list[tuple[str, str]] = []
        self.broke: dict[str, str] = {}
        self.said: list[tuple[str, bool]] = []
        self.collected = False
        self.skipped: list[str] = []
        self.uncollected: list[str] = []
        self.places: dict[str, tuple[str, int]] = {}
        self._superseded: dict[str, set[tuple[str, str]]] = {}

    def say(self, sentence: str, *, bad: bool) -> None:
        """A line under the table."""
        self.said.append((sentence, bad))

    def put_on(self, report: pytest.TestReport, results: list[Result]) -> None:
        """Have the results of a test ride on its report as plain values, so that xdist carries them."""
        if results and self.ending is not None:
            self._made[report.nodeid] = results
            report.greencompute = self.ending.told(results)  # type: ignore[attr-defined]

    def _on(self, report: pytest.TestReport) -> list[Result]:
        """The results that a report brings: those of this process as they are, those of another one out of the plain values."""
        told = getattr(report, "greencompute", None)
        if not told or self.ending is None:
            return []
        made = self._made.pop(report.nodeid, None)
        return self.ending.read(told) if made is None else made

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a phase of a test, or a part of its body (pytest's subtests), has come to. First of all: others write properties."""
        results = self._on(report)
        part = hasattr(report, PART)
        if report.outcome == RERUN or (report.when == "teardown" and report.nodeid in self._superseded):
            self._forget_attempt(report, results)
            return
        crashed = report.when == CRASHED and self.ending is not None and self.ending.metered
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
        if not part and (report.when != "setup" or not report.passed):
            self.ended.add(report.nodeid)
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
        if mine and self.ending is not None:
            self._superseded[test] = set(self.ending.properties(mine))
        ours = self._superseded.setdefault(test, set())
        report.user_properties = [pair for pair in report.user_properties if tuple(pair) not in ours]
        if report.when == "teardown":
            del self._superseded[test]
        self.failed.discard(test)
        self.broken.discard(test)
        self.broke.pop(test, None)
        self.results = [run for run in self.results if run.test != test]
        self.not_measured = [(each, reason) for each, reason in self.not_measured if each != test]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that is skipped whole, or does not import, has no test that could say so."""
        if not report.passed and _speaks_of_us(self.config.rootpath / report.nodeid.partition("::")[0]):
            (self.skipped if report.skipped else self.uncollected).append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.ending is not None:
            self.ending.finish(session)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        if self.ending is not None:
            self.ending.node_ended(node)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.ending is not None:
            self.ending.show(terminalreporter)
            return
        for sentence, bad in self.said:
            terminalreporter.write_line(f"energy: {sentence}", red=bad)

    def pytest_unconfigure(self) -> None:
        if self.ending is not None:
            self.ending.close()


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


def ledger_of(config: pytest.Config) -> Ledger:
    return config.stash[LEDGER]


# --- whether anything is asked of us: on the command line, in files, by marks


def is_metered(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ()) or item.get_closest_marker(MARKER) is not None


def is_marked(item: pytest.Item) -> bool:
    """Whether a mark of the test asks for something."""
    return item.get_closest_marker(MARKER) is not None or item.get_closest_marker(GROUP_MARKER) is not None


def where_from(config: pytest.Config, items: Sequence[pytest.Item] = ()) -> Where:
    """From where the settings are looked for."""
    folder = config.invocation_params.dir
    asked = [folder / str(arg).partition("::")[0] for arg in config.args]
    tests = [path if path.is_dir() else path.parent for path in asked if path.exists()]
    files = {item.nodeid.partition("::")[0]: item.path for item in items}
    return Where(config.rootpath, folder, tests, files, config.inipath)


def may_have_settings(config: pytest.Config, items: Sequence[pytest.Item] = ()) -> bool:
    """Whether a pyproject.toml may hold settings of ours, for ``items`` or for what is asked for."""
    return mentioned(where_from(config, items))


def is_asked(config: pytest.Config, every: Sequence[pytest.Item], metered: Sequence[pytest.Item]) -> bool:
    """Whether a session is to be made of ``every`` test that was collected, and those that are ``metered``: something is asked of it."""
    if options_given(config) or may_have_settings(config, every):
        return True
    return bool(metered) and (
        is_worker(config) or any(map(is_marked, every)) or bool(config.hook.pytest_greencompute_meters.get_hookimpls())
    )
