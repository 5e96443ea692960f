"""What a failure says of an explanation: one line."""

from __future__ import annotations

from pytest_greencompute.explaining.blaming import blamed
from pytest_greencompute.explaining.difference import LevelDifference, Place
from pytest_greencompute.explaining.explanation import Explanation
from pytest_greencompute.values.units import ENERGY, show


def where(explanation: Explanation) -> str:
    """'Where: encoder.layer.*.intermediate (12 alike): +0.86 J of +0.92 J [88 %, 99 %]; now float32, was bfloat16.' Empty where no place
    can be named.
    """
    found = blamed(explanation)
    return f"Where: {found[0].text}." if found else ""


def called(place: Place, level: LevelDifference) -> str:
    """'encoder.layer.* (12 alike)': without the class of the outermost module, where there is but one."""
    more = f" ({place.alike} alike)" if place.alike > 1 else ""
    return f"{level.short(place.name)}{' itself' if place.own else ''}{more}"


def signed(joules: float) -> str:
    """'+0.86 J'."""
    return f"{'+' if joules >= 0 else '-'}{show(abs(joules), ENERGY)}"
