"""Estimate + limit, or estimate + baseline, -> verdict. The whole interval is judged, never the point (but see accuracy).

Laws: no figure is UNMEASURED, never PASS; an open side of an interval can neither pass nor fail by that side; a verdict is
a value with a sentence for people, and what it does to the build is one table (``effect``).
"""

from __future__ import annotations

import datetime
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Literal

from pytest_greencompute.budget import Limit, Names, Rank
from pytest_greencompute.distributions import mcnemar_p
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimate import FAR, ONE_WINDOW, Estimate, Missing, Outcome, bootstrap_low, mean_interval, positive_low
from pytest_greencompute.metrics import Better, Metric
from pytest_greencompute.ratio import PRIORS, Level, Ratio, launches_ratio
from pytest_greencompute.sequential import share
from pytest_greencompute.units import RATIO, SHARES, show, show_interval, show_limit, show_share, significant

Word = Literal["PASS", "FAIL", "INCONCLUSIVE", "UNMEASURED", "ACCEPTED"]
Kind = Literal["budget", "baseline", "base_ref", "comparison"]
Effect = Literal["green", "warn", "fail", "skip"]

ENOUGH_RUNS = 3  # launches that show their own spread; with fewer it is mostly assumed (ratio.PRIORS), and said
MANY_TIMES = 10.0
FINE_PRINT = 0.02  # an interval of a ratio so narrow that whole per cents would not tell its ends apart


