"""After collection: settings, markers and budgets, all problems in one usage error."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.hooks import benchmarks, workers
from pytest_greencompute.hooks.collecting import (
    alarms,
    extra_meters,
    node_id_of,
    report_problem,
    stale_budgets,
    tests_of,
    unmetered_members,
)
from pytest_greencompute.hooks.demands import demands_here
from pytest_greencompute.hooks.given import read_settings, usage_error
from pytest_greencompute.hooks.ledger import where_from
from pytest_greencompute.hooks.names import MARKER, is_worker, options_given
from pytest_greencompute.hooks.other_plugins import check_tracers
from pytest_greencompute.meters.base import Meter
from pytest_greencompute.meters.registry import meter
from pytest_greencompute.report.forms import check_reports, reports
from pytest_greencompute.settings.addopts import addopts_of, options_in
from pytest_greencompute.settings.settings import Settings


def begin(
    session: pytest.Session, config: pytest.Config, every: list[pytest.Item], metered: list[pytest.Item], items: list[pytest.Item]
) -> None:
    """``every`` test that was collected, those that are ``metered``, and ``items``, those that are to run."""
    given = options_given(config)
    try:
        settings = prepare(session, config, every, metered, given)
    except pytest.UsageError as error:
        if not is_worker(config):
            raise
        report_problem(session, str(error))  # a worker that raises is a crash without words to xdist
        items.clear()
        return
    # By option, or by its TOML twin where neither option is given.
    selects = given if "only" in given or "skip" in given else {"only": settings.only, "skip": settings.skip}
    keep = {"only": True, "skip": False}.get(next((key for key in ("only", "skip") if selects.get(key)), ""))
    if keep is not None:
        chosen = set(metered)
        config.hook.pytest_deselected(items=[item for item in items if (item in chosen) is not keep])
        items[:] = [item for item in items if (item in chosen) is keep]


def prepare(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item], metered: list[pytest.Item], given: dict[str, Any]
) -> Settings:
    """Settings, markers and budgets of the collected tests, all problems in one usage error."""
    try:
        settings, extra = _checked_settings(config, given, metered or items)
        by_name = settings.budgets.keys()
        metered += [item for item in items if item not in metered and not by_name.isdisjoint(settings.names.of(node_id_of(item)))]
        if settings.benchmarks and settings.enabled:
            metered += [item for item in items if item not in metered and benchmarks.uses_benchmark(item)]
        unmetered_members(items, metered)
        tests = tests_of(metered, settings, MARKER)
        if settings.enabled and is_worker(config):
            workers.check_tests(settings, metered, tests)
        if settings.base_refs:
            if settings.budget_file is not None and given["budget_file"] == options_in(addopts_of(config.inipath)).get("budget_file"):
                settings = replace(settings, budget_file=None)  # each commit names its own
            named = None if settings.budget_file is None else str(settings.budget_file)
            for node_id, demands in demands_here(metered, where_from(config, metered), named, MARKER, config.inipath).items():
                tests[node_id].demands = demands
        in_controller = config.pluginmanager.hasplugin("dsession")
        if not in_controller:
            stale_budgets(settings, session, config, items, tests)
        # Where nothing measures and nothing is written, nobody needs a session; xdist's controller does not know what workers will find.
        if tests or settings.enabled or in_controller or reports(settings, config.rootpath, os.environ):
            from pytest_greencompute.hooks.beginning import begin_session

            begin_session(config, settings, extra, {item: tests[node_id_of(item)] for item in metered}, alarms(tests.values(), settings))
    except SettingsError as error:
        raise usage_error(error) from error
    return settings


def _checked_settings(config: pytest.Config, given: dict[str, Any], items: Sequence[pytest.Item]) -> tuple[Settings, dict[str, Meter]]:
    """The settings of this process, and the meters that conftest files add. Raises SettingsError for what cannot be had here."""
    settings = read_settings(config, given, items)
    extra = extra_meters(config)
    if settings.enabled:
        check_tracers(settings)
        _check_meters(settings, extra)
        if is_worker(config):
            settings, extra = workers.settings_of_worker(settings, extra)
        else:
            workers.check(config, settings.xdist)
        if settings.benchmarks:
            benchmarks.check()
    if not is_worker(config):
        check_reports(settings)
    return settings, extra


def _check_meters(settings: Settings, extra: Mapping[str, Meter]) -> None:
    """Raises SettingsError for a meter name that nobody registered."""
    for name in settings.meters:
        try:
            meter(name, extra)
        except MeterError as error:
            raise SettingsError(error.message, remedy=error.remedy) from error
