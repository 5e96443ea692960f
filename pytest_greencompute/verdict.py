"""Estimate + limit, or estimate + baseline, -> verdict. The whole interval is judged, never the point (but see accuracy).

Laws: no figure is UNMEASURED, never PASS; an open side of an interval can neither pass nor fail by that side; a verdict is
a value with a sentence for people, and what it does to the build is one table (``effect``).
"""

from __future__ import annotations

import datetime
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from pytest_greencompute.budget import Limit, wild
from pytest_greencompute.distributions import mcnemar_p, student_t_quantile
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimate import Estimate, Missing, Outcome, mean_interval
from pytest_greencompute.metrics import Better, Metric
from pytest_greencompute.units import RATIO, show, show_interval, show_limit, show_share, significant

Word = Literal["PASS", "FAIL", "INCONCLUSIVE", "UNMEASURED", "ACCEPTED"]
Kind = Literal["budget", "baseline"]
Effect = Literal["green", "warn", "fail", "skip"]

# Launches of one program differ by up to 12 % on GPUs (two modes); with one or two saved runs their spread cannot be
# estimated, so this is assumed, and said.
ASSUMED_SPREAD = 0.03
ENOUGH_RUNS = 3
MANY_TIMES = 10.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One budget's result. ``reason`` is a whole sentence; ``sees`` the smallest relative regression that this data could show.

    ``limit`` is an SI float (for a baseline: the largest value still fine); None where there was none to judge.
    """

    word: Word
    metric: str
    kind: Kind
    reason: str
    estimate: Estimate | None = None
    limit: float | None = None
    sees: float | None = None
    where: str = ""
    run: str | None = None

    @property
    def modelled(self) -> bool:
        return self.estimate is not None and self.estimate.method == "modelled"


@dataclass(frozen=True, slots=True)
class Policy:
    """What each word does to the build. ``fail``: the test is red; ``warn``: it is said; ``skip``: the test is skipped."""

    enforce: Literal["fail", "warn"] = "fail"
    inconclusive: Literal["warn", "fail"] = "warn"
    unmeasured: Literal["fail", "warn", "skip"] = "warn"
    modelled: Literal["warn", "fail"] = "warn"


def effect(verdict: Verdict, policy: Policy) -> Effect:
    """What ``verdict`` does to its test under ``policy``."""
    by_word: Mapping[Word, Effect] = {
        "PASS": "green",
        "FAIL": "fail",
        "INCONCLUSIVE": policy.inconclusive,
        "UNMEASURED": policy.unmeasured,
        "ACCEPTED": "warn",
    }
    does = by_word[verdict.word]
    if verdict.modelled and policy.modelled == "fail":
        does = "fail"
    return "warn" if does in {"fail", "skip"} and policy.enforce == "warn" else does


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A known FAIL that the file accepts until a date and up to a value (SI). ``reason`` is never empty."""

    test: str
    metric: Metric
    up_to: float
    reason: str
    expires: datetime.date
    where: str


def word_for(estimate: Estimate, limit: float, better: Better) -> Word:
    """PASS where the whole interval is on the good side of ``limit``, FAIL where it is on the bad one, else INCONCLUSIVE."""
    low, high = estimate.low, estimate.high
    if better == "higher":
        low, high, limit = (None if high is None else -high), (None if low is None else -low), -limit
    if high is not None and high <= limit:
        return "PASS"
    return "FAIL" if low is not None and low > limit else "INCONCLUSIVE"


def _point_word(estimate: Estimate, limit: float, better: Better) -> Word:
    good = estimate.value <= limit if better == "lower" else estimate.value >= limit
    return "PASS" if good else "FAIL"


def figure(metric: Metric, estimate: Estimate) -> str:
    """The subject-less sentence part: 'used 1.931 J per query [1.920, 1.942] on gpu:0'; a modelled figure says so behind its domain."""
    text = metric.says.format(show(estimate.value, metric.dimension, 4))
    number = show(estimate.value, metric.dimension, 4)
    interval = show_interval(estimate.value, estimate.low, estimate.high, metric.dimension)
    text += f" {interval.removeprefix(number).strip()}"
    if estimate.domain:
        text += f" on {estimate.domain}{f' ({estimate.method})' if estimate.method == 'modelled' else ''}"
    return text


