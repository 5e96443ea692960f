"""A simulated clock, GPU and CPU, for testing one's own gates without hardware and without waiting.

The truth is known: power is what ``set_power`` said, and ``true_energy_j`` is its exact integral. What a counter shows is what a real
sensor of that kind would show (``sensor.py``). Hours of simulated time take seconds.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.meters.base import Condition, DeviceFacts
from pytest_greencompute.meters.integrate import PowerIntegrator
from pytest_greencompute.testing.sensor import POWER_FIELDS, PROFILES, FieldName, Sensor, Sensors, sensors_of
from pytest_greencompute.values.powers import PowerField
from pytest_greencompute.values.readings import Reading, Source

FAULTS: tuple[str, ...] = ("lost", "reset", "stuck", "throttled", "foreign", "slow read")


"""What can go wrong: reads fail; the counter restarts at zero (once); it stands still; the device slows down for heat; another process
works on the device; a read takes SLOW_READ_S."""


SLOW_READ_S = 0.3
_MARKS = {"throttled": "thermal slowdown", "foreign": "another process"}


class SimulatedClock:
    """A clock that moves only when it is told to: by ``sleep``, by ``advance_to``, and by what a simulated read costs.

    What ``every`` schedules runs while the clock moves, in order of time. It stands for background work, so a ``sleep`` inside it takes no
    time from the foreground: it returns at once.
    """

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self._now_ns = start_ns
        self._asleep_ns = 0
        self._queue: list[tuple[int, int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._cancelled: set[int] = set()
        self._in_background = False

    def now_ns(self) -> int:
        """Simulated monotonic time in nanoseconds."""
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        """Move the clock by ``seconds``; zero or less is no time at all."""
        if seconds > 0:
            self.advance_to(self._now_ns + max(1, round(seconds * 1e9)))

    def asleep_ns(self) -> int:
        """How long the simulated machine has been suspended."""
        return self._asleep_ns

    def suspend(self, seconds: float) -> None:
        """Suspend the machine: nothing happens for ``seconds`` that the monotonic clock does not see."""
        self._asleep_ns += round(seconds * 1e9)

    def advance_to(self, t_ns: int) -> None:
        """Move the clock to ``t_ns``, calling on the way what was due. A time that has passed is left alone."""
        if self._in_background:
            return
        queue = self._queue
        while queue and queue[0][0] <= t_ns:
            due_ns, order, period_ns, call = heapq.heappop(queue)
            if order in self._cancelled:
                self._cancelled.discard(order)
                continue
            self._now_ns = max(self._now_ns, due_ns)
            heapq.heappush(queue, (due_ns + period_ns, order, period_ns, call))
            self._in_background = True
            try:
                call()
            finally:
                self._in_background = False
        self._now_ns = max(self._now_ns, t_ns)

    def every(self, period_s: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call ``call`` every ``period_s`` seconds of simulated time until the returned function is called."""
        if not period_s > 0:
            raise SettingsError(f"A period of {period_s!r} s never passes.", remedy="It must be positive.")
        order, period_ns = next(self._order), max(1, round(period_s * 1e9))
        heapq.heappush(self._queue, (self._now_ns + period_ns, order, period_ns, call))

        def cancel() -> None:
            if any(entry[1] == order for entry in self._queue):
                self._cancelled.add(order)

        return cancel