@dataclass(frozen=True, slots=True)
class Verdict:
    """One budget's result. ``reason`` is a whole sentence; ``sees`` the smallest relative regression that this data could show.

    ``limit`` is an SI float (for a baseline: the largest value still fine); None where there was none to judge. ``pairs`` is how many
    pairs of base and head were measured for it. Against another run ``base`` is its figure (SI) and ``ratio`` how many times worse this
    one is, where they can be had.
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
    pairs: int | None = None
    base: float | None = None
    ratio: Ratio | None = None

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

    @property
    def fails_unmeasured(self) -> bool:
        """Whether a budget without a figure is red."""
        return self.enforce == self.unmeasured == "fail"


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
    names: Names = field(default_factory=Names)

    def rank(self, node_id: str) -> Rank | None:
        """How specific it is about that test; None where it is not."""
        return self.names.rank(self.test, node_id)


def word_for(estimate: Estimate, limit: float, better: Better) -> Word:
    """PASS where the whole interval is on the good side of ``limit``, FAIL where it is on the bad one, else INCONCLUSIVE.

    Where the data leave a side open, FAIL takes every sample of a positive quantity to be ``FAR`` times beyond.
    """
    low, high = (estimate.low, estimate.high) if better == "lower" else _turned(estimate.low, estimate.high)
    bound = limit if better == "lower" else -limit
    if high is not None and high <= bound:
        return "PASS"
    return "FAIL" if (low is not None and low > bound) or _far_beyond(estimate, limit, better) else "INCONCLUSIVE"


def _turned(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    return None if high is None else -high, None if low is None else -low


def _far_beyond(estimate: Estimate, limit: float, better: Better) -> bool:
    if estimate.extremes is None or limit <= 0:
        return False
    smallest, largest = estimate.extremes
    near, far = (limit, smallest) if better == "lower" else (largest, limit)
    return near * FAR <= far or math.isclose(near * FAR, far)


def _point_word(estimate: Estimate, limit: float, better: Better) -> Word:
    """The word of an exact figure. One that is only a bound may be on either side of a limit beyond it: UNMEASURED."""
    return _word_of_bounds(_bounds(estimate), (limit, limit), better)


def _word_of_bounds(figure: tuple[float, float], limit: tuple[float, float], better: Better) -> Word:
    """An exact figure and its limit, each with the bounds between which it lies: equal ones, unless something was not counted."""
    (low, high), (least, most) = figure, limit
    if better == "higher":
        low, high, least, most = -high, -low, -most, -least
    if high <= least:
        return "PASS"
    return "FAIL" if low > most else "UNMEASURED"


def _bounds(estimate: Estimate) -> tuple[float, float]:
    """Between what an exact figure lies: it is what it is, unless one side alone is open."""
    if not is_bound(estimate):
        return estimate.value, estimate.value
    return (-math.inf if estimate.low is None else estimate.low), (math.inf if estimate.high is None else estimate.high)


def is_bound(estimate: Estimate) -> bool:
    """Whether an exact figure is only known to be so much at least, or at most (one side of it alone is open)."""
    return (estimate.low is None) != (estimate.high is None)


def figure(metric: Metric, estimate: Estimate) -> str:
    """The subject-less sentence part: 'used 1.931 J per query [1.920, 1.942] on gpu:0'; a modelled figure says so behind its domain."""
    digits = 1 if metric.whole else 4
    number = show(estimate.value, estimate.dimension, digits)
    bounded = metric.exact and is_bound(estimate)
    text = metric.says.format(f"{number} or {'more' if estimate.high is None else 'less'}" if bounded else number)
    interval = show_interval(estimate.value, estimate.low, estimate.high, estimate.dimension, digits)
    if not metric.exact or (estimate.low is not None and estimate.high is not None):
        text += f" {interval.removeprefix(number).strip()}"
    if estimate.domain:
        text += f" on {estimate.domain}{f' ({estimate.method})' if estimate.method == 'modelled' else ''}"
    return text


def judge_budget(metric: Metric, outcome: Outcome, limit: Limit, subject: str, *, by_interval: bool = True) -> Verdict:
    """An absolute budget. ``by_interval`` False (accuracy of fixed queries) judges the figure itself, interval printed beside."""
    if isinstance(outcome, Missing) and outcome.coarse is not None and _far_beyond(outcome.coarse, limit.value, metric.better):
        outcome = outcome.coarse
    if isinstance(outcome, Missing):
        word: Word = "INCONCLUSIVE" if outcome.unclear else "UNMEASURED"
        reason = f"{subject} has no {metric.name} to judge: {outcome.reason}."
        return Verdict(word, metric.name, "budget", reason, limit=limit.value, where=limit.where)
    word = (word_for if by_interval else _point_word)(outcome, limit.value, metric.better)
    kind = "budget" if metric.better == "lower" else "floor"
    shown = show_limit(limit.value, outcome.dimension)
    reason = (
        f"{subject} {figure(metric, outcome)}, {_relation(word, metric.better)} its {kind} of {shown}"
        f"{'' if metric.whole else _times(word, outcome, limit.value)}"
    )
    if word == "FAIL" and by_interval and _far_beyond(outcome, limit.value, metric.better):
        reason += f", each of its {outcome.n} samples a thousand times" if outcome.n > 1 else ", in its only sample"
    reason += "." if word not in {"INCONCLUSIVE", "UNMEASURED"} else f": {_unsure(metric, outcome)}."
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
    if word != "FAIL" or outcome.dimension in SHARES or limit == 0:  # nothing is a number of times zero
        return ""
    times = max(outcome.value / limit, limit / outcome.value) if outcome.value > 0 else math.inf
    return f" ({significant(times, 2 if times < 100 else 3)} times)" if times >= 1.1 else f" (by {show_share(times - 1)})"


def _unsure(metric: Metric, outcome: Estimate) -> str:
    if outcome.half_width is None:
        return outcome.note or f"{outcome.n} sample{' is' if outcome.n == 1 else 's are'} too few"
    more = narrowed_by(metric, outcome)
    return f"the interval holds the limit; {more} {'narrows' if more.startswith('a ') else 'narrow'} it"


MORE_SECONDS = "more seconds (--energy-max-seconds)"


def narrowed_by(metric: Metric, outcome: Estimate | None) -> str:
    """What would narrow the interval of a figure."""
    if metric.kind == "score":
        return "more labelled queries"  # the same ones again say nothing new
    return "a longer window" if outcome is not None and outcome.note == ONE_WINDOW else MORE_SECONDS


def unmeasured(metric: Metric, subject: str, why: str, *, kind: Kind = "budget", where: str = "") -> Verdict:
    """An UNMEASURED verdict with its sentence."""
    return Verdict("UNMEASURED", metric.name, kind, f"{subject} has no {metric.name} to judge: {why}.", where=where)


def accepted(verdict: Verdict, node_id: str, acceptances: Sequence[Acceptance], today: datetime.date) -> Verdict:
    """A FAIL that an entry of the file accepts becomes ACCEPTED, unless all that speak of it have expired or are exceeded (said).

    Of those that have not expired the most specific decides: one for all tests does not soften one for a test by name. Of several that are
    as specific it is the one that ends first, and of those the strictest, whichever stands first.
    A score is exceeded by its figure, since that is what its floor is judged by; everything else by its whole interval.
    """
    if verdict.word != "FAIL" or verdict.estimate is None:
        return verdict
    refused = ""
    about = [(rank, entry) for entry in acceptances if entry.metric.name == verdict.metric and (rank := entry.rank(node_id)) is not None]
    first = max((rank for rank, entry in about if today <= entry.expires), default=())
    expired = [entry for _, entry in about if today > entry.expires]
    alive = [entry for rank, entry in about if today <= entry.expires and rank == first]
    alive.sort(key=lambda entry: (entry.expires, entry.up_to if entry.metric.better == "lower" else -entry.up_to))
    for entry in (*expired, *alive[:1]):
        up_to = show_limit(entry.up_to, verdict.estimate.dimension)
        word = (_point_word if entry.metric.exact else word_for)(verdict.estimate, entry.up_to, entry.metric.better)
        if today > entry.expires:
            refused += f" It was accepted until {entry.expires} ({entry.where})."
        elif word == "FAIL":
            refused += f" It was accepted only up to {up_to} ({entry.where})."
        else:
            why = f"{verdict.reason} Accepted up to {up_to} until {entry.expires}: {entry.reason} ({entry.where})."
            return replace(verdict, word="ACCEPTED", reason=why)
    return replace(verdict, reason=verdict.reason + refused)


def worse_ratio(heads: Sequence[Estimate], bases: Sequence[Estimate], better: Better, confidence: float, alarms: int = 1) -> Ratio:
    """Ratio of the mean of ``heads`` to that of ``bases`` (one estimate per run): each is one launch (see ``launches_ratio``).

    A side that an interval leaves open is open in the ratio too; those of one side's runs do not matter where there are enough of
    them to show their own spread. ``alarms`` verdicts share the error of its low side, which makes a FAIL. All estimates must be
    positive.
    """
    error = (1 - confidence) / 2
    levels = [_level(base, confidence) for base in bases], [_level(head, confidence) for head in heads]
    worse, by = levels if better == "lower" else levels[::-1]
    ratio = launches_ratio(worse, by, low_error=share(error, 1, budgets=alarms), high_error=error)
    few_bases, few_heads = (() if len(side) >= ENOUGH_RUNS else side for side in (bases, heads))
    bigger = any(head.high is None for head in few_heads) or any(base.low is None for base in few_bases)
    smaller = any(head.low is None for head in few_heads) or any(base.high is None for base in few_bases)
    worse_open, better_open = (bigger, smaller) if better == "lower" else (smaller, bigger)
    return Ratio(ratio.value, 0.0 if better_open else ratio.low, math.inf if worse_open else ratio.high)


def _level(estimate: Estimate, confidence: float) -> Level:
    """One launch's level; its error by the larger relative distance to an end of the interval that is known, 0 where both are open."""
    ends = [end for end in (estimate.low, estimate.high) if end is not None]
    half = max((abs(end - estimate.value) / estimate.value for end in ends), default=0.0)
    return Level(math.log(estimate.value), half / NormalDist().inv_cdf((1 + confidence) / 2))


