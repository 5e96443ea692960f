"""What is known of the answers: their score, how many changed, how many requests failed."""

from __future__ import annotations

import statistics

from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome
from pytest_greencompute.stats.distributions import binomial_interval
from pytest_greencompute.stats.intervals import mean_interval
from pytest_greencompute.values.metrics import Metric
from pytest_greencompute.values.run import ANSWER_DIGITS, Run

MOST_SCORE = 1 + 1e-6  # a share, but for how floats are rounded


def errors_of(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """The share of the requests that failed, with its binomial interval. What is judged is the figure: failures come in bursts."""
    if run.serving is None:
        return Missing("only serve_load() counts failed requests")
    failed = sum(run.serving.failed.values())
    n = failed + run.serving.answered
    if not n:
        return Missing("no request ended while it was measured")
    low, high = binomial_interval(failed, n, aim.confidence)
    return Estimate(failed / n, low, high, metric.dimension, n, aim.confidence)


def score_of(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """Mean score of the fixed queries; exact binomial interval where every score is 0 or 1, Student's t otherwise."""
    if not run.scores:
        return Missing("no references were given to measure(), so there is no accuracy")
    n = len(run.scores)
    value = statistics.fmean(run.scores)
    if all(score in (0.0, 1.0) for score in run.scores):
        low, high = binomial_interval(round(sum(run.scores)), n, aim.confidence)
        return Estimate(value, low, high, metric.dimension, n, aim.confidence)
    _, t_low, t_high = mean_interval(run.scores, aim.confidence)
    return Estimate(value, t_low, t_high, metric.dimension, n, aim.confidence)


def no_share(run: Run) -> str:
    """Why the scores of a run cannot be held against a limit, which is a share of 1 at most; empty where they can."""
    most = max(run.scores or (0.0,))
    return "" if most <= MOST_SCORE else f"a query scores {most:.4g}, and a limit of accuracy is a share: let score= return 0 to 1"


def changed_answers(before: str, now: str, metric: Metric, confidence: float) -> Outcome:
    """The share of answers that differ, by their digests (``Run.answers``), with its exact binomial interval."""
    if not before or not now:
        return Missing("the answers were not kept, or they cannot be told apart")
    if len(before) != len(now):
        return Missing(f"there are answers to {len(before) // ANSWER_DIGITS} queries there and to {len(now) // ANSWER_DIGITS} here")
    n = len(now) // ANSWER_DIGITS
    places = range(0, len(now), ANSWER_DIGITS)
    count = sum(before[place : place + ANSWER_DIGITS] != now[place : place + ANSWER_DIGITS] for place in places)
    low, high = binomial_interval(count, n, confidence)
    return Estimate(count / n, low, high, metric.dimension, n, confidence)
