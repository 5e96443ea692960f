"""``energy_meter.advise``: the known levers tried on the test's own model and queries, and what they are proven to save."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_greencompute.advising.advice import Advice, Suggestion, in_vain
from pytest_greencompute.advising.levers import Setting
from pytest_greencompute.advising.search import Searched, Trial, search
from pytest_greencompute.errors import CannotError, SettingsError
from pytest_greencompute.estimates.estimate import Estimate, Missing
from pytest_greencompute.judging.choice import ENERGY, Candidate, Choice, asked_of, parse_margin
from pytest_greencompute.judging.right_size import judge_right_size
from pytest_greencompute.levers.sample import LEAST, sample
from pytest_greencompute.levers.smaller import Candidates
from pytest_greencompute.levers.students import students
from pytest_greencompute.levers.table import rows, settings_of
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.alike import alike, share_alike
from pytest_greencompute.models.process import as_it_was
from pytest_greencompute.models.scoring import listed_references
from pytest_greencompute.results.result import AdvisedChange, GivenAdvice
from pytest_greencompute.session.candidates import Comparison, interval
from pytest_greencompute.session.checks import Asking, repeatable
from pytest_greencompute.session.heats import Exam, Heats
from pytest_greencompute.values.footprint import Footprint, yearly
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.names import unknown_key
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import RATIO, show_limit, show_share

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

FEW_QUERIES = 30  # of fewer nobody can tell what becomes of their accuracy
ASKED_TWICE, TWICE_S = 64, 5.0  # queries, for whether the model answers alike: fewer where they take longer, but a few
FEW_TWICE = 8
NAME = "advice"
LATENCY = METRICS["latency_p50"]


class Advised:
    """What a test gets from ``energy_meter.advise``. ``advice`` holds it typed, ``str()`` is it in lines, ``comparison`` what was measured
    last: today's configuration beside what is advised.
    """

    __slots__ = ("_subject", "advice", "comparison")

    def __init__(self, advice: Advice, comparison: Comparison) -> None:
        self.advice = advice
        self.comparison = comparison

    def __str__(self) -> str:
        return "\n".join(self.advice.lines)

    def assert_nothing_better_than(self, saving: object, *, accepted: Mapping[str, str] | None = None) -> None:
        """The build fails where something is proven to save more than ``saving`` ("20 %") of today's energy per query, and is not done.

        ``accepted`` are levers that are left unused, each with the reason: what needs one of them is left out. Where today's energy is not
        known, it is UNMEASURED. Judged when the test has ended, as budgets are. Raises SettingsError for a saving that is no share below 1,
        and for a lever without a reason.
        """
        share, accepted = parse_margin(saving), accepted or {}
        if not isinstance(accepted, Mapping):
            raise SettingsError(
                f"accepted is {accepted!r}.", remedy="Pass a dict of levers with their reasons, such as {'batch_size': '…'}."
            )
        if share >= 1:
            raise SettingsError(f"saving is {saving!r}.", remedy='Write a share of today\'s energy, such as "20 %".')
        tried = {each.name.partition("=")[0] for each in self.advice.tried}
        known = list(dict.fromkeys([*tried, *(each.lever.name for do in self.advice.do for each in do.configuration.settings)]))
        for lever, reason in accepted.items():
            if lever not in known:
                raise unknown_key(lever, known, "lever that was tried")
            if not isinstance(reason, str) or not reason.strip():
                raise SettingsError(f"{lever} is accepted without a reason.", remedy="Write why it is not done.")
        left = [each.configuration for each in self.advice.do if not any(one.lever.name in accepted for one in each.configuration.settings)]
        choice = self.comparison.choice
        today = choice.candidates[0]
        judged = replace(choice, candidates=(today, *(choice.candidate(each.name) for each in left))) if left else choice
        if left or isinstance(choice.outcome(today, ENERGY), Missing):
            self.comparison.verdicts.append(judge_right_size(judged, today.name, share / (1 - share)))


@dataclass
class Advising:
    """Advice that a test asks for: ``shared`` is its task as it is today, ``floor`` and ``limits`` what a configuration must meet.

    ``students``: small models are fitted on today's answers, and tried.
    """

    asking: Asking
    shared: Task
    floor: object = None
    limits: Mapping[str, object] = field(default_factory=dict)
    without_accuracy: bool = False
    students: bool = False
    name: str | None = None
    _answers: Sequence[Any] = field(default=(), init=False)

    def advise(self, levers: Iterable[str] | None, candidates: Candidates) -> Advised:
        """Raises SettingsError for bad input, MeterError."""
        asking = self.asking
        if any(each.name == self.called for each in asking.test.comparisons):
            raise SettingsError("This test has its advice already.", remedy="Ask for it once, or in a test of its own.")
        levers = levers if levers is None or isinstance(levers, str) else [*levers]
        table = rows(levers, candidates)
        least, limited = asked_of(self.floor, self.limits, scored=True)
        asking.run_nothing()
        if not asking.mode.metered:
            asking.unmetered("advise")
        with as_it_was():
            whole, notes = self._today(least)
            taught, refused = self._taught(whole)
            table = rows(levers, {**candidates, **taught}) if taught else table
            part = whole.part(sample(whole.task.queries, whole.run.seconds))
            settings, not_here = settings_of(table, whole.task)
            settings, too_large = _within(settings, len(part.answers))
            heats = Heats(asking, table, whole, part, least, limited, self.without_accuracy, self.called)
            found = _searched(heats, settings)
        return self._told(found, heats, notes, not_here | too_large | refused)

    @property
    def called(self) -> str:
        """What its comparison is called among those of the test."""
        return NAME if self.name is None else f"{NAME} on {self.name}"

    def today(self, advised: Advised) -> tuple[Run, list[Any]]:
        """The run and the answers of the task as it is today, under its own name. Raises SettingsError where it could not be measured."""
        first = advised.comparison.choice.candidates[0]
        if first.run is None:
            raise SettingsError(f"The model could not be measured: {first.problem}.", remedy="Run the test without advice.")
        return replace(first.run, name=self.name, notes=()), [*self._answers]

    def _today(self, least: float | None) -> tuple[Exam, tuple[str, ...]]:
        """Today's task with queries and references as lists and what it answers, and what must be said of it before anything else."""
        shared = self.shared
        queries = repeatable(shared.queries)
        if len(queries) < FEW_QUERIES and not self.without_accuracy:
            raise SettingsError(
                f"{len(queries)} queries are too few to tell what a change does to the accuracy.",
                remedy=f"Pass {FEW_QUERIES} or more, or without_accuracy=True where that does not matter.",
            )
        task = replace(shared, queries=queries, references=listed_references(shared.references))
        run, self._answers = run_once(task, self.asking.mode.clock)
        in_time = int(TWICE_S * len(queries) / max(run.seconds, 1e-9))
        _, again = run_once(task, self.asking.mode.clock, min(ASKED_TWICE, max(FEW_TWICE, in_time)))
        notes: tuple[str, ...] = ()
        same = share_alike(again, self._answers[: len(again)])
        if same is not None and same < 1:
            notes += (f"the model answers {show_share(1 - same)} of the queries otherwise when it is asked again",)
        if task.references is None:
            task = replace(task, references=self._answers, score=alike)
            run = replace(run, scores=(1.0,) * len(self._answers))
            notes += ("no references: the share of answers that are today's stands for the accuracy",)
        elif run.scores and least is not None and (scored := sum(run.scores) / len(run.scores)) < least:
            notes += (f"today's configuration scores {scored:.3g}, under the floor of {show_limit(least, RATIO)}",)
        return Exam(task, run, self._answers), notes

    def _taught(self, whole: Exam) -> tuple[Candidates, dict[str, str]]:
        """The students, by name, or why there are none."""
        if not self.students:
            return {}, {}
        try:
            return students(whole.task, whole.answers), {}
        except CannotError as error:
            return {}, {"students": error.message}

    def _told(self, found: Searched, heats: Heats, notes: tuple[str, ...], refused: dict[str, str]) -> Advised:
        """The advice, on the reports as a comparison of what was measured last with today's configuration."""
        asking, choice = self.asking, heats.last
        if choice is None:
            raise SettingsError("No lever applies to this model.", remedy="; ".join(f"{name}: {why}" for name, why in refused.items()))
        today = choice.candidates[0]
        footprint = choice.aim.footprint
        do = tuple(_suggestion(choice, today, each, footprint) for each in found.confirmed)
        modelled = getattr(choice.outcome(today, ENERGY), "method", "") == "modelled"
        notes += ("the energy is modelled: what it says of other machines is not known",) if modelled else ()
        advice = Advice(do, in_vain(found, refused), notes)
        first = replace(today, run=None if today.run is None else replace(today.run, notes=(*today.run.notes, *advice.lines)))
        among = replace(choice, candidates=(first, *choice.candidates[1:]))
        comparison = Comparison(among, heats.outputs, asking.unmetered, self.called, _given(advice))
        asking.test.comparisons.append(comparison)
        asking.test.runs.extend(each.run for each in among.candidates if each.run is not None)
        return Advised(advice, comparison)


