"""Which verdicts a run gets: its limits, and one ladder for whatever it is held against. Takes values, gives values.

A new kind of comparison is a row of ``HELD_AGAINST``, its name in the schema of the report, a setting that asks for it, and something that
makes an ``Against``: which run is the base, metric by metric, and how a ratio is judged. All else (what is compared, what is missing on
either side, scores, counts and answers) is asked here, of all alike.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_greencompute.estimates.answers import changed_answers, no_share
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome, with_systematic
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.budget import Budget, Limit
from pytest_greencompute.judging.by_limit import judge_budget
from pytest_greencompute.judging.by_other_run import Other, judge_answers, judge_baseline, judge_count, judge_scores
from pytest_greencompute.judging.comparable import Unlike, differences, matching, record, unlike
from pytest_greencompute.judging.verdict import Acceptance, Verdict, Word, accepted, narrowed_by, unmeasured
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
class HeldAgainst:
    """One kind of run that a run can be held against: the ``setting`` that asks for it (of ``Settings``), what sentences call it by its
    name and the word before that, what tables show, and what a test's sentence ends with where that is not what it usually is.
    """

    setting: str
    called: str
    at: str
    shown: str
    follow: Mapping[Word, str]


MEANT = "If it is meant to cost more: pytest --energy-budget --energy-save NAME keeps a new baseline; {settings.baseline!r} stays."
HELD_AGAINST: Mapping[str, HeldAgainst] = {
    "baseline": HeldAgainst("baseline", "baseline {!r}", "in", "baseline {}", {"FAIL": MEANT}),
    "base_ref": HeldAgainst("base_refs", "{}", "at", "{}", {"PASS": "", "FAIL": "", "UNMEASURED": "", "ACCEPTED": ""}),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """What verdicts are judged against besides a test's own budget. ``sessions`` are the baseline's saved sessions.

    ``alarms`` verdicts of the session share the error of a FAIL. ``compares``: runs are held against others, which judges answers too.
    """

    aim: Aim
    accuracy_confidence: float | None = None
    accept: tuple[Acceptance, ...] = ()
    today: datetime.date = datetime.date.max
    baseline: str | None = None
    sessions: Sequence[Sequence[Run]] = ()
    alarms: int = 1
    compares: bool = False
    _saved: dict[tuple[int, float], Figures] = field(default_factory=dict, init=False, repr=False, compare=False)

    def figures(self, run: Run, confidence: float) -> Figures:
        """The figures of a run that was measured here, as sure as that."""
        return Figures(run, self.aim.at(confidence))

    def saved(self, run: Run, confidence: float) -> Figures:
        """Those of a run of ``sessions``, which are kept: a session looks at them again and again."""
        key = (id(run), confidence)
        if key not in self._saved:
            self._saved[key] = Figures(run, self.aim.at(confidence))
        return self._saved[key]


@dataclass(frozen=True, slots=True)
class BaseFigures:
    """What a run is held against in one metric: the figures of the newest run that may be compared, or ``why`` there is none.

    ``differs`` is what may have moved its figure all the same.
    """

    figures: Figures | None = None
    why: str = ""
    differs: tuple[Unlike, ...] = ()


@dataclass(frozen=True, slots=True)
class Against:
    """What a run is held against: ``kind`` (of ``HELD_AGAINST``) and ``name`` are those of the verdicts.

    ``base`` finds what the run is compared with in a metric, and ``ratio`` judges a figure by how many times worse it is. ``newest`` is the
    other run however it was measured, since it tells what a test has lost. ``told``: the sentence on energy says why it changed.
    """

    kind: str
    name: str
    base: Callable[[Metric], BaseFigures]
    ratio: Callable[[Metric, Estimate], Verdict]
    newest: Figures | None = None
    told: bool = False

    @property
    def other(self) -> Other:
        return named(self.kind, self.name)


def named(kind: str, name: str) -> Other:
    """The other run in verdicts and in sentences."""
    row = HELD_AGAINST[kind]
    return Other(kind, name, row.called.format(name), row.at)


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


def judge_run(
    head: Figures, key: str | None, budget: Budget, bench: Bench, subject: str, against: Sequence[Against] = ()
) -> tuple[Verdict, ...]:
    """All verdicts of one run: on its limits, against the baseline of ``bench``, and ``against`` what else there is.

    ``key`` is the run name whose limits hold for it.
    """
    run, limits = head.run, budget.limits.get(key, {})
    verdicts = []
    for name, limit in limits.items():
        metric = METRICS[name]
        elsewhere = metric.kind == "answers" and (bench.compares or bench.baseline is not None)
        if not elsewhere and (run.metered or not metric.needs_meter):
            verdicts.append(replace(_by_limit(head, metric, limit, bench, subject), where=limit.where))
    for name in sorted(budget.other_hardware.get(key, ())):
        if run.metered or not METRICS[name].needs_meter:
            verdicts.append(unmeasured(METRICS[name], subject, "no limit for this hardware"))
    saved = () if bench.baseline is None else (against_baseline(head, budget, bench, subject),)
    for each in (*saved, *against) if run.metered else ():
        verdicts.extend(judge_against(head, limits, budget, each, subject))
    return tuple(replace(accepted(verdict, run.test, bench.accept, bench.today), run=run.name) for verdict in verdicts)


def times_open(head: Figures, key: str | None, budget: Budget, bench: Bench, subject: str) -> bool:
    """Whether going on with a server's load could decide a verdict on its times that is not certain by now.

    Intervals of times do not share their error among the looks, as those of energy do, so a look that ends a load must be surer by itself.
    """
    if head.run.serving is None:
        return False
    surer = head.at(1 - EARLY * share(1 - budget.confidence, head.run.looks))
    verdicts = judge_run(surer, key, budget, bench, subject)
    return any(each.word == "INCONCLUSIVE" and METRICS[each.metric].kind in TIMES for each in verdicts)


def _by_limit(head: Figures, metric: Metric, limit: Limit, bench: Bench, subject: str) -> Verdict:
    if metric.kind == "score" and (why := no_share(head.run)):
        return unmeasured(metric, subject, why)
    by_interval = not metric.exact or (metric.kind == "score" and bench.accuracy_confidence is not None)
    if metric.kind == "score" and bench.accuracy_confidence is not None:
        head = head.at(bench.accuracy_confidence)
    outcome, card = _across_cards(head.run, head.of(metric), limit)
    verdict = judge_budget(metric, outcome, limit, subject, by_interval=by_interval)
    card += _set_by_application(head.run, metric)
    told = replace(verdict, reason=verdict.reason + card)
    if verdict.word != "FAIL" or not by_interval or bench.alarms == 1:
        return told
    surer = head.at(1 - share(1 - head.aim.confidence, 1, budgets=bench.alarms))
    if judge_budget(metric, _across_cards(head.run, surer.of(metric), limit)[0], limit, subject).word == "FAIL":
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


def judge_against(head: Figures, limits: Mapping[str, Limit], budget: Budget, against: Against, subject: str) -> list[Verdict]:
    """The ladder: a verdict on each metric of a run that is compared, whatever the run is held against.

    What has no base, or no figure here, is UNMEASURED; scores are compared query by query, counts as they are, answers by their limit, and
    all else by its ratio.
    """
    verdicts, other_run = [], against.other
    for metric in compared_metrics(head, against.newest, limits):
        base, outcome = against.base(metric), head.of(metric)
        if base.figures is None:
            verdict = unmeasured(metric, subject, base.why, kind=against.kind, where=against.name)
        elif metric.kind == "answers":
            changed = changed_answers(base.figures.run.answers, head.run.answers, metric, head.aim.confidence)
            verdict = judge_answers(metric, changed, limits[metric.name], subject, other_run)
        elif isinstance(outcome, Missing):
            verdict = unmeasured(metric, subject, outcome.reason, kind=against.kind, where=against.name)
        elif metric.kind == "score":
            now, before = head.run.scores or (), base.figures.run.scores or ()
            tolerance, confidence = budget.tolerance(metric), head.aim.confidence
            verdict = judge_scores(metric, now, before, outcome, subject, other_run, tolerance=tolerance, confidence=confidence)
        elif metric.kind in COUNTED:
            terms = {"tolerance": budget.tolerance(metric), "floor": budget.floor(metric)}
            verdict = judge_count(metric, outcome, base.figures.of(metric), subject, other_run, **terms)
        else:
            verdict = replace(against.ratio(metric, outcome), kind=against.kind)
            split = longer_or_dearer(base.figures, head) if against.told and metric is METRICS["energy_per_query"] else ""
            verdict = replace(verdict, reason=f"{verdict.reason} In two: {split}.") if split else verdict
        verdicts.append(_with_differences(verdict, base.differs))
    return verdicts


def _with_differences(verdict: Verdict, differs: Sequence[Unlike]) -> Verdict:
    """The verdict with what may have moved its figure: versions and the like may move a ratio, and some things certain figures only."""
    told = [str(each) for each in differs if each.metrics or verdict.ratio is not None]
    return replace(verdict, reason=f"{verdict.reason} Differs: {'; '.join(told)}.") if told else verdict


def compared_metrics(head: Figures, other_run: Figures | None, limits: Iterable[str]) -> list[Metric]:
    """What of a run is held against another one: what always is, what has a limit, and what the other has and this one does not.

    Stars of one dated leaderboard have nothing to be compared with, and accuracy is of those that have references.
    """
    scored = head.run.scores is not None or (other_run is not None and other_run.run.scores is not None)
    asked_for = [metric for metric in METRICS.values() if metric.kind in ASKED_FOR]
    lost = [] if other_run is None else [metric.name for metric in asked_for if _is_lost(metric, head, other_run)]
    first = [name for name in lost if METRICS[name].kind != "tokens"] + [name for name in lost if METRICS[name].kind == "tokens"][:1]
    names = dict.fromkeys((*ALWAYS_COMPARED, *limits, *first))  # tokens= gives several counts, and one of them is told
    return [METRICS[name] for name in names if METRICS[name].kind != "rating" and (METRICS[name].kind != "score" or scored)]


def _is_lost(metric: Metric, head: Figures, other_run: Figures) -> bool:
    return isinstance(head.of(metric), Missing) and isinstance(other_run.of(metric), Estimate)


def against_baseline(head: Figures, budget: Budget, bench: Bench, subject: str, again: Sequence[Run] = ()) -> Against:
    """The saved sessions of ``bench``, for one run; ``again`` are further launches of the same side."""
    name, confidence = bench.baseline or "", head.aim.confidence
    found = unlike(head.run, bench.sessions, cpu_judged=head.of_processor)

    def base(metric: Metric) -> BaseFigures:
        match = matching(found, metric.name)
        if match.runs:
            return BaseFigures(bench.saved(match.runs[-1], confidence), differs=match.warnings)
        what = f"was measured otherwise ({'; '.join(map(str, match.refused))})" if match.refused else "has no run of it"
        return BaseFigures(why=f"baseline {name!r} {what}; `pytest --energy-budget --energy-save {name}` saves one")

    def ratio(metric: Metric, outcome: Estimate) -> Verdict:
        befores = [bench.saved(each, confidence).of(metric) for each in matching(found, metric.name).runs]
        others = [bench.saved(each, confidence).of(metric) for each in again]
        return judge_baseline(
            metric,
            outcome,
            [each for each in befores if isinstance(each, Estimate)],
            subject,
            named("baseline", name),
            tolerance=budget.tolerance(metric),
            floor=budget.floor(metric),
            confidence=confidence,
            alarms=bench.alarms,
            again=[each for each in others if isinstance(each, Estimate)],
        )

    newest = bench.saved(found[-1][0], confidence) if found else None
    return Against("baseline", name, base, ratio, newest, told=True)


def longer_or_dearer(base: Figures, head: Figures) -> str:
    """A change of the energy per query in two: 'tokens per query +12 %, energy per token -1.0 %'.

    Empty where tokens were not counted on both sides, or not alike, and where neither has changed by as much as is printed.
    """
    if any(each.blocks and each.name == "tokens=" for each in differences(record(head.run), record(base.run))):
        return ""
    said, moved = [], False
    for name, words in SPLIT.items():
        before, now = (each.of(METRICS[name]) for each in (base, head))
        if not isinstance(before, Estimate) or not isinstance(now, Estimate) or before.value <= 0:
            return ""
        by = now.value / before.value - 1
        moved |= abs(by) >= LEAST_SAID
        said.append(f"{words} {'-' if by < -0.0005 else '+'}{show_share(abs(by))}")  # less than that is printed as 0.0 %
    return ", ".join(said) if moved else ""


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


def lost_runs(before: Iterable[str | None], now: Container[str | None], subject: str, *, kind: str, where: str) -> tuple[Verdict, ...]:
    """UNMEASURED verdicts for runs, by name, that another run of the test had ``before`` and that it measures no more."""
    verdicts = []
    for name in dict.fromkeys(name for name in before if name not in now):
        which = f"named {name!r}" if name else "without a name"
        why = f"{named(kind, where).called} has a run {which} of it, which it does not measure any more"
        verdicts.append(replace(unmeasured(METRICS["energy_per_query"], subject, why, kind=kind, where=where), run=name))
    return tuple(verdicts)


def lost_from_baseline(node_id: str, bench: Bench, now: Container[str | None], subject: str) -> tuple[Verdict, ...]:
    """UNMEASURED verdicts for the runs of a test in the newest saved session that has any of it, which it measures no more."""
    if bench.baseline is None:
        return ()
    found = ([run.name for run in session if run.test == node_id and run.metered] for session in reversed(bench.sessions))
    return lost_runs(next((names for names in found if names), []), now, subject, kind="baseline", where=bench.baseline)


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
