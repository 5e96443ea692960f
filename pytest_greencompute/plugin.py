"""pytest's hooks, each a few lines. Nothing heavy is imported before a metered test runs."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_greencompute.ledger import METERED, Ledger, first_words, is_worker
from pytest_greencompute.options import OPTIONS

if TYPE_CHECKING:
    from pytest_greencompute.finding import Where
    from pytest_greencompute.fixture import EnergyMeter
    from pytest_greencompute.session import MeteredTest, Session
    from pytest_greencompute.settings import Settings
    from pytest_greencompute.verdict import Verdict

MARKER = "energy_budget"
FIXTURE = "energy_meter"
_TEST: pytest.StashKey[MeteredTest] = pytest.StashKey()
_TOLD: pytest.StashKey[bool] = pytest.StashKey()  # a mark that came late
_LEDGER: pytest.StashKey[Ledger] = pytest.StashKey()
_SIDE = "GREENCOMPUTE_SIDE"  # set in a process that another pytest has started to measure one side of a comparison (sides/worker.py)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("energy", "energy, latency and accuracy budgets (pytest-greencompute)")
    for option in OPTIONS:
        if option.flag:
            group.addoption(f"--energy-{option.name}", dest=option.dest, action="store_true", default=None, help=option.help)
        else:
            group.addoption(
                f"--energy-{option.name}", dest=option.dest, default=None, metavar=option.metavar, choices=option.choices, help=option.help
            )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_greencompute import hookspec

    pluginmanager.add_hookspecs(hookspec)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(energy_per_query='0.8 J', latency_p95='40 ms', accuracy=0.92, …): budgets that the test's measured run must meet;"
        " run=dict(…) for a run measured with name='run' (pytest-greencompute)",
    )
    config.addinivalue_line(
        "markers",
        "energy_group(name, default=None, margin='20%', floor=None, …): tests that are candidates for one task; compared when the last has"
        " run (pytest-greencompute)",
    )
    ledger = config.stash[_LEDGER] = Ledger(config)
    config.pluginmanager.register(ledger, "greencompute-ledger")
    if config.option.collectonly:
        return
    given = _given(config)
    if _workers_asked(config):
        _check_workers(config, given)
    if "budget" in given:
        _refuse_value(config)
    else:
        lone = [option for option in OPTIONS if option.needs_budget and option.key in given]
        if lone and not _settings_of(config, given).enabled:
            raise pytest.UsageError(f"--energy-{lone[0].name} does nothing without --energy-budget: add it.")
    if "only" in given and "skip" in given:
        raise pytest.UsageError("--energy-only and --energy-skip leave no test to run: use one of them.")


def _settings_of(config: pytest.Config, given: dict[str, Any]) -> Settings:
    """The settings, before any test is collected. A file's budget = true is as good as --energy-budget."""
    from pytest_greencompute.errors import SettingsError

    try:
        return _read_settings(config, given)
    except SettingsError as error:
        raise _usage(error) from error


def _usage(error: Exception) -> pytest.UsageError:
    """The error as pytest ends with: pytest prints all of it as escapes where the terminal lacks one sign of it."""
    from pytest_greencompute.report.escape import fitted

    return pytest.UsageError(fitted(str(error), getattr(sys.__stderr__, "encoding", None) or "utf-8"))


def _read_settings(config: pytest.Config, given: dict[str, Any], items: Sequence[pytest.Item] = ()) -> Settings:
    """The settings that hold for ``items``; before they are collected, for what is asked for. Raises SettingsError."""
    from pytest_greencompute.finding import read_files
    from pytest_greencompute.settings import build

    files = read_files(_where(config, items), given.get("budget_file"), measuring="budget" in given)
    return build(given, files, os.environ, config.invocation_params.dir)


def _where(config: pytest.Config, items: Sequence[pytest.Item] = ()) -> Where:
    """From where the settings are looked for."""
    from pytest_greencompute.finding import Where

    folder = config.invocation_params.dir
    asked = [folder / str(arg).partition("::")[0] for arg in config.args]
    tests = [path if path.is_dir() else path.parent for path in asked if path.exists()]
    files = {item.nodeid.partition("::")[0]: item.path for item in items}
    return Where(config.rootpath, folder, tests, files, config.inipath)


def _workers_asked(config: pytest.Config) -> bool:
    """Whether xdist is to run the tests in workers, seen from the process that starts them."""
    return not is_worker(config) and bool(getattr(config.option, "numprocesses", None) or getattr(config.option, "tx", None))


