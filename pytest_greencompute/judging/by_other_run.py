"""An estimate against that of another run, saved or at another commit: how many times worse, and whether that is for certain."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.estimates.estimate import Estimate, Missing, Outcome, figure, is_bound
from pytest_greencompute.judging.budget import Limit
from pytest_greencompute.judging.by_limit import judge_budget, why_unsure
from pytest_greencompute.judging.verdict import Verdict, Word, bounds_of, unmeasured, word_of_bounds
from pytest_greencompute.stats.distributions import mcnemar_p, normal_reach
from pytest_greencompute.stats.intervals import bootstrap_low, mean_interval
from pytest_greencompute.stats.looks import share
from pytest_greencompute.stats.ratios import PRIORS, LaunchLevel, Ratio, launches_ratio
from pytest_greencompute.values.metrics import Better, Metric
from pytest_greencompute.values.units import show, show_share, significant

ENOUGH_RUNS = 3  # launches that show their own spread; with fewer it is mostly assumed (ratio.PRIORS), and said
MANY_TIMES = 10.0
FINE_PRINT = 0.02  # an interval of a ratio so narrow that whole per cents would not tell its ends apart


@dataclass(frozen=True, slots=True)
class Other:
    """The other run: ``kind`` and ``where`` are the verdicts', ``called`` is what sentences call it, ``at`` the word before that."""

    kind: str
    where: str
    called: str
    at: str


def worse_ratio(heads: Sequence[Estimate], bases: Sequence[Estimate], better: Better, confidence: float, alarms: int = 1) -> Ratio:
    """Ratio of the mean of ``heads`` to that of ``bases`` (one estimate per run): each is one launch (see ``launches_ratio``).

    A side that an interval leaves open is open in the ratio too; those of one side's runs do not matter where there are enough of
    them to show their own spread. ``alarms`` verdicts share the error of its low side, which makes a FAIL. All estimates must be
    positive.
    """
    error = (1 - confidence) / 2
    levels = [level_of(base, confidence) for base in bases], [level_of(head, confidence) for head in heads]
    worse, by = levels if better == "lower" else levels[::-1]
    ratio = launches_ratio(worse, by, low_error=share(error, 1, budgets=alarms), high_error=error)
    few_bases, few_heads = (() if len(side) >= ENOUGH_RUNS else side for side in (bases, heads))
    bigger = any(head.high is None for head in few_heads) or any(base.low is None for base in few_bases)
    smaller = any(head.low is None for head in few_heads) or any(base.high is None for base in few_bases)
    worse_open, better_open = (bigger, smaller) if better == "lower" else (smaller, bigger)
    return Ratio(ratio.value, 0.0 if better_open else ratio.low, math.inf if worse_open else ratio.high)


def level_of(estimate: Estimate, confidence: float) -> LaunchLevel:
    """One launch's level; its error by the larger relative distance to an end of the interval that is known, 0 where both are open."""
    ends = [end for end in (estimate.low, estimate.high) if end is not None]
    half = max((abs(end - estimate.value) / estimate.value for end in ends), default=0.0)
    return LaunchLevel(math.log(estimate.value), half / normal_reach(confidence))


def largest_fine(tolerance: float, *, floor: float, level: float, better: Better) -> float:
    """The largest ratio that is fine: within the tolerance, or within the floor, which is in the unit of ``level``, the base's figure."""
    share = floor / level
    within_floor = 1 + share if better == "lower" else 1 / (1 - share) if share < 1 else math.inf
    return max(1 + tolerance, within_floor)


