"""What a test gets back from ``energy_meter.compare`` and ``energy_meter.sweep``: the candidates' figures, and what can be asserted on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.estimates.estimate import Estimate, Missing
from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.judging.choice import ACCURACY, DEFAULT_MARGIN, ENERGY, Candidate, Choice, parse_margin, sweep_name
from pytest_greencompute.judging.right_size import judge_met, judge_right_size
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.report.candidates import lines
from pytest_greencompute.results.result import CandidateCount, CandidateRow, GivenAdvice
from pytest_greencompute.values.footprint import Amount
from pytest_greencompute.values.metrics import METRICS

if TYPE_CHECKING:
    from pytest_greencompute.stats.ratios import Ratio
    from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

ByRun = dict[str | None, tuple[CandidateRow, tuple[Verdict, ...]]]
FIGURES = ("energy_per_query", "accuracy", "latency_p50", "latency_p95", "throughput", "tokens_per_query")


class Comparison:
    """Candidates measured on the same queries, their sets by turns.

    ``runs[name]`` and ``outputs[name]`` are a candidate's figures and answers; ``right_sized`` is the leanest that meets what was asked
    (None where none does), ``cheapest`` its settings after a sweep, ``front`` the Pareto front of accuracy against energy, leanest first.
    ``str()`` is the table. Where no candidate meets the floor of accuracy and the limits the test fails: the floor, metered or not.
    Without ``--energy-budget`` each candidate ran once: asking for what needs energy skips the rest of the test, saying why. Where no
    candidate has a figure of energy it raises MeterError with the reason.
    """

    __slots__ = ("_advice", "_answers", "_name", "_unmetered", "choice", "verdicts")

    def __init__(
        self,
        choice: Choice,
        outputs: Mapping[str, list[Any]],
        unmetered: Callable[[str], NoReturn],
        name: str | None = None,
        advice: GivenAdvice | None = None,
    ) -> None:
        self.choice = choice
        self._answers = dict(outputs)
        self.verdicts: list[Verdict] = []
        self._unmetered = unmetered
        self._name = name
        self._advice = advice

    @property
    def name(self) -> str | None:
        """What tells the comparisons of one test apart."""
        return self._name

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(each.name for each in self.choice.candidates)}>"

    def __str__(self) -> str:
        return "\n".join(lines(self.described()))

    @property
    def metered(self) -> bool:
        """Whether energy was asked of the meters at all."""
        return any(each.run is not None and each.run.metered for each in self.choice.candidates)

    @property
    def runs(self) -> dict[str, MeasuredRun]:
        """The figures of each candidate that could be measured, by name."""
        found = {}
        for each in self.choice.candidates:
            if each.run is not None:
                found[each.name] = MeasuredRun(each.run, self._answers.get(each.name), self.choice.aim, self._unmetered)
        return found

    @property
    def outputs(self) -> dict[str, list[Any]]:
        """The answers of each candidate, by name. Raises SettingsError where they stayed in the processes of several cards."""
        return {**self._answers, **{name: run.outputs for name, run in self.runs.items()}}

    @property
    def problems(self) -> dict[str, str]:
        """Why each of the other candidates could not be measured, by name."""
        return {each.name: each.problem for each in self.choice.candidates if each.run is None}

    @property
    def linked(self) -> dict[str, Run]:
        """What the next card measured of the candidates that join two, by the name of their run."""
        return {self.run_name(each.name): each.linked for each in self.choice.candidates if each.linked is not None}

    @property
    def right_sized(self) -> str | None:
        """The leanest candidate whose figures meet what was asked; None where none does."""
        self._need_figures("right_sized")
        return self.choice.right_sized

    @property
    def cheapest(self) -> dict[str, Any] | None:
        """The settings of the right-sized one of a sweep, such as {"batch_size": 16}; None where none meets what was asked."""
        if not any(each.values for each in self.choice.candidates):
            raise SettingsError("Only a sweep has a cheapest setting.", remedy="right_sized names the candidate of a comparison.")
        self._need_figures("cheapest")
        found = self.choice.right_sized
        return None if found is None else dict(self.choice.candidate(found).values)

    @property
    def front(self) -> tuple[str, ...]:
        """The Pareto front of accuracy against energy, leanest first."""
        self._need_figures("front")
        return self.choice.front

    def times(self, one: str, to: str) -> Ratio | None:
        """How many times the energy per query of ``to`` that ``one`` uses, with its interval; None where one has no figure."""
        self._need_figures("times")
        return self.choice.ratio(self.choice.candidate(one), self.choice.candidate(to))

    def assert_right_sized(self, default: str | None = None, *, margin: object = DEFAULT_MARGIN, **values: Any) -> None:
        """The build fails where ``default``, the configured candidate, uses over ``margin`` more energy than the right-sized one.

        It fails, too, where the configured candidate does not meet what was asked of ``compare``. After a sweep name the configured
        settings instead: ``assert_right_sized(batch_size=16)``. Judged when the test has ended, as budgets are. Without
        ``--energy-budget`` only the floor of accuracy is judged, and the rest of the test is skipped. Raises SettingsError for a name that
        no candidate has and for a margin that is not a share.
        """
        if (default is None) == (not values):
            raise SettingsError("assert_right_sized needs the configured candidate.", remedy="Pass its name, or the settings of a sweep.")
        name = self._named(values) if default is None else self.choice.candidate(default).name
        share = parse_margin(margin)
        verdict = judge_right_size(self.choice, name, share)
        if self.metered or (verdict.word == "FAIL" and verdict.metric == ACCURACY.name):
            self.verdicts.append(verdict)
        self._need_energy("assert_right_sized")

    def _named(self, values: Mapping[str, Any]) -> str:
        for each in self.choice.candidates:
            if dict(each.values) == dict(values):
                return each.name
        axes = next((each.values for each in self.choice.candidates if each.values), {})
        if axes and set(axes) != set(values):
            raise SettingsError(f"The sweep is over {', '.join(axes)}.", remedy=f"Name a value of each, such as {sweep_name(axes)}.")
        return self.choice.candidate(sweep_name(values)).name

    def _need_energy(self, what: str) -> None:
        if not self.metered:
            self._unmetered(what)

    def _need_figures(self, what: str) -> None:
        """Without any figure of energy nothing is the leanest, which is not the same as that none meets what was asked."""
        self._need_energy(what)
        reasons = [found.reason for each in self.choice.candidates if isinstance(found := self.choice.outcome(each, ENERGY), Missing)]
        if len(reasons) == len(self.choice.candidates):
            raise MeterError(f"There is no {what}: {reasons[0].rstrip('.')}.")

    def run_name(self, candidate: str) -> str:
        """What a candidate's run is called among those of its test."""
        return run_name(self._name, candidate)

    def by_run(self) -> ByRun:
        """Each candidate's row of the table and the verdicts on it, by the name of its run."""
        # The verdict on a configured candidate that misses what is asked says who meets it.
        nobody = None if any(each.metric != ENERGY.name for each in self.verdicts) else judge_met(self.choice)
        verdicts = self.verdicts if nobody is None else [*self.verdicts, nobody]
        rows = {row.candidate: row for row in self.described()}
        return {
            self.run_name(name): (row, tuple(replace(each, run=self.run_name(name)) for each in verdicts if each.run == name))
            for name, row in rows.items()
        }

    def described(self) -> list[CandidateRow]:
        """Each candidate as reports show it."""
        first, *others = rows_of(self.choice, self._name)
        return [replace(first, advice=self._advice), *others]