class PowerCurve:
    """True power over time, constant between changes, with prefix sums, so that any integral costs one search.

    Before ``t_ns`` it was ``watts``, for ever. ``rise_s`` is the time constant of the sensed power.
    """

    def __init__(self, t_ns: int, watts: float, rise_s: float = 0.0) -> None:
        self._rise_s = rise_s
        # One nanosecond early, so that a change at t_ns itself does not rewrite what was before.
        self._t_ns = [t_ns - 1]
        self._watts = [_watts(watts)]
        self._energy_j = [0.0]
        # Sensed power and its integral where each segment begins; the same as the truth where there is no delay.
        self._sensed_w = [self._watts[0]]
        self._sensed_j = [0.0]

    def set_power(self, t_ns: int, watts: float) -> None:
        """The true power from ``t_ns`` on, in watts. Changes come in order of time; a second one at the same moment replaces the first."""
        watts = _watts(watts)
        if t_ns < self._t_ns[-1]:
            raise SettingsError("Power cannot be changed in the past.")
        if t_ns == self._t_ns[-1]:
            self._watts[-1] = watts
            return
        if watts == self._watts[-1]:
            return
        seconds = (t_ns - self._t_ns[-1]) / 1e9
        sensed_w, sensed_j = self._sensed_after(len(self._t_ns) - 1, seconds)
        self._energy_j.append(self._energy_j[-1] + self._watts[-1] * seconds)
        self._t_ns.append(t_ns)
        self._watts.append(watts)
        self._sensed_w.append(sensed_w)
        self._sensed_j.append(sensed_j)

    @property
    def watts(self) -> float:
        """The true power now, in watts."""
        return self._watts[-1]

    def energy_j(self, t0_ns: int, t1_ns: int) -> float:
        """The integral of the true power from ``t0_ns`` to ``t1_ns``, in joules."""
        return self._energy_until(t1_ns) - self._energy_until(t0_ns)

    def sensed_mean_w(self, t0_ns: int, t1_ns: int) -> float:
        """The mean of the sensed power from ``t0_ns`` to ``t1_ns``, in watts."""
        return (self._sensed_until(t1_ns) - self._sensed_until(t0_ns)) / ((t1_ns - t0_ns) / 1e9)

    def _segment(self, t_ns: int) -> int:
        return max(0, bisect_right(self._t_ns, t_ns) - 1)

    def _energy_until(self, t_ns: int) -> float:
        i = self._segment(t_ns)
        return self._energy_j[i] + self._watts[i] * ((t_ns - self._t_ns[i]) / 1e9)

    def _sensed_until(self, t_ns: int) -> float:
        if self._rise_s == 0:
            return self._energy_until(t_ns)
        i = self._segment(t_ns)
        return self._sensed_after(i, (t_ns - self._t_ns[i]) / 1e9)[1]

    def _sensed_after(self, i: int, seconds: float) -> tuple[float, float]:
        """Sensed power and its integral ``seconds`` into segment ``i``."""
        power, start_w, start_j = self._watts[i], self._sensed_w[i], self._sensed_j[i]
        if self._rise_s == 0:
            return power, start_j + power * seconds
        if seconds <= 0:  # before the first change nothing ever changed
            return start_w, start_j + start_w * seconds
        left = math.exp(-seconds / self._rise_s)
        return power + (start_w - power) * left, start_j + power * seconds + (start_w - power) * self._rise_s * (1 - left)


def _watts(watts: float) -> float:
    if not math.isfinite(watts) or watts < 0:
        raise SettingsError(f"A power of {watts!r} W.", remedy="It must be finite and not negative.")
    return float(watts)


class SensorState:
    """What one channel shows of a curve, followed from tick to tick: the part that a sensor's chip would do."""

    def __init__(self, sensor: Sensor, curve: PowerCurve, start_ns: int) -> None:
        self._sensor = sensor
        self._curve = curve
        self._start_ns = start_ns
        self._window_ns = max(1, round(sensor.window_s * 1e9))
        self._index = 0
        self._last_ns = start_ns + sensor.tick_ns(-1)
        self._next_ns = start_ns + sensor.tick_ns(0)
        self._power_w = self._power_at(self._last_ns)
        self._energy_j = 0.0

    def advance(self, t_ns: int) -> None:
        """Do all ticks up to ``t_ns``, itself included."""
        while self._next_ns <= t_ns:
            tick_ns = self._next_ns
            self._power_w = self._power_at(tick_ns)
            self._energy_j += self._power_w * ((tick_ns - self._last_ns) / 1e9)
            self._last_ns = tick_ns
            self._index += 1
            self._next_ns = self._start_ns + self._sensor.tick_ns(self._index)

    def _power_at(self, t_ns: int) -> float:
        return self._sensor.shown_w(self._curve.sensed_mean_w(t_ns - self._window_ns, t_ns))

    @property
    def energy_j(self) -> float:
        """All energy counted so far in joules, not rounded: what the channel shows where it is a counter."""
        return self._energy_j

    @property
    def power_w(self) -> float:
        """The power of the last tick in watts, not rounded: what the channel shows where it is a power field."""
        return self._power_w


