"""Figures that are counted, not timed: tokens, calls of watched models, operations and memory."""

from __future__ import annotations

from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome
from pytest_greencompute.estimates.over_sets import NO_USAGE, look_confidence, over_run, queries_in, tokens_of_server
from pytest_greencompute.stats.distributions import binomial_interval
from pytest_greencompute.stats.intervals import mean_interval
from pytest_greencompute.values.metrics import Metric
from pytest_greencompute.values.run import Run

_ASKED_AGAIN = "in a batch, a query that is asked again cannot be told from another one; batch_size=1 makes it exact"


def tokens_of(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """Mean of the tokens that were counted in each answer; where answers were not counted, those of the watched models.

    Of reasoning the larger of the two: an application may show its answers without it.
    """
    whole = metric.name == "tokens_per_query"
    if run.serving is not None and whole:
        return _tokens_served(run, metric, aim)
    in_answers, watched = _tokens_of_answers(run, metric, aim), _tokens_of_watched(run, metric, aim)
    if in_answers is None or watched is None:
        found = watched if in_answers is None else in_answers
        if found is not None:
            return found
        if not whole and run.tokens:
            return Missing("reasoning cannot be told from ids: pass the tokenizer, tokens=tokenizer, to measure()")
        what = "tokens" if whole else "reasoning tokens"
        return Missing(f"no {what} were counted: pass tokens= to measure() or to watch()")
    return in_answers if whole or in_answers.value >= watched.value else watched


def _tokens_served(run: Run, metric: Metric, aim: Aim) -> Outcome:
    tokens = tokens_of_server(run)
    if isinstance(tokens, Missing):
        return tokens
    value, low, high, n = over_run(run, lambda group: sum(tokens[each.set_index] for each in group), queries_in, look_confidence(run, aim))
    if run.serving is not None and run.serving.by_events:
        return Estimate(value, value, None, metric.dimension, n, aim.confidence, note=NO_USAGE)
    return Estimate(value, None if low is None else max(0.0, low), high, metric.dimension, n, aim.confidence)


def _tokens_of_answers(run: Run, metric: Metric, aim: Aim) -> Estimate | None:
    counted = run.tokens if metric.name == "tokens_per_query" else run.reasoning
    if not counted:
        return None
    if run.window:  # all that was generated in it, as one number
        return Estimate(sum(counted) / run.queries, None, None, metric.dimension, 1, aim.confidence)
    mean, low, high = mean_interval(counted, aim.confidence)
    return Estimate(mean, None if low is None else max(0.0, low), high, metric.dimension, len(counted), aim.confidence)


def _tokens_of_watched(run: Run, metric: Metric, aim: Aim) -> Estimate | None:
    if run.watching is None:
        return None
    counted = [each.tokens if metric.name == "tokens_per_query" else each.reasoning for each in run.watching.models]
    seen = [each for each in counted if each is not None]
    if len(seen) < len(counted):
        return None
    return Estimate(sum(seen) / run.watching.queries, None, None, metric.dimension, run.watching.queries, aim.confidence)


def calls_of(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """Calls of watched models, or the share of queries that reached one, with its exact binomial interval."""
    watching = run.watching
    if watching is None:
        return Missing("no model is watched: call energy_meter.watch(model) in the test and use what it returns")
    if metric.name == "generative_share":
        share = watching.reached / watching.queries
        if watching.bound:
            return Estimate(share, None, share, metric.dimension, watching.queries, aim.confidence, note=_ASKED_AGAIN)
        low, high = binomial_interval(watching.reached, watching.queries, aim.confidence)
        return Estimate(share, low, high, metric.dimension, watching.queries, aim.confidence)
    calls = sum(each.calls for each in watching.models)
    return Estimate(calls / watching.queries, None, None, metric.dimension, watching.queries, aim.confidence)


def compute_of(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """What was counted in a pass of its own; of a figure that is only a bound, the other side is open."""
    count = run.counts.get(metric.name)
    if count is None and run.serving is not None:
        return Missing("what a server computes and holds is not counted")
    if count is None and run.window:
        return Missing("a window has no queries that could be counted over; use measure()")
    if count is None:
        return Missing(f"it was not counted: a budget on {metric.name}, or count=[{metric.name!r}] of measure(), asks for it")
    if count.value is None:
        return Missing(count.note)
    low, high = (count.value if count.bound == side else None for side in ("least", "most"))
    return Estimate(count.value, low, high, metric.dimension, max(1, count.queries), aim.confidence, note=count.note)
