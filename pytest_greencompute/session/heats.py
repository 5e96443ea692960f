"""The heats of a search for advice, measured: by turns, or asked once each where only their answers are judged."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from pytest_greencompute.advising.levers import TODAY, Configuration
from pytest_greencompute.advising.search import Heat, Purpose, Trial
from pytest_greencompute.judging.budget import DEFAULT_SECONDS
from pytest_greencompute.judging.choice import Candidate, Choice
from pytest_greencompute.levers.changed import LeverRow, changed, in_users_order, run_in_users_order
from pytest_greencompute.measuring.by_turns import Entrant, measure_abreast, run_all_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.alike import share_alike
from pytest_greencompute.session.candidates import run_name
from pytest_greencompute.session.checks import Asking
from pytest_greencompute.session.under_meters import UnderMeters
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import RATIO, show_limit

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

LOSS = 0.005  # of the accuracy, where no floor is named
SAMPLE_BATCHES = 16  # configurations run other batches in a set: so many are about alike
ROUGH_CONFIDENCE = 0.9  # of what is only ranked; what is advised is confirmed at the session's own
# Of turns, at most, in a heat; a test that may cost less than by default has as much less of it.
SECONDS: Mapping[Purpose, float] = {"screen": 20.0, "combine": 8.0, "confirm": 30.0}
READY_S, READY_PASSES = 20.0, 4  # that a configuration may take until its turns, beside so many times today's pass over the queries
READY_SLOW_S = 180.0  # with a lever that is known to be slow


@dataclass(frozen=True)
class Exam:
    """What is asked of every configuration: ``task`` as it is today, today's ``run`` of it and ``answers``."""

    task: Task
    run: Run
    answers: Sequence[Any]

    def part(self, places: Sequence[int]) -> Exam:
        """Some of the queries."""
        task, run = self.task, self.run
        if len(places) == len(self.answers):
            return self
        queries: Any = task.queries
        references = None if task.references is None else [*task.references]
        fewer = replace(
            task, queries=[queries[place] for place in places], references=references and [references[place] for place in places]
        )
        scores = None if run.scores is None else tuple(run.scores[place] for place in places)
        seconds = run.seconds * len(places) / len(self.answers)
        return Exam(fewer, replace(run, queries=len(places), scores=scores, seconds=seconds, tokens=None, reasoning=None), self._of(places))

    def _of(self, places: Sequence[int]) -> list[Any]:
        return [self.answers[place] for place in places]


