"""What changed against another commit or a baseline: one row a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_greencompute.judging.by_other_run import change
from pytest_greencompute.judging.judge import HELD_AGAINST
from pytest_greencompute.judging.verdict import ORDER
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import show


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


def changes(results: Sequence[Result]) -> list[Change]:
    """What was compared with other runs, the worst words first and of one word the largest changes."""
    found = [_change(run, verdict) for run in results for verdict in run.verdicts if verdict.kind in HELD_AGAINST]
    return sorted(found, key=lambda each: (ORDER.index(each.word), 0.0 if each.ratio is None else -each.ratio.value))


def _change(run: Result, verdict: ShownVerdict) -> Change:
    metric = METRICS[verdict.metric]
    figure = run.metrics.get(metric.name)
    return Change(
        run.called,
        HELD_AGAINST[verdict.kind].shown.format(verdict.where),
        metric.label,
        "-" if verdict.base is None else show(verdict.base, metric.dimension),
        "-" if figure is None else show(figure.value, metric.dimension),
        verdict.ratio,
        verdict.word,
    )


def worst_regression(results: Sequence[Result]) -> float | None:
    """By what share the worst figure is worse than in the run that it was compared with (0.072: 7.2 %); None where none was compared."""
    ratios = [each.ratio.value for each in changes(results) if each.ratio is not None]
    return max(ratios) - 1 if ratios else None
