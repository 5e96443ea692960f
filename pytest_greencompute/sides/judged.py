"""What the comparison of one run with other commits says: a verdict for each metric and each commit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pytest_greencompute.budget import Budget
from pytest_greencompute.estimate import Aim, Estimate, estimate
from pytest_greencompute.metrics import METRICS, Metric
from pytest_greencompute.pairs import LAUNCHES_FOR_FAIL
from pytest_greencompute.ratio import Ratio
from pytest_greencompute.samples import Run
from pytest_greencompute.sides.pairing import ENERGY, Match
from pytest_greencompute.verdict import (
    Verdict,
    Word,
    beside_limit,
    change,
    figure,
    judge_scores,
    largest_fine,
    sees,
    unmeasured,
    word_for_ratio,
)

AGAIN_CONFIDENCE = 0.9  # later launches ask whether the same is seen again


def judge_match(
    match: Match, run: Run, answers: Sequence[str], names: Sequence[str], budget: Budget, aim: Aim, subject: str
) -> list[Verdict]:
    """Verdicts on the metrics ``names`` of ``run`` against one commit. None where that commit does not have the test."""
    ref = match.rival.ref
    if match.rival.missing:
        return []
    verdicts = []
    for metric in (METRICS[name] for name in names):
        if metric.kind == "score" and not run.scores:
            continue
        if match.rival.problem:
            verdicts.append(unmeasured(metric, subject, f"{ref}: {match.rival.problem}", kind="base_ref", where=ref))
        elif metric is ENERGY:
            verdicts.append(_energy(match, run, aim, subject))
        elif metric.kind == "latency":
            verdicts.append(_latency(match, metric, budget, aim, subject))
        elif metric.kind == "score":
            verdicts.append(_score(match, metric, run, answers, budget, aim, subject))
    return verdicts


def _energy(match: Match, run: Run, aim: Aim, subject: str) -> Verdict:
    ref, outcome = match.rival.ref, estimate(run, ENERGY, aim)
    if not isinstance(outcome, Estimate):
        return unmeasured(ENERGY, subject, outcome.reason, kind="base_ref", where=ref)
    if match.test is None:
        return unmeasured(ENERGY, subject, "the base has no sets of its own", kind="base_ref", where=ref)
    found = match.test.verdict
    reason = f"{subject} {figure(ENERGY, outcome)} against {ref}: {found.reason}"
    return replace(found, metric=ENERGY.name, estimate=outcome, reason=reason, limit=None, where=ref)


def latency_words(match: Match, metric: Metric, budget: Budget, aim: Aim) -> list[tuple[Word, Ratio]]:
    """What each launch says of a latency: how many times worse, by the order-statistic intervals of both sides.

    An end of the ratio is the quotient of opposite ends, so it misses where either does (Bonferroni).
    """
    found: list[tuple[Word, Ratio]] = []
    for number, (base_run, head_run) in enumerate(match.launches):
        confident = aim if number == 0 else replace(aim, confidence=AGAIN_CONFIDENCE)
        base, head = (estimate(each, metric, confident) for each in (base_run, head_run))
        if not isinstance(base, Estimate) or not isinstance(head, Estimate) or base.value <= 0 or head.value <= 0:
            return []
        ratio = Ratio(
            head.value / base.value,
            (head.low or 0.0) / base.high if base.high else 0.0,
            head.high / base.low if head.high and base.low else math.inf,
        )
        found.append((word_for_ratio(ratio, limit_of(base, metric, budget)), ratio))
    return found


def limit_of(base: Estimate, metric: Metric, budget: Budget) -> float:
    """The largest ratio to ``base`` that is still fine."""
    return largest_fine(budget.tolerance(metric), floor=budget.floor(metric), level=base.value, better=metric.better)


def suspicious(match: Match, names: Sequence[str], budget: Budget, aim: Aim) -> bool:
    """Whether a latency is worse in every launch so far, and more launches must see it before it is a FAIL."""
    for metric in (METRICS[name] for name in names):
        if metric.kind == "latency":
            words = [word for word, _ in latency_words(match, metric, budget, aim)]
            if words and set(words) == {"FAIL"} and len(words) < LAUNCHES_FOR_FAIL:
                return True
    return False


def _latency(match: Match, metric: Metric, budget: Budget, aim: Aim, subject: str) -> Verdict:
    ref, told = match.rival.ref, latency_words(match, metric, budget, aim)
    if not told:
        return unmeasured(metric, subject, f"{ref}: too few batches were timed on one side", kind="base_ref", where=ref)
    outcome = estimate(match.launches[0][1], metric, aim)
    assert isinstance(outcome, Estimate)
    word, ratio = told[0]
    launches = f"in {len(told)} launches of each" if len(told) > 1 else "within one launch of each"
    if word == "FAIL" and (len(told) < LAUNCHES_FOR_FAIL or any(each != "FAIL" for each, _ in told)):
        word, launches = "INCONCLUSIVE", f"in the first launch of each, but not in all of {len(told)}"
    base = estimate(match.launches[0][0], metric, aim)
    assert isinstance(base, Estimate)
    limit = limit_of(base, metric, budget)
    said = beside_limit(told[0][0], budget.tolerance(metric), limit)
    reason = f"{subject} {figure(metric, outcome)} against {ref}: {change(ratio)}, {said} {launches}."
    return Verdict(word, metric.name, "base_ref", reason, outcome, None, sees(ratio, limit), ref)


def _score(match: Match, metric: Metric, run: Run, answers: Sequence[str], budget: Budget, aim: Aim, subject: str) -> Verdict:
    ref, outcome = match.rival.ref, estimate(run, metric, aim)
    if not isinstance(outcome, Estimate) or match.base is None:
        return unmeasured(metric, subject, "no scores on one side", kind="base_ref", where=ref)
    verdict = judge_scores(
        metric,
        run.scores or (),
        match.base.scores or (),
        outcome,
        subject,
        name=ref,
        tolerance=budget.tolerance(metric),
        confidence=aim.confidence,
    )
    changed = answers_changed(match, answers)
    said = verdict.reason.replace(f"baseline {ref!r}", ref)
    return replace(verdict, kind="base_ref", reason=f"{said} {changed}" if changed else said)


def answers_changed(match: Match, answers: Sequence[str]) -> str:
    """How many answers differ from the base's, in words; nothing where they cannot be told apart query by query."""
    if len(answers) != len(match.answers) or not answers:
        return ""
    count = sum(ours != theirs for ours, theirs in zip(answers, match.answers, strict=True))
    return f"{count} of {len(answers)} answers changed."
