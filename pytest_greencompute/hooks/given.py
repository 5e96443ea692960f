"""What was asked for on the command line and in files, known before any test is collected."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.hooks import workers
from pytest_greencompute.hooks.ledger import Ledger, may_have_settings, where_from
from pytest_greencompute.hooks.names import MARKER, options_given
from pytest_greencompute.report.escape import fitted
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import read_files
from pytest_greencompute.settings.options import OPTIONS
from pytest_greencompute.settings.settings import Settings


def settings_of(config: pytest.Config, given: dict[str, Any]) -> Settings:
    """The settings, before any test is collected. A file's budget = true is as good as --energy-budget."""
    try:
        return read_settings(config, given)
    except SettingsError as error:
        raise usage_error(error) from error


def usage_error(error: Exception) -> pytest.UsageError:
    """The error as pytest ends with: pytest prints all of it as escapes where the terminal lacks one sign of it."""
    return pytest.UsageError(fitted(str(error), getattr(sys.__stderr__, "encoding", None) or "utf-8"))


def read_settings(config: pytest.Config, given: dict[str, Any], items: Sequence[pytest.Item] = ()) -> Settings:
    """The settings that hold for ``items``; before they are collected, for what is asked for. Raises SettingsError."""
    files = read_files(where_from(config, items), given.get("budget_file"), measuring="budget" in given)
    return build(given, files, os.environ, config.invocation_params.dir)


def check_options(config: pytest.Config) -> None:
    """Raises UsageError for options that are none together."""
    given = options_given(config)
    if "budget" in given:
        _refuse_value(config)
    else:
        lone = [option for option in OPTIONS if option.needs_budget and option.key in given]
        if lone and not settings_of(config, given).enabled:
            raise pytest.UsageError(f"--energy-{lone[0].name} does nothing without --energy-budget: add it.")
    if "only" in given and "skip" in given:
        raise pytest.UsageError("--energy-only and --energy-skip leave no test to run: use one of them.")


def say_never_began(session: pytest.Session, ledger: Ledger) -> None:
    """Of a session under meters that ``pytest.exit`` has ended as if all were well before it could begin: that it judged nothing."""
    settings = settings_of(session.config, options_given(session.config))
    if settings.enabled:
        red = settings.policy.fails_unmeasured
        ledger.say("the session was stopped before its tests were collected: nothing was judged", bad=red)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED if red else session.exitstatus


def workers_of(config: pytest.Config) -> int | None:
    """How many workers ``-n auto`` is, where each is to have a GPU of its own; None where pytest-xdist says."""
    given = options_given(config)
    settings = settings_of(config, given) if given or may_have_settings(config) else None
    if settings is None or not settings.enabled or settings.xdist is None:
        return None
    return len(workers.gpus(os.environ))


def check_workers(config: pytest.Config) -> None:
    """Before a worker is started: whether they may measure, and which GPU is whose."""
    given = options_given(config)
    if given or may_have_settings(config):
        settings = settings_of(config, given)
        if settings.enabled:
            workers.check(config, settings.xdist)
            config.pluginmanager.register(workers.OneGpuEach(), "greencompute-workers")


def _refuse_value(config: pytest.Config) -> None:
    args = config.invocation_params.args
    for flag, value in itertools.pairwise(args):
        if flag == "--energy-budget" and re.match(r"[\d.]+ ?[a-zA-Zµ%][\w /]*$|[\d.]+$", str(value)) and not Path(str(value)).exists():
            raise pytest.UsageError(
                f"--energy-budget takes no value, but {str(value)!r} follows it. A limit goes into the marker,"
                f" @pytest.mark.{MARKER}(energy_per_query={str(value)!r}), or into pyproject.toml;"
                " a limit for the whole session is --energy-total."
            )
