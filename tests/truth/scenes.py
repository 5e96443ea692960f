"""Scenes on the simulated clock: a GPU, a model that works on it, and what happens to either meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.testing.sensor import Sensor, Sensors
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

SENSORS = {
    "100/25": Sensor(0.1, 0.025),
    "100/100": Sensor(0.1, 0.1),
    "20/10": Sensor(0.02, 0.01),
    "power only": Sensors(None, Sensor(0.1, 1.0)),
}
STATES = ("lost", "stuck", "throttled", "foreign", "slow read")


class Scene:
    """A simulated GPU under a model to which things happen: ``script`` maps a call's number to what is done before it."""

    def __init__(
        self,
        sensor: Sensor | Sensors,
        script: Mapping[int, Callable[[Scene], object]],
        *,
        query_s: float = 0.05,
        watts: float = 300.0,
        idle_w: float = 60.0,
        allowed: frozenset[str] = frozenset(),
    ) -> None:
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, sensor=sensor, idle_w=idle_w)
        self.script = script
        self.query_s, self.watts, self.idle_w = query_s, watts, idle_w
        self.calls = 0
        self.neighbour_w = 0.0
        # The counter has counted for a while, as a real one has since the driver was loaded.
        self.gpu.work(100.0, watts)
        counter = self.gpu.energy_counter() if self.gpu.sensors.counter else self.gpu.power_counter()
        self.instruments = Instruments([counter], self.clock, allowed_marks=allowed)

    @property
    def true_j(self) -> float:
        """Of a query."""
        return self.query_s * self.watts

    def query(self, batch: list[int]) -> list[int]:
        self.calls += 1
        if self.calls in self.script:
            self.script[self.calls](self)
        self.gpu.set_power(self.watts + self.neighbour_w)
        self.clock.sleep(self.query_s)
        self.gpu.set_power(self.idle_w + self.neighbour_w)
        return batch

    def run(self, seconds: float = 40.0) -> Run:
        return run_metered(Task(self.query, list(range(16))), self.instruments, Effort(seconds))[0]


def energy(run: Run) -> Estimate | Missing:
    return estimate(run, METRICS["energy_per_query"], Aim())


def fault(name: str) -> Callable[[Scene], None]:
    return lambda scene: scene.gpu.fault(name)


def neighbour(watts: float = 100.0) -> Callable[[Scene], None]:
    """Another process at work, which no list of processes shows."""

    def come(scene: Scene) -> None:
        scene.neighbour_w = watts

    return come


def suspend(seconds: float = 30.0) -> Callable[[Scene], None]:
    return lambda scene: scene.clock.suspend(seconds)


def jump(seconds: float = 20.0) -> Callable[[Scene], None]:
    return lambda scene: scene.clock.sleep(seconds)


def clear(scene: Scene) -> None:
    scene.gpu.clear_faults()
    scene.neighbour_w = 0.0
