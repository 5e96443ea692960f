"""pytest's hooks, each a few lines. The one lazy seam: a hook loads what it needs, so that a session without metered tests loads little."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greencompute.hooks.ledger import LEDGER, Ledger, is_asked, is_metered
from pytest_greencompute.hooks.names import GROUP_MARKER, MARKER, Hooks, is_worker, options_given
from pytest_greencompute.pairing import SIDE
from pytest_greencompute.settings.options import OPTIONS

if TYPE_CHECKING:
    from pytest_greencompute.hooks.judged import JudgedHooks
    from pytest_greencompute.session.energy_meter import EnergyMeter

WORKERS = ("numprocesses", "tx")  # options of pytest-xdist that start some


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
    pluginmanager.add_hookspecs(Hooks)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(energy_per_query='0.8 J', latency_p95='40 ms', accuracy=0.92, …): budgets that the test's measured run must meet;"
        " run=dict(…) for a run measured with name='run' (pytest-greencompute)",
    )
    config.addinivalue_line(
        "markers",
        f"{GROUP_MARKER}(name, default=None, margin='20%', floor=None, …): tests that are candidates for one task; compared when the last"
        " has run (pytest-greencompute)",
    )
    ledger = config.stash[LEDGER] = Ledger(config)
    config.pluginmanager.register(ledger, "greencompute-ledger")
    if config.option.collectonly:
        return
    if SIDE in os.environ:
        from pytest_greencompute.hooks import side

        side.configure(config)
    given, in_workers = options_given(config), not is_worker(config) and any(getattr(config.option, name, None) for name in WORKERS)
    if given or in_workers:
        from pytest_greencompute.hooks.given import check_options, check_workers

        if in_workers:
            check_workers(config)
        check_options(config)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto``: a worker for each GPU, where each is to have one of its own."""
    from pytest_greencompute.hooks.given import workers_of

    return workers_of(config)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Under xdist the tests are collected and run by workers; the controller says, writes and refuses for all of them."""
    if session.config.pluginmanager.hasplugin("dsession"):
        if is_asked(session.config, [], []):
            from pytest_greencompute.hooks.preparing import prepare

            prepare(session, session.config, [], [], options_given(session.config))
        else:
            _begin_unasked(session.config, [])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """After all others, since they may mark tests; the tests that they leave out are counted all the same."""
    before = list(items)
    yield
    config.stash[LEDGER].collected = True
    if not config.option.collectonly:
        known = set(before)
        _collected(session, config, [*before, *(item for item in items if item not in known)], items)
    elif config.option.energy_only or config.option.energy_skip:
        listed = [item for item in items if is_metered(item) is bool(config.option.energy_only)]
        config.hook.pytest_deselected(items=[item for item in items if item not in listed])
        items[:] = listed


def _collected(session: pytest.Session, config: pytest.Config, every: list[pytest.Item], items: list[pytest.Item]) -> None:
    """``every`` test that was collected, and ``items``, those that are to run."""
    metered = [item for item in every if is_metered(item)]
    if SIDE in os.environ:
        from pytest_greencompute.hooks import side

        side.prepare(config, every, metered, items)
    elif is_asked(config, every, metered):
        from pytest_greencompute.hooks.preparing import begin

        begin(session, config, every, metered, items)
    elif metered:
        _begin_unasked(config, metered)


def _begin_unasked(config: pytest.Config, metered: list[pytest.Item]) -> None:
    """Nothing is asked: a session is made when one of the tests has something to judge."""
    from pytest_greencompute.hooks.running import Unasked

    Unasked(config, metered, _judged).register()


def _judged(*args: Any) -> JudgedHooks:
    """What judges the tests of a session of which nothing was asked, once one of them has something to judge."""
    from pytest_greencompute.hooks.beginning import judged_after_all

    return judged_after_all(*args)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A session may end before it began: collecting its tests is what begins it."""
    config, ledger = session.config, session.config.stash[LEDGER]
    stopped = not ledger.collected and ledger.ending is None and session.exitstatus == pytest.ExitCode.OK
    if stopped and not (is_worker(config) or SIDE in os.environ) and is_asked(config, [], []):
        from pytest_greencompute.hooks.given import say_never_began

        say_never_began(session, ledger)


@pytest.fixture
def energy_meter(request: pytest.FixtureRequest) -> Generator[EnergyMeter, None, None]:
    """Measures model inference: ``energy_meter.measure(model, queries, …)`` and ``energy_meter.window(name)``."""
    from pytest_greencompute.hooks.running import meter_of, unplanned

    meter = meter_of(request) or unplanned(request)
    yield meter
    meter.close()
