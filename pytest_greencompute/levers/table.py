"""The table of levers: our rows, those of other packages, and the smaller models that the user names."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence

from pytest_greencompute.advising.levers import Setting, chosen
from pytest_greencompute.errors import CannotError, SettingsError
from pytest_greencompute.levers import export, generation, queries, runtime
from pytest_greencompute.levers.changed import Changed, LeverRow
from pytest_greencompute.levers.smaller import Candidates, rows_of
from pytest_greencompute.machine.alarm import at_most
from pytest_greencompute.measuring.task import Task

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

ENTRY_POINTS = "greencompute.levers"
VALUES_S = 60.0  # that a row may take to find its values: it may call models


def rows(names: Iterable[str] | None, candidates: Candidates) -> tuple[LeverRow, ...]:
    """The rows of the levers of these names, or of all that are tried unasked, in the order in which they are applied.

    Another model comes first, since the others are applied to it, and what is around a model last. Raises SettingsError for a name that
    is unknown, for candidates that are no models by name, and for an entry point that gives no row.
    """
    if not isinstance(candidates, Mapping) or not all(isinstance(name, str) and callable(each) for name, each in candidates.items()):
        raise SettingsError("candidates must be named models.", remedy="Pass a dict such as {'small': g}.")
    instead, before = rows_of(candidates)
    known = (instead, *queries.ROWS, *generation.ROWS, *runtime.ROWS, *export.ROWS, *_of_others(), before, *queries.AROUND)
    kept = {each.name for each in chosen(names, [row.lever for row in known])}
    return tuple(row for row in known if row.lever.name in kept)


def _of_others() -> list[LeverRow]:
    found = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            row = entry.load()
        except Exception as error:
            said = f"The lever {entry.name!r} does not load: {type(error).__name__}: {error}."
            raise SettingsError(said, remedy="Update or uninstall its package.") from error
        if not isinstance(row, LeverRow):
            raise SettingsError(
                f"The entry point {entry.name!r} of {ENTRY_POINTS} gives a {type(row).__name__}.",
                remedy="It must be a LeverRow.",
            )
        found.append(row)
    return found


def settings_of(table: Sequence[LeverRow], task: Task) -> tuple[tuple[Setting, ...], dict[str, str]]:
    """What is worth trying on a task, and by lever why the others are not."""
    found: list[Setting] = []
    refused: dict[str, str] = {}
    for row in table:
        try:
            with at_most(VALUES_S, CannotError(f"what to try was not known within {VALUES_S:.0f} s")):
                values = row.values(Changed(task))
        except CannotError as error:
            refused[row.lever.name] = error.message
        except Exception as error:  # noqa: BLE001  a row may be anybody's, and so is the model that it calls
            refused[row.lever.name] = f"it raised {type(error).__name__}: {error}"
        else:
            found += [Setting(row.lever, value) for value in values]
            if not values:
                refused[row.lever.name] = "there is no other value to try"
    return tuple(found), refused
