"""Percentiles of latencies, of times to the first token and from one to the next, by order statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome
from pytest_greencompute.estimates.over_sets import NO_USAGE
from pytest_greencompute.stats.distributions import order_statistic_ranks
from pytest_greencompute.values.metrics import Metric
from pytest_greencompute.values.run import Run


def latency_of(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """A percentile over batches: a query's latency is that of its batch, so batches are the independent samples."""
    if not run.latencies:
        return Missing("no latency was measured" if not run.window else "a window has no latency per query; use measure()")
    what = "batches" if run.serving is None else "requests"
    return _percentile([latency.seconds for latency in run.latencies], metric, aim, what)


def _percentile(seconds: Sequence[float], metric: Metric, aim: Aim, what: str) -> Estimate:
    """A percentile of independent values by order statistics; where they are too few, one side is open."""
    ordered = sorted(seconds)
    fraction = metric.fraction or 0.0
    value = ordered[max(math.ceil(len(ordered) * fraction), 1) - 1]
    low, high = order_statistic_ranks(len(ordered), fraction, aim.confidence)
    note = "" if low and high else f"{len(ordered)} {what} bound only one side; more queries or --energy-max-seconds bound both"
    return Estimate(
        value,
        ordered[low - 1] if low else None,
        ordered[high - 1] if high else None,
        metric.dimension,
        len(ordered),
        aim.confidence,
        note=note,
        extremes=(ordered[0], ordered[-1]) if note else None,
    )


def streamed_of(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """A percentile of the times to the first token, or from one to the next, of what a server streamed."""
    if run.serving is None:
        return Missing("only serve_load() sees when tokens arrive")
    seconds = run.serving.first_tokens if metric.kind == "first token" else run.serving.token_gaps
    if not seconds and run.serving.by_events and metric.kind == "token gap":
        return Missing(NO_USAGE)
    if not seconds:
        return Missing("no token was streamed" if run.serving.answered else "no request was answered")
    return _percentile(seconds, metric, aim, "requests" if metric.kind == "first token" else "tokens")
