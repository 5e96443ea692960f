"""Several hosts of one kind of hardware as one sample: each host's run is a launch, and what hosts differ by is in the interval.

Laws: a figure that is exact is judged on every host, and the worst counts; all else is pooled on the log scale by a random-effects model
(``stats.ratios``). Where every host by itself says PASS, or FAIL, that is what all of them say: more hosts never know less than one. A host
without a figure stays UNMEASURED beside the others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pytest_greencompute.estimates.estimate import Estimate, Missing, Outcome, figure, with_systematic
from pytest_greencompute.judging.budget import Budget, Limit
from pytest_greencompute.judging.by_limit import judge_budget, relation
from pytest_greencompute.judging.by_other_run import (
    ENOUGH_RUNS,
    beside_limit,
    change,
    few_launches,
    largest_fine,
    level_of,
    sees,
    word_for_ratio,
    worse_ratio,
)
from pytest_greencompute.judging.judge import named
from pytest_greencompute.judging.verdict import ORDER, Verdict, Word
from pytest_greencompute.stats.distributions import normal_reach
from pytest_greencompute.stats.looks import share
from pytest_greencompute.stats.ratios import LaunchLevel, Ratio, level_ratio
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.units import show, show_limit

VerdictKey = tuple[str, str, str]  # what a verdict is about: its kind, what it is held against or where its limit stands, and its metric


@dataclass(frozen=True, slots=True)
class HostFigures:
    """What the run of one host came to: figures by metric, and the verdicts that it would get by itself.

    ``host`` is what sentences call it, ``cards`` the UUIDs of its devices, and ``saved`` the figures of the baseline's runs by metric.
    """

    host: str
    outcomes: Mapping[str, Outcome]
    verdicts: tuple[Verdict, ...] = ()
    cards: frozenset[str] = frozenset()
    saved: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)

    def of(self, key: VerdictKey) -> Verdict | None:
        """Its own verdict."""
        return next((each for each in self.verdicts if key_of(each) == key), None)


def key_of(verdict: Verdict) -> VerdictKey:
    return verdict.kind, verdict.where, verdict.metric


def pooled_estimate(metric: Metric, estimates: Sequence[Estimate], confidence: float, *, alarms: int = 1) -> Estimate:
    """The mean level of hosts (at least one, all figures positive), with an interval for hosts of that kind.

    ``alarms`` verdicts share the error of the side on which a limit is exceeded. A side that a host leaves open is open, unless the hosts
    are enough to show their own spread.
    """
    error = (1 - confidence) / 2
    sign = 1 if metric.better == "lower" else -1
    levels = [LaunchLevel(sign * each.log, each.error) for each in (level_of(estimate, confidence) for estimate in estimates)]
    worse = level_ratio(levels, low_error=share(error, 1, budgets=alarms), high_error=error)
    value, low, high = (worse.value, worse.low, worse.high) if sign > 0 else (1 / worse.value, 1 / worse.high, 1 / worse.low)
    few = len(estimates) < ENOUGH_RUNS
    return replace(
        estimates[0],
        value=value,
        low=None if few and any(each.low is None for each in estimates) else low,
        high=None if few and any(each.high is None for each in estimates) else high,
        n=len(estimates),
        confidence=confidence,
        systematic=min(each.systematic for each in estimates),
        note="" if len(estimates) > 1 else estimates[0].note,
        extremes=None,
    )


def pooled_outcomes(hosts: Sequence[HostFigures], confidence: float) -> dict[str, Estimate]:
    """The figures of several hosts together: of what is exact the worst one, of all else the pooled one. What none has is left out."""
    found = {}
    for name, metric in METRICS.items():
        figures = [each for host in hosts if isinstance(each := host.outcomes.get(name), Estimate)]
        if len(figures) == 1:
            found[name] = figures[0]
        elif figures and _is_pooled(metric, figures):
            found[name] = pooled_estimate(metric, figures, confidence)
        elif figures:
            found[name] = (max if metric.better == "lower" else min)(figures, key=lambda each: each.value)
    return found


def _is_pooled(metric: Metric, figures: Sequence[Estimate]) -> bool:
    """Whether hosts have one level: what is counted has none, and what may be below zero has no logarithm."""
    return not metric.exact and not metric.signed and all(each.value > 0 for each in figures)


def pooled(hosts: Sequence[HostFigures], budget: Budget, subject: str, *, alarms: int = 1) -> tuple[Verdict, ...]:
    """The verdicts of all hosts of one kind (at least one) on one run, those of the first host first; and of each that has no figure."""
    if len(hosts) == 1:
        return hosts[0].verdicts
    found: list[Verdict] = []
    for key in dict.fromkeys(key_of(verdict) for host in hosts for verdict in host.verdicts):
        pool = _Pool(key, hosts, budget, f"{subject} ({len(hosts)} hosts)", alarms)
        found += pool.verdicts()
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Pool:
    """One verdict of several hosts."""

    key: VerdictKey
    hosts: Sequence[HostFigures]
    budget: Budget
    subject: str
    alarms: int

    @property
    def metric(self) -> Metric:
        return METRICS[self.key[2]]

    def verdicts(self) -> list[Verdict]:
        own = [(host, host.of(self.key) or self._lacking(host)) for host in self.hosts]
        measured = [(host, verdict) for host, verdict in own if verdict.estimate is not None]
        others = [(host, verdict) for host, verdict in own if verdict.estimate is None]
        if not measured:
            return [min((verdict for _, verdict in others), key=lambda each: ORDER.index(each.word))]
        without = [replace(verdict, reason=f"{host.host}: {verdict.reason}") for host, verdict in others]
        if len(measured) == 1:
            return [measured[0][1], *without]
        figures = [verdict.estimate for _, verdict in measured if verdict.estimate is not None]
        if self.key[0] == "comparison" or not _is_pooled(self.metric, figures):
            host, worst = min(measured, key=lambda each: ORDER.index(each[1].word))
            return [replace(worst, reason=f"{host.host}: {worst.reason}"), *without]
        return [(self._by_limit if self.key[0] == "budget" else self._by_ratio)(measured, figures), *without]

    def _lacking(self, host: HostFigures) -> Verdict:
        """What a host gets that has no such verdict of its own, though others of its kind have."""
        other = next(verdict for each in self.hosts if (verdict := each.of(self.key)) is not None)
        outcome = host.outcomes.get(self.metric.name, Missing("it was not measured"))
        if self.key[0] == "budget" and other.limit is not None:
            limit = Limit(self.metric, other.limit, other.where)
            return judge_budget(self.metric, outcome, limit, self.subject, by_interval=not self.metric.exact)
        why = f"{self.subject} was not held against {other.where} there."
        return replace(other, word="UNMEASURED", estimate=None, ratio=None, base=None, sees=None, reason=why)

    def _same(self, measured: Sequence[tuple[HostFigures, Verdict]]) -> Literal["PASS", "FAIL"] | None:
        """What every host says by itself; None where they do not all say one thing for certain."""
        words = {"FAIL" if verdict.word == "ACCEPTED" else verdict.word for _, verdict in measured}
        if len(measured) < len(self.hosts) and words == {"PASS"}:
            return None
        return "PASS" if words == {"PASS"} else "FAIL" if words == {"FAIL"} else None

    def _by_limit(self, measured: Sequence[tuple[HostFigures, Verdict]], figures: Sequence[Estimate]) -> Verdict:
        _, where, name = self.key
        limits = [verdict.limit for _, verdict in measured if verdict.limit is not None]
        strictest = (min if self.metric.better == "lower" else max)(limits)
        limit = Limit(self.metric, strictest, where, self._cards(name, where))
        shown = self._across_cards(pooled_estimate(self.metric, figures, self.budget.confidence), limit)
        verdict = replace(judge_budget(self.metric, shown, limit, self.subject), where=where)
        same = self._same(measured)
        if same is not None and verdict.word != same:
            side = f"{relation(same, self.metric.better)} its {'budget' if self.metric.better == 'lower' else 'floor'}"
            reason = f"{self.subject} {figure(self.metric, shown)}, {side} of {show_limit(strictest, shown.dimension)} on every host."
            return replace(verdict, word=same, reason=reason)
        surer = pooled_estimate(self.metric, figures, self.budget.confidence, alarms=self.alarms)
        if same is None and verdict.word == "FAIL" and judge_budget(self.metric, surer, limit, self.subject).word != "FAIL":
            among = f"but not clearly enough to fail one of {self.alarms} verdicts; more hosts make it clear."
            return replace(verdict, word="INCONCLUSIVE", reason=f"{verdict.reason.removesuffix('.')}, {among}")
        if verdict.word == "INCONCLUSIVE":
            return replace(verdict, reason=f"{verdict.reason.partition(': ')[0]}: the interval holds the limit; more hosts narrow it.")
        return verdict

    def _cards(self, name: str, where: str) -> tuple[str, ...]:
        found = (limits.get(name) for limits in self.budget.limits.values())
        return next((limit.cards for limit in found if limit is not None and limit.where == where), ())

    def _across_cards(self, pool: Estimate, limit: Limit) -> Estimate:
        """A limit that was set on a card that is none of these is only as sure as cards are alike."""
        known = {card for host in self.hosts for card in host.cards}
        return with_systematic(pool) if limit.cards and pool.systematic and not known & set(limit.cards) else pool

    def _by_ratio(self, measured: Sequence[tuple[HostFigures, Verdict]], figures: Sequence[Estimate]) -> Verdict:
        kind, where, name = self.key
        metric, confidence = self.metric, self.budget.confidence
        pool, tolerance = pooled_estimate(metric, figures, confidence), self.budget.tolerance(metric)
        bases = max((host.saved.get(name, ()) for host, _ in measured), key=len) if kind == "baseline" else ()
        if bases:
            ratio = worse_ratio(figures, bases, metric.better, confidence, self.alarms)
            base, of = math.exp(statistics.fmean(math.log(each.value) for each in bases)), f", {len(bases)} saved"
        else:
            ratio = _of_ratios([verdict.ratio for _, verdict in measured if verdict.ratio is not None], confidence, self.alarms)
            known = [verdict.base for _, verdict in measured if verdict.base]
            base, of = (math.exp(statistics.fmean(map(math.log, known))) if known else pool.value / ratio.value), ""
        fine = largest_fine(tolerance, floor=self.budget.floor(metric), level=base, better=metric.better)
        same = self._same(measured)
        word: Word = same or word_for_ratio(ratio, fine)
        against = f"{change(ratio)} against {named(kind, where).called} ({show(base, pool.dimension)}{of})"
        every = " on every host" if same else ""
        reason = f"{self.subject} {figure(metric, pool)}: {against}, {beside_limit(word, tolerance, fine)}{every}."
        assumed = few_launches(len(bases), len(measured))
        reason += f" With so few hosts, {assumed}." if assumed else ""
        limit = base * (1 + tolerance) if metric.better == "lower" else base / (1 + tolerance)
        shown = None if kind == "base_ref" else limit
        return Verdict(word, name, kind, reason, pool, shown, sees(ratio, fine), where, measured[0][1].run, base=base, ratio=ratio)


def _of_ratios(ratios: Sequence[Ratio], confidence: float, alarms: int) -> Ratio:
    """The ratio of hosts that each were compared side by side: what drifts and what hosts differ by has cancelled in each of them."""
    if not ratios:
        return Ratio(1.0, 0.0, math.inf)
    error = (1 - confidence) / 2
    open_sides = len(ratios) < ENOUGH_RUNS
    levels = [_level(each, confidence) for each in ratios]
    found = level_ratio(levels, low_error=share(error, 1, budgets=alarms), high_error=error)
    low = 0.0 if open_sides and any(each.low <= 0 for each in ratios) else found.low
    return Ratio(found.value, low, math.inf if open_sides and any(math.isinf(each.high) for each in ratios) else found.high)


def _level(ratio: Ratio, confidence: float) -> LaunchLevel:
    ends = [abs(math.log(end / ratio.value)) for end in (ratio.low, ratio.high) if 0 < end < math.inf]
    return LaunchLevel(math.log(ratio.value), max(ends, default=0.0) / normal_reach(confidence))


def disagreeing(hosts: Sequence[HostFigures], names: Sequence[str]) -> list[str]:
    """A sentence for each of these metrics in which two hosts' intervals do not meet, with the two that are farthest apart."""
    said = []
    for name in dict.fromkeys(names):
        known = [(host.host, each) for host in hosts if isinstance(each := host.outcomes.get(name), Estimate)]
        bounded = [(host, each, each.low, each.high) for host, each in known if each.low is not None and each.high is not None]
        if len(bounded) < 2:
            continue
        above, below = max(bounded, key=lambda each: each[2]), min(bounded, key=lambda each: each[3])
        if above[2] > below[3] and not math.isclose(above[2], below[3]):
            told = [f"{host} {figure(METRICS[name], each)}" for host, each, _, _ in (above, below)]
            said.append(f"hosts disagree on {METRICS[name].short} by more than their intervals: {told[0]}, {told[1]}")
    return said
