"""The figures of one run: each is worked out when it is first asked for, and kept for whoever asks again."""

from __future__ import annotations

from typing import final

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.domains import judges_processor
from pytest_greencompute.estimates.energy import is_scaled, scaled_energy, tokens_for
from pytest_greencompute.estimates.estimate import Aim, Outcome
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.run import Run

ENERGY = METRICS["energy_per_query"]


@final
class Figures:
    """A run, and its figures as ``aim`` asks for them. Neither changes: what is measured further is another run, with other figures."""

    __slots__ = ("_at", "_found", "_processor", "aim", "run")

    def __init__(self, run: Run, aim: Aim) -> None:
        self.run = run
        self.aim = aim
        self._found: dict[str, Outcome] = {}
        self._at: dict[float, Figures] = {aim.confidence: self}
        self._processor: bool | None = None

    def of(self, metric: Metric) -> Outcome:
        """The estimate of a metric, or why there is none."""
        found = self._found.get(metric.name)
        if found is None:
            found = self._found[metric.name] = self._worked_out(metric)
        return found

    def _worked_out(self, metric: Metric) -> Outcome:
        if self.run.metered and is_scaled(self.run, metric):
            return scaled_energy(metric, self.aim, lambda: self.of(ENERGY), lambda: tokens_for(self.run, metric, self.aim))
        return estimate(self.run, metric, self.aim)

    def every(self) -> dict[str, Outcome]:
        """All metrics by name."""
        return {name: self.of(metric) for name, metric in METRICS.items()}

    def at(self, confidence: float) -> Figures:
        """The figures of the same run with intervals that are as sure as that."""
        if confidence not in self._at:
            self._at[confidence] = Figures(self.run, self.aim.at(confidence))
        return self._at[confidence]

    @property
    def of_processor(self) -> bool:
        """Whether the processor is part of what is judged (``judges_processor``)."""
        if self._processor is None:
            self._processor = judges_processor(self.run, self.aim)
        return self._processor
