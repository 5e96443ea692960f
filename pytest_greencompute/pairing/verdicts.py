"""What the comparison of one run with other commits says: a verdict for each metric and each commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_greencompute.estimates.answers import changed_answers
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Estimate, figure
from pytest_greencompute.judging.budget import Budget, Limit
from pytest_greencompute.judging.by_other_run import judge_answers, judge_count, judge_scores
from pytest_greencompute.judging.comparable import differences, record
from pytest_greencompute.judging.judge import COUNTED, compared_metrics, longer_or_dearer
from pytest_greencompute.judging.verdict import Kind, Verdict, unmeasured
from pytest_greencompute.pairing.launches import judge_launches
from pytest_greencompute.pairing.layouts import metered_otherwise
from pytest_greencompute.pairing.runs import Match
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.run import Run

KIND: Kind = "base_ref"
NO_PAIRS = "no complete set was measured on both sides"
ANSWERS = METRICS["answers_changed"]


def judge_match(match: Match, run: Run, names: Sequence[str], budget: Budget, limits: dict[str, Limit], subject: str) -> list[Verdict]:
    """Verdicts on the metrics ``names`` of ``run`` against one commit. None where that commit does not have the test.

    ``limits`` are those of the run: the number of changed answers is held against its own.
    """
    if match.missing:
        return []
    verdicts = []
    for metric in compared_metrics(run, None if match.problem else match.run, names, match.aim):
        why = match.problem or (NO_PAIRS if match.run is None else metered_otherwise(run, match.run, match.aim, metric.name))
        if why or match.run is None:
            verdicts.append(unmeasured(metric, subject, f"{match.base.label}: {why}", kind=KIND, where=match.base.label))
        elif metric.kind == "score":
            verdicts.append(_score(match, metric, run, match.run, budget, subject))
        elif metric.kind in COUNTED:
            before, after = (estimate(each, metric, match.aim) for each in (match.run, run))
            terms = {"tolerance": budget.tolerance(metric), "floor": budget.floor(metric)}
            verdicts.append(judge_count(metric, after, before, subject, name=match.base.label, kind=KIND, **terms))
        elif metric.kind == "answers":
            outcome = changed_answers(match.run.answers, run.answers, metric, match.aim.confidence)
            verdicts.append(judge_answers(metric, outcome, limits[metric.name], subject, name=match.base.label, kind=KIND))
        else:
            verdicts.append(_in_pairs(match, metric, run, subject))
    return verdicts


def _in_pairs(match: Match, metric: Metric, run: Run, subject: str) -> Verdict:
    ref, outcome = match.base.label, estimate(run, metric, match.aim)
    if not isinstance(outcome, Estimate):
        return unmeasured(metric, subject, outcome.reason, kind=KIND, where=ref)
    if match.launched is not None:
        found = judge_launches(metric, *match.launched, match.rules[metric.name], match.aim)
    elif (test := match.tests.get(metric.name)) is not None and test.pairs:
        found = test.verdict
    else:
        return unmeasured(metric, subject, f"{ref}: {NO_PAIRS}", kind=KIND, where=ref)
    remark = f" ({match.remark})" if match.remark and found.word == "INCONCLUSIVE" else ""
    reason = f"{subject} {figure(metric, outcome)} against {ref}: {found.reason.removesuffix('.')}{remark}."
    before = estimate(match.run, metric, match.aim) if match.run is not None else None
    base = before.value if isinstance(before, Estimate) else None
    return replace(found, metric=metric.name, estimate=outcome, reason=reason, limit=None, where=ref, base=base)


def _score(match: Match, metric: Metric, run: Run, base: Run, budget: Budget, subject: str) -> Verdict:
    ref, outcome = match.base.label, estimate(run, metric, match.aim)
    if not isinstance(outcome, Estimate):
        return unmeasured(metric, subject, outcome.reason, kind=KIND, where=ref)
    return judge_scores(
        metric,
        run.scores or (),
        base.scores or (),
        outcome,
        subject,
        name=ref,
        tolerance=budget.tolerance(metric),
        confidence=match.aim.confidence,
        kind=KIND,
    )


def notes_of(match: Match, run: Run) -> tuple[str, ...]:
    """What a reader should know beside the verdicts: that the test is new, how many answers are others now, and whether they are longer."""
    if match.missing:
        return (f"{match.base.label} does not have this test: nothing to compare with",)
    if match.run is None or match.problem:
        return ()
    notes = []
    changed = changed_answers(match.run.answers, run.answers, ANSWERS, match.aim.confidence)
    if isinstance(changed, Estimate) and changed.value:
        notes.append(f"{round(changed.value * changed.n)} of {changed.n} answers changed against {match.base.label}")
    found = [each for each in differences(record(run), record(match.run)) if each.metrics and not (each.blocks or each.unknown)]
    notes += [
        f"{each.name} are others than at {match.base.label}, so figures of {', '.join(each.metrics)} may not be alike" for each in found
    ]
    split = longer_or_dearer(match.run, run, match.aim)
    return (*notes, *((f"against {match.base.label}: {split}",) if split else ()))
