"""In a process that measures one side of a comparison: settings come from the one that compares, and budgets are its business."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from pytest_greencompute.hooks.beginning import register
from pytest_greencompute.hooks.benchmarks import uses_benchmark
from pytest_greencompute.hooks.collecting import extra_meters
from pytest_greencompute.hooks.demands import demands_here
from pytest_greencompute.hooks.ending import EndOfProcess
from pytest_greencompute.hooks.ledger import ledger_of, where_from
from pytest_greencompute.hooks.names import MARKER, METERED, PART, TEST
from pytest_greencompute.hooks.running import RunHooks
from pytest_greencompute.pairing.told import Told
from pytest_greencompute.pairing.worker import NotWantedError, Worker
from pytest_greencompute.session.as_side import AsSide, effort_of_side
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.sides import of_side

NOT_ASKED_FOR = "the process that compares does not ask for it"
TOLD: pytest.StashKey[tuple[Worker, Told]] = pytest.StashKey()


def configure(config: pytest.Config) -> None:
    """Hear how to measure, and collect the files of all tests that may be asked for: a file that breaks takes no others with it."""
    worker = Worker.of_environment(os.environ)
    config.stash[TOLD] = worker, worker.told()
    files = dict.fromkeys(test.partition("::")[0] for test in worker.tests)
    if here := [file for file in files if (config.rootpath / file).exists()]:
        config.args[:] = [str(config.rootpath / file) for file in here]
        config.option.continue_on_collection_errors = True


def prepare(config: pytest.Config, every: list[pytest.Item], metered: list[pytest.Item], items: list[pytest.Item]) -> None:
    """Measure the ``metered`` ones of ``every`` collected test as the other process says. Where it may ask for several, these are the
    ``items`` that run, in its order.
    """
    worker, told = config.stash[TOLD]
    measuring = Session(of_side(told), config.rootpath, os.environ, extra_meters=extra_meters(config), is_side=True)
    if told.benchmarks:
        metered += [item for item in every if item not in metered and uses_benchmark(item)]
    if worker.tests:
        here = set(items)
        by_id = {item.nodeid: item for item in metered if item in here}
        worker.tests = tuple(test for test in worker.tests if test in by_id)
        metered = [by_id[test] for test in worker.tests]
        items[:] = metered
    effort = effort_of_side(told.max_seconds, told.count)
    demands = demands_here(metered, where_from(config, metered), told.budget_file, MARKER, config.inipath)
    mode = AsSide(measuring, worker, effort)
    tests = {item: MeteredTest(item.nodeid, item.nodeid, demands=demands.get(item.nodeid)) for item in metered}
    register(config, mode, EndOfProcess(ledger_of(config), measuring), tests, SideHooks(mode, worker), benchmarks=told.benchmarks)


class SideHooks(RunHooks):
    """In a process that measures one side of a comparison: the one that compares judges."""

    def __init__(self, mode: AsSide, worker: Worker) -> None:
        super().__init__(mode)
        self._worker = worker

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """A test that is not asked for is skipped before its set-up."""
        wanted = True
        try:
            yield from super().pytest_runtest_setup(item)
        except NotWantedError:
            wanted = False
        if not wanted:
            pytest.skip(NOT_ASKED_FOR)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """What was set up beside the other side waits for its turn, or is skipped where it has none."""
        wanted = True
        try:
            if TEST in item.stash:
                self._worker.wait_to_run()
        except NotWantedError:
            wanted = False
        if not wanted:
            pytest.skip(NOT_ASKED_FOR)
        return (yield from super().pytest_runtest_call(item))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell the other process that the test has ended."""
        if hasattr(report, METERED) and not hasattr(report, PART) and (report.when == "call" or not report.passed):
            said = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr  # a skip has its place, too
            self._worker.ended(report.outcome, str(said or ""))
