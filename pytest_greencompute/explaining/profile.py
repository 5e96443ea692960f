"""What one side was seen to do, in passes over its queries: where its time went, at several levels, and what it was asked for.

Everything is per query and SI. Seconds are *own* seconds, without those of the rows inside, so that the rows of a level add up; what is
left of a pass stands in none of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pytest_greencompute.errors import SettingsError

LevelKind = Literal["modules", "operators", "functions"]
Ticking = Literal["cpu", "wall", "device"]
How = Literal["time", "replay"]  # what a row's share of a pass is told by
KINDS: tuple[LevelKind, ...] = ("modules", "operators", "functions")
CLOCKS: tuple[Ticking, ...] = ("cpu", "wall", "device")
OUTSIDE = "outside of modules"  # the row of a level of modules for tokenising, copying, Python
MODULES = "torch modules"  # of a level of functions, for what lies below a call of a module
OVER = 1e-6  # of a pass, by which its rows may exceed it: rounding


def ticking_of(domains: Iterable[str]) -> Ticking:
    """The clock that a meter of these domains pays for: a GPU's own, where there is one."""
    return "device" if any(each.startswith("gpu") for each in domains) else "cpu"


@dataclass(frozen=True, slots=True)
class Factor:
    """One fact of how the queries were worked through: a number per query where ``unit`` says so, or a text ("bfloat16").

    Raises SettingsError for a number that is negative or not finite.
    """

    name: str
    value: float | str
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.name or (not isinstance(self.value, str) and not (math.isfinite(self.value) and self.value >= 0)):
            raise SettingsError(f"The factor {self.name!r} is {self.value!r}.", remedy="It must be a text, or finite and not negative.")


@dataclass(frozen=True, slots=True)
class Joules:
    """What the meter read, and its standard error. Raises SettingsError for what no work uses."""

    mean: float
    error: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and self.mean > 0 and math.isfinite(self.error) and self.error >= 0):
            raise SettingsError(f"The meter read {self.mean!r} J, give or take {self.error!r} J.", remedy="It must be above zero.")

    @property
    def relative(self) -> float:
        """The error as a part of the mean."""
        return self.error / self.mean


@dataclass(frozen=True, slots=True)
class Cost:
    """One row of a level: its own seconds per query on the level's clock, one for each repeated pass, and its calls per query (None: not
    counted).

    ``flops`` are its own per query, ``operators`` those of torch (None: not counted); ``inside`` is the name of the row that it lies in,
    empty for none. ``dtype``, ``device`` and ``shape`` are those of the work, several joined with ", ". ``replayed``: of one call of it,
    repeated alone under the meter (None: it was not). Raises SettingsError for what no work takes.
    """

    name: str
    seconds: tuple[float, ...]
    calls: float | None = None
    flops: float | None = None
    inside: str = ""
    dtype: str = ""
    device: str = ""
    shape: str = ""
    operators: float | None = None
    replayed: Joules | None = None

    def __post_init__(self) -> None:
        numbers = (*self.seconds, self.calls or 0.0, self.flops or 0.0, self.operators or 0.0)
        if not self.name or self.name == self.inside or not all(math.isfinite(each) and each >= 0 for each in numbers):
            raise SettingsError(f"The row {self.name!r} has {self.calls!r} calls and {self.seconds!r} s.", remedy="They must be finite.")

    @property
    def mean_s(self) -> float:
        """Seconds per query."""
        return statistics.fmean(self.seconds) if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Level:
    """All rows of one kind, by different names. ``seconds`` are those of the whole pass, per query, one for each repeated pass; ``clock``
    is "cpu" (all threads of the process), "wall" or "device". ``notes``: what could not be told apart, and why. ``metered``: of a pass
    per query, by the meter under which rows were replayed.

    Raises SettingsError where there is no pass, a row has not as many passes, or the rows exceed the pass.
    """

    kind: LevelKind
    clock: Ticking
    seconds: tuple[float, ...]
    costs: tuple[Cost, ...] = ()
    notes: tuple[str, ...] = ()
    metered: Joules | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.clock not in CLOCKS:
            raise SettingsError(f"{self.kind!r} by {self.clock!r} is no level.", remedy=f"Kinds: {KINDS}; clocks: {CLOCKS}.")
        if not self.seconds or not all(math.isfinite(each) and each > 0 for each in self.seconds):
            raise SettingsError(f"The passes of {self.kind} took {self.seconds!r} s.", remedy="One pass at least, each longer than zero.")
        names = [each.name for each in self.costs]
        if len(set(names)) < len(names):
            raise SettingsError(f"Two rows of {self.kind} have one name.")
        if any(len(each.seconds) != len(self.seconds) for each in self.costs):
            raise SettingsError(f"A row of {self.kind} has not one figure for each of the {len(self.seconds)} passes.")
        for index, whole in enumerate(self.seconds):
            if math.fsum(each.seconds[index] for each in self.costs) > whole * (1 + OVER):
                raise SettingsError(f"The rows of {self.kind} exceed their pass.", remedy="Scale them to it: rows never exceed the pass.")


@dataclass(frozen=True, slots=True)
class Profile:
    """One side. ``notes``: what could not be seen, and why. ``queries``: how many a pass had; ``counted``: over how many the factors
    were counted (0: not told). Raises SettingsError for two levels of a kind, or two factors of a name.
    """

    factors: tuple[Factor, ...] = ()
    levels: tuple[Level, ...] = ()
    notes: tuple[str, ...] = ()
    queries: int = 0
    counted: int = 0

    def __post_init__(self) -> None:
        for what, names in (("levels", [each.kind for each in self.levels]), ("factors", [each.name for each in self.factors])):
            if len(set(names)) < len(names):
                raise SettingsError(f"A profile has two {what} of one name: {sorted(names)}.")

    def level(self, kind: LevelKind) -> Level | None:
        """The level of that kind; None where there is none."""
        return next((each for each in self.levels if each.kind == kind), None)

    def factor(self, name: str) -> float | str | None:
        """The value of a factor; None where it is not known."""
        return next((each.value for each in self.factors if each.name == name), None)