def largest_fine(tolerance: float, *, floor: float, level: float, better: Better) -> float:
    """The largest ratio that is fine: within the tolerance, or within the floor, which is in the unit of ``level``, the base's figure."""
    share = floor / level
    within_floor = 1 + share if better == "lower" else 1 / (1 - share) if share < 1 else math.inf
    return max(1 + tolerance, within_floor)


def word_for_ratio(ratio: Ratio, limit: float) -> Word:
    """FAIL where the whole interval is beyond ``limit`` (the largest ratio that is fine), PASS where it is within, else INCONCLUSIVE."""
    if ratio.high <= limit:
        return "PASS"
    return "FAIL" if ratio.low > limit else "INCONCLUSIVE"


def sees(ratio: Ratio, limit: float) -> float | None:
    """The smallest regression (0.08: 8 % worse) that would have been beyond ``limit`` with this interval; None where a side is open."""
    smallest = limit * ratio.margin - 1
    return smallest if math.isfinite(smallest) and math.isfinite(ratio.high) else None


def change(ratio: Ratio) -> str:
    """A ratio for people: '+10.2 % [+7.9 %, +13 %]', for how much worse; '-' for an open side."""
    fine = ratio.high - ratio.low < FINE_PRINT
    value, low, high = (_signed(each, fine=fine) for each in (ratio.value, ratio.low, ratio.high))
    return f"{value} [{low}, {high}]"


