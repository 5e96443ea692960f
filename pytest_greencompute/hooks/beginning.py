"""A session begins: how its tests measure, what judges them, and what becomes of what they find."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.hooks.benchmarks import BenchmarkHooks
from pytest_greencompute.hooks.ending import EndMetered, EndOfProcess, EndUnmetered
from pytest_greencompute.hooks.given import read_settings
from pytest_greencompute.hooks.judged import JudgedHooks, MeteredHooks
from pytest_greencompute.hooks.ledger import Ledger, ledger_of
from pytest_greencompute.hooks.names import TEST, is_worker
from pytest_greencompute.hooks.other_plugins import side_options
from pytest_greencompute.hooks.running import RunHooks, meter_of
from pytest_greencompute.meters.base import Meter
from pytest_greencompute.report.escape import fitted
from pytest_greencompute.report.progress import ProgressLine
from pytest_greencompute.report.terminal import encoding_of
from pytest_greencompute.session.energy_meter import EnergyMeter
from pytest_greencompute.session.modes import Mode, mode_of
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.store.files import read_only
from pytest_greencompute.store.runs import store_of


def begin_session(
    config: pytest.Config, settings: Settings, extra: Mapping[str, Meter], tests: Mapping[pytest.Item, MeteredTest], alarms: int
) -> None:
    """Open a session for ``tests``, by item. ``extra`` are meters of the project's own, ``alarms`` as for ``Session``.

    Raises SettingsError for a baseline or a commit that there is not, and for places that cannot be written.
    """
    measuring = Session(
        settings,
        config.rootpath,
        os.environ,
        extra_meters=extra,
        tell=_progress(config),
        waiting=_waiting(config),
        alarms=alarms,
        side_options=side_options(config),
    )
    if settings.enabled and not is_worker(config):
        _check_places(settings, measuring.home)
    mode, ledger = mode_of(measuring), ledger_of(config)
    if is_worker(config):
        ending = EndOfProcess(ledger, measuring, tells=True)
    else:
        ending = (EndMetered if settings.enabled else EndUnmetered)(ledger, measuring)
    hooks = (MeteredHooks if settings.enabled else JudgedHooks)(mode, measuring, ending)
    register(config, mode, ending, tests, hooks if tests or settings.enabled else None, benchmarks=settings.benchmarks and settings.enabled)


def _check_places(settings: Settings, home: Path) -> None:
    """Raises SettingsError where what the session is to leave at its end could not be written: before anything is measured."""
    if settings.save is not None:
        store_of(home).check(settings.save)
    if settings.update is not None and settings.home is not None and read_only(settings.home[0].path):
        raise SettingsError(f"{settings.home[0].name} is read-only, and --energy-update is to write limits into it.")


def register(
    config: pytest.Config,
    mode: Mode,
    ending: EndOfProcess,
    tests: Mapping[pytest.Item, MeteredTest],
    hooks: RunHooks | None,
    *,
    benchmarks: bool,
) -> None:
    """Let pytest's hooks know how the tests measure, and what becomes of that."""
    for item, test in tests.items():
        item.stash[TEST] = test
    ledger = ledger_of(config)
    ledger.mode, ledger.ending = mode, ending
    ledger.metered = {item.nodeid for item in tests}
    if hooks is not None:
        config.pluginmanager.register(hooks, "greencompute-metered")
    if tests and benchmarks:
        config.pluginmanager.register(BenchmarkHooks(closed_meter_of), "greencompute-benchmarks")


def closed_meter_of(request: pytest.FixtureRequest) -> EnergyMeter | None:
    """The meter of a test whose benchmark is to be measured; closed when its fixtures are."""
    meter = meter_of(request)
    if meter is not None:
        request.addfinalizer(meter.close)
    return meter


def judged_after_all(ledger: Ledger, mode: Mode, items: Sequence[pytest.Item]) -> JudgedHooks:
    """What judges the tests of a session of which nothing was asked, now that one of them has something to judge."""
    measuring = Session(read_settings(ledger.config, {}, items), ledger.config.rootpath, os.environ)
    return JudgedHooks(mode, measuring, EndUnmetered(ledger, measuring))


def _progress(config: pytest.Config) -> Any:
    """A progress line on a terminal; nothing in a log file."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or config.option.verbose < 0:
        return None

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
            said = f"energy: waiting for another measured run on {device} to end\n"
            _writer(config, reporter)(fitted(said, encoding_of(reporter)))

    return say