def judge_budget(metric: Metric, outcome: Outcome, limit: Limit, subject: str, *, by_interval: bool = True) -> Verdict:
    """An absolute budget. ``by_interval`` False (accuracy of fixed queries) judges the figure itself, interval printed beside."""
    if isinstance(outcome, Missing):
        word: Word = "INCONCLUSIVE" if outcome.unclear else "UNMEASURED"
        reason = f"{subject} has no {metric.name} to judge: {outcome.reason}."
        return Verdict(word, metric.name, "budget", reason, limit=limit.value, where=limit.where)
    word = (word_for if by_interval else _point_word)(outcome, limit.value, metric.better)
    kind = "budget" if metric.better == "lower" else "floor"
    shown = show_limit(limit.value, metric.dimension)
    reason = (
        f"{subject} {figure(metric, outcome)}, {_relation(word, metric.better)} its {kind} of {shown}{_times(word, outcome, limit.value)}"
    )
    reason += "." if word != "INCONCLUSIVE" else f": {_unsure(outcome)}."
    half = outcome.half_width
    sees = outcome.relative if half is not None and by_interval and outcome.value else None
    return Verdict(word, metric.name, "budget", reason, outcome, limit.value, sees, limit.where)


def _relation(word: Word, better: Better) -> str:
    table: Mapping[tuple[Word, Better], str] = {
        ("PASS", "lower"): "within",
        ("PASS", "higher"): "at or above",
        ("FAIL", "lower"): "over",
        ("FAIL", "higher"): "under",
    }
    return table.get((word, better), "not clearly on either side of")


def _times(word: Word, outcome: Estimate, limit: float) -> str:
    if word != "FAIL" or outcome.dimension is RATIO:
        return ""
    times = max(outcome.value / limit, limit / outcome.value) if outcome.value > 0 else math.inf
    return f" ({significant(times, 2 if times < 100 else 3)} times)" if times >= 1.1 else f" (by {show_share(times - 1)})"


def _unsure(outcome: Estimate) -> str:
    if outcome.half_width is None:
        return outcome.note or f"{outcome.n} sample{' is' if outcome.n == 1 else 's are'} too few"
    return "the interval holds the limit; more seconds (--energy-max-seconds) narrow it"


def unmeasured(metric: Metric, subject: str, why: str, *, kind: Kind = "budget", where: str = "") -> Verdict:
    """An UNMEASURED verdict with its sentence."""
    return Verdict("UNMEASURED", metric.name, kind, f"{subject} has no {metric.name} to judge: {why}.", where=where)


