"""What Zeus answers, made into a figure or a MeterError: nothing that is missing, is no number or runs backwards passes for joules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.meters.base import trouble

STILL_S = 2.0  # as long as the measuring loop waits for a tick: whatever draws power at all has counted something by then
REMEDY = "Measure again; `python -m zeus.show_env` shows what Zeus can read here."


def figure(who: str, ask: Callable[[], Any], *, kind: type[MeterError] = MeterError) -> float:
    """The number that Zeus gives, finite and not negative. Raises ``kind`` for anything else."""
    with trouble(who, "be read", kind=kind, remedy=REMEDY):
        value = ask()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise kind(f"{who} was read as {value!r}, which is no amount.", remedy=REMEDY)
    return float(value)


class Rising:
    """Holds a counter to what it must do: it never falls, and does not stand still for longer than STILL_S where it ``always`` moves."""

    __slots__ = ("_always", "_last", "_since_ns", "_who")

    def __init__(self, who: str, *, always: bool = True) -> None:
        self._who = who
        self._always = always
        self._last = -1.0
        self._since_ns = 0

    def see(self, value: float, t_ns: int) -> None:
        """A reading. Raises MeterLostError for one that cannot be; after one that fell, readings count from there."""
        before, since_s = self._last, (t_ns - self._since_ns) / 1e9
        if value != before:
            self._last, self._since_ns = value, t_ns
        if value < before:
            raise MeterLostError(f"{self._who} ran backwards.", remedy="A driver reload or a reset does this; measure again.")
        if value == before and self._always and since_s > STILL_S:
            raise MeterLostError(f"{self._who} has stood still for {since_s:.1f} s.", remedy=REMEDY)