def run_name(comparison: str | None, candidate: str) -> str:
    """What the run of a candidate is called among those of its test, ``comparison`` being the name of the comparison."""
    return candidate if comparison is None else f"{comparison}/{candidate}"


def rows_of(choice: Choice, name: str | None) -> list[CandidateRow]:
    """The candidates of a comparison called ``name`` as reports show them: SI units, None where there is none."""
    against = choice.right_sized or (choice.front[0] if choice.front else None)
    return [_row(choice, each, None if against is None else choice.candidate(against), name) for each in choice.candidates]


def _row(choice: Choice, each: Candidate, against: Candidate | None, name: str | None) -> CandidateRow:
    best, energy = choice.best, choice.outcome(each, ENERGY)
    ratio = None if against is None else choice.ratio(each, against)
    difference = None if best is None or best is each else choice.accuracy_difference(each, best)
    return CandidateRow(
        comparison=name,
        candidate=each.name,
        values={key: _plain(value) for key, value in each.values.items()},
        figures={metric: choice.value(each, METRICS[metric]) for metric in FIGURES},
        counts={} if each.run is None else {name: CandidateCount(one.value, one.bound) for name, one in each.run.counts.items()},
        domain=energy.domain if isinstance(energy, Estimate) else "",
        modelled=isinstance(energy, Estimate) and energy.method == "modelled",
        everywhere=choice.everywhere,
        times=None if ratio is None else interval(ratio.value, ratio.low or -math.inf, ratio.high),
        times_of=None if against is None else against.name,
        accuracy_difference=None if difference is None else interval(difference.value, difference.low, difference.high),
        agreement=choice.agreement(each),
        agreement_with=choice.reference.name,
        weights=each.weights,
        front=each.name in choice.front,
        right_sized=each.name == choice.right_sized,
        shortfall=choice.shortfall(each) if each.run is not None else "",
        problem=each.problem,
        impossible=each.impossible,
        no_energy="" if isinstance(energy, Estimate) or each.run is None or not each.run.metered else energy.reason,
        floor=choice.floor,
        by_turns=choice.by_turns,
    )


def _plain(value: Any) -> bool | int | float | str:
    """A swept value as plain JSON: a number of numpy's, or an enumeration that is a text, is a subclass that not everybody can carry."""
    value = value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value
    if isinstance(value, bool | int):
        return value if isinstance(value, bool) else int(value)
    return float(value) if isinstance(value, float) else str.__str__(value) if isinstance(value, str) else str(value)


def interval(value: float, low: float, high: float) -> Amount:
    """A figure with its interval, None where that is open."""
    return Amount(value, low if math.isfinite(low) else None, high if math.isfinite(high) else None)