def beside_limit(word: Word, tolerance: float, limit: float) -> str:
    """Where a ratio that got ``word`` lies: 'within the tolerance of 5.0 %', or beside the floor where that allows for more."""
    where = {"PASS": "within", "FAIL": "worse than"}.get(word, "not clearly on either side of")
    if limit <= 1 + tolerance:
        return f"{where} the tolerance of {show_share(tolerance)}"
    return f"{where} the floor{f' ({_signed(limit)})' if math.isfinite(limit) else ''}"


def few_launches(base: int, head: int) -> str:
    """What to say where so few launches were seen that their spread is mostly assumed; else nothing."""
    if max(base, head) >= ENOUGH_RUNS:
        return ""
    return f"launches are assumed to differ by {show_share(PRIORS['low'].spread)}"


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
    alarms: int = 1,
    again: Sequence[Estimate] = (),
) -> Verdict:
    """Against the saved runs of baseline ``name``: FAIL only if the whole interval is beyond the tolerance and beyond the floor.

    ``again``: further launches of the side that is judged, ``outcome`` being its newest.
    """
    if isinstance(outcome, Missing):
        return unmeasured(metric, subject, outcome.reason, kind="baseline", where=name)
    if outcome.value <= 0:
        why = f"{show(outcome.value, outcome.dimension)} has no ratio to a baseline"
        return unmeasured(metric, subject, why, kind="baseline", where=name)
    if not bases or any(each.value <= 0 for each in (*bases, *again)):
        return unmeasured(metric, subject, f"baseline {name!r} holds no {metric.name} for it", kind="baseline", where=name)
    ratio = worse_ratio([outcome, *again], bases, metric.better, confidence, alarms)
    base = math.exp(statistics.fmean(math.log(each.value) for each in bases))
    fine = largest_fine(tolerance, floor=floor, level=base, better=metric.better)
    word = word_for_ratio(ratio, fine)
    limit = base * (1 + tolerance) if metric.better == "lower" else base / (1 + tolerance)
    saved = f"{len(bases)} {'run' if len(bases) == 1 else 'runs'}"
    unsure = f": {_unsure(metric, outcome)}" if word == "INCONCLUSIVE" and outcome.half_width is None else ""
    reason = (
        f"{subject} {figure(metric, outcome)}: {change(ratio)} against baseline {name!r} ({show(base, outcome.dimension)}, {saved}),"
        f" {beside_limit(word, tolerance, fine)}{unsure}."
    )
    if assumed := few_launches(len(bases), 1 + len(again)):
        reason += f" With {saved.replace(' ', ' saved ')}, {assumed}."
    return Verdict(word, metric.name, "baseline", reason, outcome, limit, sees(ratio, fine), name, base=base, ratio=ratio)


def _signed(ratio: float, *, fine: bool = False) -> str:
    """1.104 -> '+10 %' ('+10.4 %' if ``fine``), for how much worse; a value below 1 is better; '-' for an open side."""
    if ratio == 0 or math.isinf(ratio):
        return "-"
    if ratio > MANY_TIMES:
        return f"more than {MANY_TIMES:.0f} times"
    percent = (ratio - 1) * 100
    return f"{percent:+.1f} %" if fine or abs(percent) < 9.95 else f"{percent:+.0f} %"


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
    kind: Kind = "baseline",
) -> Verdict:
    """A drop of the score against another run, paired query by query (exact McNemar for right/wrong scores, else a bootstrap).

    McNemar's test can only say that there is a drop, so beyond a tolerance above zero Student's t interval of the paired
    differences must lie as well. Other scores have odd distributions, so their drops are resampled (``bootstrap_low``).
    """
    if len(head) != len(base) or not head:
        why = f"{called(kind, name)} has {len(base)} scores and this run {len(head)}: other queries"
        return unmeasured(metric, subject, why, kind=kind, where=name)
    drops = [before - now for before, now in zip(base, head, strict=True)]
    drop = statistics.fmean(drops)
    before = statistics.fmean(base)
    changed = sum(1 for each in drops if each)
    word: Word = "PASS" if drop <= tolerance else "INCONCLUSIVE"
    if drop > tolerance:
        if all(score in (0.0, 1.0) for score in (*head, *base)):
            low = mean_interval(drops, confidence)[1]
            drop_p = mcnemar_p(sum(each > 0 for each in drops), sum(each < 0 for each in drops))
            sure = drop_p < 1 - confidence and (tolerance == 0 or (low is not None and low > tolerance))
        else:
            sure = bootstrap_low(drops, (1 - confidence) / 2) > tolerance
        word = "FAIL" if sure else "INCONCLUSIVE"
    judged = {"PASS": "no drop beyond the tolerance", "FAIL": "a drop"}.get(word, "a drop that chance may explain")
    reason = (
        f"{subject} {figure(metric, outcome)} against {significant(before, 3)} {'in' if kind == 'baseline' else 'at'} {called(kind, name)}:"
        f" {judged} ({changed} of {len(drops)} scores changed)."
    )
    return Verdict(word, metric.name, kind, reason, outcome, before - tolerance, None, name, base=before)


