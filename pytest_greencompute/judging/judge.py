"""Which verdicts a test's runs get: its budgets, its baseline, what the file accepts. Takes values, gives values."""

from __future__ import annotations

import datetime
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.estimates.answers import changed_answers
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.domains import judges_processor
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome, with_systematic
from pytest_greencompute.judging.budget import Budget, Limit, Line, Terms
from pytest_greencompute.judging.by_limit import judge_budget
from pytest_greencompute.judging.by_other_run import called, judge_answers, judge_baseline, judge_count, judge_scores
from pytest_greencompute.judging.comparable import Comparable, differences, matching, record
from pytest_greencompute.judging.verdict import Acceptance, Kind, Verdict, Word, accepted, narrowed_by, unmeasured
from pytest_greencompute.stats.looks import share
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.provenance import Machine
from pytest_greencompute.values.readings import SET_BY_APPLICATION, Method
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import ENERGY, show, show_limit, show_share

ALWAYS_COMPARED = ("energy_per_query", "accuracy")
ASKED_FOR = ("tokens", "calls", "compute")  # kinds of metrics that a run has where its test asks for them
COUNTED = ("tokens", "calls", "compute", "errors")  # kinds of metrics whose figures are compared as they are
SPLIT = {"tokens_per_query": "tokens per query", "energy_per_token": "energy per token"}  # their product is the energy per query
LEAST_SAID = 0.005
TIMES = ("latency", "first token", "token gap")
EARLY = 0.1  # of the error of a verdict on times: what all looks together may use that might end a load early


@dataclass(frozen=True, slots=True)
class Bench:
    """What verdicts are judged against besides a test's own budget. ``sessions`` are the baseline's saved sessions.

    ``alarms`` verdicts of the session share the error of a FAIL. ``commits``: other commits are compared with, which judges answers too.
    """

    aim: Aim
    accuracy_confidence: float | None = None
    accept: tuple[Acceptance, ...] = ()
    today: datetime.date = datetime.date.max
    baseline: str | None = None
    sessions: Sequence[Sequence[Run]] = ()
    alarms: int = 1
    commits: bool = False


def hardware_of(runs: Iterable[Run], machine: Machine) -> dict[str, tuple[str, ...]]:
    """Hardware names by budget key: what ``on`` lines match against."""
    sources = [source for run in runs for source in run.sources]
    return {
        "gpu": tuple(dict.fromkeys(source.device for source in sources if source.domain.startswith("gpu"))),
        "cpu": (machine.cpu or "",),
        "meter": tuple(dict.fromkeys(source.meter for source in sources)),
    }


def limits_for(run: Run, budget: Budget, *, only: bool) -> str | None:
    """The run name whose limits hold for ``run``: its own, or the unnamed ones where it is the test's only run."""
    return None if only and run.name not in budget.limits and run.name not in budget.other_hardware else run.name


def judge_run(run: Run, key: str | None, budget: Budget, bench: Bench, subject: str) -> tuple[Verdict, ...]:
    """All verdicts of one run, budgets first. ``key`` is the run name whose limits hold for it."""
    aim = replace(bench.aim, confidence=budget.confidence)
    verdicts = []
    for name, limit in budget.limits.get(key, {}).items():
        metric = METRICS[name]
        elsewhere = metric.kind == "answers" and (bench.commits or bench.baseline is not None)
        if not elsewhere and (run.metered or not metric.needs_meter):
            verdicts.append(replace(_by_limit(run, metric, limit, bench, aim, subject), where=limit.where))
    for name in sorted(budget.other_hardware.get(key, ())):
        if run.metered or not METRICS[name].needs_meter:
            verdicts.append(unmeasured(METRICS[name], subject, "no limit for this hardware"))
    if bench.baseline is not None and run.metered:
        verdicts.extend(against_baseline(run, budget.limits.get(key, {}), budget, bench, aim, subject))
    return tuple(replace(accepted(verdict, run.test, bench.accept, bench.today), run=run.name) for verdict in verdicts)


