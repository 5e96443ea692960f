"""``energy_meter.advise``: the known levers tried on the test's own model and queries, and what they are proven to save."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from pytest_greencompute.advising.advice import Advice, Suggestion, in_vain
from pytest_greencompute.advising.levers import Configuration
from pytest_greencompute.advising.search import Heat, Purpose, Searched, Trial, search
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.choice import ENERGY, Candidate, Choice, asked_of, parse_margin
from pytest_greencompute.judging.right_size import judge_right_size
from pytest_greencompute.levers.changed import LeverRow, changed, in_users_order, run_in_users_order
from pytest_greencompute.levers.process import as_it_was
from pytest_greencompute.levers.table import Candidates, rows, settings_of
from pytest_greencompute.measuring.by_turns import Entrant, measure_abreast
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.alike import alike, share_alike
from pytest_greencompute.models.scoring import listed_references
from pytest_greencompute.results.result import AdvisedChange, GivenAdvice
from pytest_greencompute.session.candidates import Comparison, interval, run_name
from pytest_greencompute.session.checks import Asking, repeatable
from pytest_greencompute.session.under_meters import UnderMeters
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.names import unknown_key
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import RATIO, show_limit, show_share

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

FEW_QUERIES = 30  # of fewer nobody can tell what becomes of their accuracy
ASKED_TWICE = 64  # queries, for whether the model answers alike
LOSS = 0.005  # of the accuracy, where no floor is named
SAMPLE_BATCHES = 16  # configurations run other batches in a set: so many are about alike
ROUGH_CONFIDENCE = 0.9  # of what is only ranked; what is advised is confirmed at the session's own
SECONDS: Mapping[Purpose, float] = {"screen": 45.0, "combine": 20.0, "confirm": 45.0}  # of turns, at most, in a heat
READY_S, READY_PASSES = 20.0, 4  # that a configuration may take until its turns, beside so many times today's pass over the queries
READY_SLOW_S = 180.0  # with a lever that is known to be slow
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

        ``accepted`` are levers that are left unused, each with the reason: what needs one of them is left out. Judged when the test has
        ended, as budgets are. Raises SettingsError for a saving that is no share below 1, and for a lever without a reason.
        """
        share, accepted = parse_margin(saving), accepted or {}
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
        judged = replace(choice, candidates=(today, *(choice.candidate(each.name) for each in left))) if left else None
        if judged is not None:
            self.comparison.verdicts.append(judge_right_size(judged, today.name, share / (1 - share)))


