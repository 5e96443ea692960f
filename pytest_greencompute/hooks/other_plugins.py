"""What other plugins do to measuring: time limits that end it, tracers that make it dearer, seeds that both sides must share.

Each is asked for what it shows in public: its options, its hooks, its markers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.tracers import tracers
from pytest_greencompute.settings.settings import Settings


def check_tracers(settings: Settings) -> None:
    """Raises SettingsError for what must not be done while coverage, a debugger or a profiler watches: it would be wrong for long."""
    watching = ", ".join(tracers())
    if not watching:
        return
    remedy = "Run it without" + (" (--no-cov switches pytest-cov off)." if "coverage" in watching else ".")
    if settings.base_refs:
        raise SettingsError(
            f"--energy-base-ref compares with a process that {watching} does not watch: what it costs here would look like a regression.",
            remedy=remedy,
        )
    if settings.update is not None:
        raise SettingsError(f"--energy-update would write limits that hold what {watching} costs.", remedy=remedy)


def time_limit(item: pytest.Item) -> float | None:
    """Seconds after which pytest-timeout ends the test; None where it does not."""
    config = item.config
    if not hasattr(config.hook, "pytest_timeout_set_timer"):
        return None
    marker = item.get_closest_marker("timeout")
    limits = [marker.kwargs.get("timeout", next(iter(marker.args), None))] if marker is not None else []
    limits += [config.getoption("timeout", None), os.environ.get("PYTEST_TIMEOUT"), config.getini("timeout")]
    try:
        seconds = next((float(each) for each in limits if each is not None and each != ""), 0.0)
    except (TypeError, ValueError):
        return None  # pytest-timeout says itself what is wrong with it
    return seconds or None


def short_limits(items: Iterable[pytest.Item], max_seconds: Callable[[pytest.Item], float]) -> str:
    """A sentence where one of the tests may be ended while it is measured; empty where none may. ``max_seconds`` says of each how long
    it may be measured.
    """
    limited = [(item, limit) for item in items if (limit := time_limit(item)) is not None]
    short = [(item, limit, most) for item, limit in limited if limit <= (most := max_seconds(item))]
    if not short:
        return ""
    item, limit, most = short[0]
    others = f", and so may {len(short) - 1} more" if len(short) > 1 else ""
    return (
        f"energy: {item.nodeid} may be measured for {most:g} s (max_seconds), and pytest-timeout ends it after {limit:g} s{others}."
        " Raise the timeout, or lower max_seconds."
    )


def side_options(config: pytest.Config) -> tuple[str, ...]:
    """What the process of another side is to be told, so that its plugins and queries are the same: the seed of pytest-randomly."""
    seed = getattr(config.option, "randomly_seed", None)
    if not isinstance(seed, int):
        return _plugins(config)
    kept = () if config.option.randomly_reset_seed else ("--randomly-dont-reset-seed",)
    return (*_plugins(config), f"--randomly-seed={seed}", *kept)


def _plugins(config: pytest.Config) -> tuple[str, ...]:
    """Which plugins to load and which not, as far as ``-p`` says it: a test may use their fixtures."""
    off = ("--disable-plugin-autoload",) if getattr(config.option, "disable_plugin_autoload", False) else ()  # since pytest 8.4
    return (*off, *(f"-p{name}" for name in config.option.plugins if not name.startswith("pytest_greencompute.hooks.")))
