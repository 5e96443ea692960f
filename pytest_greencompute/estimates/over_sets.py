"""Figures over complete sets of blocks, or over the stretches of a server's load.

The unit of replication is a complete *set* of blocks: within a set the blocks' phases are stratified, so they are not independent. With
five sets or more their own spread gives the interval; with fewer, a model of the phase does (``stats.phases``), and never less than the
spread of the sets that are there.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome
from pytest_greencompute.stats.intervals import FAR, in_batches, mean_interval, positive_low, ratio_interval, widening
from pytest_greencompute.stats.looks import share
from pytest_greencompute.stats.phases import PHASES, errors, half_width, weights
from pytest_greencompute.values.metrics import Metric
from pytest_greencompute.values.readings import Block, sets_of
from pytest_greencompute.values.run import Run

MIN_SETS = 5
UNLIKELY = 2.0  # standard errors of the noise, by which sets differ in one of twenty cases
NO_USAGE = "the server did not say how many tokens its answers have, and an event of a stream may bring several: let it send usage"


def look_confidence(run: Run, aim: Aim) -> float:
    """The confidence of one look, so that all planned looks together err with probability 1 - aim.confidence (Bonferroni)."""
    return 1 - share(1 - aim.confidence, run.looks)


def interval_over_sets(
    blocks: Sequence[Block], value: Callable[[Sequence[Block]], float], confidence: float
) -> tuple[float, float | None, float | None, int]:
    """Mean, interval and number of samples of a figure, given how to compute it for a group of blocks."""
    groups = [sorted(group, key=lambda block: block.phase) for group in sets_of(blocks)]
    samples = [_over_phases(group, value) for group in groups]
    mean, low, high = mean_interval(samples, confidence)
    if len(groups) >= MIN_SETS or any(len(group) != PHASES for group in groups):
        return mean, low, high, len(samples)
    in_order = [[value((block,)) for block in group] for group in groups]
    half = half_width(in_order, confidence)
    if low is not None and high is not None and statistics.stdev(samples) > UNLIKELY * errors(in_order).noise + errors(in_order).aliased:
        half = max(half, (high - low) / 2)  # the sets differ by more than noise and phase explain: only their own spread is honest
    return mean, mean - half, mean + half, len(samples)


def _over_phases(group: Sequence[Block], value: Callable[[Sequence[Block]], float]) -> float:
    """A set's figure: its blocks weighed by the share of the tick that each stands for; other sets are summed."""
    if len(group) != PHASES:
        return value(group)
    shares = weights([block.phase for block in group])
    return sum(share * value((block,)) for share, block in zip(shares, group, strict=True))


def over_run(
    run: Run, above: Callable[[Sequence[Block]], float], below: Callable[[Sequence[Block]], float], confidence: float
) -> tuple[float, float | None, float | None, int]:
    """The ratio of two sums over blocks, with its interval and number of samples: over sets, or over the stretches of a server's load."""
    if run.serving is not None:
        return ratio_interval([above((block,)) for block in run.blocks], [below((block,)) for block in run.blocks], confidence)
    return interval_over_sets(run.blocks, lambda group: above(group) / below(group), confidence)


def above_zero(found: Estimate, least: Callable[[], float]) -> Estimate:
    """The estimate of a positive quantity, its low end no lower than ``least()``. That is not worked out where it could change nothing."""
    if found.low is None:
        return replace(found, extremes=(found.value, found.value)) if found.n == 1 and found.value > 0 else found
    most = found.value * max(((1 - found.confidence) / 2) ** (1 / found.n), 1 / FAR)  # least() is that or less: looks only lower it
    return found if found.low >= most else replace(found, low=max(found.low, least()))


def least_of(run: Run, above: Callable[[Sequence[Block]], float], below: Callable[[Sequence[Block]], float], confidence: float) -> float:
    """The least that the ratio of two positive sums over blocks may be, whatever the distribution of its samples."""
    chance = (1 - confidence) / 2
    if any(above((block,)) < 0 for block in run.blocks):
        return 0.0
    if run.serving is None:
        return positive_low([_over_phases(group, lambda part: above(part) / below(part)) for group in sets_of(run.blocks)], chance)
    batches = in_batches([above((block,)) for block in run.blocks], [below((block,)) for block in run.blocks])
    most = max(lower for _, lower in batches)
    return positive_low(
        [upper / most for upper, _ in batches],
        chance,
        alike=widening(batches) ** 2,
        base=[upper / lower for upper, lower in batches if lower],
    )


def busy_s_in(group: Sequence[Block]) -> float:
    return max(sum(block.busy_s for block in group), 1e-9)


def queries_in(group: Sequence[Block]) -> float:
    return sum(block.queries for block in group)


def tokens_of_server(run: Run) -> Mapping[int, float] | Missing:
    """Tokens of each stretch by its number, or why there are none."""
    if run.serving is None or run.serving.tokens is None:
        return Missing("the server did not say how many tokens it generated")
    if not sum(run.serving.tokens):
        return Missing("the server generated no token")
    return {block.set_index: tokens for block, tokens in zip(run.blocks, run.serving.tokens, strict=True)}


def throughput_of(run: Run, metric: Metric, aim: Aim) -> Outcome:
    blocks = run.blocks
    if not blocks:
        return Missing(run.problem or "no block was measured")
    value, low, high, n = over_run(run, queries_in, busy_s_in, look_confidence(run, aim))
    found = Estimate(value, low, high, metric.dimension, n, aim.confidence)
    found = above_zero(found, lambda: least_of(run, queries_in, busy_s_in, look_confidence(run, aim)))
    if high is None:
        return found
    time = Estimate(1 / value, 1 / high, None, metric.dimension, n, aim.confidence)  # of a query, which is positive too
    least = above_zero(time, lambda: least_of(run, busy_s_in, queries_in, look_confidence(run, aim))).low or 0.0
    return replace(found, high=1 / least) if least > 1 / high else found