@dataclass
class Advising:
    """Advice that a test asks for: ``shared`` is its task as it is today, ``floor`` and ``limits`` what a configuration must meet."""

    asking: Asking
    shared: Task
    floor: object = None
    limits: Mapping[str, object] = field(default_factory=dict)
    without_accuracy: bool = False
    name: str | None = None
    _least: float | None = field(default=None, init=False)
    _limited: Mapping[str, float] = field(default_factory=dict, init=False)
    _answers: Sequence[Any] = field(default=(), init=False)
    _pass_s: float = field(default=0.0, init=False)
    _outputs: dict[str, list[Any]] = field(default_factory=dict, init=False)
    _first: Candidate | None = field(default=None, init=False)

    def advise(self, levers: Iterable[str] | None, candidates: Candidates) -> Advised:
        """Raises SettingsError for bad input, MeterError."""
        asking = self.asking
        asking.refuse_inside_a_window()
        if any(each.name == self.called for each in asking.test.comparisons):
            raise SettingsError("This test has its advice already.", remedy="Ask for it once, or in a test of its own.")
        table = rows(levers, candidates)
        self._least, self._limited = asked_of(self.floor, self.limits, scored=True)
        asking.run_nothing()
        if not asking.mode.metered:
            asking.unmetered("advise")
        with as_it_was():
            task, notes = self._today()
            settings, refused = settings_of(table, task)
            last: list[Choice] = []
            found = self._searched(task, table, [*settings], last)
        return self._told(found, last[-1] if last else None, notes, refused)

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

    def _today(self) -> tuple[Task, tuple[str, ...]]:
        """Today's task with queries and references as lists, and what must be said of it before anything else."""
        shared = self.shared
        queries = repeatable(shared.queries)
        if len(queries) < FEW_QUERIES and not self.without_accuracy:
            raise SettingsError(
                f"{len(queries)} queries are too few to tell what a change does to the accuracy.",
                remedy=f"Pass {FEW_QUERIES} or more, or without_accuracy=True where that does not matter.",
            )
        task = replace(shared, queries=queries, references=listed_references(shared.references))
        run, self._answers = run_once(task, self.asking.mode.clock)
        self._pass_s = run.seconds
        _, again = run_once(task, self.asking.mode.clock, ASKED_TWICE)
        notes: tuple[str, ...] = ()
        same = share_alike(again, self._answers[: len(again)])
        if same is not None and same < 1:
            notes += (f"the model answers {show_share(1 - same)} of the queries otherwise when it is asked again",)
        if task.references is None:
            task = replace(task, references=self._answers, score=alike)
            notes += ("no references: the share of answers that are today's stands for the accuracy",)
        elif run.scores and self._least is not None and (scored := sum(run.scores) / len(run.scores)) < self._least:
            notes += (f"today's configuration scores {scored:.3g}, under the floor of {show_limit(self._least, RATIO)}",)
        return task, notes

    def _searched(self, task: Task, table: Sequence[LeverRow], settings: list[Any], last: list[Choice]) -> Searched:
        steps = search(settings)
        told: list[Trial] | None = None
        while True:
            try:
                heat = next(steps) if told is None else steps.send(told)
            except StopIteration as done:
                found: Searched = done.value
                return found
            choice = self._measured(task, table, heat)
            self._first = self._first or choice.candidates[0]
            told = self._trials(heat, choice)
            if heat.purpose != "combine":
                last.append(choice)

    def _measured(self, task: Task, table: Sequence[LeverRow], heat: Heat) -> Choice:
        """The configurations of a heat, measured by turns until it needs no more of them."""
        orders: dict[str, Sequence[int] | None] = {}

        def entrant(configuration: Configuration) -> Entrant:
            name = configuration.name

            def made() -> Task:
                found = changed(replace(task, name=run_name(self.called, name)), configuration, table)
                orders[name] = found.order
                return found.ready()

            if not configuration.settings:
                return Entrant(name, made, {})
            slow = not all(each.lever.unasked for each in configuration.settings)
            return Entrant(name, made, {}, odd=True, ready_s=(READY_SLOW_S if slow else READY_S) + READY_PASSES * self._pass_s)

        def choice(candidates: Sequence[Candidate], looks: int) -> Choice:
            ordered = (
                each if each.run is None else replace(each, run=run_in_users_order(each.run, orders.get(each.name))) for each in candidates
            )
            aim = self.asking.mode.aim(self.asking.test)
            aim = aim if heat.purpose == "confirm" else replace(aim, confidence=ROUGH_CONFIDENCE)
            fields: dict[str, Any] = {"looks": looks, "subject": self.asking.test.subject, "batches": SAMPLE_BATCHES}
            return Choice(tuple(ordered), aim, self._least, self._limited, **fields)

        def over(candidates: Sequence[Candidate], looks: int) -> Collection[str]:
            return heat.over({each.configuration.name: each for each in self._trials(heat, choice(candidates, looks))})

        def metered(under: UnderMeters) -> Choice:
            def effort_of(name: str) -> Any:
                effort = under.effort_of(name, run_name(self.called, name), self._limited, ())
                return replace(effort, max_seconds=SECONDS[heat.purpose])

            entrants = [entrant(each) for each in heat.configurations]
            found, outputs, looks = measure_abreast(entrants, under.instruments, effort_of, over, under.problem)
            self._outputs = {name: in_users_order(each, orders.get(name)) if each else [] for name, each in outputs.items()}
            theirs = self._outputs[heat.configurations[0].name]
            return choice([replace(each, alike=share_alike(self._outputs[each.name], theirs)) for each in found], looks)

        found: Choice = self.asking.mode.either(self.asking.test, metered, _never)
        return found

    def _trials(self, heat: Heat, choice: Choice) -> list[Trial]:
        first = choice.candidates[0]
        return [
            Trial(configuration, choice.ratio(each, first), self._missed(choice, each), each.problem)
            for configuration, each in zip(heat.configurations[1:], choice.candidates[1:], strict=True)
        ]

    def _missed(self, choice: Choice, each: Candidate) -> str:
        """Which demand a configuration does not meet; empty where it meets all, and where that is not known yet."""
        if each.run is None:
            return ""
        missed = choice.missed(each)
        if missed is not None:
            return missed.says if missed.known else ""
        gain = choice.accuracy_difference(each, self._first or choice.candidates[0])  # today's, not the best so far
        if self._least is None and not self.without_accuracy and gain is not None and gain.value < -LOSS:
            return f"it loses {gain} of accuracy"
        return ""

    def _told(self, found: Searched, choice: Choice | None, notes: tuple[str, ...], refused: dict[str, str]) -> Advised:
        """The advice, on the reports as a comparison of what was measured last with today's configuration."""
        asking = self.asking
        if choice is None:
            raise SettingsError("No lever applies to this model.", remedy="; ".join(f"{name}: {why}" for name, why in refused.items()))
        today = choice.candidates[0]
        do = tuple(self._suggestion(choice, today, each) for each in found.confirmed)
        modelled = getattr(choice.outcome(today, ENERGY), "method", "") == "modelled"
        notes += ("the energy is modelled: what it says of other machines is not known",) if modelled else ()
        advice = Advice(do, in_vain(found, refused), notes)
        first = replace(today, run=None if today.run is None else replace(today.run, notes=(*today.run.notes, *advice.lines)))
        among = replace(choice, candidates=(first, *choice.candidates[1:]))
        comparison = Comparison(among, self._outputs, asking.unmetered, self.called, _given(advice))
        asking.test.comparisons.append(comparison)
        asking.test.runs.extend(each.run for each in among.candidates if each.run is not None)
        return Advised(advice, comparison)

    def _suggestion(self, choice: Choice, today: Candidate, trial: Trial) -> Suggestion:
        each = choice.candidate(trial.configuration.name)
        assert trial.ratio is not None
        return Suggestion(trial.configuration, trial.ratio, choice.accuracy_difference(each, today), choice.times(each, today, LATENCY))


def _given(advice: Advice) -> GivenAdvice:
    """The advice as reports carry it."""

    def change(each: Suggestion) -> AdvisedChange:
        ratios = (None if one is None else interval(one.value, one.low or -math.inf, one.high) for one in (each.energy, each.latency))
        energy, latency = ratios
        assert energy is not None
        accuracy = None if each.accuracy is None else interval(each.accuracy.value, each.accuracy.low, each.accuracy.high)
        return AdvisedChange(each.configuration.name, each.code, energy, accuracy, latency)

    return GivenAdvice(tuple(map(change, advice.do)), {each.name: each.why for each in advice.tried}, advice.notes)


def _never(_: int | None) -> NoReturn:
    raise AssertionError("advice is measured under meters")
