"""Which of several candidates for one task is the right size: the leanest whose answers are good enough, and how sure that is. Pure.

Laws: a ratio of energies comes from sets that took turns, pair by pair, or is as unsure as two launches are; accuracy is compared on the
same queries, pairwise; a candidate without a figure is never the leanest, and none of its faults is passed over in silence.
"""

from __future__ import annotations

import difflib
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_greencompute.distributions import paired_difference_interval
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimate import MIN_SETS, Aim, Estimate, Missing, Outcome, changed_answers, estimate, mean_interval, of_set
from pytest_greencompute.metrics import METRICS, Metric
from pytest_greencompute.ratio import Ratio, exp, pairs_ratio
from pytest_greencompute.samples import Run
from pytest_greencompute.sequential import share
from pytest_greencompute.units import show, show_limit, show_share, significant
from pytest_greencompute.verdict import Verdict, sees, unmeasured, word_for_ratio, worse_ratio

ENERGY, ACCURACY = METRICS["energy_per_query"], METRICS["accuracy"]
CONSTRAINTS = ("latency_p50", "latency_p95", "latency_p99", "throughput")
SETTLED = 1.02  # both sides of every ratio are within 2 %: what sets repeat to on a quiet machine


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to do the task. ``values`` are the swept settings that make it, ``run`` what was measured of it.

    ``problem`` says why there is no run; ``impossible`` that this machine cannot do it (out of memory, a precision that the device
    lacks), so that nobody could have chosen it here.
    """

    name: str
    run: Run | None = None
    problem: str = ""
    impossible: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more (less, if negative) of the queries one candidate gets right than another, with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value * 100:+.1f} points [{self.low * 100:+.1f}, {self.high * 100:+.1f}]"


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates, measured on the same queries, and what they must meet: a ``floor`` of accuracy, ``limits`` by metric name (SI).

    ``by_turns``: their sets took turns, so that sets of one number make pairs. ``looks`` is how many times it was planned to look at
    the ratios. ``subject`` is the test's name in sentences. Invariant: names are unique and there are at least two.
    """

    candidates: tuple[Candidate, ...]
    aim: Aim
    floor: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    by_turns: bool = True
    looks: int = 1
    subject: str = "the test"

    def __post_init__(self) -> None:
        names = [each.name for each in self.candidates]
        if len(names) < 2 or len(set(names)) < len(names):
            raise SettingsError(f"A comparison of {names} compares nothing.", remedy="It takes two candidates or more, each with its name.")
        for name in self.limits:
            if name not in CONSTRAINTS:
                raise SettingsError(f"{name!r} does not limit a comparison.", remedy=f"Known: {', '.join(CONSTRAINTS)}, and floor.")

    def candidate(self, name: str) -> Candidate:
        """The candidate called ``name``. Raises SettingsError, with the nearest name, where there is none."""
        for each in self.candidates:
            if each.name == name:
                return each
        names = [each.name for each in self.candidates]
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
        raise SettingsError(
            f"There is no candidate {name!r}.", remedy=f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
        )

    def outcome(self, candidate: Candidate, metric: Metric) -> Outcome:
        """A figure of a candidate, or why there is none."""
        if candidate.run is None:
            return Missing(candidate.problem or "it was not measured")
        return estimate(candidate.run, metric, self._aim_for(metric))

    def _aim_for(self, metric: Metric) -> Aim:
        """Energy of every domain where some candidate leaves the GPU idle: a model that needs none has a bill of its own elsewhere."""
        if metric.kind != "energy" or self.aim.domains != ("auto",):
            return self.aim
        found = [estimate(each.run, metric, self.aim) for each in self.candidates if each.run is not None]
        everywhere = Aim(self.aim.confidence, ("all",))
        elsewhere = [
            each
            for each in self.candidates
            if each.run is not None and any(not source.domain.startswith("gpu") for source in each.run.sources)
        ]
        return everywhere if elsewhere and any(isinstance(each, Missing) for each in found) else self.aim

    def value(self, candidate: Candidate, metric: Metric) -> float | None:
        """The figure itself, SI; None where there is none."""
        outcome = self.outcome(candidate, metric)
        return outcome.value if isinstance(outcome, Estimate) else None

    def shortfall(self, candidate: Candidate) -> str:
        """What the candidate does not meet, judged on the figures themselves; empty where it meets all that is asked."""
        if candidate.run is None:
            return candidate.problem or "it was not measured"
        score = self.value(candidate, ACCURACY)
        if self.floor is not None and (score is None or score < self.floor):
            found = "has no accuracy" if score is None else f"scores {significant(score, 3)}"
            return f"{found}, under the floor of {show_limit(self.floor, ACCURACY.dimension)}"
        for name, limit in self.limits.items():
            metric, value = METRICS[name], self.value(candidate, METRICS[name])
            if value is None or (value > limit if metric.better == "lower" else value < limit):
                shown = "has none" if value is None else f"is {show(value, metric.dimension)}"
                side = "over" if metric.better == "lower" else "under"
                return f"its {name} {shown}, {side} the limit of {show_limit(limit, metric.dimension)}"
        return ""

    @property
    def meeting(self) -> tuple[Candidate, ...]:
        """The candidates that meet all that is asked and have a figure of energy."""
        return tuple(each for each in self.candidates if not self.shortfall(each) and self.value(each, ENERGY) is not None)

    @property
    def right_sized(self) -> str | None:
        """The leanest candidate that meets all that is asked; None where none does."""
        return min(self.meeting, key=self._joules).name if self.meeting else None

    @property
    def best(self) -> Candidate | None:
        """The candidate of the highest accuracy; None without references."""
        scored = [each for each in self.candidates if self.value(each, ACCURACY) is not None]
        return max(scored, key=lambda each: self.value(each, ACCURACY) or 0.0) if scored else None

    @property
    def front(self) -> tuple[str, ...]:
        """The Pareto front of accuracy against energy: those that no other beats in one without losing in the other, leanest first."""
        known = [each for each in self.candidates if self.value(each, ENERGY) is not None]
        scores = {each.name: self.value(each, ACCURACY) or 0.0 for each in known}

        def beaten(one: Candidate, by: Candidate) -> bool:
            energies, accuracies = (self._joules(one), self._joules(by)), (scores[one.name], scores[by.name])
            return (
                energies[1] <= energies[0]
                and accuracies[1] >= accuracies[0]
                and (energies[1], -accuracies[1]) != (energies[0], -accuracies[0])
            )

        kept = [one for one in known if not any(beaten(one, other) for other in known if other is not one)]
        return tuple(each.name for each in sorted(kept, key=self._joules))

    def _joules(self, candidate: Candidate) -> float:
        value = self.value(candidate, ENERGY)
        return math.inf if value is None else value

    def ratio(self, one: Candidate, to: Candidate, error: float | None = None) -> Ratio | None:
        """How many times the energy per query of ``to`` that ``one`` uses; ``error`` on each side (default: half of what is left of
        the confidence). None where one of them has no figure."""
        error = (1 - self.aim.confidence) / 2 if error is None else error
        a, b = self.outcome(one, ENERGY), self.outcome(to, ENERGY)
        if isinstance(a, Missing) or isinstance(b, Missing) or min(a.value, b.value) <= 0:
            return None
        if not self.by_turns:
            return worse_ratio([a], [b], "lower", 1 - 2 * error)
        changes = self._changes(one, to)
        if len(changes) >= MIN_SETS:
            each = share(error, self.looks)
            return pairs_ratio(changes, low_error=each, high_error=each)
        return _of_intervals(self._at(one, error), self._at(to, error))

    def _at(self, candidate: Candidate, error: float) -> Outcome:
        """The energy with an interval that errs by ``error`` on each side, looks shared."""
        aim = replace(self._aim_for(ENERGY), confidence=1 - 2 * error)
        return Missing("") if candidate.run is None else estimate(replace(candidate.run, looks=self.looks), ENERGY, aim)

    def _changes(self, one: Candidate, to: Candidate) -> list[float]:
        if one.run is None or to.run is None:
            return []
        sets = 1 + min(max((block.set_index for block in each.run.blocks), default=-1) for each in (one, to) if each.run is not None)
        aim, changes = self._aim_for(ENERGY), []
        for index in range(sets):
            a, b = of_set(one.run, ENERGY, index, aim), of_set(to.run, ENERGY, index, aim)
            if a is not None and b is not None and min(a, b) > 0:
                changes.append(math.log(a / b))
        return changes

    def accuracy_difference(self, one: Candidate, to: Candidate) -> Difference | None:
        """How much better ``one`` answers the same queries than ``to``: Tango's score interval for right and wrong, else Student's t."""
        scores = [each.run.scores if each.run is not None else None for each in (one, to)]
        if not scores[0] or not scores[1] or len(scores[0]) != len(scores[1]):
            return None
        gains = [now - before for now, before in zip(scores[0], scores[1], strict=True)]
        mean = statistics.fmean(gains)
        if all(score in (0.0, 1.0) for each in scores if each for score in each):
            gained, lost = sum(each > 0 for each in gains), sum(each < 0 for each in gains)
            return Difference(mean, *paired_difference_interval(gained, lost, len(gains), self.aim.confidence))
        _, low, high = mean_interval(gains, self.aim.confidence)
        return Difference(mean, -math.inf if low is None else low, math.inf if high is None else high)

    def agreement(self, one: Candidate, to: Candidate) -> float | None:
        """The share of queries that both answer alike, by their answers' digests; None where those were not kept."""
        if one.run is None or to.run is None:
            return None
        changed = changed_answers(to.run.answers, one.run.answers, METRICS["answers_changed"], self.aim.confidence)
        return 1 - changed.value if isinstance(changed, Estimate) else None

    def settled(self) -> bool:
        """Whether every ratio to the leanest is known to within 2 %: more sets would change nothing that anybody reads."""
        known = [each for each in self.candidates if self.value(each, ENERGY) is not None]
        if len(known) < 2:
            return True
        leanest = min(known, key=self._joules)
        ratios = [self.ratio(each, leanest) for each in known if each is not leanest]
        return all(each is not None and each.low > 0 and max(each.value / each.low, each.high / each.value) <= SETTLED for each in ratios)


