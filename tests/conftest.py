"""What holds for every test of this suite."""

from __future__ import annotations

import compileall
import gc
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import hypothesis
import pytest
from _pytest.runner import runtestprotocol

import pytest_greencompute
from tests.quiet import Others, shared_out, turn

hypothesis.settings.register_profile("any machine", deadline=None)  # a time limit for an example would test the machine
hypothesis.settings.load_profile("any machine")

# Where no bytecode is kept, each of hundreds of processes compiles all of us anew, and rewrites assertions: for three seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

TRIES = 3
TRIES_IN_QUIET = 2  # a host that takes the CPU away for half a second, or slows it, is seen by nobody here
SECOND = "passed when run again"
# What a busy machine can bring about: another figure, verdict or outcome, a measurement given up, time over. Any other error is ours.
BY_BUSY_MACHINES = re.compile(
    r"assert |AssertionError$|Failed$|BudgetsFailedError$|(NoMeter|MeterLost|HeldUp|Meter|Cannot)Error$|\w*Timeout"
)


def pytest_configure() -> None:
    """What other processes than pytest's import is compiled before they begin: those of end-to-end tests keep nothing."""
    if not shared_out():
        compileall.compile_dir(pytest_greencompute.__path__[0], quiet=2)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where only tests that measure in real time are asked for, modules without one are not imported: that takes longer than many tests."""
    words = config.option.markexpr.split()
    if words[:1] not in (["alone"], ["alone(waits=True)"]) or "or" in words or collection_path.suffix != ".py":
        return None
    return "mark.alone" not in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_finish() -> None:
    """What there is by now, modules and thousands of tests, stays: no garbage collection need look through it."""
    gc.collect()
    gc.freeze()


def _waits(mark: pytest.Mark) -> bool:
    return bool(mark.kwargs.get("waits"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Tests that measure in real time (mark ``alone``) need the machine. One that fails while other processes use it says nothing of us: it
    is run again, with fresh fixtures, and left out with the reason if that does not help. Two failures on a quiet machine are a failure,
    and so is anywhere a single one that no busy machine explains. What passed only when it ran again is named at the end.

    Of several workers one runs such a test while the others wait. Those that wait for ticks and servers more than they work
    (``alone(waits=True)``) run beside each other; one that fails there is run again by itself, and that counts.
    """
    mark = item.get_closest_marker("alone")
    if mark is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = []
    if _waits(mark) and shared_out():
        with turn(beside=True):
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if not reports or any(report.failed for report in reports):
        with turn(beside=False):
            reports = _by_itself(item, nextitem, again=bool(reports))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _by_itself(item: pytest.Item, nextitem: pytest.Item | None, *, again: bool) -> list[pytest.TestReport]:
    """The reports of the test, after as many tries as the machine needs."""
    in_quiet = 0
    for number in range(TRIES):
        if number or again:
            item._initrequest()  # type: ignore[attr-defined]  # as pytest's own rerunning plugins do: no other way to get fresh fixtures
        with Others() as others:
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        failed = [report for report in reports if report.failed]
        in_quiet += not others.disturb
        if not failed and number:
            reports[0].user_properties.append((SECOND, number + 1))
        if not failed or in_quiet == TRIES_IN_QUIET or not all(map(_by_busy_machine, failed)):
            return reports
    _leave_out(item, reports, f"failed {TRIES} times while other processes used {others}: it needs the machine for itself")
    return reports


def _by_busy_machine(report: pytest.TestReport) -> bool:
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return False
    kind = crash.message.partition(":")[0]
    return BY_BUSY_MACHINES.match(kind if kind.startswith("assert ") else kind.rpartition(".")[2]) is not None


def _leave_out(item: pytest.Item, reports: Sequence[pytest.TestReport], reason: str) -> None:
    path, line, _ = item.location
    for report in reports:
        if report.failed:
            report.outcome, report.longrepr = "skipped", (path, (line or 0) + 1, f"Skipped: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A test that fails now and then is not hidden by its second try."""
    reports = (report for group in terminalreporter.stats.values() for report in group if isinstance(report, pytest.TestReport))
    again = sorted({report.nodeid for report in reports if any(name == SECOND for name, _ in report.user_properties)})
    if again:
        terminalreporter.section(f"{len(again)} {SECOND}", sep="-")
        for nodeid in again:
            terminalreporter.line(nodeid)