def _check_workers(config: pytest.Config, given: dict[str, Any]) -> None:
    """Before a worker is started: whether they may measure, and which GPU is whose."""
    if given or _has_settings(config):
        settings = _settings_of(config, given)
        if settings.enabled:
            from pytest_greencompute import workers

            workers.check(config, settings.xdist)
            config.pluginmanager.register(workers.OneGpuEach(), "greencompute-workers")


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto``: a worker for each GPU, where each is to have one of its own."""
    given = _given(config)
    settings = _settings_of(config, given) if given or _has_settings(config) else None
    if settings is None or not settings.enabled or settings.xdist is None:
        return None
    from pytest_greencompute import workers

    return len(workers.gpus(os.environ))


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Under xdist the tests are collected and run by workers; the controller says, writes and refuses for all of them."""
    if session.config.pluginmanager.hasplugin("dsession"):
        _prepare(session, session.config, [], [], _given(session.config))


def _given(config: pytest.Config) -> dict[str, Any]:
    """Option key -> value for what the command line (or addopts) really gave."""
    values = ((option.key, getattr(config.option, option.dest, None)) for option in OPTIONS)
    return {key: value for key, value in values if value is not None}


def _refuse_value(config: pytest.Config) -> None:
    args = config.invocation_params.args
    for flag, value in itertools.pairwise(args):
        if flag == "--energy-budget" and re.match(r"[\d.]+ ?[a-zA-Zµ%][\w /]*$|[\d.]+$", str(value)) and not Path(str(value)).exists():
            raise pytest.UsageError(
                f"--energy-budget takes no value, but {str(value)!r} follows it. A limit goes into the marker,"
                f" @pytest.mark.{MARKER}(energy_per_query={str(value)!r}), or into pyproject.toml;"
                " a limit for the whole session is --energy-total."
            )


def _ledger(config: pytest.Config) -> Ledger:
    return config.stash[_LEDGER]


# --- collection -------------------------------------------------------------------------------------------------------


def _is_metered(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ()) or item.get_closest_marker(MARKER) is not None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """After all others, since they may mark tests; the tests that they leave out are counted all the same."""
    before = list(items)
    yield
    if not config.option.collectonly:
        known = set(before)
        _collected(session, config, [*before, *(item for item in items if item not in known)], items)


def _collected(session: pytest.Session, config: pytest.Config, every: list[pytest.Item], items: list[pytest.Item]) -> None:
    """``every`` test that was collected, and ``items``, those that are to run."""
    metered = [item for item in every if _is_metered(item)]
    if _SIDE in os.environ:
        _prepare_side(config, every, metered)
        return
    given = _given(config)
    if metered or given or _has_settings(config, every):
        try:
            _prepare(session, config, every, metered, given)
        except pytest.UsageError as error:
            if not is_worker(config):
                raise
            from pytest_greencompute.collecting import report_problem

            report_problem(session, str(error))  # a worker that raises is a crash without words to xdist
            items.clear()
            return
    keep = {"only": True, "skip": False}.get(next((key for key in ("only", "skip") if _asked(config, key, given)), ""))
    if keep is not None:
        chosen = set(metered)
        config.hook.pytest_deselected(items=[item for item in items if (item in chosen) is not keep])
        items[:] = [item for item in items if (item in chosen) is keep]


def _has_settings(config: pytest.Config, items: Sequence[pytest.Item] = ()) -> bool:
    """Whether a pyproject.toml may hold settings of ours, for ``items`` or for what is asked for."""
    from pytest_greencompute.finding import mentioned

    return mentioned(_where(config, items))


def _asked(config: pytest.Config, key: str, given: dict[str, Any]) -> bool:
    """Whether --energy-only or --energy-skip holds: by option, or by its TOML twin where neither option is given."""
    measuring = _ledger(config).session
    if "only" in given or "skip" in given:
        return key in given
    return measuring is not None and bool(getattr(measuring.settings, key))


