"""What was asked for on the command line and in files, known before any test is collected."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greencompute.hooks.ending import ledger_of
from pytest_greencompute.hooks.names import MARKER, is_worker
from pytest_greencompute.settings.folders import Where, mentioned
from pytest_greencompute.settings.options import OPTIONS

if TYPE_CHECKING:
    from pytest_greencompute.settings.settings import Settings


def settings_of(config: pytest.Config, given: dict[str, Any]) -> Settings:
    """The settings, before any test is collected. A file's budget = true is as good as --energy-budget."""
    from pytest_greencompute.errors import SettingsError

    try:
        return read_settings(config, given)
    except SettingsError as error:
        raise usage_error(error) from error


def usage_error(error: Exception) -> pytest.UsageError:
    """The error as pytest ends with: pytest prints all of it as escapes where the terminal lacks one sign of it."""
    from pytest_greencompute.report.escape import fitted

    return pytest.UsageError(fitted(str(error), getattr(sys.__stderr__, "encoding", None) or "utf-8"))


def read_settings(config: pytest.Config, given: dict[str, Any], items: Sequence[pytest.Item] = ()) -> Settings:
    """The settings that hold for ``items``; before they are collected, for what is asked for. Raises SettingsError."""
    from pytest_greencompute.settings.build import build
    from pytest_greencompute.settings.finding import read_files

    files = read_files(where_from(config, items), given.get("budget_file"), measuring="budget" in given)
    return build(given, files, os.environ, config.invocation_params.dir)


def where_from(config: pytest.Config, items: Sequence[pytest.Item] = ()) -> Where:
    """From where the settings are looked for."""
    folder = config.invocation_params.dir
    asked = [folder / str(arg).partition("::")[0] for arg in config.args]
    tests = [path if path.is_dir() else path.parent for path in asked if path.exists()]
    files = {item.nodeid.partition("::")[0]: item.path for item in items}
    return Where(config.rootpath, folder, tests, files, config.inipath)


def workers_asked(config: pytest.Config) -> bool:
    """Whether xdist is to run the tests in workers, seen from the process that starts them."""
    return not is_worker(config) and bool(getattr(config.option, "numprocesses", None) or getattr(config.option, "tx", None))


def check_workers(config: pytest.Config, given: dict[str, Any]) -> None:
    """Before a worker is started: whether they may measure, and which GPU is whose."""
    if given or may_have_settings(config):
        settings = settings_of(config, given)
        if settings.enabled:
            from pytest_greencompute.hooks import workers

            workers.check(config, settings.xdist)
            config.pluginmanager.register(workers.OneGpuEach(), "greencompute-workers")


def options_given(config: pytest.Config) -> dict[str, Any]:
    """Option key -> value for what the command line (or addopts) really gave."""
    values = ((option.key, getattr(config.option, option.dest, None)) for option in OPTIONS)
    return {key: value for key, value in values if value is not None}


def refuse_value(config: pytest.Config) -> None:
    args = config.invocation_params.args
    for flag, value in itertools.pairwise(args):
        if flag == "--energy-budget" and re.match(r"[\d.]+ ?[a-zA-Zµ%][\w /]*$|[\d.]+$", str(value)) and not Path(str(value)).exists():
            raise pytest.UsageError(
                f"--energy-budget takes no value, but {str(value)!r} follows it. A limit goes into the marker,"
                f" @pytest.mark.{MARKER}(energy_per_query={str(value)!r}), or into pyproject.toml;"
                " a limit for the whole session is --energy-total."
            )


def may_have_settings(config: pytest.Config, items: Sequence[pytest.Item] = ()) -> bool:
    """Whether a pyproject.toml may hold settings of ours, for ``items`` or for what is asked for."""
    return mentioned(where_from(config, items))


def selects(config: pytest.Config, key: str, given: dict[str, Any]) -> bool:
    """Whether --energy-only or --energy-skip holds: by option, or by its TOML twin where neither option is given."""
    measuring = ledger_of(config).session
    if "only" in given or "skip" in given:
        return key in given
    return measuring is not None and bool(getattr(measuring.settings, key))