def at_times(ratio: float, level: float, better: Better) -> float:
    """The figure that is ``ratio`` times worse than ``level``."""
    return level * ratio if better == "lower" else level / ratio


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
    other: Other,
    *,
    tolerance: float,
    floor: float = 0.0,
    confidence: float = 0.99,
    alarms: int = 1,
    again: Sequence[Estimate] = (),
) -> Verdict:
    """Against the saved runs of a baseline: FAIL only if the whole interval is beyond the tolerance and beyond the floor.

    ``again``: further launches of the side that is judged, ``outcome`` being its newest.
    """
    if isinstance(outcome, Missing):
        return unmeasured(metric, subject, outcome.reason, kind=other.kind, where=other.where)
    if outcome.value <= 0:
        why = f"{show(outcome.value, outcome.dimension)} has no ratio to a {other.kind}"
        return unmeasured(metric, subject, why, kind=other.kind, where=other.where)
    if not bases or any(each.value <= 0 for each in (*bases, *again)):
        return unmeasured(metric, subject, f"{other.called} holds no {metric.name} for it", kind=other.kind, where=other.where)
    ratio = worse_ratio([outcome, *again], bases, metric.better, confidence, alarms)
    base = math.exp(statistics.fmean(math.log(each.value) for each in bases))
    fine = largest_fine(tolerance, floor=floor, level=base, better=metric.better)
    word = word_for_ratio(ratio, fine)
    limit = at_times(fine, base, metric.better) if math.isfinite(fine) else None
    saved = f"{len(bases)} {'run' if len(bases) == 1 else 'runs'}"
    unsure = f": {why_unsure(metric, outcome)}" if word == "INCONCLUSIVE" and outcome.half_width is None else ""
    reason = (
        f"{subject} {figure(metric, outcome)}: {change(ratio)} against {other.called} ({show(base, outcome.dimension)}, {saved}),"
        f" {beside_limit(word, tolerance, fine)}{unsure}."
    )
    if assumed := few_launches(len(bases), 1 + len(again)):
        reason += f" With {saved.replace(' ', ' saved ')}, {assumed}."
    return Verdict(word, metric.name, other.kind, reason, outcome, limit, sees(ratio, fine), other.where, base=base, ratio=ratio)


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
    other: Other,
    *,
    tolerance: float,
    confidence: float = 0.99,
) -> Verdict:
    """A drop of the score against another run, paired query by query (exact McNemar for right/wrong scores, else a bootstrap).

    McNemar's test can only say that there is a drop, so beyond a tolerance above zero Student's t interval of the paired
    differences must lie as well. Other scores have odd distributions, so their drops are resampled (``bootstrap_low``).
    """
    if len(head) != len(base) or not head:
        why = f"{other.called} has {len(base)} scores and this run {len(head)}: other queries"
        return unmeasured(metric, subject, why, kind=other.kind, where=other.where)
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
        f"{subject} {figure(metric, outcome)} against {significant(before, 3)} {other.at} {other.called}:"
        f" {judged} ({changed} of {len(drops)} scores changed)."
    )
    return Verdict(word, metric.name, other.kind, reason, outcome, before - tolerance, None, other.where, base=before)


def judge_count(
    metric: Metric,
    outcome: Outcome,
    before: Outcome,
    subject: str,
    other: Other,
    *,
    tolerance: float,
    floor: float = 0.0,
) -> Verdict:
    """A figure that was counted over the same queries, against another run's: the figures themselves are compared, since they are exact."""
    found = next((each for each in (outcome, before) if isinstance(each, Missing)), None)
    if isinstance(outcome, Missing) or isinstance(before, Missing):
        why = found.reason if found is outcome and found is not None else f"{other.called} has no {metric.name}"
        return unmeasured(metric, subject, why, kind=other.kind, where=other.where)
    if metric.kind == "compute" and outcome.n != before.n:
        why = f"it was counted over {outcome.n} queries here and over {before.n} in {other.called}"
        return unmeasured(metric, subject, why, kind=other.kind, where=other.where)

    def fine(base: float) -> float:
        """The largest figure (or the smallest) that is no regression from ``base``."""
        if metric.better == "lower":
            return max(base * (1 + tolerance), base + floor)
        return min(base / (1 + tolerance), base - floor)

    least, most = bounds_of(before)
    word = word_of_bounds(bounds_of(outcome), (fine(least), fine(most)), metric.better)
    how = "unchanged" if before.value == outcome.value else f"from {show(before.value, metric.dimension)}"
    beside = {"PASS": "within", "FAIL": "worse than"}.get(word, "not clearly on either side of")
    left_out = f": {outcome.note if is_bound(outcome) else before.note}" if word == "UNMEASURED" else ""
    reason = f"{subject} {figure(metric, outcome)} against {other.called}: {how}, {beside} the tolerance of {show_share(tolerance)}"
    ratio = _exact_ratio(metric, before, outcome)
    fine_at = fine(before.value)
    told = f"{reason}{left_out}."
    return Verdict(word, metric.name, other.kind, told, outcome, fine_at, None, other.where, base=before.value, ratio=ratio)


def _exact_ratio(metric: Metric, before: Estimate, now: Estimate) -> Ratio | None:
    """How many times worse a counted figure is; None where one is only a bound, or zero."""
    if is_bound(before) or is_bound(now) or min(before.value, now.value) <= 0:
        return None
    times = now.value / before.value if metric.better == "lower" else before.value / now.value
    return Ratio(times, times, times)


def judge_answers(metric: Metric, outcome: Outcome, limit: Limit, subject: str, other: Other) -> Verdict:
    """How many answers to the fixed queries differ from another run's: the share itself is judged, its interval printed beside."""
    against = f"{subject}, against {other.called},"
    verdict = judge_budget(metric, outcome, limit, against, by_interval=False)
    if isinstance(outcome, Estimate):
        count = f"{round(outcome.value * outcome.n)} of {outcome.n} answers changed"
        verdict = replace(verdict, reason=f"{verdict.reason.removesuffix('.')} ({count}).")
    return replace(verdict, kind=other.kind)
