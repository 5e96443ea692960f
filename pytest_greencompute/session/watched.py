"""A model that a test watches: ``energy_meter.watch``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.estimates.estimate import Estimate, Missing
from pytest_greencompute.estimates.watched import energy_of
from pytest_greencompute.models.watching import WatchedModel, watched
from pytest_greencompute.session.checks import Asking, check_name

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


def watch(asking: Asking, function: Callable[..., Any], name: str | None, tokens: object, reasoning: Sequence[str] | None) -> WatchedModel:
    """``function``, whose calls are counted from now on. Raises SettingsError."""
    test = asking.test
    if name is not None:
        check_name(name, "a watched model", "name='large'")
    markers = asking.markers(reasoning)
    made = watched(function, asking.mode.clock, name=name, tokens=tokens, reasoning=markers, energy=lambda model: _energy(asking, model))
    taken = [each.watched_name for each in test.watched]
    if made.watched_name in taken and name is not None:
        raise SettingsError(f"This test watches a model named {name!r} already.", remedy="Give each a name of its own.")
    plain, number = made.watched_name, 2
    while made.watched_name in taken:
        made.watched_name, number = f"{plain} {number}", number + 1
    test.watched.append(made)
    return made


def _energy(asking: Asking, model: WatchedModel) -> Estimate:
    test = asking.test
    if not asking.mode.metered:
        asking.unmetered("the energy of a watched model")
    aim = asking.mode.aim(test)
    windows = [window.raw() for window in test.windows if window.closed]
    found = energy_of([*test.runs, *windows], test.watched.index(model), aim)
    if isinstance(found, Missing):
        raise MeterError(f"There is no energy of {model.watched_name}: {found.reason}.")
    return found
