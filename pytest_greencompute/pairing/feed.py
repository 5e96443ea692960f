"""From the runs of two sides to pairs: each is fed once to the test of its metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pytest_greencompute.estimates.by_metric import of_set
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.percentiles import PercentilePairs
from pytest_greencompute.pairing.layouts import timed_by_set
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run


class Fed(Protocol):
    """What is told pairs: a test, or whoever keeps them."""

    def tell(self, base: float, head: float) -> object:
        """One more pair."""


@dataclass
class Feed:
    """The pairs of one launch of both sides, each fed once to the test of its metric."""

    tests: Mapping[str, Fed]
    aim: Aim
    _fed: int = 0
    _percentiles: dict[str, PercentilePairs] = field(default_factory=dict)

    def tell(self, base: Run, head: Run, sets: int) -> None:
        """What the first ``sets`` sets of both say."""
        for name, test in self.tests.items():
            if METRICS[name].kind == "latency":
                percentiles = self._percentiles.setdefault(name, PercentilePairs(METRICS[name].fraction or 0.0))
                pairs = map(percentiles.tell, *(timed_by_set(run, sets)[self._fed :] for run in (base, head)))
                for pair in filter(None, pairs):
                    test.tell(*pair)
                continue
            for index in range(self._fed, sets):
                before, now = (of_set(run, METRICS[name], index, self.aim) for run in (base, head))
                if before is not None and now is not None:  # a set that one side has lost is no pair
                    test.tell(before, now)
        self._fed = max(self._fed, sets)