def _prepare(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item], metered: list[pytest.Item], given: dict[str, Any]
) -> None:
    """Settings, markers and budgets of the collected tests, all problems in one usage error."""
    from dataclasses import replace

    from pytest_greencompute.addopts import addopts_of, options_in
    from pytest_greencompute.collecting import alarms, asked_here, node_id_of, stale_budgets, tests_of, unmetered_members
    from pytest_greencompute.errors import SettingsError
    from pytest_greencompute.other_plugins import side_options
    from pytest_greencompute.session import Session

    try:
        settings, extra = _checked_settings(config, given, metered or items)
        by_name = settings.budgets.keys()
        metered += [item for item in items if item not in metered and not by_name.isdisjoint(settings.names.of(node_id_of(item)))]
        _add_benchmarks(settings, items, metered)
        unmetered_members(items, metered)
        tests = tests_of(metered, settings, MARKER)
        if settings.enabled and is_worker(config):
            from pytest_greencompute import workers

            workers.check_tests(settings, metered, tests)
        if settings.base_refs:
            if settings.budget_file is not None and given["budget_file"] == options_in(addopts_of(config.inipath)).get("budget_file"):
                settings = replace(settings, budget_file=None)  # each commit names its own
            named = None if settings.budget_file is None else str(settings.budget_file)
            for node_id, asked in asked_here(metered, _where(config, metered), named, MARKER, config.inipath).items():
                tests[node_id].asked = asked
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
        raise _usage(error) from error
    _register(config, measuring, {item: tests[node_id_of(item)] for item in metered})


def _add_benchmarks(settings: Settings, items: list[pytest.Item], metered: list[pytest.Item]) -> None:
    """Tests of benchmarking plugins are metered where that is asked for."""
    if settings.benchmarks and settings.enabled:
        from pytest_greencompute.benchmarks import uses_benchmark

        metered += [item for item in items if item not in metered and uses_benchmark(item)]


def _checked_settings(config: pytest.Config, given: dict[str, Any], items: Sequence[pytest.Item]) -> tuple[Settings, dict[str, Any]]:
    """The settings of this process, and the meters that conftest files add. Raises SettingsError for what cannot be had here."""
    from pytest_greencompute.collecting import extra_meters
    from pytest_greencompute.reporting import check_installed
    from pytest_greencompute.session import check_meters

    settings = _read_settings(config, given, items)
    extra = extra_meters(config)
    if settings.enabled:
        from pytest_greencompute import workers
        from pytest_greencompute.other_plugins import check_tracers

        check_tracers(settings)
        check_meters(settings, extra)
        if is_worker(config):
            settings, extra = workers.settings_of_worker(settings, extra)
        else:
            workers.check(config, settings.xdist)
        if settings.benchmarks:
            from pytest_greencompute import benchmarks

            benchmarks.check()
    if not is_worker(config):
        check_installed(settings)
    return settings, extra


def _register(config: pytest.Config, measuring: Session, tests: dict[pytest.Item, MeteredTest]) -> None:
    for item, test in tests.items():
        item.stash[_TEST] = test
    ledger = _ledger(config)
    ledger.session = measuring
    ledger.metered = {item.nodeid for item in tests}
    if tests or measuring.settings.enabled:
        config.pluginmanager.register(MeteredHooks(measuring), "greencompute-metered")
    if tests and measuring.settings.benchmarks and measuring.settings.enabled:
        from pytest_greencompute.benchmarks import BenchmarkHooks

        config.pluginmanager.register(BenchmarkHooks(partial(_meter_of, measuring)), "greencompute-benchmarks")


def _prepare_side(config: pytest.Config, items: list[pytest.Item], metered: list[pytest.Item]) -> None:
    """In a process that measures one side: settings come from the process that compares, and budgets are its business."""
    from pytest_greencompute.collecting import asked_here, extra_meters
    from pytest_greencompute.session import MeteredTest, Session
    from pytest_greencompute.settings import of_side
    from pytest_greencompute.sides.worker import Worker

    worker = Worker.of_environment(os.environ)
    told = worker.settings()
    measuring = Session(of_side(told), config.rootpath, os.environ, extra_meters=extra_meters(config), worker=worker)
    _add_benchmarks(measuring.settings, items, metered)
    measuring.max_seconds, measuring.needs_p99, measuring.count = told["max_seconds"], told["needs_p99"], tuple(told["count"])
    asked = asked_here(metered, _where(config, metered), told["budget_file"], MARKER, config.inipath)
    _register(config, measuring, {item: MeteredTest(item.nodeid, item.nodeid, asked=asked.get(item.nodeid, {})) for item in metered})


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


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def energy_meter(request: pytest.FixtureRequest) -> Generator[EnergyMeter, None, None]:
    """Measures model inference: ``energy_meter.measure(model, queries, …)`` and ``energy_meter.window(name)``."""
    from pytest_greencompute.fixture import EnergyMeter

    measuring = _ledger(request.config).session
    test = request.node.stash.get(_TEST, None)
    if measuring is None or test is None:
        measuring, test = _unplanned(request)
    meter = EnergyMeter(measuring, test, _skip)
    yield meter
    meter.close()


