"""What a regression of head against base is, and how sure a verdict on it must be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.by_other_run import largest_fine
from pytest_greencompute.stats.looks import share
from pytest_greencompute.values.metrics import Better
from pytest_greencompute.values.units import whole


@dataclass(frozen=True, slots=True)
class Rule:
    """What a regression is, and how sure a verdict must be.

    ``tolerance`` is the share by which head may be worse (0.05: 5 %), ``floor`` the difference that does not matter, in the unit of
    the samples; a FAIL is beyond both. At a true ratio right at the tolerance, PASS has a probability of at most
    (1 - ``confidence``) / 2, and FAIL of that divided by ``budgets``, the number of verdicts in which a FAIL would be an alarm.
    Raises SettingsError for values that make no sense.
    """

    tolerance: float = 0.05
    confidence: float = 0.99
    better: Better = "lower"
    floor: float = 0.0
    budgets: int = 1

    def __post_init__(self) -> None:
        for name in ("tolerance", "floor"):
            value = getattr(self, name)
            if not is_number(value) or value < 0:
                raise SettingsError(f"{name} is {value!r}.", remedy="Write a number that is not negative, like 0.05 for 5 %.")
        if not is_number(self.confidence) or not 0 < self.confidence < 1:
            raise SettingsError(f"confidence is {self.confidence!r}.", remedy="Write it like 0.99.")
        if self.better not in {"lower", "higher"}:
            raise SettingsError(f"better is {self.better!r}.", remedy="Write 'lower' or 'higher'.")
        object.__setattr__(self, "budgets", count_of("budgets", self.budgets))

    @property
    def pass_error(self) -> float:
        return (1 - self.confidence) / 2

    @property
    def fail_error(self) -> float:
        return share(self.pass_error, 1, budgets=self.budgets)

    def change(self, base: float, head: float) -> float:
        """The logarithm of how many times worse ``head`` is."""
        worse = math.log(head) - math.log(base)
        return worse if self.better == "lower" else -worse

    def limit(self, level: float) -> float:
        """The largest ratio that is fine, ``level`` being the base's figure."""
        return largest_fine(self.tolerance, floor=self.floor, level=level, better=self.better)


def rule_of(tolerance: float, confidence: float, better: Better, floor: float, budgets: int) -> Rule:
    """A rule as people write it: a tolerance of 1 or 5 is meant as per cent, and is none."""
    rule = Rule(tolerance, confidence, better, floor, budgets)
    if tolerance >= 1:
        raise SettingsError(f"tolerance is {tolerance!r}, which is {100 * tolerance:g} %.", remedy="Write a share, like 0.05 for 5 %.")
    return rule


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count_of(name: str, value: object) -> int:
    count = whole(value)
    if count is None:
        raise SettingsError(f"{name} is {value!r}.", remedy="Write a whole number, at least 1.")
    return count
