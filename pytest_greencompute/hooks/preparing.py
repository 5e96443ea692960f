"""After collection: settings, budgets and the session that measures, all problems in one usage error."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greencompute.hooks.ending import ledger_of
from pytest_greencompute.hooks.given import may_have_settings, options_given, read_settings, selects, usage_error, where_from
from pytest_greencompute.hooks.names import FIXTURE, MARKER, SIDE, TEST, is_worker
from pytest_greencompute.hooks.running import MeteredHooks, meter_of

if TYPE_CHECKING:
    from pytest_greencompute.session.session import Session
    from pytest_greencompute.session.tests import MeteredTest
    from pytest_greencompute.settings.settings import Settings


# --- collection -------------------------------------------------------------------------------------------------------


def is_metered(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ()) or item.get_closest_marker(MARKER) is not None


def after_collection(session: pytest.Session, config: pytest.Config, every: list[pytest.Item], items: list[pytest.Item]) -> None:
    """``every`` test that was collected, and ``items``, those that are to run."""
    metered = [item for item in every if is_metered(item)]
    if SIDE in os.environ:
        _prepare_side(config, every, metered)
        return
    given = options_given(config)
    if metered or given or may_have_settings(config, every):
        try:
            prepare(session, config, every, metered, given)
        except pytest.UsageError as error:
            if not is_worker(config):
                raise
            from pytest_greencompute.hooks.collecting import report_problem

            report_problem(session, str(error))  # a worker that raises is a crash without words to xdist
            items.clear()
            return
    keep = {"only": True, "skip": False}.get(next((key for key in ("only", "skip") if selects(config, key, given)), ""))
    if keep is not None:
        chosen = set(metered)
        config.hook.pytest_deselected(items=[item for item in items if (item in chosen) is not keep])
        items[:] = [item for item in items if (item in chosen) is keep]


def prepare(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item], metered: list[pytest.Item], given: dict[str, Any]
) -> None:
    """Settings, markers and budgets of the collected tests, all problems in one usage error."""
    from dataclasses import replace

    from pytest_greencompute.errors import SettingsError
    from pytest_greencompute.hooks.collecting import alarms, node_id_of, stale_budgets, tests_of, unmetered_members
    from pytest_greencompute.hooks.other_plugins import side_options
    from pytest_greencompute.session.session import Session
    from pytest_greencompute.settings.addopts import addopts_of, options_in

    try:
        settings, extra = _checked_settings(config, given, metered or items)
        by_name = settings.budgets.keys()
        metered += [item for item in items if item not in metered and not by_name.isdisjoint(settings.names.of(node_id_of(item)))]
        _add_benchmarks(settings, items, metered)
        unmetered_members(items, metered)
        tests = tests_of(metered, settings, MARKER)
        if settings.enabled and is_worker(config):
            from pytest_greencompute.hooks import workers

            workers.check_tests(settings, metered, tests)
        if settings.base_refs:
            if settings.budget_file is not None and given["budget_file"] == options_in(addopts_of(config.inipath)).get("budget_file"):
                settings = replace(settings, budget_file=None)  # each commit names its own
            named = None if settings.budget_file is None else str(settings.budget_file)
            from pytest_greencompute.hooks.demands import demands_here

            for node_id, demands in demands_here(metered, where_from(config, metered), named, MARKER, config.inipath).items():
                tests[node_id].demands = demands
        if not config.pluginmanager.hasplugin("dsession"):
            stale_budgets(settings, session, config, items, tests)
        measuring = Session(
            settings,
            config.rootpath,
            os.environ,
            extra_meters=extra,
            tell=_progress(config),
            waiting=_waiting(config),
            alarms=alarms(tests.values(), settings),
            side_options=side_options(config),
        )
    except SettingsError as error:
        raise usage_error(error) from error
    _register(config, measuring, {item: tests[node_id_of(item)] for item in metered})


def _add_benchmarks(settings: Settings, items: list[pytest.Item], metered: list[pytest.Item]) -> None:
    """Tests of benchmarking plugins are metered where that is asked for."""
    if settings.benchmarks and settings.enabled:
        from pytest_greencompute.hooks.benchmarks import uses_benchmark

        metered += [item for item in items if item not in metered and uses_benchmark(item)]


def _checked_settings(config: pytest.Config, given: dict[str, Any], items: Sequence[pytest.Item]) -> tuple[Settings, dict[str, Any]]:
    """The settings of this process, and the meters that conftest files add. Raises SettingsError for what cannot be had here."""
    from pytest_greencompute.hooks.collecting import extra_meters
    from pytest_greencompute.report.forms import check_installed
    from pytest_greencompute.session.opened import check_meters

    settings = read_settings(config, given, items)
    extra = extra_meters(config)
    if settings.enabled:
        from pytest_greencompute.hooks import workers
        from pytest_greencompute.hooks.other_plugins import check_tracers

        check_tracers(settings)
        check_meters(settings, extra)
        if is_worker(config):
            settings, extra = workers.settings_of_worker(settings, extra)
        else:
            workers.check(config, settings.xdist)
        if settings.benchmarks:
            from pytest_greencompute.hooks import benchmarks

            benchmarks.check()
    if not is_worker(config):
        check_installed(settings)
    return settings, extra


def _register(config: pytest.Config, measuring: Session, tests: dict[pytest.Item, MeteredTest]) -> None:
    for item, test in tests.items():
        item.stash[TEST] = test
    ledger = ledger_of(config)
    ledger.session = measuring
    ledger.metered = {item.nodeid for item in tests}
    if tests or measuring.settings.enabled:
        config.pluginmanager.register(MeteredHooks(measuring), "greencompute-metered")
    if tests and measuring.settings.benchmarks and measuring.settings.enabled:
        from pytest_greencompute.hooks.benchmarks import BenchmarkHooks

        config.pluginmanager.register(BenchmarkHooks(partial(meter_of, measuring)), "greencompute-benchmarks")


def _prepare_side(config: pytest.Config, items: list[pytest.Item], metered: list[pytest.Item]) -> None:
    """In a process that measures one side: settings come from the process that compares, and budgets are its business."""
    from pytest_greencompute.hooks.collecting import extra_meters
    from pytest_greencompute.hooks.demands import demands_here
    from pytest_greencompute.pairing.worker import Worker
    from pytest_greencompute.session.session import Session
    from pytest_greencompute.session.tests import MeteredTest
    from pytest_greencompute.settings.sides import of_side

    worker = Worker.of_environment(os.environ)
    told = worker.told()
    measuring = Session(of_side(told), config.rootpath, os.environ, extra_meters=extra_meters(config), worker=worker)
    _add_benchmarks(measuring.settings, items, metered)
    measuring.max_seconds, measuring.needs_p99, measuring.count = told.max_seconds, told.needs_p99, told.count
    demands = demands_here(metered, where_from(config, metered), told.budget_file, MARKER, config.inipath)
    _register(config, measuring, {item: MeteredTest(item.nodeid, item.nodeid, demands=demands.get(item.nodeid)) for item in metered})


def _progress(config: pytest.Config) -> Any:
    """A progress line on a terminal; nothing in a log file."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or config.option.verbose < 0:
        return None
    from pytest_greencompute.report.progress import ProgressLine
    from pytest_greencompute.report.terminal import encoding_of

    return ProgressLine(_writer(config, reporter), config.get_terminal_writer().fullwidth - 1, encoding_of(reporter))


def _writer(config: pytest.Config, reporter: Any) -> Callable[[str], None]:
    """Write past pytest's capturing."""
    capture = config.pluginmanager.get_plugin("capturemanager")

    def write(text: str) -> None:
        with contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled():
            reporter.ensure_newline()  # pytest's own words on this line stay
            # Past the writer, which would count these characters into the line of dots that it lays out.
            file = reporter._tw._file
            file.write(text)
            file.flush()

    return write


def _waiting(config: pytest.Config) -> Callable[[str], None]:
    def say(device: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            from pytest_greencompute.report.escape import fitted
            from pytest_greencompute.report.terminal import encoding_of

            said = f"energy: waiting for another measured run on {device} to end\n"
            _writer(config, reporter)(fitted(said, encoding_of(reporter)))

    return say