def times_open(run: Run, key: str | None, budget: Budget, bench: Bench, subject: str) -> bool:
    """Whether going on with a server's load could decide a verdict on its times that is not certain by now.

    Intervals of times do not share their error among the looks, as those of energy do, so a look that ends a load must be surer by itself.
    """
    if run.serving is None:
        return False
    sure = Terms(confidence=1 - EARLY * share(1 - budget.confidence, run.looks))
    surer = replace(budget, lines=(Line("", terms=sure), *budget.lines))
    verdicts = judge_run(run, key, surer, bench, subject)
    return any(each.word == "INCONCLUSIVE" and METRICS[each.metric].kind in TIMES for each in verdicts)


def _by_limit(run: Run, metric: Metric, limit: Limit, bench: Bench, aim: Aim, subject: str) -> Verdict:
    by_interval = not metric.exact or (metric.kind == "score" and bench.accuracy_confidence is not None)
    if metric.kind == "score" and bench.accuracy_confidence is not None:
        aim = replace(aim, confidence=bench.accuracy_confidence)
    outcome, card = _across_cards(run, estimate(run, metric, aim), limit)
    verdict = judge_budget(metric, outcome, limit, subject, by_interval=by_interval)
    card += _set_by_application(run, metric)
    told = replace(verdict, reason=verdict.reason + card)
    if verdict.word != "FAIL" or not by_interval or bench.alarms == 1:
        return told
    surer = replace(aim, confidence=1 - share(1 - aim.confidence, 1, budgets=bench.alarms))
    if judge_budget(metric, _across_cards(run, estimate(run, metric, surer), limit)[0], limit, subject).word == "FAIL":
        return told
    more = narrowed_by(metric, verdict.estimate)
    more = f"{more} {'makes' if more.startswith('a ') else 'make'} it clear"
    among = f"but not clearly enough to fail one of {bench.alarms} verdicts; {more}"
    return replace(verdict, word="INCONCLUSIVE", reason=f"{verdict.reason.removesuffix('.')}, {among}.{card}")


def _set_by_application(run: Run, metric: Metric) -> str:
    """A sentence with the flags by which the application itself asked for reasoning, where that by default is judged."""
    said = next((note for note in run.notes if note.startswith(SET_BY_APPLICATION)), "")
    return f" {said[0].upper()}{said[1:]}." if said and metric.name == "reasoning_default" else ""


def _across_cards(run: Run, outcome: Outcome, limit: Limit) -> tuple[Outcome, str]:
    """What is judged, and what to say of it: a limit set on a card that this run did not use is only as sure as cards are alike."""
    others = [card for card in limit.cards if card not in {source.uuid for source in run.sources}]
    if not others or not isinstance(outcome, Estimate) or outcome.systematic == 0:
        return outcome, ""
    differ = f"the interval holds the {show_share(outcome.systematic)} by which cards differ"
    return with_systematic(outcome), f" The limit was set on another card ({', '.join(others)}), so {differ}."