def accepted(verdict: Verdict, node_id: str, acceptances: Sequence[Acceptance], today: datetime.date) -> Verdict:
    """A FAIL that an entry of the file accepts becomes ACCEPTED, unless all that speak of it have expired or are exceeded (said).

    A score is exceeded by its figure, since that is what its floor is judged by; everything else by its whole interval.
    """
    if verdict.word != "FAIL" or verdict.estimate is None:
        return verdict
    refused = ""
    for entry in acceptances:
        if entry.metric.name != verdict.metric or not (entry.test == node_id or wild(entry.test).fullmatch(node_id)):
            continue
        up_to = show_limit(entry.up_to, entry.metric.dimension)
        word = (_point_word if entry.metric.kind == "score" else word_for)(verdict.estimate, entry.up_to, entry.metric.better)
        if today > entry.expires:
            refused += f" It was accepted until {entry.expires} ({entry.where})."
        elif word == "FAIL":
            refused += f" It was accepted only up to {up_to} ({entry.where})."
        else:
            why = f"{verdict.reason} Accepted up to {up_to} until {entry.expires}: {entry.reason} ({entry.where})."
            return replace(verdict, word="ACCEPTED", reason=why)
    return replace(verdict, reason=verdict.reason + refused)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times worse than the baseline (1.10: 10 % worse), with its interval; 0 and infinity are open sides."""

    value: float
    low: float
    high: float


def worse_ratio(head: Estimate, bases: Sequence[Estimate], better: Better, confidence: float) -> Ratio:
    """Ratio of ``head`` to the mean of ``bases`` (one estimate per saved run), on the log scale.

    With three saved runs or more their own spread is the error of one launch (a random-effects model with as many
    launches as runs; Student's t). With fewer, a spread of ASSUMED_SPREAD between launches is assumed and joined to the
    within-launch error of the intervals. A side that an interval leaves open is open in the ratio too; those of the saved
    runs do not matter where their own spread is what counts. All estimates must be positive.
    """
    sign = 1.0 if better == "lower" else -1.0
    logs = [math.log(base.value) for base in bases]
    change = sign * (math.log(head.value) - statistics.fmean(logs))
    m = len(bases)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    within = sum((_known_error(base) / z) ** 2 for base in bases) / m
    own = (_known_error(head) / z) ** 2
    judged_by_interval = () if m >= ENOUGH_RUNS else bases
    bigger = head.high is None or any(base.low is None for base in judged_by_interval)
    smaller = head.low is None or any(base.high is None for base in judged_by_interval)
    worse_open, better_open = (bigger, smaller) if better == "lower" else (smaller, bigger)
    if m >= ENOUGH_RUNS:
        spread = max(statistics.variance(logs), own)
        half = student_t_quantile((1 + confidence) / 2, m - 1) * math.sqrt(spread * (1 + 1 / m))
    else:
        between = max(ASSUMED_SPREAD**2, statistics.variance(logs) if m > 1 else 0.0)
        half = z * math.sqrt(between * (1 + 1 / m) + within / m + own)
    return Ratio(math.exp(change), 0.0 if better_open else _exp(change - half), math.inf if worse_open else _exp(change + half))


def _known_error(estimate: Estimate) -> float:
    """The larger relative distance to an end of the interval that is known; 0 where both are open."""
    ends = [end for end in (estimate.low, estimate.high) if end is not None]
    return max((abs(end - estimate.value) / estimate.value for end in ends), default=0.0)


def _exp(log: float) -> float:
    """e to the power of ``log``, infinite rather than an OverflowError: an interval of a figure near zero can be that wide."""
    return math.exp(log) if log < 700 else math.inf


def judge_baseline(
    metric: Metric,
    outcome: Outcome,
    bases: Sequence[Estimate],
    subject: str,
    *,
    name: str,
    tolerance: float,
    floor: float = 0.0,
    confidence: float = 0.99,
) -> Verdict:
    """Against the saved runs of baseline ``name``: FAIL only if the whole interval is beyond the tolerance and beyond the floor."""
    if isinstance(outcome, Missing):
        return unmeasured(metric, subject, outcome.reason, kind="baseline", where=name)
    if outcome.value <= 0:
        why = f"{show(outcome.value, metric.dimension)} has no ratio to a baseline"
        return unmeasured(metric, subject, why, kind="baseline", where=name)
    if not bases or any(base.value <= 0 for base in bases):
        return unmeasured(metric, subject, f"baseline {name!r} holds no {metric.name} for it", kind="baseline", where=name)
    ratio = worse_ratio(outcome, bases, metric.better, confidence)
    base = math.exp(statistics.fmean(math.log(each.value) for each in bases))
    worse = [base * (side - 1 if metric.better == "lower" else 1 - 1 / (side or 5e-324)) for side in (ratio.low, ratio.high)]
    word: Word = "INCONCLUSIVE"
    if ratio.high <= 1 + tolerance or worse[1] <= floor:
        word = "PASS"
    elif ratio.low > 1 + tolerance and worse[0] > floor:
        word = "FAIL"
    limit = base * (1 + tolerance) if metric.better == "lower" else base / (1 + tolerance)
    reason = _against(word, metric, outcome, ratio, base, subject, name, tolerance, len(bases))
    sees = tolerance + (ratio.high / ratio.value - 1)
    return Verdict(word, metric.name, "baseline", reason, outcome, limit, sees if math.isfinite(sees) else None, name)


def _against(
    word: Word, metric: Metric, outcome: Estimate, ratio: Ratio, base: float, subject: str, name: str, tolerance: float, runs: int
) -> str:
    change = f"{_signed(ratio.value)} [{_signed(ratio.low)}, {_signed(ratio.high)}]"
    against = f"baseline {name!r} ({show(base, metric.dimension)}, {runs} run{'s' if runs > 1 else ''})"
    judged = {
        "PASS": f"within the tolerance of {show_share(tolerance)}",
        "FAIL": f"worse than the tolerance of {show_share(tolerance)}",
    }.get(word, f"not clearly on either side of the tolerance of {show_share(tolerance)}")
    unsure = f": {_unsure(outcome)}" if word == "INCONCLUSIVE" and outcome.half_width is None else ""
    text = f"{subject} {figure(metric, outcome)}: {change} against {against}, {judged}{unsure}."
    if runs < ENOUGH_RUNS:
        text += f" With {runs} saved run{'s' if runs > 1 else ''}, launches are assumed to differ by {show_share(ASSUMED_SPREAD)}."
    return text


def _signed(ratio: float) -> str:
    """1.104 -> '+10.4 %', for how much worse; a value below 1 is better; '-' for an open side."""
    if ratio == 0 or math.isinf(ratio):
        return "-"
    if ratio > MANY_TIMES:
        return f"more than {MANY_TIMES:.0f} times"
    percent = (ratio - 1) * 100
    return f"{percent:+.1f} %" if abs(percent) < 9.95 else f"{percent:+.0f} %"


def judge_scores(
    metric: Metric,
    head: Sequence[float],
    base: Sequence[float],
    outcome: Estimate,
    subject: str,
    *,
    name: str,
    tolerance: float,
    confidence: float = 0.99,
) -> Verdict:
    """A drop of the score against a baseline, paired query by query (exact McNemar for right/wrong scores, else Student's t).

    McNemar's test can only say that there is a drop, so beyond a tolerance above zero Student's t interval of the paired
    differences must lie as well.
    """
    if len(head) != len(base) or not head:
        why = f"baseline {name!r} has {len(base)} scores and this run {len(head)}: other queries"
        return unmeasured(metric, subject, why, kind="baseline", where=name)
    drops = [before - now for before, now in zip(base, head, strict=True)]
    drop = statistics.fmean(drops)
    before = statistics.fmean(base)
    changed = sum(1 for each in drops if each)
    word: Word = "PASS" if drop <= tolerance else "INCONCLUSIVE"
    if drop > tolerance:
        low = mean_interval(drops, confidence)[1]
        sure = low is not None and low > tolerance
        if all(score in (0.0, 1.0) for score in (*head, *base)):
            drop_p = mcnemar_p(sum(each > 0 for each in drops), sum(each < 0 for each in drops))
            sure = drop_p < 1 - confidence and (sure or tolerance == 0)
        word = "FAIL" if sure else "INCONCLUSIVE"
    judged = {"PASS": "no drop beyond the tolerance", "FAIL": "a drop"}.get(word, "a drop that chance may explain")
    reason = (
        f"{subject} {figure(metric, outcome)} against {significant(before, 3)} in baseline {name!r}: {judged}"
        f" ({changed} of {len(drops)} scores changed)."
    )
    return Verdict(word, metric.name, "baseline", reason, outcome, before - tolerance, None, name)


def judge_limit(samples: Sequence[float], limit: float, *, direction: Literal["max", "min"] = "max", confidence: float = 0.99) -> Verdict:
    """Independent ``samples`` against a number, by Student's t interval of their mean.

    ``direction`` "max": the mean must not exceed ``limit``; "min": it must not fall below it. Fewer than two samples are
    UNMEASURED or INCONCLUSIVE, never PASS. Raises SettingsError for what is not a finite number and for unknown directions.
    """
    if direction not in {"max", "min"}:
        raise SettingsError(f"direction is {direction!r}.", remedy="Write 'max' or 'min'.")
    if not 0 < confidence < 1:
        raise SettingsError(f"confidence is {confidence!r}.", remedy="Write it like 0.99.")
    try:
        values, limit = [float(sample) for sample in samples], float(limit)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"A sample or the limit is not a number: {error}.", remedy="Pass a flat list of numbers.") from error
    if not all(math.isfinite(value) for value in (*values, limit)):
        raise SettingsError("A sample or the limit is not a finite number.")
    if not values:
        return Verdict("UNMEASURED", "samples", "budget", "There are no samples to judge.", limit=limit)
    mean, low, high = mean_interval(values, confidence)
    estimate = Estimate(mean, low, high, RATIO, len(values), confidence)
    word = word_for(estimate, limit, "lower" if direction == "max" else "higher")
    shown = "with no interval" if low is None or high is None else f"[{low:.4g}, {high:.4g}]"
    reason = f"The mean of {len(values)} sample{'' if len(values) == 1 else 's'} is {mean:.4g} {shown}; the limit is {limit:.4g}: {word}."
    sees = (high - mean) / abs(limit) if high is not None and limit else None
    return Verdict(word, "samples", "budget", reason, estimate, limit, sees)