class _Device:
    """What the simulated GPU and the simulated CPU share: a true power, and faults."""

    def __init__(self, clock: SimulatedClock, idle_w: float, rises_s: Iterable[float] = ()) -> None:
        self.clock = clock
        self.idle_w = idle_w
        # One truth, sensed once for each rise time that the device's channels have.
        self._sensed = {rise_s: PowerCurve(clock.now_ns(), idle_w, rise_s) for rise_s in (0.0, *rises_s)}
        self._curve = self._sensed[0.0]
        self._faults: set[str] = set()
        self._used = False

    def in_use(self) -> bool:
        """Whether it has ever been made to draw more than idle power: as a process that has worked on a GPU stays on it."""
        return self._used

    def set_power(self, watts: float) -> None:
        """True power from now on, in watts."""
        self._used = self._used or watts > self.idle_w
        now_ns = self.clock.now_ns()
        for curve in self._sensed.values():
            curve.set_power(now_ns, watts)

    def work(self, seconds: float, watts: float) -> None:
        """Draw ``watts`` for ``seconds``, then idle again."""
        self.set_power(watts)
        self.clock.sleep(seconds)
        self.set_power(self.idle_w)

    def true_energy_j(self, t0_ns: int, t1_ns: int) -> float:
        """The exact energy in joules that was drawn from ``t0_ns`` to ``t1_ns``."""
        return self._curve.energy_j(t0_ns, t1_ns)

    def fault(self, name: str) -> None:
        """Let something go wrong from now on; ``name`` is one of FAULTS."""
        if name not in FAULTS:
            raise SettingsError(f"There is no fault {name!r}.", remedy=f"Use one of {', '.join(FAULTS)}.")
        self._on_fault(name)
        if name != "reset":  # a reset is a moment, not a state
            self._faults.add(name)

    def clear_faults(self) -> None:
        """All is well again from now on. A counter that was reset stays reset; one that was stuck jumps to where it would have been."""
        self._faults.clear()

    def condition(self) -> Condition:
        """Marks and facts of this moment, as a counter gives them."""
        marks = tuple(mark for fault, mark in _MARKS.items() if fault in self._faults)
        return Condition(marks=marks, facts={"temperature_c": 45, "sm_clock_mhz": 900 if "throttled" in self._faults else 1500})

    def _on_fault(self, name: str) -> None:
        """Remember what the moment of a fault decides."""

    def _spend_read(self, read_s: float) -> None:
        self.clock.sleep(SLOW_READ_S if "slow read" in self._faults else read_s)
        if "lost" in self._faults:
            raise MeterLostError("The simulated device was lost.", remedy="Call clear_faults().")


class SimulatedGpu(_Device):
    """A GPU whose true power is known and whose channels behave like ``sensor``: all alike, or (``Sensors``) each in its own way."""

    def __init__(
        self,
        clock: SimulatedClock,
        *,
        sensor: Sensor | Sensors = PROFILES["H100"],
        idle_w: float = 60.0,
        domain: str = "gpu:0",
        device: str = "Simulated GPU",
        uuid: str = "GPU-8d0a1c3e-5b7f-4e21-9c64-2f1d7a90b3e6",
    ) -> None:
        self.sensors = sensors_of(sensor)
        channels = {name: channel for name, channel in self.sensors.channels.items() if channel is not None}
        super().__init__(clock, idle_w, {channel.rise_s for channel in channels.values()})
        self.domain = domain
        self.device = device
        self.uuid = uuid
        self._states = {name: SensorState(channel, self._sensed[channel.rise_s], clock.now_ns()) for name, channel in channels.items()}
        self._zero_j = 0.0
        self._stuck_j = 0.0

    @property
    def sensor(self) -> Sensor:
        """The channel that its energy is read from: the counter, or ``draw`` where there is none."""
        return self.sensors.counter or self.sensors.draw

    def energy_counter(self) -> SimulatedEnergyCounter:
        """Its energy counter. Raises MeterError where it has none."""
        self._counter()
        return SimulatedEnergyCounter(self)

    def power_counter(self, *, period_s: float = 0.02, window_s: float = 1.0) -> PowerIntegrator:
        """Its ``draw``, sampled every ``period_s`` seconds in the background and integrated, as for a device without a counter."""
        return PowerIntegrator(
            self.read_power_w,
            clock=self.clock,
            meter="simulated",
            domain=self.domain,
            device=self.device,
            uuid=self.uuid,
            period_s=period_s,
            window_s=window_s,
            condition=self.condition,
            facts=self.facts,
        )

    def facts(self) -> DeviceFacts:
        """What belongs into the provenance."""
        return {"gpu": self.device, "uuid": self.uuid, "simulated": True}

    def read_energy(self) -> Reading:
        """Read the energy counter, which costs its ``read_s``. Raises MeterError without one, MeterLostError after the fault ``lost``."""
        counter = self._counter()
        self._spend_read(counter.read_s)
        return Reading(counter.as_counter_j(self._counted_j()), self.clock.now_ns())

    def read_power_w(self, field: FieldName = "draw") -> float:
        """Read a power field in watts, which costs its ``read_s``. Raises MeterError where it is missing, MeterLostError after ``lost``."""
        sensor: Sensor | None = getattr(self.sensors, field)
        if sensor is None:
            raise MeterError(f"{self.device} has no power field {field!r}.", remedy="Read 'draw', which every GPU has.")
        self._spend_read(sensor.read_s)
        state = self._states[field]
        state.advance(self.clock.now_ns())
        return sensor.as_field_w(state.power_w)

    def _counter(self) -> Sensor:
        if self.sensors.counter is None:
            raise MeterError(f"{self.device} has no energy counter.", remedy="Use power_counter().")
        return self.sensors.counter

    def _counted_j(self) -> float:
        if "stuck" in self._faults:
            return self._stuck_j
        return self._total_j() - self._zero_j

    def _total_j(self) -> float:
        state = self._states["counter"]
        state.advance(self.clock.now_ns())
        return state.energy_j

    def _on_fault(self, name: str) -> None:
        if self.sensors.counter is None:  # the rest of the faults, and all of a power field, need nothing remembered
            return
        if name == "reset":
            self._zero_j = self._total_j()
            self._stuck_j = 0.0
        elif name == "stuck":
            self._stuck_j = self._counted_j()


