"""What a device shows of its power beside its energy counter. Frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.values.readings import check_finite

Scope = Literal["gpu", "module"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
MAY_COVER_MODULE, COVERS_MODULE = "the counter may cover the whole module", "the counter covers the whole module"
DISAGREE = "counter and power disagree"  # what `allow` calls it


@dataclass(frozen=True, slots=True)
class PowerField:
    """One field in which a device shows its power: that of the ``gpu``, or of the whole ``module`` that it is a part of.

    ``window_s``: it is a mean over so long, at most. Invariant: finite and not negative.
    """

    name: str
    scope: Scope = "gpu"
    window_s: float = 1.0

    def __post_init__(self) -> None:
        check_finite("The averaging window of a power field", self.window_s)
        if self.window_s < 0 or self.scope not in SCOPES:
            raise SettingsError(f"A power field makes no sense: {self}.")
