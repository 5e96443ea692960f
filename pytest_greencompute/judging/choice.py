"""Which of several candidates for one task is the right size: the leanest whose answers are good enough, and how sure that is. Pure.

Laws: a ratio of energies comes from sets that took turns, pair by pair, or is as unsure as two launches are; cards are never held against
each other, but by the candidates that two of them share; accuracy is compared on the same queries, pairwise; a candidate without a figure
is never the leanest, and none of its faults is passed over in silence.
"""

from __future__ import annotations

import difflib
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.answers import changed_answers, no_share
from pytest_greencompute.estimates.by_metric import of_set
from pytest_greencompute.estimates.domains import judged_sources
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.estimates.over_sets import MIN_SETS
from pytest_greencompute.judging.by_other_run import worse_ratio
from pytest_greencompute.stats.distributions import paired_difference_interval
from pytest_greencompute.stats.intervals import mean_interval
from pytest_greencompute.stats.looks import share
from pytest_greencompute.stats.ratios import Ratio, exp, pairs_ratio
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.names import unknown_key
from pytest_greencompute.values.readings import sets_of
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import RATIO, parse_positive, parse_share, show, show_limit, significant

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

DEFAULT_MARGIN = "20%"
ENERGY, ACCURACY = METRICS["energy_per_query"], METRICS["accuracy"]
CONSTRAINTS = ("latency_p50", "latency_p90", "latency_p95", "latency_p99", "throughput")
SETTLED = 1.02  # both sides of every ratio are within 2 %: what sets repeat to on a quiet machine


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to do the task. ``values`` are the swept settings that make it, ``run`` what was measured of it.

    ``problem`` says why there is no run; ``impossible`` that this machine cannot do it (out of memory, a precision that the device
    lacks), so that nobody could have chosen it here. ``alike`` is the share of queries that it answers like the reference candidate,
    ``weights`` the share of its weights that are in the precision that was swept. ``card`` is the place of the card that measured it, where
    candidates were spread over several; ``linked`` what the next card measured of the same, which joins the two.
    """

    name: str
    run: Run | None = None
    problem: str = ""
    impossible: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    alike: float | None = None
    weights: float | None = None
    card: int = 0
    linked: Run | None = None

    def on(self, card: int) -> Candidate:
        """The same, as that card measured it."""
        return self if card == self.card else replace(self, run=self.linked, card=card, linked=None)


@dataclass(frozen=True, slots=True)
class Gain:
    """How much more (less, if negative) of the queries one candidate gets right than another, with its interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    def __str__(self) -> str:
        return f"{self.value * 100:+.1f} points [{self.low * 100:+.1f}, {self.high * 100:+.1f}]"


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Which demand a candidate does not meet. ``known`` is False where it has no figure of ``metric`` to tell by."""

    metric: Metric
    says: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates, measured on the same queries, and what they must meet: a ``floor`` of accuracy, ``limits`` by metric name (SI).

    ``by_turns``: their sets took turns, so that sets of one number make pairs. ``looks`` is how many times it was planned to look at
    the ratios. ``subject`` is the test's name in sentences. ``batches``: a pair's samples hold so many of them, or a pass, since candidates
    run other ones in a set. Invariant: names are unique and there are at least two; the floor is a share, the limits are positive, and all
    of them finite.
    """

    candidates: tuple[Candidate, ...]
    aim: Aim
    floor: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    by_turns: bool = True
    looks: int = 1
    subject: str = "the test"
    batches: int = 1
    _figures: dict[tuple[str, int], Figures] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [each.name for each in self.candidates]
        if len(names) < 2 or len(set(names)) < len(names):
            raise SettingsError(f"A comparison of {names} compares nothing.", remedy="It takes two candidates or more, each with its name.")
        if self.floor is not None and not 0 < self.floor <= 1:
            raise SettingsError(f"floor is {self.floor!r}.", remedy="Write a share between 0 and 1, such as 0.72 or '72 %'.")
        for name, limit in self.limits.items():
            if name not in CONSTRAINTS:
                raise SettingsError(f"{name!r} does not limit a comparison.", remedy=f"Known: {', '.join(CONSTRAINTS)}, and floor.")
            if not 0 < limit < math.inf:
                raise SettingsError(f"The limit of {name} is {limit!r}.", remedy="It must be a finite number above zero.")

    @property
    def noun(self) -> str:
        """What a candidate is called in sentences."""
        return "setting" if any(each.values for each in self.candidates) else "candidate"

    def candidate(self, name: str) -> Candidate:
        """The candidate called ``name``. Raises SettingsError, with the nearest name, where there is none."""
        for each in self.candidates:
            if each.name == name:
                return each
        names = [each.name for each in self.candidates]
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
        raise SettingsError(
            f"There is no {self.noun} {name!r}.", remedy=f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
        )

    # --- figures ---

    def outcome(self, candidate: Candidate, metric: Metric) -> Outcome:
        """A figure of a candidate, or why there is none. Energy that came out as nothing or less is none: no ratio can be made of it."""
        if candidate.run is None:
            return Missing(candidate.problem or "it was not measured")
        if metric is ACCURACY and self.floor is not None and (why := no_share(candidate.run)):
            return Missing(why)
        found = self._of(candidate, candidate.run).of(metric)
        if metric is ENERGY and isinstance(found, Estimate) and found.value <= 0:
            return Missing(f"its energy came out as {show(found.value, metric.dimension)} per query, too little for this meter to tell")
        return found

    @property
    def everywhere(self) -> bool:
        """Whether the energy of every domain counts: where some candidate leaves the GPU idle, its bill is elsewhere, as is part of the
        others'. Only where the user named no domains."""
        return self.aim.domains == ("auto",) and any(self._leaves_the_gpu_idle(each) for each in self.candidates)

    def _leaves_the_gpu_idle(self, candidate: Candidate) -> bool:
        if candidate.run is None or not isinstance(judged_sources(candidate.run, self.aim), Missing):
            return False
        return not isinstance(judged_sources(candidate.run, replace(self.aim, domains=("all",))), Missing)

    def _of(self, candidate: Candidate, run: Run) -> Figures:
        """A candidate's figures; the domains that count are those of its whole run, since a set is too short to tell an idle GPU by."""
        key = candidate.name, candidate.card
        if key not in self._figures:
            aim = replace(self.aim, domains=("all",)) if self.everywhere else self.aim
            sources = judged_sources(run, aim)
            if not isinstance(sources, Missing):
                aim = replace(aim, domains=tuple(source.domain for source in sources))
            self._figures[key] = Figures(run, aim)
        return self._figures[key]

    def value(self, candidate: Candidate, metric: Metric) -> float | None:
        """The figure itself, SI; None where there is none."""
        outcome = self.outcome(candidate, metric)
        return outcome.value if isinstance(outcome, Estimate) else None

    # --- what they must meet ---

    @property
    def demands(self) -> dict[str, float]:
        """What a candidate must meet, SI by metric: the floor first."""
        return ({} if self.floor is None else {ACCURACY.name: self.floor}) | dict(self.limits)

    def missed(self, candidate: Candidate) -> Shortfall | None:
        """The first demand that a measured candidate does not meet, judged on the figures themselves; None where it meets them all."""
        for name, limit in self.demands.items():
            metric = METRICS[name]
            value, shown = self.value(candidate, metric), show_limit(limit, metric.dimension)
            called = f"the floor of {shown}" if metric is ACCURACY else f"the limit of {shown}"
            if value is None:
                why = no_share(candidate.run) if metric is ACCURACY and candidate.run is not None else ""
                return Shortfall(metric, f"has no {name} to hold against {called}{f': {why}' if why else ''}", known=False)
            if metric.better == "lower" and not value <= limit:
                return Shortfall(metric, f"has a {name} of {show(value, metric.dimension)}, over {called}")
            if metric.better == "higher" and not value >= limit:
                has = f"scores {significant(value, 3)}" if metric is ACCURACY else f"has a {name} of {show(value, metric.dimension)}"
                return Shortfall(metric, f"{has}, under {called}")
        return None

    def shortfall(self, candidate: Candidate) -> str:
        """Why a candidate may not be chosen, in words; empty where it may."""
        if candidate.run is None:
            return candidate.problem or "it was not measured"
        missed = self.missed(candidate)
        return "" if missed is None else missed.says

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
        places = {each.name: (self._joules(each), -(self.value(each, ACCURACY) or 0.0)) for each in known}  # both: the less, the better

        def beaten(one: Candidate, by: Candidate) -> bool:
            mine, theirs = places[one.name], places[by.name]
            return theirs[0] <= mine[0] and theirs[1] <= mine[1] and theirs != mine

        kept = [one for one in known if not any(beaten(one, other) for other in known)]
        return tuple(each.name for each in sorted(kept, key=self._joules))

    def _joules(self, candidate: Candidate) -> float:
        """Its energy, as the first card would show it."""
        value = self.value(candidate, ENERGY)
        for card in range(candidate.card):
            link = self._link(card)
            here, there = (None, None) if link is None else (self.value(link.on(each), ENERGY) for each in (card, card + 1))
            value = None if value is None or here is None or there is None else value * here / there
        return math.inf if value is None else value

    def _link(self, card: int) -> Candidate | None:
        """The candidate that this card and the next have measured both."""
        return next((each for each in self.candidates if each.card == card and each.linked is not None), None)

    # --- one against another ---

    def ratio(self, one: Candidate, to: Candidate, error: float | None = None) -> Ratio | None:
        """How many times the energy per query of ``to`` that ``one`` uses; ``error`` on each side (default: half of what is left of
        the confidence). None where one of them has no figure, or nothing joins their cards: then by the candidates between, each ratio of
        one card, and the error is shared among them.
        """
        error = (1 - self.aim.confidence) / 2 if error is None else error
        first, last = sorted((one, to), key=lambda each: each.card)
        links = [self._link(card) for card in range(first.card, last.card)]
        if None in links:
            return None
        way = [first, *(each for each in links if each is not None), last]
        by_card = enumerate(itertools.pairwise(way), first.card)
        steps = [(a.on(card), b.on(card)) for card, (a, b) in by_card if a.name != b.name] or [(first, last)]
        found = [self._on_one_card(*(step if first is one else step[::-1]), error / len(steps)) for step in steps]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        return Ratio(*(math.prod(getattr(each, side) for each in known) for side in ("value", "low", "high")))

    def _on_one_card(self, one: Candidate, to: Candidate, error: float) -> Ratio | None:
        """``ratio`` of what one card has measured."""
        if self.value(one, ENERGY) is None or self.value(to, ENERGY) is None:
            return None
        changes = self._changes(one, to) if self.by_turns else []
        if len(changes) >= MIN_SETS:
            each = share(error, self.looks)
            return pairs_ratio(changes, low_error=each, high_error=each)
        a, b = self._at(one, error), self._at(to, error)
        if isinstance(a, Missing) or isinstance(b, Missing):
            return None
        return _of_intervals(a, b) if self.by_turns else worse_ratio([a], [b], "lower", 1 - 2 * error)

    def times(self, one: Candidate, to: Candidate, metric: Metric) -> Ratio | None:
        """How many times a figure of ``to`` that of ``one`` is, from both of their intervals; None where one of them has none."""
        a, b = self.outcome(one, metric), self.outcome(to, metric)
        return None if isinstance(a, Missing) or isinstance(b, Missing) or b.value <= 0 else _of_intervals(a, b)

    def _at(self, candidate: Candidate, error: float) -> Outcome:
        """The energy with an interval that errs by ``error`` on each side, less what the looks share: the comparison's, or a run's own."""
        if candidate.run is None:
            return Missing("")
        own = self._of(candidate, candidate.run).at(1 - 2 * error)
        return Figures(replace(candidate.run, looks=self.looks), own.aim).of(ENERGY) if self.by_turns else own.of(ENERGY)

    def _changes(self, one: Candidate, to: Candidate) -> list[float]:
        """The logarithm of each pair's ratio."""
        if one.run is None or to.run is None:
            return []
        aims = self._of(one, one.run).aim, self._of(to, to.run).aim
        together = max(_sets_of_batches(each, self.batches) for each in (one.run, to.run))
        runs = [_regrouped(each, together) for each in (one.run, to.run)]
        sets = {block.set_index for block in runs[0].blocks} & {block.set_index for block in runs[1].blocks}
        changes = []
        for index in sorted(sets):
            a, b = of_set(runs[0], ENERGY, index, aims[0]), of_set(runs[1], ENERGY, index, aims[1])
            if a is not None and b is not None and min(a, b) > 0:
                changes.append(math.log(a / b))
        return changes

    def accuracy_difference(self, one: Candidate, to: Candidate) -> Gain | None:
        """How much better ``one`` answers the same queries than ``to``: Tango's score interval for right and wrong, else Student's t."""
        scores = [each.run.scores if each.run is not None else None for each in (one, to)]
        if not scores[0] or not scores[1] or len(scores[0]) != len(scores[1]):
            return None
        gains = [now - before for now, before in zip(scores[0], scores[1], strict=True)]
        mean = statistics.fmean(gains)
        if all(score in (0.0, 1.0) for each in scores if each for score in each):
            gained, lost = sum(each > 0 for each in gains), sum(each < 0 for each in gains)
            return Gain(mean, *paired_difference_interval(gained, lost, len(gains), self.aim.confidence))
        _, low, high = mean_interval(gains, self.aim.confidence)
        return Gain(mean, -math.inf if low is None else low, math.inf if high is None else high)

    @property
    def reference(self) -> Candidate:
        """The candidate whose answers the others' are held against: the first at full precision where that is swept, else the first."""
        return reference_of(self.candidates)

    def agreement(self, candidate: Candidate) -> float | None:
        """The share of queries that it answers like the reference; by their digests where the answers themselves are gone. None where
        neither was kept, and for the reference itself."""
        other = self.reference
        if candidate is other or candidate.run is None or other.run is None or candidate.alike is not None:
            return None if candidate is other else candidate.alike
        changed = changed_answers(other.run.answers, candidate.run.answers, METRICS["answers_changed"], self.aim.confidence)
        return 1 - changed.value if isinstance(changed, Estimate) else None

    def settled(self) -> bool:
        """Whether every ratio to the leanest is known to within 2 %: more sets would change nothing that anybody reads."""
        known = [each for each in self.candidates if self.value(each, ENERGY) is not None]
        if len(known) < 2:
            return True
        leanest = min(known, key=self._joules)
        ratios = [self.ratio(each, leanest) for each in known if each is not leanest]
        return all(each is not None and each.low > 0 and max(each.value / each.low, each.high / each.value) <= SETTLED for each in ratios)


