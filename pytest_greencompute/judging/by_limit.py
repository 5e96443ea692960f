"""An estimate against a limit that the user wrote. The whole interval is judged, never the point (but see accuracy)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate, Missing, Outcome, figure
from pytest_greencompute.judging.budget import Limit
from pytest_greencompute.judging.verdict import Verdict, Word, far_beyond, narrowed_by, point_word, word_for
from pytest_greencompute.stats.intervals import mean_interval, positive_low
from pytest_greencompute.values.metrics import Better, Metric
from pytest_greencompute.values.units import RATIO, SHARES, show_limit, show_share, significant

LARGE = 1e150  # the square of what is larger has no float


def judge_budget(metric: Metric, outcome: Outcome, limit: Limit, subject: str, *, by_interval: bool = True) -> Verdict:
    """An absolute budget. ``by_interval`` False (accuracy of fixed queries) judges the figure itself, interval printed beside."""
    if isinstance(outcome, Missing) and outcome.coarse is not None and far_beyond(outcome.coarse, limit.value, metric.better):
        outcome = outcome.coarse
    if isinstance(outcome, Missing):
        word: Word = "INCONCLUSIVE" if outcome.unclear else "UNMEASURED"
        reason = f"{subject} has no {metric.name} to judge: {outcome.reason}."
        return Verdict(word, metric.name, "budget", reason, limit=limit.value, where=limit.where)
    word = (word_for if by_interval else point_word)(outcome, limit.value, metric.better)
    kind = "budget" if metric.better == "lower" else "floor"
    shown = show_limit(limit.value, outcome.dimension)
    reason = (
        f"{subject} {figure(metric, outcome)}, {relation(word, metric.better)} its {kind} of {shown}"
        f"{'' if metric.whole else _times(word, outcome, limit.value)}"
    )
    if word == "FAIL" and by_interval and far_beyond(outcome, limit.value, metric.better):
        reason += f", each of its {outcome.n} samples a thousand times" if outcome.n > 1 else ", in its only sample"
    reason += "." if word not in {"INCONCLUSIVE", "UNMEASURED"} else f": {why_unsure(metric, outcome)}."
    half = outcome.half_width
    sees = outcome.relative if half is not None and by_interval and outcome.value else None
    return Verdict(word, metric.name, "budget", reason, outcome, limit.value, sees, limit.where)


def relation(word: Word, better: Better) -> str:
    table: Mapping[tuple[Word, Better], str] = {
        ("PASS", "lower"): "within",
        ("PASS", "higher"): "at or above",
        ("FAIL", "lower"): "over",
        ("FAIL", "higher"): "under",
    }
    return table.get((word, better), "not clearly on either side of")


def _times(word: Word, outcome: Estimate, limit: float) -> str:
    if word != "FAIL" or outcome.dimension in SHARES or limit == 0:  # nothing is a number of times zero
        return ""
    times = max(outcome.value / limit, limit / outcome.value) if outcome.value > 0 else math.inf
    return f" ({significant(times, 2 if times < 100 else 3)} times)" if times >= 1.1 else f" (by {show_share(times - 1)})"


def why_unsure(metric: Metric, outcome: Estimate) -> str:
    if outcome.half_width is None:
        return outcome.note or f"{outcome.n} sample{' is' if outcome.n == 1 else 's are'} too few"
    more = narrowed_by(metric, outcome)
    return f"the interval holds the limit; {more} {'narrows' if more.startswith('a ') else 'narrow'} it"


def _finite(end: float | None, scale: float) -> float | None:
    """An end of an interval in the unit of the samples; None where no float is as large."""
    return None if end is None or math.isinf(end * scale) else end * scale


def judge_limit(
    samples: Sequence[float],
    limit: float,
    *,
    direction: Literal["max", "min"] = "max",
    confidence: float = 0.99,
    signed: bool = False,
) -> Verdict:
    """Independent ``samples`` against a number, by Student's t interval of their mean.

    ``direction`` "max": the mean must not exceed ``limit``; "min": it must not fall below it. Samples none of which is negative are taken
    for those of a positive quantity (energy, time, power), whose mean is no smaller than the samples themselves show (``positive_low``);
    ``signed`` says that they are differences, which may fall below zero. Fewer than two samples are UNMEASURED or INCONCLUSIVE, or FAIL
    a thousand times beyond the limit, never PASS. Raises SettingsError for what is not a finite number and for unknown directions.
    """
    if direction not in {"max", "min"}:
        raise SettingsError(f"direction is {direction!r}.", remedy="Write 'max' or 'min'.")
    if not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise SettingsError(f"confidence is {confidence!r}.", remedy="Write it like 0.99.")
    try:
        values, limit = [float(sample) for sample in samples], float(limit)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"A sample or the limit is not a number: {error}.", remedy="Pass a flat list of numbers.") from error
    if not all(math.isfinite(value) for value in (*values, limit)):
        raise SettingsError("A sample or the limit is not a finite number.")
    if not values:
        return Verdict("UNMEASURED", "samples", "budget", "There are no samples to judge.", limit=limit)
    scale = max(map(abs, values)) if max(map(abs, values)) > LARGE else 1.0  # sums of such values have no float, their mean has one
    mean, low, high = mean_interval([value / scale for value in values], confidence)
    positive = not signed and min(values) > 0
    if low is not None and not signed and min(values) >= 0:
        low = max(low, positive_low([value / scale for value in values], (1 - confidence) / 2))
    mean, low, high = mean * scale, _finite(low, scale), _finite(high, scale)
    estimate = Estimate(mean, low, high, RATIO, len(values), confidence, extremes=(min(values), max(values)) if positive else None)
    word = word_for(estimate, limit, "lower" if direction == "max" else "higher")
    shown = "with no interval" if low is None or high is None else f"[{low:.4g}, {high:.4g}]"
    reason = f"The mean of {len(values)} sample{'' if len(values) == 1 else 's'} is {mean:.4g} {shown}; the limit is {limit:.4g}: {word}."
    sees = (high - mean) / abs(limit) if high is not None and limit else None
    return Verdict(word, "samples", "budget", reason, estimate, limit, sees)
