"""pytest-greencompute: fail the build when energy per query, latency or accuracy of model inference regress past a budget.

The names below load when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_greencompute.errors import GreencomputeError, MeterError, SettingsError
    from pytest_greencompute.estimates.estimate import Estimate
    from pytest_greencompute.estimates.measured import MeasuredRun
    from pytest_greencompute.estimates.star_scale import rate
    from pytest_greencompute.judging.by_limit import judge_limit
    from pytest_greencompute.judging.pairs import judge_pairs, judge_pairs_sequentially, judge_runs
    from pytest_greencompute.judging.verdict import Verdict
    from pytest_greencompute.measuring.script import measure
    from pytest_greencompute.models.generator import Generator
    from pytest_greencompute.models.traffic import read_traffic

__version__ = "0.1.0"
__all__ = [
    "Estimate",
    "Generator",
    "GreencomputeError",
    "MeasuredRun",
    "MeterError",
    "SettingsError",
    "Verdict",
    "judge_limit",
    "judge_pairs",
    "judge_pairs_sequentially",
    "judge_runs",
    "measure",
    "rate",
    "read_traffic",
]

_HOMES = {
    "GreencomputeError": "errors",
    "MeterError": "errors",
    "SettingsError": "errors",
    "Estimate": "estimates.estimate",
    "MeasuredRun": "estimates.measured",
    "Generator": "models.generator",
    "Verdict": "judging.verdict",
    "judge_limit": "judging.by_limit",
    "judge_pairs": "judging.pairs",
    "judge_pairs_sequentially": "judging.pairs",
    "judge_runs": "judging.pairs",
    "measure": "measuring.script",
    "rate": "estimates.star_scale",
    "read_traffic": "models.traffic",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