def _sets_of_batches(run: Run, batches: int) -> int:
    """How many of its sets hold so many batches, or a pass."""
    of_set = sets_of(run.blocks)[0] if run.blocks else ()
    held = sum(block.queries for block in of_set) / run.batch_size
    return max(1, math.ceil(min(batches, run.queries / run.batch_size) / max(held, 1.0)))


def _regrouped(run: Run, together: int) -> Run:
    """A run with so many neighbouring sets as one; what is left of them at the end is left out."""
    whole = (1 + max((block.set_index for block in run.blocks), default=-1)) // together
    if together == 1:
        return run
    blocks = (replace(block, set_index=block.set_index // together) for block in run.blocks)
    return replace(run, blocks=tuple(block for block in blocks if block.set_index < whole))


def reference_of(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate whose answers the others' are held against (at least one candidate)."""
    return next((each for each in candidates if each.values.get("precision") == "fp32"), candidates[0])


def _of_intervals(a: Estimate, b: Estimate) -> Ratio:
    """The ratio of two independent figures from their intervals: where the sets are too few for pairs, a set's own phases bound it."""

    def apart(above: float | None, below: float | None) -> float:
        return math.log(above / below) if above is not None and below is not None and below > 0 else math.inf

    value = a.value / b.value
    low = math.hypot(apart(a.value, a.low), apart(b.high, b.value))
    return Ratio(value, value * math.exp(-low), value * exp(math.hypot(apart(a.high, a.value), apart(b.value, b.low))))


def overlapping(names: Sequence[str], cards: int) -> tuple[tuple[str, ...], ...]:
    """The candidates of each card: all neighbours are on one, and each card begins with the candidate that the one before ends with.

    Fewer than ``cards`` where there are not so many pairs of neighbours. Needs a name.
    """
    pairs = len(names) - 1
    count = max(1, min(cards, pairs))
    return tuple(tuple(names[place * pairs // count : (place + 1) * pairs // count + 1]) for place in range(count))


def sweep_name(values: Mapping[str, Any]) -> str:
    """A candidate's name from its swept settings: 'batch_size=16 precision=bf16'."""
    return " ".join(f"{key}={value}" for key, value in values.items())


def grid(axes: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], ...]:
    """Every combination of the swept values, the last axis fastest."""
    return tuple(dict(zip(axes, combination, strict=True)) for combination in itertools.product(*axes.values()))


def asked_of(floor: object, limits: Mapping[str, object], *, scored: bool) -> tuple[float | None, dict[str, float]]:
    """The floor of accuracy and the other limits, as SI floats. Raises SettingsError for what is none."""
    if not isinstance(limits, Mapping):
        raise SettingsError(f"limits is {limits!r}.", remedy='Pass a dict such as {"latency_p95": "40 ms"}.')
    least = None if floor is None else parse_positive(floor, RATIO)
    if least is not None and least > 1:
        raise SettingsError(f"floor is {floor!r}, which is more than 1.", remedy="Write a share between 0 and 1, such as 0.72 or '72 %'.")
    if least is not None and not scored:
        raise SettingsError("A floor of accuracy needs references.", remedy="Pass references=, one right answer per query.")
    for name in limits:
        if name not in CONSTRAINTS:
            raise unknown_key(name, [*CONSTRAINTS, "floor"], "limit of a comparison")
    return least, {name: parse_positive(limit, METRICS[name].dimension) for name, limit in limits.items()}


def parse_margin(written: object) -> float:
    """A margin as a share. Raises SettingsError."""
    share = parse_share(written)
    if share < 0:
        raise SettingsError(f"margin is {written!r}.", remedy="Write a share that is not negative, such as '20%'.")
    return share
