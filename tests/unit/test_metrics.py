"""The table of metrics holds together: what code, files and reports read from it."""

from __future__ import annotations

import pytest

from pytest_greencompute.values.metrics import METRICS, Metric


def test_names_are_the_keys_and_no_two_are_read_alike() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda each: each.name)
def test_each_metric_can_be_told_and_estimated(metric: Metric) -> None:
    assert metric.says.count("{}") == 1
    assert (metric.fraction is not None) == (metric.kind in {"latency", "first token", "token gap"})
    assert metric.needs_meter == (metric.kind not in {"score", "tokens", "calls"})
    assert metric.better == ("higher" if metric.kind in {"rate", "score", "rating"} else "lower")
    assert metric.exact or not metric.zero
    assert not metric.per or metric.kind == "energy"
