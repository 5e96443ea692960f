"""The inner projects' device and models: copied beside their tests, and used by them as ``from world import world``.

The counter changes continuously and shows exactly what the models used, so every figure of a measured run is known beforehand.
Time is whatever clock the session has: the simulated one in runs of the same process, the machine's own in a process of their own.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_greencompute.machine import clock
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters.base import Ability, Condition, MeterOptions
from pytest_greencompute.values.readings import Reading, Source

GPU = "Test GPU 3000"


class World:
    """What has been used and done so far."""

    def __init__(self) -> None:
        self.clock: Clock = clock.RealClock()
        self.opened = False
        self.energy_j = 0.0
        self.calls = 0

    def model(
        self, joules: float = 0.5, seconds: float = 0.01, *, spread: float = 0.0, answer: Callable[[Any], Any] = str.upper
    ) -> Callable[[Sequence[Any]], list[Any]]:
        """A model that uses ``joules`` a query and ``seconds`` a batch. ``spread``: by how much its power wanders, per half second."""
        luck = random.Random(1)
        factor, until_ns = 1.0, 0

        def run(batch: Sequence[Any]) -> list[Any]:
            nonlocal factor, until_ns
            self.calls += 1
            self.clock.sleep(seconds)
            if self.clock.now_ns() >= until_ns:
                factor, until_ns = 1 + luck.uniform(-spread, spread), self.clock.now_ns() + 500_000_000
            self.energy_j += joules * factor * len(batch)
            return [answer(query) for query in batch]

        return run


world = World()


class WorldCounter:
    """Domain gpu:0, read without ticks."""

    @property
    def source(self) -> Source:
        method: Any = os.environ.get("WORLD_METHOD", "counter")
        return Source(
            "world",
            "gpu:0",
            method,
            os.environ.get("WORLD_GPU", GPU),
            uuid=os.environ.get("WORLD_UUID", "GPU-3000"),
            note="made up for tests",
        )

    def read(self) -> Reading:
        return Reading(world.energy_j, world.clock.now_ns())

    def condition(self) -> Condition:
        return Condition()

    def facts(self) -> Mapping[str, str | float | int | bool | None]:
        return {"driver": "1.0"}

    def close(self) -> None:
        pass


class WorldMeter:
    """The meter ``world``."""

    name = "world"

    def find(self, options: MeterOptions) -> Sequence[WorldCounter]:
        world.clock, world.opened = options.clock, True
        return [WorldCounter()]

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        return [Ability("gpu:0", works=True, says=GPU)]
