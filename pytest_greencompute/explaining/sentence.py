"""How places and joules of an explanation are written."""

from __future__ import annotations

from pytest_greencompute.explaining.difference import LevelDifference, Place
from pytest_greencompute.values.units import ENERGY, show


def called(place: Place, level: LevelDifference) -> str:
    """'encoder.layer.* (12 alike)': without the class of the outermost module, where there is but one."""
    more = f" ({place.alike} alike)" if place.alike > 1 else ""
    return f"{level.short(place.name)}{' itself' if place.own else ''}{more}"


def signed(joules: float) -> str:
    """'+0.86 J'."""
    return f"{'+' if joules >= 0 else '-'}{show(abs(joules), ENERGY)}"
