"""Intervals of means and of ratios of sums, from independent samples or from stretches of time."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Sequence

from pytest_greencompute.stats.distributions import student_t_quantile

BATCHES = 10
_RESAMPLES = 4000  # 20 of them beyond a bound that holds at 99.5 %
_DRAWS_AT_ONCE = 1_000_000
_RESAMPLING_SEED = 20_000
_OF_ZEROS = 0.1  # of the error, where a sample of a positive quantity is zero
FAR = 1000.0  # no sample of a positive quantity is taken to be so many times what it is a sample of
FINEST = 1e-4  # time stamps and the quanta of power fields resolve nothing finer, however well the blocks agree


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float | None, float | None]:
    """Mean of independent values with Student's t interval; a single value has no interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None, None
    half = student_t_quantile((1 + confidence) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def positive_low(samples: Sequence[float], chance: float, *, alike: float = 1.0, base: Sequence[float] = ()) -> float:
    """A bound that lies above the mean of independent positive values with probability at most ``chance``, whatever their distribution.

    The product of values over their means is 1 on average, so it exceeds 1 / chance at most that often (Markov's inequality). That holds
    where the means differ too, since their geometric mean is below their mean. No lower than a ``FAR``-th of the smallest value, so that
    what is that far beyond a limit in every sample fails however few they are; 0 where a value is negative. ``alike``: how many
    neighbours tell no more than one value. ``base``: the values themselves, where ``samples`` are lower bounds of them.
    """
    if min(samples) < 0:
        return 0.0
    if min(samples) == 0:  # the product says nothing; the mean over the true mean is 1 on average, too, and gets a tenth of the error
        return chance * _OF_ZEROS * math.fsum(samples) / len(samples)
    middle = math.fsum(map(math.log, samples)) / len(samples)
    return max(math.exp(middle + math.log(chance) * alike / len(samples)), min(base or samples) / FAR)


def bootstrap_low(values: Sequence[float], chance: float) -> float:
    """A bound that lies above the true mean of independent ``values`` with probability about ``chance``, whatever their distribution.

    By the studentised bootstrap (Efron and Tibshirani 1993, chapter 12), from a fixed seed, so that the same values give the same
    bound. Minus infinity where they are too few or too coarse for one. At least one value.
    """
    import numpy as np

    data = np.asarray(values, dtype=float)
    n, mean = len(data), float(data.mean())
    error = float(data.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    if error <= sys.float_info.epsilon * abs(mean):
        return mean
    rng = np.random.default_rng(_RESAMPLING_SEED)
    rows = max(1, _DRAWS_AT_ONCE // n)
    shifts: list[float] = []
    while len(shifts) < _RESAMPLES and n > 1:
        drawn = data[rng.integers(0, n, size=(min(rows, _RESAMPLES - len(shifts)), n))]
        spreads = drawn.std(axis=1, ddof=1) / math.sqrt(n)
        apart = drawn.mean(axis=1) - mean
        flat = spreads <= sys.float_info.epsilon * abs(mean)
        shifts += np.where(flat, np.copysign(np.inf, apart), apart / np.where(flat, 1.0, spreads)).tolist()
    shifts.sort()
    worst = shifts[math.ceil((1 - chance) * len(shifts)) - 1] if shifts else math.inf
    return mean - worst * error if math.isfinite(worst) else -math.inf


def in_batches(above: Sequence[float], below: Sequence[float]) -> list[tuple[float, float]]:
    """Two series over stretches of time as sums over ``BATCHES`` batches of it, or as they are where they are few."""
    count = len(above) if len(above) < 2 * BATCHES else BATCHES
    ends = [round(len(above) * part / count) for part in range(count + 1)]
    return [(math.fsum(above[a:b]), math.fsum(below[a:b])) for a, b in itertools.pairwise(ends)]


def _residuals(batches: Sequence[tuple[float, float]]) -> list[float]:
    """How far each batch is from the common ratio; their sum is zero."""
    value = math.fsum(upper for upper, _ in batches) / math.fsum(lower for _, lower in batches)
    return [upper - value * lower for upper, lower in batches]


def widening(batches: Sequence[tuple[float, float]]) -> float:
    """By how much an interval is wider for what still drifts from batch to batch."""
    residuals = _residuals(batches)
    squares = math.fsum(each * each for each in residuals)
    alike = math.fsum(a * b for a, b in itertools.pairwise(residuals)) / squares if squares else 0.0
    return math.sqrt((1 + alike) / (1 - alike)) if alike > 0 else 1.0


def ratio_interval(above: Sequence[float], below: Sequence[float], confidence: float) -> tuple[float, float | None, float | None, int]:
    """The ratio of the sums of two series over stretches of time, its interval, and how many samples that rests on.

    Neighbouring stretches are not independent, so from ``2 * BATCHES`` on they are put together into ``BATCHES`` batches of time (the
    method of batch means: Law, Simulation Modeling and Analysis, 9.5.3), and where these are still alike from one to the next, the interval
    is widened as for a process with that correlation. It is Student's t over the batches' residuals from the common ratio (Cochran,
    Sampling Techniques, 6.3). A single stretch has none. The sum of ``below`` must not be zero.
    """
    value, batches = math.fsum(above) / math.fsum(below), in_batches(above, below)
    count = len(batches)
    if count < 2:
        return value, None, None, count
    squares = math.fsum(each * each for each in _residuals(batches))
    error = widening(batches) * math.sqrt(squares / (count - 1) * count) / math.fsum(below)
    half = student_t_quantile((1 + confidence) / 2, count - 1) * error
    return value, value - half, value + half, count