def judge_count(
    metric: Metric,
    outcome: Outcome,
    before: Outcome,
    subject: str,
    *,
    name: str,
    tolerance: float,
    floor: float = 0.0,
    kind: Kind = "baseline",
) -> Verdict:
    """A figure that was counted over the same queries, against another run's: the figures themselves are compared, since they are exact."""
    found = next((each for each in (outcome, before) if isinstance(each, Missing)), None)
    if isinstance(outcome, Missing) or isinstance(before, Missing):
        why = found.reason if found is outcome and found is not None else f"{called(kind, name)} has no {metric.name}"
        return unmeasured(metric, subject, why, kind=kind, where=name)
    if metric.kind == "compute" and outcome.n != before.n:
        why = f"it was counted over {outcome.n} queries here and over {before.n} in {called(kind, name)}"
        return unmeasured(metric, subject, why, kind=kind, where=name)

    def fine(base: float) -> float:
        """The largest figure (or the smallest) that is no regression from ``base``."""
        if metric.better == "lower":
            return max(base * (1 + tolerance), base + floor)
        return min(base / (1 + tolerance), base - floor)

    least, most = _bounds(before)
    word = _word_of_bounds(_bounds(outcome), (fine(least), fine(most)), metric.better)
    how = "unchanged" if before.value == outcome.value else f"from {show(before.value, metric.dimension)}"
    beside = {"PASS": "within", "FAIL": "worse than"}.get(word, "not clearly on either side of")
    left_out = f": {outcome.note if is_bound(outcome) else before.note}" if word == "UNMEASURED" else ""
    reason = f"{subject} {figure(metric, outcome)} against {called(kind, name)}: {how}, {beside} the tolerance of {show_share(tolerance)}"
    ratio = _exact_ratio(metric, before, outcome)
    return Verdict(word, metric.name, kind, f"{reason}{left_out}.", outcome, fine(before.value), None, name, base=before.value, ratio=ratio)


def _exact_ratio(metric: Metric, before: Estimate, now: Estimate) -> Ratio | None:
    """How many times worse a counted figure is; None where one is only a bound, or zero."""
    if is_bound(before) or is_bound(now) or min(before.value, now.value) <= 0:
        return None
    times = now.value / before.value if metric.better == "lower" else before.value / now.value
    return Ratio(times, times, times)


def called(kind: Kind, name: str) -> str:
    """The other run in a sentence: "baseline 'main'", or the commit."""
    return f"baseline {name!r}" if kind == "baseline" else name


def judge_answers(metric: Metric, outcome: Outcome, limit: Limit, subject: str, *, name: str, kind: Kind) -> Verdict:
    """How many answers to the fixed queries differ from another run's: the share itself is judged, its interval printed beside."""
    against = f"{subject}, against {called(kind, name)},"
    verdict = judge_budget(metric, outcome, limit, against, by_interval=False)
    if isinstance(outcome, Estimate):
        count = f"{round(outcome.value * outcome.n)} of {outcome.n} answers changed"
        verdict = replace(verdict, reason=f"{verdict.reason.removesuffix('.')} ({count}).")
    return replace(verdict, kind=kind)


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
    mean, low, high = mean_interval(values, confidence)
    positive = not signed and min(values) > 0
    if low is not None and not signed and min(values) >= 0:
        low = max(low, positive_low(values, (1 - confidence) / 2))
    estimate = Estimate(mean, low, high, RATIO, len(values), confidence, extremes=(min(values), max(values)) if positive else None)
    word = word_for(estimate, limit, "lower" if direction == "max" else "higher")
    shown = "with no interval" if low is None or high is None else f"[{low:.4g}, {high:.4g}]"
    reason = f"The mean of {len(values)} sample{'' if len(values) == 1 else 's'} is {mean:.4g} {shown}; the limit is {limit:.4g}: {word}."
    sees = (high - mean) / abs(limit) if high is not None and limit else None
    return Verdict(word, "samples", "budget", reason, estimate, limit, sees)
