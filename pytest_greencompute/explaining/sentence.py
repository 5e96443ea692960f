"""What a failure says of an explanation: one line."""

from __future__ import annotations

from pytest_greencompute.explaining.difference import LevelDifference, Place
from pytest_greencompute.explaining.explanation import Explanation
from pytest_greencompute.values.units import ENERGY, show, show_share


def where(explanation: Explanation) -> str:
    """'Where: encoder.layer.*.intermediate (12 alike): +0.86 J of +0.92 J [88 %, 99 %]; now float32, was bfloat16.' Empty where no place
    can be named.
    """
    if not explanation.risen.certain:
        return ""
    level = next((each for each in explanation.levels if each.places), None)
    if level is None:
        return ""
    place = level.places[0]
    of, share = explanation.risen.difference_j, _share(place, explanation)
    return f"Where: {called(place, level)}: {signed(place.difference_j)} of {signed(of)}{share}{_become(place)}."


def called(place: Place, level: LevelDifference) -> str:
    """'encoder.layer.* (12 alike)': without the class of the outermost module, where there is but one."""
    outer = {each.name for each in level.tree}
    name = place.name
    head, dot, rest = name.partition(".")
    if level.kind == "modules" and dot and len(outer) <= 2 and head in outer:  # it and what is outside of modules
        name = rest
    more = f" ({place.alike} alike)" if place.alike > 1 else ""
    return f"{name}{' itself' if place.own else ''}{more}"


def signed(joules: float) -> str:
    """'+0.86 J'."""
    return f"{'+' if joules >= 0 else '-'}{show(abs(joules), ENERGY)}"


def _share(place: Place, explanation: Explanation) -> str:
    of = explanation.risen.difference_j
    ends = sorted(end / of for end in (place.low, place.high))
    return f" [{show_share(max(ends[0], 0.0))}, {show_share(ends[1])}]"


def _become(place: Place) -> str:
    """What it is now and was not."""
    said = []
    if place.state:
        said.append("it is new" if place.state == "new" else "it is gone")
    for was, now in (place.dtype, place.device):
        if was and now and was != now:
            said.append(f"now {now}, was {was}")
    was_called, now_called = place.calls
    if not place.state and was_called and now_called and abs(now_called / was_called - 1) > 0.01:
        said.append(f"{now_called / was_called:.3g} times as many calls")
    return f"; {', '.join(said)}" if said else ""
