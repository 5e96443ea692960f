"""In a process that measures one side of a comparison: settings come from the one that compares, and budgets are its business."""

from __future__ import annotations

import os

import pytest

from pytest_greencompute.hooks.beginning import register
from pytest_greencompute.hooks.benchmarks import uses_benchmark
from pytest_greencompute.hooks.collecting import extra_meters
from pytest_greencompute.hooks.demands import demands_here
from pytest_greencompute.hooks.ending import EndOfProcess
from pytest_greencompute.hooks.ledger import ledger_of, where_from
from pytest_greencompute.hooks.names import MARKER, METERED, PART
from pytest_greencompute.hooks.running import RunHooks
from pytest_greencompute.pairing.worker import Worker
from pytest_greencompute.session.as_side import AsSide, effort_of_side
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.sides import of_side


def prepare(config: pytest.Config, items: list[pytest.Item], metered: list[pytest.Item]) -> None:
    """Measure the collected tests as the other process says."""
    worker = Worker.of_environment(os.environ)
    told = worker.told()
    measuring = Session(of_side(told), config.rootpath, os.environ, extra_meters=extra_meters(config), is_side=True)
    if measuring.settings.benchmarks:
        metered += [item for item in items if item not in metered and uses_benchmark(item)]
    effort = effort_of_side(told.max_seconds, told.count)
    demands = demands_here(metered, where_from(config, metered), told.budget_file, MARKER, config.inipath)
    mode = AsSide(measuring, worker, effort)
    tests = {item: MeteredTest(item.nodeid, item.nodeid, demands=demands.get(item.nodeid)) for item in metered}
    register(
        config, mode, EndOfProcess(ledger_of(config), measuring), tests, SideHooks(mode, worker), benchmarks=measuring.settings.benchmarks
    )


class SideHooks(RunHooks):
    """In a process that measures one side of a comparison: the one that compares judges."""

    def __init__(self, mode: AsSide, worker: Worker) -> None:
        super().__init__(mode)
        self._worker = worker

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell the other process that the test has ended."""
        if hasattr(report, METERED) and not hasattr(report, PART) and (report.when == "call" or not report.passed):
            self._worker.ended(report.outcome, str(report.longrepr or ""))
