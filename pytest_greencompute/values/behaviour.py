"""How a device's counter behaves, as one process has seen it: what others that read the same device need not find out again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_greencompute.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The counter of ``domain`` on the device ``uuid``: period and jitter of its ticks, its lag, in seconds, and whether it sees all of the
    time (None: nobody has looked). A read takes ``read_s``. ``doubt_s`` is the standard error of ``tick_s`` (None: not known).

    ``lag_shown``: work has drawn enough to show a lag; where none has yet, ``idle_w`` is the idle power that the next is held against.
    Raises SettingsError for what no counter does.
    """

    domain: str
    uuid: str
    tick_s: float
    jitter_s: float
    lag_s: float
    whole: bool | None = None
    read_s: float = 0.0
    doubt_s: float | None = None
    lag_shown: bool = False
    idle_w: float | None = None

    def __post_init__(self) -> None:
        times = (self.tick_s, self.jitter_s, self.lag_s, self.read_s, self.doubt_s or 0.0, self.idle_w or 0.0)
        if not all(math.isfinite(each) and each >= 0 for each in times) or self.tick_s == 0 or bool in map(type, times):
            raise SettingsError(f"A counter of {self.domain} was said to tick every {self.tick_s!r} s.")
