"""What a run is held against at another commit: the ladder's base there, its ratios from pairs or launches, and what else is to be told."""

from __future__ import annotations

from dataclasses import replace

from pytest_greencompute.estimates.answers import changed_answers
from pytest_greencompute.estimates.estimate import Estimate, figure
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.by_other_run import at_times
from pytest_greencompute.judging.comparable import differences, record
from pytest_greencompute.judging.judge import Against, BaseFigures, longer_or_dearer
from pytest_greencompute.judging.verdict import Verdict, unmeasured
from pytest_greencompute.pairing.launches import judge_launches
from pytest_greencompute.pairing.layouts import blocking, metered_otherwise
from pytest_greencompute.pairing.runs import Match
from pytest_greencompute.pairing.started import NotMeteredError
from pytest_greencompute.values.metrics import METRICS, Metric

KIND = "base_ref"
NO_PAIRS = "no complete set was measured on both sides"
LOST = " was lost: "  # what protocol.sets says of a set
ANSWERS = METRICS["answers_changed"]


def against_base(match: Match, head: Figures, subject: str) -> Against:
    """A commit that has the test, for one run of it."""
    label = match.base.label
    newest = None if match.run is None else Figures(match.run, head.aim)
    differing = () if match.run is None or match.problem else blocking(head.run, match.run, head.aim)

    def base(metric: Metric) -> BaseFigures:
        why = match.problem or (NO_PAIRS if match.run is None else metered_otherwise(differing, metric.name))
        return BaseFigures(why=f"{label}: {why}") if why else BaseFigures(newest)

    def ratio(metric: Metric, outcome: Estimate) -> Verdict:
        if match.launched is not None:
            found = judge_launches(metric, *match.launched, match.rules[metric.name], match.aim)
        elif (test := match.tests.get(metric.name)) is not None and test.pairs:
            found = test.verdict
        else:
            return unmeasured(metric, subject, f"{label}: {match.remark or NO_PAIRS}", kind=KIND, where=label)
        said = match.remark or match.needs.get(metric.name, "")
        remark = f" ({said})" if said and found.word == "INCONCLUSIVE" else ""
        reason = f"{subject} {figure(metric, outcome)} against {label}: {found.reason.removesuffix('.')}{remark}."
        before = None if newest is None else newest.of(metric)
        value = before.value if isinstance(before, Estimate) else None
        fine = None if value is None or found.limit is None else at_times(found.limit, value, metric.better)
        return replace(found, metric=metric.name, estimate=outcome, reason=reason, limit=fine, where=label, base=value)

    return Against(KIND, label, base, ratio, newest)


def notes_of(match: Match, head: Figures) -> tuple[str, ...]:
    """What a reader should know beside the verdicts: that the test is new, how many answers are others now, and whether they are longer."""
    label = match.base.label
    if match.missing:
        lacks = "measure" if match.problem == NotMeteredError().message else "have"
        return (f"{label} does not {lacks} this test: nothing to compare with",)
    if match.run is None or match.problem:
        return ()
    notes = [*match.notes, *(f"at {label} {note}" for note in match.run.notes if LOST in note)]
    changed = changed_answers(match.run.answers, head.run.answers, ANSWERS, head.aim.confidence)
    if isinstance(changed, Estimate) and changed.value:
        notes.append(f"{round(changed.value * changed.n)} of {changed.n} answers changed against {label}")
    found = [each for each in differences(record(head.run), record(match.run)) if each.metrics and not (each.blocks or each.unknown)]
    notes += [f"{each.name} are others than at {label}, so figures of {', '.join(each.metrics)} may not be alike" for each in found]
    split = longer_or_dearer(Figures(match.run, head.aim), head)
    return (*notes, *((f"against {label}: {split}",) if split else ()))