class SimulatedEnergyCounter:
    """The energy counter of a SimulatedGpu, as the measuring loop sees counters."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu
        # A tick of 0.1 s is only a hint that this counter ticks: like a real one it does not know its own behaviour, so that the loop has
        # to probe period, jitter, step and lag, and is tested in doing so.
        self._source = Source(
            meter="simulated", domain=gpu.domain, method="counter", device=gpu.device, uuid=gpu.uuid, tick_s=0.1, systematic=0.05
        )

    @property
    def source(self) -> Source:
        """Its description, before probing."""
        return self._source

    def read(self) -> Reading:
        """Energy so far in joules, at the time when the read is over."""
        return self._gpu.read_energy()

    def condition(self) -> Condition:
        """Marks and facts of this moment."""
        return self._gpu.condition()

    def power_fields(self) -> Mapping[PowerField, Callable[[], float]]:
        """What reads the power fields of the GPU, as a driver shows them."""
        return {field: partial(self._gpu.read_power_w, name) for name, field in POWER_FIELDS.items()}

    def in_use(self) -> bool:
        """As the device tells it."""
        return self._gpu.in_use()

    def facts(self) -> DeviceFacts:
        """What belongs into the provenance."""
        return self._gpu.facts()

    def close(self) -> None:
        """Nothing is open."""


class SimulatedCounter(_Device):
    """A domain whose counter changes continuously, such as a CPU: its energy is the integral of its true power.

    It is device and counter in one: ``set_power`` and ``work`` steer it, ``read`` reads it.
    """

    def __init__(
        self, clock: SimulatedClock, *, domain: str = "cpu", idle_w: float = 20.0, device: str = "Simulated CPU", read_s: float = 0.00001
    ) -> None:
        super().__init__(clock, idle_w)
        self._start_ns = clock.now_ns()
        self._read_s = read_s
        self._zero_j = 0.0
        self._stuck_j = 0.0
        self._source = Source(meter="simulated", domain=domain, method="counter", device=device)

    @property
    def source(self) -> Source:
        """Its description: ``tick_s`` 0."""
        return self._source

    def read(self) -> Reading:
        """Energy so far in joules. Raises MeterLostError after the fault ``lost``."""
        self._spend_read(self._read_s)
        return Reading(self._counted_j(), self.clock.now_ns())

    def facts(self) -> DeviceFacts:
        """What belongs into the provenance."""
        return {"cpu": self._source.device, "simulated": True}

    def close(self) -> None:
        """Nothing is open."""

    def _counted_j(self) -> float:
        if "stuck" in self._faults:
            return self._stuck_j
        return self._curve.energy_j(self._start_ns, self.clock.now_ns()) - self._zero_j

    def _on_fault(self, name: str) -> None:
        if name == "reset":
            self._zero_j = self._curve.energy_j(self._start_ns, self.clock.now_ns())
            self._stuck_j = 0.0
        elif name == "stuck":
            self._stuck_j = self._counted_j()