def _of_intervals(a: Outcome, b: Outcome) -> Ratio | None:
    """The ratio of two independent figures from their intervals: where the sets are too few for pairs, a set's own phases bound it."""
    if isinstance(a, Missing) or isinstance(b, Missing):
        return None
    halves = [math.inf if each.low is None or each.high is None or each.low <= 0 else math.log(each.high / each.low) / 2 for each in (a, b)]
    value, half = a.value / b.value, math.hypot(*halves)
    return Ratio(value, value * math.exp(-half), value * exp(half))


def judge_right_size(choice: Choice, default: str, margin: float) -> Verdict:
    """Whether ``default``, the configured candidate, uses at most ``margin`` (0.2: 20 %) more energy than any that meets what is asked.

    FAIL: it does not meet it itself, or some candidate that does is leaner by more than the margin with the whole interval (the error is
    shared among them all). PASS: with none of them can that be. What was not measured is UNMEASURED, never PASS.
    """
    mine = choice.candidate(default)
    short, outcome = choice.shortfall(mine), choice.outcome(mine, ENERGY)
    if mine.run is None or (isinstance(outcome, Missing) and not short):
        why = outcome.reason if isinstance(outcome, Missing) else short
        return replace(unmeasured(ENERGY, f"{choice.subject} ({default})", why.rstrip("."), kind="comparison"), run=default)
    if short:
        return _said("FAIL", choice, mine, f"{choice.subject}: {default}, the configured candidate, {short}.{_who_meets(choice)}")
    others = [each for each in choice.meeting if each is not mine]
    error = share((1 - choice.aim.confidence) / 2, 1, budgets=max(1, len(others)))
    ratios = {each.name: ratio for each in others if (ratio := choice.ratio(mine, each, error)) is not None}
    leaner = sorted((choice.candidate(name) for name in ratios), key=lambda each: ratios[each.name].value, reverse=True)
    for word in ("FAIL", "INCONCLUSIVE"):
        for other in leaner:
            if word_for_ratio(ratios[other.name], 1 + margin) == word:
                return _said(
                    word, choice, mine, _sentence(word, choice, mine, other, ratios[other.name], margin), ratios[other.name], 1 + margin
                )
    unknown = [each for each in choice.candidates if _may_be_leaner(choice, each) and each is not mine]
    if unknown:
        named = ", ".join(f"{each.name} ({_why(choice, each)})" for each in unknown)
        return _said(
            "UNMEASURED", choice, mine, f"{choice.subject}: {default} may not be right-sized, since there is no figure of {named}."
        )
    closest = ratios[leaner[0].name] if leaner else None
    return _said("PASS", choice, mine, _fine(choice, mine, margin), closest, 1 + margin)


