"""The names of two builds: this one, and that of commit c0a9932, which kept its modules in one folder."""

from __future__ import annotations

import importlib
from typing import Any

PACKAGE = "pytest_greencompute"
MODULES = {  # where a name is: here, and in the build of commit c0a9932
    "Aim": ("estimates.estimate", "estimate"),
    "Effort": ("measuring.effort", "measuring"),
    "Estimate": ("estimates.estimate", "estimate"),
    "estimate": ("estimates.by_metric", "estimate"),
    "Instruments": ("meters.instruments", "instruments"),
    "Match": ("pairing.runs", "sides.pairing"),
    "metering": ("measuring.driver", "measuring"),
    "METRICS": ("values.metrics", "metrics"),
    "open_instruments": ("measuring.script", "measuring"),
    "Pairing": ("pairing.runs", "sides.pairing"),
    "PROFILES": ("testing.sensor",),
    "Rule": ("judging.rule", "pairs"),
    "run_metered": ("measuring.driver", "measuring"),
    "Sensor": ("testing.sensor", "testing.sensor"),
    "SimulatedClock": ("testing.simulated", "testing.simulated"),
    "SimulatedGpu": ("testing.simulated", "testing.simulated"),
    "StandIn": ("testing.standin",),
    "StandInDevice": ("testing.standin",),
    "Task": ("measuring.task", "measuring"),
}


def named(name: str) -> Any:
    """What the build calls ``name``, wherever it keeps it."""
    for module in MODULES[name]:
        try:
            return getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)
        except (ImportError, AttributeError):
            continue
    raise SystemExit(f"This build has no {name}.")
