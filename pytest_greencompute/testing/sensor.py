"""How a GPU's power sensor behaves, in one description that the Python simulation and the C stand-in both follow.

The rule, in the order in which a sensor applies it:

1. The *sensed* power follows the true power, at once or (``rise_s``) with a first-order delay.
2. At tick k, at ``phase_s + k * update_s`` after the sensor's start (moved by up to ``jitter_s``), the sensor takes the mean of the
   sensed power over the last ``window_s`` seconds, times ``gain``, plus ``offset_w``, and never below zero. That is the power field until
   the next tick. A window shorter than the update period sees only a part of the time; a longer one is a running mean.
3. The energy counter grows, at the tick, by that power times the time since the tick before, and stands still until the next tick. So it
   inherits whatever the power field does not see. (Whether real counters do is open; a measurement must be right in either case.)
4. Both are shown rounded down to their quantum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_greencompute.errors import SettingsError

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Sensor:
    """One power sensor. Times in seconds, power in watts, energy in joules.

    ``update_s`` period of the ticks, ``window_s`` averaging window, ``gain`` and ``offset_w`` its error, ``quantum_j`` and ``quantum_w``
    the steps of counter and power field, ``jitter_s`` the most by which a tick is early or late, ``rise_s`` the time constant of the
    sensed power (63 % of a jump after that time), ``has_counter`` whether there is an energy counter, ``phase_s`` when the first tick
    falls, ``read_s`` what one read costs.

    Invariant: all finite; update, window, gain and quanta positive; jitter below half an update, so that ticks keep their order; nothing
    else but ``offset_w`` negative.
    """

    update_s: float
    window_s: float
    gain: float = 1.0
    offset_w: float = 0.0
    quantum_j: float = 0.001
    quantum_w: float = 0.001
    jitter_s: float = 0.0
    rise_s: float = 0.0
    has_counter: bool = True
    phase_s: float = 0.0
    read_s: float = 0.00005

    def __post_init__(self) -> None:
        for name in ("update_s", "window_s", "gain", "quantum_j", "quantum_w"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise SettingsError(f"A sensor's {name} is {value!r}.", remedy="It must be finite and positive.")
        for name in ("jitter_s", "rise_s", "phase_s", "read_s"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise SettingsError(f"A sensor's {name} is {value!r}.", remedy="It must be finite and not negative.")
        if not math.isfinite(self.offset_w):
            raise SettingsError(f"A sensor's offset_w is {self.offset_w!r}.", remedy="It must be finite.")
        if self.update_s < 1e-6:
            raise SettingsError(f"A sensor's update_s is {self.update_s!r}.", remedy="It must be at least a microsecond.")
        if self.jitter_s >= self.update_s / 2:
            raise SettingsError(f"A jitter of {self.jitter_s:g} s would put ticks {self.update_s:g} s apart out of order.")

    def tick_ns(self, index: int) -> int:
        """When tick ``index`` (from 0; negative ones lie before the start) falls, in nanoseconds after the sensor's start."""
        nominal = _nanoseconds(self.phase_s) + index * _nanoseconds(self.update_s)
        if self.jitter_s == 0:
            return nominal
        return nominal + math.floor((2 * _uniform(index) - 1) * self.jitter_s * 1e9)

    def shown_w(self, mean_w: float) -> float:
        """The power in watts that the sensor makes of a mean sensed power, before rounding down."""
        return max(0.0, mean_w * self.gain + self.offset_w)

    def as_field_w(self, watts: float) -> float:
        """``watts`` as the power field shows it."""
        return _rounded_down(watts, self.quantum_w)

    def as_counter_j(self, joules: float) -> float:
        """``joules`` as the energy counter shows it."""
        return _rounded_down(joules, self.quantum_j)


def _nanoseconds(seconds: float) -> int:
    return math.floor(seconds * 1e9 + 0.5)


def _rounded_down(value: float, quantum: float) -> float:
    # The small term keeps a value that is a whole number of steps, but for rounding of floats, on its step.
    return math.floor(value / quantum + 1e-6) * quantum


def _uniform(index: int) -> float:
    """A number in [0, 1) that depends on ``index`` alone (the SplitMix64 mixing, Steele et al., OOPSLA 2014), so that C gives the same."""
    z = (index * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((z ^ (z >> 31)) >> 11) / float(1 << 53)


PROFILES: Mapping[str, Sensor] = MappingProxyType(
    {
        "V100": Sensor(update_s=0.020, window_s=0.010),
        "T4": Sensor(update_s=0.100, window_s=0.100),
        "A100": Sensor(update_s=0.100, window_s=0.025),
        "H100": Sensor(update_s=0.100, window_s=0.025),
        "RTX 3090": Sensor(update_s=0.100, window_s=0.100),
        "RTX 4090": Sensor(update_s=0.100, window_s=1.000),
    }
)
"""Sensors of real GPUs, from arXiv 2312.02741 and its result matrix: update period and averaging window.

H100 and RTX 3090 are their ``power.draw.instant``, RTX 4090 is its ``power.draw``, a running mean over one second, as the hardest case
for a counter: energy goes on arriving after the work. The gain is 1 everywhere, since the real error (-5.5 % to +11 %) belongs to a card,
not to a model: ``dataclasses.replace(PROFILES["A100"], gain=0.945)``.
"""
