"""pytest's hooks, each a few lines. Nothing heavy is imported before a metered test runs."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from pytest_greencompute.hooks.ending import LEDGER, Ledger, ledger_of
from pytest_greencompute.hooks.given import check_workers, may_have_settings, options_given, refuse_value, settings_of, workers_asked
from pytest_greencompute.hooks.names import MARKER, TEST
from pytest_greencompute.hooks.preparing import after_collection, prepare
from pytest_greencompute.hooks.running import skip_rest, unplanned
from pytest_greencompute.settings.options import OPTIONS

if TYPE_CHECKING:
    from pytest_greencompute.session.energy_meter import EnergyMeter


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
    from pytest_greencompute.hooks import hookspec

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
    ledger = config.stash[LEDGER] = Ledger(config)
    config.pluginmanager.register(ledger, "greencompute-ledger")
    if config.option.collectonly:
        return
    given = options_given(config)
    if workers_asked(config):
        check_workers(config, given)
    if "budget" in given:
        refuse_value(config)
    else:
        lone = [option for option in OPTIONS if option.needs_budget and option.key in given]
        if lone and not settings_of(config, given).enabled:
            raise pytest.UsageError(f"--energy-{lone[0].name} does nothing without --energy-budget: add it.")
    if "only" in given and "skip" in given:
        raise pytest.UsageError("--energy-only and --energy-skip leave no test to run: use one of them.")


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto``: a worker for each GPU, where each is to have one of its own."""
    given = options_given(config)
    settings = settings_of(config, given) if given or may_have_settings(config) else None
    if settings is None or not settings.enabled or settings.xdist is None:
        return None
    from pytest_greencompute.hooks import workers

    return len(workers.gpus(os.environ))


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Under xdist the tests are collected and run by workers; the controller says, writes and refuses for all of them."""
    if session.config.pluginmanager.hasplugin("dsession"):
        prepare(session, session.config, [], [], options_given(session.config))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """After all others, since they may mark tests; the tests that they leave out are counted all the same."""
    before = list(items)
    yield
    if not config.option.collectonly:
        known = set(before)
        after_collection(session, config, [*before, *(item for item in items if item not in known)], items)


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def energy_meter(request: pytest.FixtureRequest) -> Generator[EnergyMeter, None, None]:
    """Measures model inference: ``energy_meter.measure(model, queries, …)`` and ``energy_meter.window(name)``."""
    from pytest_greencompute.session.energy_meter import EnergyMeter

    measuring = ledger_of(request.config).session
    test = request.node.stash.get(TEST, None)
    if measuring is None or test is None:
        measuring, test = unplanned(request)
    meter = EnergyMeter(measuring, test, skip_rest)
    yield meter
    meter.close()
