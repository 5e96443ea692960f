"""How much memory there is: what tells whether one more model fits."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_greencompute.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the machine's memory or of a device's: ``used`` by whoever it is counted for, ``free``, and this process's ``own`` where
    that is told apart. Raises SettingsError for what no memory holds.
    """

    used: int
    free: int
    own: int = 0

    def __post_init__(self) -> None:
        if min(self.used, self.free, self.own) < 0:
            raise SettingsError(f"{self.used} B used and {self.free} B free are no memory.")
