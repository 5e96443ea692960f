"""The table of metrics holds together: what code, files and reports read from it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.estimates.measured_kinds import ServedRun
from pytest_greencompute.values.metrics import METRICS, Metric


def test_names_are_the_keys_and_no_two_are_read_alike() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda each: each.name)
def test_each_metric_can_be_told_and_estimated(metric: Metric) -> None:
    assert metric.says.count("{}") == 1
    assert (metric.fraction is not None) == (metric.kind in {"latency", "first token", "token gap"})
    assert metric.needs_meter == (metric.kind not in {"score", "tokens", "calls", "errors"})
    assert metric.better == ("higher" if metric.kind in {"rate", "score", "rating"} else "lower")
    assert metric.exact or not metric.zero
    assert not metric.per or metric.kind == "energy"


# Metrics that no measured run has as a property, and why.
NO_PROPERTY = {"answers_changed": "it exists beside another run alone", "stars": "a rating says more, and ScoredRun has it"}


OF_PROMPTS = {"energy_per_input_token", "energy_per_total_token"}  # whose tokens a server alone tells


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda each: each.name)
def test_each_metric_is_a_property_of_the_run_that_has_it(metric: Metric) -> None:
    class Asked(ServedRun):
        def _figure(self, metric: str) -> Any:
            return f"the figure of {metric}"

    run = Asked(None, [], Aim(), pytest.fail)  # type: ignore[arg-type]
    assert hasattr(ServedRun, metric.name) == (metric.name not in NO_PROPERTY)
    if metric.name not in NO_PROPERTY:
        assert getattr(run, metric.name) == f"the figure of {metric.name}"
        assert getattr(ServedRun, metric.name).__doc__
        of_servers = metric.kind in {"first token", "token gap", "errors"} or metric.name in OF_PROMPTS
        assert hasattr(MeasuredRun, metric.name) != of_servers
        with pytest.raises(AttributeError, match=metric.name):
            setattr(run, metric.name, 1.0)