def against_baseline(
    run: Run, limits: Mapping[str, Limit], budget: Budget, bench: Bench, aim: Aim, subject: str, again: Sequence[Run] = ()
) -> list[Verdict]:
    """The verdicts of a run against the saved sessions of ``bench``; ``again`` are further launches of the same side."""
    name = bench.baseline or ""
    cpu_judged, newest = judges_processor(run, aim), newest_of(run, bench.sessions)
    verdicts = []
    for metric in compared_metrics(run, newest, limits, aim):
        match = matching(run, bench.sessions, cpu_judged=cpu_judged, metric=metric.name)
        outcome = estimate(run, metric, aim)
        if not match.runs:
            verdicts.append(unmeasured(metric, subject, _why_no_match(match, name), kind="baseline", where=name))
        elif metric.kind == "score" and isinstance(outcome, Estimate):
            base, tolerance = match.runs[-1].scores or (), budget.tolerance(metric)
            verdicts.append(
                judge_scores(metric, run.scores or (), base, outcome, subject, name=name, tolerance=tolerance, confidence=aim.confidence)
            )
        elif metric.kind in COUNTED:
            before, tolerance, floor = estimate(match.runs[-1], metric, aim), budget.tolerance(metric), budget.floor(metric)
            verdicts.append(judge_count(metric, outcome, before, subject, name=name, tolerance=tolerance, floor=floor))
        elif metric.kind != "answers":
            verdict = _ratio(metric, outcome, match, budget, bench, aim, subject, again)
            split = longer_or_dearer(match.runs[-1], run, aim) if metric.name == "energy_per_query" else ""
            verdicts.append(replace(verdict, reason=f"{verdict.reason} In two: {split}.") if split else verdict)
        else:
            changed = changed_answers(match.runs[-1].answers, run.answers, metric, aim.confidence)
            verdicts.append(judge_answers(metric, changed, limits[metric.name], subject, name=name, kind="baseline"))
        verdicts[-1] = _with_differences(verdicts[-1], match)
    return verdicts


def _with_differences(verdict: Verdict, match: Comparable) -> Verdict:
    """The verdict with what may have moved its figure: versions and the like may move a ratio, and some things certain figures only."""
    told = [str(each) for each in match.warnings if each.metrics or verdict.ratio is not None]
    return replace(verdict, reason=f"{verdict.reason} Differs: {'; '.join(told)}.") if told else verdict


def newest_of(run: Run, sessions: Sequence[Sequence[Run]]) -> Run | None:
    """The newest saved run of the same test and name, however it was measured."""
    same = (each for session in reversed(sessions) for each in session if (each.test, each.name) == (run.test, run.name) and each.metered)
    return next(same, None)


def compared_metrics(run: Run, other: Run | None, limits: Iterable[str], aim: Aim) -> list[Metric]:
    """What of a run is held against another one: what always is, what has a limit, and what the other has and this one does not.

    Stars of one dated leaderboard have nothing to be compared with, and accuracy is of those that have references.
    """
    scored = run.scores is not None or (other is not None and other.scores is not None)
    asked = [metric for metric in METRICS.values() if metric.kind in ASKED_FOR]
    lost = [] if other is None else [metric.name for metric in asked if _is_lost(metric, run, other, aim)]
    told = [name for name in lost if METRICS[name].kind != "tokens"] + [name for name in lost if METRICS[name].kind == "tokens"][:1]
    names = dict.fromkeys((*ALWAYS_COMPARED, *limits, *told))  # tokens= gives several counts, and one of them is told
    return [METRICS[name] for name in names if METRICS[name].kind != "rating" and (METRICS[name].kind != "score" or scored)]


def _is_lost(metric: Metric, run: Run, other: Run, aim: Aim) -> bool:
    return isinstance(estimate(run, metric, aim), Missing) and isinstance(estimate(other, metric, aim), Estimate)


def _ratio(
    metric: Metric, outcome: Outcome, match: Comparable, budget: Budget, bench: Bench, aim: Aim, subject: str, again: Sequence[Run]
) -> Verdict:
    bases = [each for run in match.runs if isinstance(each := estimate(run, metric, aim), Estimate)]
    return judge_baseline(
        metric,
        outcome,
        bases,
        subject,
        name=bench.baseline or "",
        tolerance=budget.tolerance(metric),
        floor=budget.floor(metric),
        confidence=aim.confidence,
        alarms=bench.alarms,
        again=[each for run in again if isinstance(each := estimate(run, metric, aim), Estimate)],
    )