@dataclass
class Heats:
    """How heats are measured: ``whole`` and ``sample`` are what is asked, ``least`` and ``limited`` what a configuration must meet, and
    ``called`` is the name of the comparison. ``last`` is the last choice with today's configuration first, ``outputs`` are its answers.
    """

    asking: Asking
    table: Sequence[LeverRow]
    whole: Exam
    sample: Exam
    least: float | None
    limited: Mapping[str, float]
    without_accuracy: bool
    called: str
    last: Choice | None = field(default=None, init=False)
    outputs: Mapping[str, list[Any]] = field(default_factory=dict, init=False)
    _outputs: Mapping[str, list[Any]] = field(default_factory=dict, init=False)

    @property
    def sampled(self) -> bool:
        """Whether what a sample lets through must be judged on all queries."""
        return self.sample is not self.whole and not (self.without_accuracy and self.least is None)

    def trials(self, heat: Heat) -> list[Trial]:
        """What a heat shows of each configuration but its first. Raises SettingsError, MeterError."""
        asked = self.sample if heat.on_sample else self.whole
        choice = self._judged(heat, asked) if heat.purpose == "judge" else self._measured(heat, asked)
        first = choice.candidates[0]
        if not heat.configurations[0].settings and heat.purpose != "judge":
            self.last, self.outputs = choice, self._outputs
        ended = heat.purpose == "confirm"
        return [
            Trial(
                configuration,
                choice.ratio(each, first),
                self._missed(heat, choice, each, ended=ended),
                each.problem,
                _as_good(each, asked.run),
            )
            for configuration, each in zip(heat.configurations[1:], choice.candidates[1:], strict=True)
        ]

    def _judged(self, heat: Heat, asked: Exam) -> Choice:
        """All queries once, beside what today's configuration answered to them."""
        orders: dict[str, Sequence[int] | None] = {}
        entrants = [self._entrant(each, asked, orders) for each in heat.configurations[1:]]
        found, outputs = run_all_once(entrants, self.asking.mode.clock, None, some=False)
        return self._choice(heat, asked, (Candidate(TODAY, asked.run), *found), orders, outputs)

    def _measured(self, heat: Heat, asked: Exam) -> Choice:
        """The configurations of a heat, measured by turns until it needs no more of them."""
        orders: dict[str, Sequence[int] | None] = {}

        def over(candidates: Sequence[Candidate], looks: int) -> Collection[str]:
            choice = self._choice(heat, asked, candidates, orders, {}, looks)
            first, *others = choice.candidates
            named = zip(heat.configurations[1:], others, strict=True)
            shown = [Trial(one, choice.ratio(each, first), self._missed(heat, choice, each), each.problem) for one, each in named]
            return heat.over({each.configuration.name: each for each in shown})

        def metered(under: UnderMeters) -> Choice:
            seconds = SECONDS[heat.purpose] * min(1.0, under.session.budget(under.test).max_seconds / DEFAULT_SECONDS)

            def effort_of(name: str) -> Any:
                effort = under.effort_of(name, run_name(self.called, name), self.limited, ())
                timing = "none" if heat.on_sample and not self.limited else effort.timing  # nobody reads their latencies
                return replace(effort, max_seconds=seconds, timing=timing, rough=heat.on_sample)

            entrants = [self._entrant(each, asked, orders) for each in heat.configurations]
            found, outputs, looks = measure_abreast(entrants, under.instruments, effort_of, over, under.problem)
            return self._choice(heat, asked, found, orders, outputs, looks)

        found: Choice = self.asking.mode.either(self.asking.test, metered, _never)
        return found

    def _entrant(self, configuration: Configuration, asked: Exam, orders: dict[str, Sequence[int] | None]) -> Entrant:
        name = configuration.name

        def made() -> Task:
            found = changed(replace(asked.task, name=run_name(self.called, name)), configuration, self.table)
            orders[name] = found.order
            return found.ready()

        if not configuration.settings:
            return Entrant(name, made, {})
        slow = not all(each.lever.unasked for each in configuration.settings)
        ready_s = (READY_SLOW_S if slow else READY_S) + READY_PASSES * asked.run.seconds
        return Entrant(name, made, {}, odd=True, ready_s=ready_s)

    def _choice(
        self,
        heat: Heat,
        asked: Exam,
        found: Sequence[Candidate],
        orders: Mapping[str, Sequence[int] | None],
        outputs: Mapping[str, list[Any]],
        looks: int = 1,
    ) -> Choice:
        """The candidates with all that is theirs in the order of the user's queries."""
        ordered = [each if each.run is None else replace(each, run=run_in_users_order(each.run, orders.get(each.name))) for each in found]
        if outputs:
            self._outputs = {name: in_users_order(each, orders.get(name)) if each else [] for name, each in outputs.items()}
            ordered = [replace(each, alike=share_alike(self._outputs.get(each.name, ()), asked.answers)) for each in ordered]
        aim = self.asking.mode.aim(self.asking.test)
        aim = aim if heat.purpose in {"judge", "confirm"} else replace(aim, confidence=ROUGH_CONFIDENCE)
        least = None if heat.on_sample and self.sampled else self.least
        fields: dict[str, Any] = {"looks": looks, "subject": self.asking.test.subject, "batches": SAMPLE_BATCHES}
        return Choice(tuple(ordered), aim, least, self.limited, **fields)

    def _missed(self, heat: Heat, choice: Choice, each: Candidate, *, ended: bool = False) -> str:
        """Which demand a configuration does not meet; empty where it meets all, and where that is not known yet: ``ended`` says that it
        will not be.
        """
        if each.run is None:
            return ""
        missed = choice.missed(each)
        if missed is not None:
            return missed.says if missed.known or ended else ""
        on_sample = heat.on_sample and self.sampled
        today = (self.sample if heat.on_sample else self.whole).run
        gain = choice.accuracy_difference(each, Candidate(TODAY, today))
        if gain is None or (self.without_accuracy and not on_sample):
            return ""
        if not on_sample:
            return f"it loses {gain} of accuracy" if self.least is None and gain.value < -LOSS else ""
        scores = self.whole.run.scores or (1.0,)
        allowed = -LOSS if self.least is None else self.least - sum(scores) / len(scores)
        if gain.high >= allowed:
            return ""
        under = "" if self.least is None else f", under the floor of {show_limit(self.least, RATIO)}"
        return f"it loses {gain} of accuracy on {len(self.sample.answers)} queries{under}"


def _as_good(each: Candidate, today: Run) -> bool:
    """Whether each query is answered as today, or scores no less."""
    if each.alike == 1:
        return True
    now, before = (None if run is None else run.scores for run in (each.run, today))
    return now is not None and before is not None and len(now) == len(before) and all(map(operator.ge, now, before))


def _never(_: int | None) -> NoReturn:
    raise AssertionError("advice is measured under meters")