def _within(settings: Sequence[Setting], queries: int) -> tuple[tuple[Setting, ...], dict[str, str]]:
    """Those that can be told from others on a sample of so many queries, and why the others cannot."""
    large = [each for each in settings if each.lever.name == "batch_size" and int(each.value) > queries]
    why = f"the sample has {queries} queries: as many as are answered in a second, or {LEAST}"
    return tuple(each for each in settings if each not in large), {each.name: why for each in large}


def _searched(heats: Heats, settings: Sequence[Setting]) -> Searched:
    steps = search(settings, sampled=heats.sampled)
    told: list[Trial] | None = None
    while True:
        try:
            heat = next(steps) if told is None else steps.send(told)
        except StopIteration as done:
            found: Searched = done.value
            return found
        told = heats.trials(heat)


def _suggestion(choice: Choice, today: Candidate, trial: Trial, footprint: Footprint) -> Suggestion:
    each, used = choice.candidate(trial.configuration.name), choice.outcome(today, ENERGY)
    assert trial.ratio is not None
    assert isinstance(used, Estimate)
    change = Suggestion(trial.configuration, trial.ratio, choice.accuracy_difference(each, today), choice.times(each, today, LATENCY))
    value, low, high = change.saving
    less = (used.value * value, None if used.low is None else used.low * low, None if used.high is None else used.high * high)
    return replace(change, year=yearly(footprint, *less), footprint=footprint, modelled=used.method == "modelled")


def _given(advice: Advice) -> GivenAdvice:
    """The advice as reports carry it."""

    def change(each: Suggestion) -> AdvisedChange:
        ratios = (None if one is None else interval(one.value, one.low or -math.inf, one.high) for one in (each.energy, each.latency))
        energy, latency = ratios
        assert energy is not None
        accuracy = None if each.accuracy is None else interval(each.accuracy.value, each.accuracy.low, each.accuracy.high)
        return AdvisedChange(each.configuration.name, each.code, energy, accuracy, latency, each.year)

    return GivenAdvice(tuple(map(change, advice.do)), {each.name: each.why for each in advice.tried}, advice.notes)
