"""Simulated devices, for testing one's own gates: the truth is known, and no GPU is needed."""

from __future__ import annotations

from pytest_greencompute.testing.sensor import PROFILES, Sensor, Sensors
from pytest_greencompute.testing.simulated import FAULTS, PowerCurve, SimulatedClock, SimulatedCounter, SimulatedEnergyCounter, SimulatedGpu

__all__ = [
    "FAULTS",
    "PROFILES",
    "PowerCurve",
    "Sensor",
    "Sensors",
    "SimulatedClock",
    "SimulatedCounter",
    "SimulatedEnergyCounter",
    "SimulatedGpu",
]
