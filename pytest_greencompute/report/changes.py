"""What changed against another commit or a baseline: one row a verdict, from the results' plain dicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.judging.by_other_run import change
from pytest_greencompute.judging.verdict import ORDER
from pytest_greencompute.results.summary import called
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import show

AGAINST = ("base_ref", "baseline")


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of a run beside another run's. ``ratio`` is how many times worse it is now; None where it has none (scores, bounds)."""

    run: str
    against: str
    metric: str
    before: str
    now: str
    ratio: Ratio | None
    word: str

    @property
    def by(self) -> str:
        """'+7.2 % [+2.5 %, +12 %]', for how much worse; '-' where that has no sense."""
        if self.ratio is None:
            return "-"
        exact = self.ratio.low == self.ratio.high
        return change(self.ratio).partition(" [")[0] if exact else change(self.ratio)


def changes(results: Sequence[Mapping[str, Any]]) -> list[Change]:
    """What was compared with other runs, the worst words first and of one word the largest changes."""
    found = [_change(run, verdict) for run in results for verdict in run["verdicts"] if verdict["kind"] in AGAINST]
    return sorted(found, key=lambda each: (ORDER.index(each.word), 0.0 if each.ratio is None else -each.ratio.value))


def _change(run: Mapping[str, Any], verdict: Mapping[str, Any]) -> Change:
    metric = METRICS[verdict["metric"]]
    figure, before = run["metrics"].get(metric.name), verdict.get("base")
    return Change(
        called(run),
        f"baseline {verdict['where']}" if verdict["kind"] == "baseline" else verdict["where"],
        metric.label,
        "-" if before is None else show(before, metric.dimension),
        "-" if figure is None else show(figure["value"], metric.dimension),
        _ratio(verdict.get("ratio")),
        verdict["verdict"],
    )


def _ratio(told: Mapping[str, Any] | None) -> Ratio | None:
    if told is None:
        return None
    return Ratio(told["value"], told["low"] or 0.0, math.inf if told["high"] is None else told["high"])


def worst_regression(results: Sequence[Mapping[str, Any]]) -> float | None:
    """By what share the worst figure is worse than in the run that it was compared with (0.072: 7.2 %); None where none was compared."""
    ratios = [each.ratio.value for each in changes(results) if each.ratio is not None]
    return max(ratios) - 1 if ratios else None