def _may_be_leaner(choice: Choice, each: Candidate) -> bool:
    """Whether a candidate without a figure could have been the right one: it failed for a reason that is none of this machine's."""
    if each.run is None:
        return not each.impossible
    return not choice.shortfall(each) and choice.value(each, ENERGY) is None


def _why(choice: Choice, each: Candidate) -> str:
    outcome = choice.outcome(each, ENERGY)
    return outcome.reason if isinstance(outcome, Missing) else ""


def _said(word: Any, choice: Choice, mine: Candidate, reason: str, ratio: Ratio | None = None, limit: float | None = None) -> Verdict:
    outcome = choice.outcome(mine, ENERGY)
    found = outcome if isinstance(outcome, Estimate) else None
    smallest = None if ratio is None or limit is None else sees(ratio, limit)
    return Verdict(word, ENERGY.name, "comparison", reason, found, None, smallest, run=mine.name)


def _sentence(word: str, choice: Choice, mine: Candidate, other: Candidate, ratio: Ratio, margin: float) -> str:
    domain = _domain(choice, mine)
    joules = " against ".join(show(choice.value(each, ENERGY) or 0.0, ENERGY.dimension) for each in (mine, other))
    text = f"{choice.subject}: {mine.name} uses {times(ratio)} the energy per query of {other.name} ({joules}{domain})"
    difference = choice.accuracy_difference(mine, other)
    if difference is not None:
        scores = " against ".join(significant(choice.value(each, ACCURACY) or 0.0, 3) for each in (mine, other))
        text += f", for {difference} of accuracy ({scores})"
    wanted = f"the margin of {show_share(margin)}"
    return f"{text}: {'more than' if word == 'FAIL' else 'not clearly on either side of'} {wanted}."