def longer_or_dearer(base: Run, run: Run, aim: Aim) -> str:
    """A change of the energy per query in two: 'tokens per query +12 %, energy per token -1.0 %'.

    Empty where tokens were not counted on both sides, or not alike, and where neither has changed by as much as is printed.
    """
    if any(each.blocks and each.name == "tokens=" for each in differences(record(run), record(base))):
        return ""
    said, moved = [], False
    for name, words in SPLIT.items():
        before, now = (estimate(each, METRICS[name], aim) for each in (base, run))
        if not isinstance(before, Estimate) or not isinstance(now, Estimate) or before.value <= 0:
            return ""
        by = now.value / before.value - 1
        moved |= abs(by) >= LEAST_SAID
        said.append(f"{words} {'-' if by < -0.0005 else '+'}{show_share(abs(by))}")  # less than that is printed as 0.0 %
    return ", ".join(said) if moved else ""


def _why_no_match(match: Comparable, name: str) -> str:
    save = f"`pytest --energy-budget --energy-save {name}` saves one"
    if match.refused:
        return f"baseline {name!r} was measured otherwise ({'; '.join(str(each) for each in match.refused)}); {save}"
    return f"baseline {name!r} has no run of it; {save}"


def missing_runs(
    budget: Budget, measured: Iterable[Run], subject: str, *, metered: bool, broken: Mapping[str | None, str] | None = None
) -> tuple[Verdict, ...]:
    """UNMEASURED verdicts for limits of runs that the test did not measure. Without a meter only scores are expected.

    ``broken`` says of runs that failed, by name, what went wrong: candidates of a comparison.
    """
    runs, broken = list(measured), broken or {}
    claimed = {limits_for(run, budget, only=len(runs) + len(broken) == 1) for run in runs}
    verdicts = []
    for key in dict.fromkeys((*budget.limits, *budget.other_hardware)):
        if key in claimed:
            continue
        for name in sorted(budget.other_hardware.get(key, ())):
            if metered or not METRICS[name].needs_meter:
                verdicts.append(replace(unmeasured(METRICS[name], subject, "no limit for this hardware"), run=key))
        unnamed = "all its runs are named, the limit is not"
        why = broken.get(key, "the test measured nothing" if not runs else f"it measured no run named {key!r}" if key else unnamed)
        for limit in budget.limits.get(key, {}).values():
            if metered or not limit.metric.needs_meter:
                verdicts.append(replace(unmeasured(limit.metric, subject, why, where=limit.where), run=key))
    return tuple(verdicts)


def lost_runs(before: Iterable[str | None], now: Container[str | None], subject: str, *, kind: Kind, where: str) -> tuple[Verdict, ...]:
    """UNMEASURED verdicts for runs, by name, that another run of the test had ``before`` and that it measures no more."""
    verdicts = []
    for name in dict.fromkeys(name for name in before if name not in now):
        why = f"{called(kind, where)} has a run {f'named {name!r}' if name else 'without a name'} of it, which it does not measure any more"
        verdicts.append(replace(unmeasured(METRICS["energy_per_query"], subject, why, kind=kind, where=where), run=name))
    return tuple(verdicts)


def names_before(node_id: str, sessions: Sequence[Sequence[Run]]) -> list[str | None]:
    """The names of a test's runs in the newest saved session that has any of it."""
    found = ([run.name for run in session if run.test == node_id and run.metered] for session in reversed(sessions))
    return next((names for names in found if names), [])


def judge_total(limit_j: float, spent_j: float | None, why_none: str, *, modelled: bool) -> Verdict:
    """The verdict of ``--energy-total``: what the session used in joules, or why nobody knows. One reading: it has no interval."""
    if spent_j is None:
        why = why_none or "no metered test ran"
        return Verdict("UNMEASURED", "total", "budget", f"The session has no total to judge: {why}", limit=limit_j)
    word: Word = "PASS" if spent_j <= limit_j else "FAIL"
    side = "within" if word == "PASS" else "over"
    how = " (modelled)" if modelled else ""
    reason = f"The session used {show(spent_j, ENERGY)}{how}, {side} its total of {show_limit(limit_j, ENERGY)}."
    method: Method = "modelled" if modelled else "counter"
    return Verdict(word, "total", "budget", reason, Estimate(spent_j, None, None, ENERGY, 1, 0.99, "all", method), limit_j)
