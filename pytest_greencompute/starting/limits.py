"""First limits from a first measurement: headroom, rounded up to a number that reads well, and only for the hardware that was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.results.result import Figure, Result
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import ENERGY, TIME, Dimension, show, show_limit

TIMES = 3.0  # of what was measured: launches and machines of one kind differ by less
BEYOND = 1.5  # of the interval's bad end, where that is further
OF_ACCURACY = 0.95
# A batch this long meets other programs often enough for its p95 to hold a turn of theirs, and on a busy machine a turn is a few
# milliseconds; on a quiet one the few seconds of a first measurement see none.
INTERRUPTED_S, TURN_S = 0.0001, 0.02
STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
HELD_ON = ("energy_per_query", "latency_p95")  # what depends on the hardware


@dataclass(frozen=True, slots=True)
class FirstLimits:
    """What a test may use: ``limits`` where ``on`` (a hardware key and a name) matches, as they are to be written, and ``accuracy``
    anywhere. ``measured`` says in words what they follow from. Invariant: there is a limit of energy, and all of it can be printed."""

    on: tuple[str, str]
    limits: Mapping[str, str]
    measured: str
    accuracy: float | None = None

    def __post_init__(self) -> None:
        if HELD_ON[0] not in self.limits:
            raise SettingsError(f"First limits on {self.on[1]} have none of {HELD_ON[0]}.")
        if not all(map(str.isprintable, (*self.on, *self.limits.values(), self.measured))):
            raise SettingsError(f"First limits cannot be written: {self.on[1]!r} is no name to print.")


def limits_of(result: Result, session: Summary) -> FirstLimits | None:
    """The first limits of a test that was measured; None where there is no figure of its energy."""
    energy = result.metrics.get(HELD_ON[0])
    if energy is None or energy.high is None or energy.value <= 0:
        return None
    sources = [each for each in session.facts.sources if each.domain in energy.domain.split("+")]
    if not sources:
        return None
    gpus, meter = [each.device for each in sources if each.domain.startswith("gpu") and each.device], sources[0].meter
    on = ("gpu", gpus[0]) if gpus else ("meter", meter)
    figures = [(name, figure, METRICS[name].dimension) for name in HELD_ON if (figure := result.metrics.get(name)) is not None]
    accuracy = result.metrics.get("accuracy")
    device = gpus[0] if gpus else session.facts.machine.cpu or ""
    how = f"modelled by {meter}" if energy.method == "modelled" else f"measured by {meter}"
    said = ", ".join(_in_words(name, figure, dimension) for name, figure, dimension in figures)
    return FirstLimits(
        on,
        {name: _with_headroom(figure, dimension) for name, figure, dimension in figures},
        f"{said} ({how}, {printable(device)})",
        None if accuracy is None else _accuracy(accuracy.value),
    )


def readable_above(value: float, dimension: Dimension) -> str:
    """The next number above ``value`` (SI) that reads well, with its unit: 7.9 mJ is '8 mJ'."""
    power = 10.0 ** math.floor(math.log10(value))
    step = next((each for each in STEPS if each * power >= value * (1 - 1e-9)), 10.0)
    return show_limit(step * power, dimension).replace("µ", "u")  # as every keyboard has it


def printable(text: str) -> str:
    """``text`` in one line that ends no comment."""
    return "".join(char if char.isprintable() else " " for char in text).strip() or "unknown hardware"


def _with_headroom(figure: Figure, dimension: Dimension) -> str:
    high = figure.value if figure.high is None else figure.high
    least = TURN_S if dimension == TIME and figure.value > INTERRUPTED_S else 0.0
    return readable_above(max(TIMES * figure.value, BEYOND * high, least), dimension)


def _accuracy(value: float) -> float | None:
    limit = Decimal(str(value * OF_ACCURACY)).quantize(Decimal("0.01"), ROUND_DOWN)
    return float(limit) if limit > 0 else None


def _in_words(name: str, figure: Figure, dimension: Dimension) -> str:
    shown = show(figure.value, dimension)
    return f"{shown} per query" if dimension == ENERGY else f"{name.partition('_')[2]} {shown}"
