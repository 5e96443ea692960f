"""Why the runs of a test use more than at another commit, once that has been judged: both sides are looked at, and the results say it.

Nothing here changes a verdict, a figure, or what a test ends with; where it cannot be done, a note says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.errors import GreencomputeError, SettingsError
from pytest_greencompute.estimates.estimate import Estimate, scaled
from pytest_greencompute.explaining.explanation import explain
from pytest_greencompute.explaining.profile import Profile, Ticking, ticking_of
from pytest_greencompute.explaining.served import served
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.report.escape import printable
from pytest_greencompute.results.result import ENERGY, Explained, Result
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Machine
from pytest_greencompute.values.run import Run


@dataclass(frozen=True, slots=True)
class Asked:
    """One run against one other: the verdict on its energy, with the figures of both."""

    verdict: Verdict
    base: Estimate
    head: Estimate

    @property
    def ticking(self) -> Ticking:
        """The clock that the meter pays for."""
        return ticking_of(self.head.domain.split("+"))


def asked_for(verdicts: Sequence[Verdict], kind: str, *, always: bool) -> list[Asked]:
    """What is to be explained: runs that FAILed in a figure of energy against others of that kind; ``always``: all that were compared."""
    found = []
    for verdict in verdicts:
        head, base_j = verdict.estimate, verdict.base or 0.0
        if (verdict.metric, verdict.kind) != (ENERGY, kind) or head is None or min(head.value, base_j) <= 0:
            continue
        beside = [each for each in verdicts if (each.kind, each.where, each.run) == (kind, verdict.where, verdict.run)]
        failed = any(each.word == "FAIL" and each.metric in METRICS and METRICS[each.metric].kind == "energy" for each in beside)
        if always or failed:
            found.append(Asked(verdict, scaled(head, base_j / head.value), head))
    return found


OUTSIDE = "environment variables, files that git does not hold, installed packages, the machine"


Looking = Callable[[Asked], tuple[Profile, Profile]]  # what base and head are seen to do


def explain_test(test: MeteredTest, asked: Sequence[Asked], look: Looking) -> None:
    """Add to the results of a test why its runs are others, or why that is not known."""
    for each in asked:
        try:
            base, head = look(each)
            made = Explained(each.verdict.where, explain(base, head, each.base, each.head, each.verdict.ratio))
        except GreencomputeError as error:
            not_explained(test, [each], error)
            continue
        for place, result in _results_of(test, each):
            test.results[place] = replace(result, explained=(*result.explained, made))


def explain_loads(test: MeteredTest, asked: Sequence[Asked], saved: Sequence[Sequence[Run]]) -> list[Asked]:
    """Add to the results of loads of a server what is known of those, here and in the newest saved run of each; return what is no load."""

    def load(runs: Sequence[Run], each: Asked) -> Run | None:
        wanted = (test.node_id, each.verdict.run)
        return next((run for run in reversed(runs) if (run.test, run.name) == wanted and run.serving is not None), None)

    sides: dict[str | None, tuple[Profile, Profile]] = {}
    for each in asked:
        before, now = load([run for runs in saved for run in runs], each), load(test.runs, each)
        if before is not None and now is not None:
            sides[each.verdict.run] = served(before), served(now)
    explain_test(test, [each for each in asked if each.verdict.run in sides], lambda each: sides[each.verdict.run])
    return [each for each in asked if each.verdict.run not in sides]


def not_explained(test: MeteredTest, asked: Sequence[Asked], error: GreencomputeError) -> None:
    """Say in the results why it is not known."""
    for each in asked:
        for place, result in _results_of(test, each):
            test.results[place] = replace(result, notes=(*result.notes, f"not explained against {each.verdict.where}: {error}"))


def _results_of(test: MeteredTest, asked: Asked) -> list[tuple[int, Result]]:
    return [(place, result) for place, result in enumerate(test.results) if result.name == asked.verdict.run]


def where_of(test: MeteredTest, verdict: Verdict) -> str:
    """The line that explains a verdict that FAILed; empty where there is none."""
    made = (each for result in test.results if result.name == verdict.run for each in result.explained if each.ref == verdict.where)
    explained = next(made, None) if verdict.word == "FAIL" and verdict.metric in METRICS else None
    return "" if explained is None or METRICS[verdict.metric].kind != "energy" else printable(explained.where)


def commit_of(saved: Sequence[Sequence[Run]], test: MeteredTest, here: Machine) -> str:
    """The commit of the newest saved run of a test. Raises SettingsError where there is none that could be looked at, or where it is that
    of this tree ``here``: launched again, both sides would do the same.
    """
    machines = [run.provenance.machine for runs in saved for run in runs if run.test == test.node_id]
    if not machines or not machines[-1].commit:
        raise SettingsError("The baseline does not say of which commit it is.")
    if machines[-1].dirty:
        raise SettingsError("The baseline is of a tree that differed from its commit.", remedy="Save it from a clean tree.")
    if machines[-1].commit == here.commit and here.dirty is False:
        raise SettingsError(
            f"The baseline is of the same code, commit {here.commit[:10]}.", remedy=f"What differs is outside of it: {OUTSIDE}."
        )
    return machines[-1].commit