def _meter_of(measuring: Session, request: pytest.FixtureRequest) -> EnergyMeter | None:
    """The meter of a test whose benchmark is to be measured; closed when its fixtures are."""
    from pytest_greencompute.fixture import EnergyMeter

    test = request.node.stash.get(_TEST, None)
    if test is None:
        return None
    meter = EnergyMeter(measuring, test, _skip)
    request.addfinalizer(meter.close)
    return meter


def _unplanned(request: pytest.FixtureRequest) -> NoReturn:
    raise pytest.UsageError(
        f"{request.node.nodeid}: energy_meter was asked for at run time (getfixturevalue), so its budgets were not read."
        " Name it in the test's arguments, or mark the test with @pytest.mark.usefixtures('energy_meter')."
    )


def _skip(reason: str) -> NoReturn:
    pytest.skip(reason)


class MeteredHooks:
    """The hooks of a session that has metered tests; other sessions never register them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Now it is known which tests run, and in which order: a group is compared in its last one."""
        from pytest_greencompute.collecting import collected_whole
        from pytest_greencompute.errors import SettingsError

        groups = {test.group.name: test.group for item in session.items if (test := item.stash.get(_TEST, None)) and test.group}
        try:
            for group in groups.values():
                group.choose([item.nodeid for item in session.items], whole=collected_whole(session.config))
        except SettingsError as error:
            raise _usage(error) from error
        _ledger(session.config).groups = list(groups.values())

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> str:
        """Said before anything is measured, since a plugin that ends the process leaves nobody to say it later."""
        from pytest_greencompute.other_plugins import short_limits

        if not self._session.settings.enabled:
            return ""
        metered = [item for item in items if _TEST in item.stash]
        return short_limits(metered, lambda item: self._session.budget(item.stash[_TEST]).max_seconds)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        test = item.stash.get(_TEST, None)
        if test is not None:
            # A plugin that reruns tests sets one item up several times.
            item.user_properties[:] = [pair for pair in item.user_properties if pair not in test.properties]
            test.start_afresh()
            if self._session.settings.enabled:
                self._session.open()
                self._session.contend(test)
            if self._session.worker is not None:
                self._session.worker.wait_to_load(test.asked)
        yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Judge after the body, so that the test itself fails. The body's own assertion wins; a skip does not hide a FAIL."""
        from pytest_greencompute import unittest_case

        test = item.stash.get(_TEST, None)
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
        test = item.stash.get(_TEST, None)
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
        test = item.stash.get(_TEST, None)
        if test is not None:
            setattr(report, METERED, True)
        if test is not None and call.when == "call":
            report.greencompute = test.results  # type: ignore[attr-defined]  # rides on the report, so that xdist carries it
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
            item.stash[_TOLD] = True
            if self._session.settings.policy.unmeasured != "fail":
                _ledger(item.config).say(said, bad=False)
                return
        elif item.get_closest_marker("energy_group") is not None and (test is None or test.group is None):
            item.stash[_TOLD] = True
            said = f"{item.nodeid} was marked energy_group while it ran, when groups had been made. {remedy}"
        else:
            return
        pytest.fail(said, pytrace=False)

    def _refuse_marks_after(self, item: pytest.Item, test: MeteredTest | None) -> None:
        """Where a mark of ours came when the test had been judged: an error of its teardown."""
        __tracebackhide__ = True
        if test is None and not item.stash.get(_TOLD, False):
            self._refuse_late_marks(item, None)
        if test is None or not test.results:
            return
        judged = test.lines
        if any(line not in judged for line in test.now()):
            pytest.fail(
                f"{item.nodeid} was marked {MARKER} when it had been judged. Mark it in conftest.py while tests are collected.", False
            )

    def _record(self, item: pytest.Item, test: MeteredTest, *, ended: bool = True) -> list[Verdict]:
        from pytest_greencompute.report.junit import properties

        verdicts = self._session.judge(test, ended=ended)
        test.properties = properties(test.results)
        item.user_properties.extend(test.properties)
        return verdicts

    def _enforce(self, item: pytest.Item, test: MeteredTest, *, only_failures: bool) -> None:
        from pytest_greencompute import unittest_case
        from pytest_greencompute.errors import SettingsError
        from pytest_greencompute.session import BudgetsFailedError, BudgetsSkippedError

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
