"""How a GPU shows its power, in one description that the Python simulation and the C stand-in both follow.

A GPU has one true power curve and up to five *channels* that are derived from it, each by a ``Sensor`` of its own: the energy counter
(``nvmlDeviceGetTotalEnergyConsumption``), ``draw`` (``nvmlDeviceGetPowerUsage``), ``average`` and ``instant`` (the fields 185 and 186 of
``nvmlDeviceGetFieldValues``), and ``module`` (field 186 of the scope 1). ``Sensors`` holds those of one GPU.

The rule, in the order in which a channel applies it:

1. The *sensed* power follows the true power, at once or (``rise_s``) with a first-order delay.
2. At tick k, at ``phase_s + k * update_s`` after the GPU's start (moved by up to ``jitter_s``), the channel takes the mean of the
   sensed power over the last ``window_s`` seconds, times ``gain``, plus ``offset_w``, and never below zero. A power field shows that until
   the next tick. A window shorter than the update period sees only a part of the time; a longer one is a running mean.
3. The energy counter grows, at the tick, by that power times the time since the tick before, and stands still until the next tick. With
   a window as long as the period it counts all energy; with a shorter one it inherits what a power field of that window does not see.
4. All are shown rounded down to their quantum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.values.powers import PowerField

_MASK = (1 << 64) - 1
FieldName = Literal["draw", "average", "instant", "module"]
POWER_FIELDS: Mapping[FieldName, PowerField] = {  # those that a counter is held against, as a driver shows them
    "draw": PowerField("draw"),
    "instant": PowerField("instant", window_s=0.1),
    "module": PowerField("instant", "module", window_s=0.1),
}


@dataclass(frozen=True, slots=True)
class Sensor:
    """What one channel does with the true power. Times in seconds, power in watts, energy in joules.

    ``update_s`` period of the ticks, ``window_s`` averaging window, ``gain`` and ``offset_w`` its error, ``quantum_j`` the step of a
    counter and ``quantum_w`` that of a power field, ``jitter_s`` the most by which a tick is early or late, ``rise_s`` the time constant
    of the sensed power (63 % of a jump after that time), ``phase_s`` when the first tick falls, ``read_s`` what one read costs,
    ``read_busy`` whether the reader's CPU works all that time instead of waiting (a simulated clock has no CPU: there it is all the same).

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
    phase_s: float = 0.0
    read_s: float = 0.00005
    read_busy: bool = False

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
        """When tick ``index`` (from 0; negative ones lie before the start) falls, in nanoseconds after the GPU's start."""
        nominal = _nanoseconds(self.phase_s) + index * _nanoseconds(self.update_s)
        if self.jitter_s == 0:
            return nominal
        return nominal + math.floor((2 * _uniform(index) - 1) * self.jitter_s * 1e9)

    def shown_w(self, mean_w: float) -> float:
        """The power in watts that the channel makes of a mean sensed power, before rounding down."""
        return max(0.0, mean_w * self.gain + self.offset_w)

    def as_field_w(self, watts: float) -> float:
        """``watts`` as the power field shows it."""
        return _rounded_down(watts, self.quantum_w)

    def as_counter_j(self, joules: float) -> float:
        """``joules`` as the energy counter shows it."""
        return _rounded_down(joules, self.quantum_j)


@dataclass(frozen=True, slots=True)
class Sensors:
    """The channels of one GPU; None is one that the GPU does not have, and refuses as real ones do (``average`` before Ampere).

    ``module`` is the instant power of the module that the GPU is a part of: what is beside it there is the ``offset_w``. A GPU without a
    counter, whose energy can only be summed from its power: ``Sensors(None, Sensor(0.1, 1.0))``.
    """

    counter: Sensor | None
    draw: Sensor
    average: Sensor | None = None
    instant: Sensor | None = None
    module: Sensor | None = None

    @classmethod
    def alike(cls, sensor: Sensor) -> Sensors:
        """The four channels of a GPU alone behave as ``sensor`` does: a counter that inherits whatever the power fields do not see."""
        return cls(sensor, sensor, sensor, sensor)

    def each(self, **changes: Any) -> Sensors:
        """The same change on every channel, such as a card's gain: ``PROFILES["A100"].each(gain=0.945)``."""
        return Sensors(*(channel and replace(channel, **changes) for channel in self.channels.values()))  # type: ignore[arg-type]

    @property
    def channels(self) -> Mapping[str, Sensor | None]:
        """All by name, in the order that the C stand-in numbers them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def sensors_of(sensor: Sensor | Sensors) -> Sensors:
    """A single sensor as the channels of a GPU, all alike; ``Sensors`` as they are."""
    return sensor if isinstance(sensor, Sensors) else Sensors.alike(sensor)


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


def _whole(update_s: float, window_s: float) -> Sensors:
    """A GPU of GA100's generation or before: one behaviour, and no ``average`` (nvml.h gives it to Ampere except GA100, and newer)."""
    sensor = Sensor(update_s, window_s)
    return Sensors(counter=sensor, draw=sensor, average=None, instant=sensor)


_MEAN = Sensor(update_s=0.100, window_s=1.000)
_FULL = Sensor(update_s=0.100, window_s=0.100)
_CONSUMER = Sensors(counter=_FULL, draw=_MEAN, average=_MEAN, instant=_FULL)
_H100_READ_W_S = 0.000002
PROFILES: Mapping[str, Sensors] = MappingProxyType(
    {
        "V100": _whole(0.020, 0.010),
        "T4": _whole(0.100, 0.100),
        "A100": _whole(0.100, 0.025),
        "H100": Sensors(
            counter=replace(_FULL, read_s=0.0024, read_busy=True),
            draw=replace(_MEAN, read_s=_H100_READ_W_S, read_busy=True),
            average=replace(_MEAN, read_s=_H100_READ_W_S, read_busy=True),
            instant=Sensor(update_s=0.100, window_s=0.025, read_s=_H100_READ_W_S, read_busy=True),
        ),
        "RTX 3090": _CONSUMER,
        "RTX 4090": _CONSUMER,
    }
)


"""The channels of real GPUs: update period and averaging window.

Power fields: arXiv 2312.02741 and its result matrix; which GPUs have ``average``: nvml.h. Those of the RTX 3090 also agree with real
traces (``benchmarks/truth/traces.py``).

Counters: that of the H100 was measured (H100 80GB HBM3, driver 580.159, 2026-11-24): it ticks every 100 ms and counts all of the time,
and a read costs 2.4 ms of CPU (median; 16 ms at the 99th percentile, which is not simulated) where one of a power field costs 2 us. For no
other GPU is it known, so theirs are **assumptions**: V100 and A100 inherit the part-time sampling of their power fields, which is the hard
case for a measurement; T4, RTX 3090 and RTX 4090 count all of the time.

The gain is 1 everywhere, since the real error (-5.5 % to +11 %) belongs to a card, not to a model: ``PROFILES["A100"].each(gain=0.945)``.
How the ticks of a GPU's channels lie to each other is not known either; here all fall together (``phase_s`` moves one).
"""
