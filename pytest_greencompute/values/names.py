"""Names that people write and read: of the figures that can be counted, the nearest to one that is unknown, and some of many."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.values.metrics import METRICS

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

NAMES = tuple(metric.name for metric in METRICS.values() if metric.kind == "compute")


def checked_count(count: Iterable[str] | str) -> tuple[str, ...]:
    """The names of what is to be counted. Raises SettingsError, with the nearest, for one that is unknown."""
    names = (count,) if isinstance(count, str) else count
    if not isinstance(names, Iterable):
        raise SettingsError(f"count is {count!r}.", remedy=f"Pass a list of names out of {', '.join(NAMES)}.")
    listed = tuple(names)
    for name in listed:
        if not isinstance(name, str):
            raise SettingsError(f"count has {name!r} in it.", remedy=f"Pass a list of names out of {', '.join(NAMES)}.")
        if name not in NAMES:
            raise unknown_key(name, NAMES, "figure that can be counted")
    return tuple(dict.fromkeys(listed))


def asked_by(limits: Iterable[str]) -> tuple[str, ...]:
    """What budgets on these metrics need to be counted."""
    wanted = set(limits)
    return tuple(name for name in NAMES if name in wanted)


def highest_percentile(limits: Iterable[str], least: float) -> float:
    """The highest percentile of a latency that has one of the limits, no lower than ``least``."""
    return max([least, *(METRICS[each].fraction or least for each in limits if METRICS[each].kind == "latency")])


def listed(names: Sequence[str], most: int) -> str:
    """Some names in a sentence, ``most`` of them by name: 'a, b and 3 more'."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def unknown_key(key: object, known: Sequence[str], what: str) -> SettingsError:
    """The error for a name that is none of ``known``, with the nearest that is."""
    key = str(key)  # a marker may hold any key
    near = sorted(difflib.get_close_matches(key, known, n=3, cutoff=0.5), key=lambda each: (-_likeness(key, each), known.index(each)))
    remedy = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
    return SettingsError(f"{key!r} is not a {what}.", remedy=remedy)


def _likeness(one: str, other: str) -> float:
    """Of names that are as near, the one that stands first in its table is meant."""
    return difflib.SequenceMatcher(None, other, one).ratio()