def _fine(choice: Choice, mine: Candidate, margin: float) -> str:
    if choice.right_sized == mine.name:
        return f"{choice.subject}: {mine.name} is the leanest candidate that meets what is asked."
    leanest = choice.right_sized
    more = f"{choice.subject}: {mine.name} uses at most {show_share(margin)} more energy per query than {leanest}"
    return f"{more}, the leanest that meets what is asked."


def _who_meets(choice: Choice) -> str:
    if choice.right_sized is not None:
        return f" {choice.right_sized} is the leanest that meets what is asked."
    best = choice.best
    scored = "" if best is None else f"; the best is {best.name} with {significant(choice.value(best, ACCURACY) or 0.0, 3)}"
    return f" No candidate meets what is asked{scored}."


def _domain(choice: Choice, mine: Candidate) -> str:
    outcome = choice.outcome(mine, ENERGY)
    if isinstance(outcome, Missing) or not outcome.domain:
        return ""
    return f" on {outcome.domain}{' (modelled)' if outcome.method == 'modelled' else ''}"


def times(ratio: Ratio) -> str:
    """'12.4 times [11.9, 13.0]', with as many digits as the interval deserves."""

    def each(value: float) -> str:
        return "-" if value <= 0 or math.isinf(value) else significant(value, 3)

    return f"{each(ratio.value)} times [{each(ratio.low)}, {each(ratio.high)}]"


def sweep_name(values: Mapping[str, Any]) -> str:
    """A candidate's name from its swept settings: 'batch_size=16 precision=bf16'."""
    return " ".join(f"{key}={value}" for key, value in values.items())


def grid(axes: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], ...]:
    """Every combination of the swept values, the last axis fastest. Raises SettingsError for an axis that has fewer than one value."""
    for name, values in axes.items():
        if isinstance(values, str | bytes) or not isinstance(values, Iterable) or not list(values):
            raise SettingsError(f"{name} is {values!r}.", remedy=f"Pass the values to try, such as {name}=[1, 4, 16].")
        if len(set(map(repr, values))) < len(list(values)):
            raise SettingsError(f"{name} is {values!r}, which names a value twice.", remedy="Name each value once.")
    return tuple(dict(zip(axes, combination, strict=True)) for combination in itertools.product(*axes.values()))
