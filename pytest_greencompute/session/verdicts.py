"""The verdicts on one test's runs: its budgets, its baseline and other commits, all attempts at it counted; and what they do to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.budget import Budget
from pytest_greencompute.judging.judge import Bench, judge_run, limits_for, lost_from_baseline, missing_runs
from pytest_greencompute.judging.verdict import Policy, Verdict, accepted, effect
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.session.candidates import ByRun
from pytest_greencompute.session.explained import where_of
from pytest_greencompute.session.sentences import sentence_of
from pytest_greencompute.session.tests import BudgetsFailedError, BudgetsSkippedError, MeteredTest
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.names import asked_by
from pytest_greencompute.values.run import Run


def judged(test: MeteredTest, budget: Budget, bench: Bench, settings: Settings, *, ended: bool) -> list[Verdict]:
    """Judge all that a test measured, keep the results on it, and return the verdicts.

    ``ended``: its body came to its end, so that what it did not measure is missing. Raises SettingsError for a mark that came too late.
    """
    runs = [*test.runs, *(window.raw() for window in test.windows if window.closed or not settings.enabled)]
    _check_late(test, budget, runs)
    test.results = []
    notes = (*over_attempts(test), *test.said)
    verdicts: list[Verdict] = []
    candidates = _candidates(test, budget, bench, ended=ended)
    broken: dict[str | None, str] = {}
    linked: dict[str, Run] = {}
    for comparison in test.comparisons:
        linked |= comparison.linked
        broken |= {comparison.run_name(name): problem for name, problem in comparison.problems.items()}
    only, names = len(runs) + len(broken) == 1, [run.name for run in runs]
    lost = _lost(test, bench, names) if ended else ()
    for run in runs:
        head = bench.figures(run, budget.confidence)
        subject = test.subject if run.name is None else f"{test.subject} ({run.name})"
        against = () if test.contest is None else test.contest.against(head, subject)
        found = judge_run(head, limits_for(run, budget, only=only), budget, bench, subject, against)
        row, chosen = candidates.pop(run.name, (None, ()))
        found += tuple(accepted(each, run.test, bench.accept, bench.today) for each in chosen)
        found += tuple(each for each in lost if each.run == run.name)
        outcomes = head.every()
        outcomes |= {each.metric: each.estimate for each in found if each.estimate is not None and each.metric == "answers_changed"}
        of_pairs, bases = ((), None) if test.contest is None else (test.contest.pairs(run.name), test.contest.measured_at(run.name))
        noted = notes if test.contest is None else (*test.contest.notes(head), *notes)
        shown, footprint = _shown(found, settings.policy), bench.aim.footprint
        result = Result.of(run, outcomes, shown, footprint=footprint, notes=noted, against=of_pairs, candidate=row, bases=bases)
        test.results.append(replace(result, profile=test.profiles.get(run.name), linked=linked.get(run.name or "")))
        verdicts.extend(found)
    missing = missing_runs(budget, runs, test.subject, metered=settings.enabled, broken=broken) if ended else ()
    missing += tuple(each for each in lost if each.run not in names)
    for name in dict.fromkeys([*candidates, *(verdict.run for verdict in missing)]):
        row, chosen = candidates.get(name, (None, ()))
        mine = [*chosen, *(verdict for verdict in missing if verdict.run == name)]
        verdicts.extend(mine)
        test.results.append(Result(test.node_id, name, verdicts=_shown(mine, settings.policy), notes=notes, candidate=row))
    return verdicts


def _lost(test: MeteredTest, bench: Bench, names: Sequence[str | None]) -> tuple[Verdict, ...]:
    """Verdicts on the runs that the test has in the baseline or at another commit, and does not measure any more."""
    found = () if test.contest is None else test.contest.lost(test.subject)
    return found + lost_from_baseline(test.node_id, bench, names, test.subject)


def _candidates(test: MeteredTest, budget: Budget, bench: Bench, *, ended: bool) -> ByRun:
    """Rows and verdicts of the test's comparisons, and of the group whose last test it is, by the name of the run they are about."""
    found: ByRun = {}
    for comparison in test.comparisons:
        found |= comparison.by_run()
    if test.group is not None:
        found |= test.group.judge(test.node_id, test.runs, bench.aim.at(budget.confidence), ended=ended, windows=bool(test.windows))
    return found


def _shown(verdicts: Sequence[Verdict], policy: Policy) -> tuple[ShownVerdict, ...]:
    """The verdicts as they are shown, each with its effect on the build."""
    return tuple(ShownVerdict.of(verdict, effect(verdict, policy)) for verdict in verdicts)


def enforce(test: MeteredTest, verdicts: Sequence[Verdict], settings: Settings, *, only_failures: bool = False) -> None:
    """Raise BudgetsFailedError or BudgetsSkippedError with the sentences of the verdicts of ``test`` that ask for it."""
    by_effect: dict[str, list[str]] = {}
    for verdict in verdicts:
        if not only_failures or verdict.word == "FAIL":
            lines = filter(None, (sentence_of(verdict, settings), where_of(test, verdict)))
            by_effect.setdefault(effect(verdict, settings.policy), []).extend(lines)
    if "fail" in by_effect:
        raise BudgetsFailedError("\n".join(by_effect["fail"]))
    if "skip" in by_effect:
        raise BudgetsSkippedError("\n".join(by_effect["skip"]))


def over_attempts(test: MeteredTest) -> tuple[str, ...]:
    """That a plugin ran the test again: a budget that is met at the second try is less sure than its verdict says."""
    after = f", after: {test.why_red}" if test.why_red else ""
    return (f"attempt {test.attempts}{after}",) if test.attempts > 1 else ()


def _check_late(test: MeteredTest, budget: Budget, runs: Sequence[Run]) -> None:
    """Raises SettingsError for what a mark asks since a run was measured, and what had to be known before."""
    for run in runs:
        for before in (test.planned.get(run.name), test.told):
            if before is None or before[0] is test.lines:
                continue
            known, now = before[1].limits, budget.limits.get(limits_for(run, budget, only=len(runs) == 1), {})
            asked = asked_by({**known.get(None, {}), **known.get(run.name, {})})
            late = [name for name in asked_by(now) if name not in asked and name not in run.counts]
            late += ["max_seconds"] if budget.max_seconds != before[1].max_seconds else []
            if late:
                raise SettingsError(
                    f"{test.subject}: the mark that sets {', '.join(late)} came too late: the run had been measured.",
                    remedy="Mark the test where it is defined, in conftest.py while tests are collected, or before it measures.",
                )
