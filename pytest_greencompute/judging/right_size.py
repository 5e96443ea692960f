"""The verdicts on a choice between candidates: whether the configured one is the right size, and whether any is good enough."""

from __future__ import annotations

import math
from dataclasses import replace

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate, Missing
from pytest_greencompute.judging.by_other_run import sees, word_for_ratio
from pytest_greencompute.judging.choice import ACCURACY, ENERGY, Candidate, Choice
from pytest_greencompute.judging.verdict import Verdict, Word, unmeasured
from pytest_greencompute.stats.looks import share
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.units import show, show_limit, show_share, significant

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


# --- judging ----------------------------------------------------------------------------------------------------------


def judge_right_size(choice: Choice, default: str, margin: float) -> Verdict:
    """Whether ``default``, the configured candidate, uses at most ``margin`` (0.2: 20 %) more energy than any that meets what is asked.

    FAIL: it does not meet it itself, or some candidate that does is leaner by more than the margin with the whole interval (the error is
    shared among them all). PASS: with none of them can that be. What was not measured is UNMEASURED, never PASS. Raises SettingsError for
    a default that is no candidate, and for a margin that is negative or not finite.
    """
    if not 0 <= margin < math.inf:
        raise SettingsError(f"margin is {margin!r}.", remedy="Write a share that is not negative, such as '20%'.")
    mine = choice.candidate(default)
    missed = None if mine.run is None else choice.missed(mine)
    if missed is not None and missed.known:
        reason = f"{choice.subject}: {default}, the configured {choice.noun}, {missed.says}.{_who_meets(choice)}"
        return _said("FAIL", choice, mine, reason, metric=missed.metric)
    energy = choice.outcome(mine, ENERGY)
    if missed is not None or isinstance(energy, Missing):
        return _no_figure(choice, mine, ENERGY if missed is None else missed.metric)
    return _by_energy(choice, mine, margin)


def _no_figure(choice: Choice, each: Candidate, metric: Metric) -> Verdict:
    outcome = choice.outcome(each, metric)
    why = outcome.reason if isinstance(outcome, Missing) else ""
    return replace(unmeasured(metric, f"{choice.subject} ({each.name})", why.rstrip("."), kind="comparison"), run=each.name)


def _by_energy(choice: Choice, mine: Candidate, margin: float) -> Verdict:
    others = [each for each in choice.meeting if each is not mine]
    error = share((1 - choice.aim.confidence) / 2, 1, budgets=max(1, len(others)))
    ratios = {each.name: ratio for each in others if (ratio := choice.ratio(mine, each, error)) is not None}
    unknown = [each for each in choice.candidates if each is not mine and each.name not in ratios and _may_be_leaner(choice, each)]
    leanest_first = sorted((choice.candidate(name) for name in ratios), key=lambda each: ratios[each.name].value, reverse=True)
    words = {each.name: word_for_ratio(ratios[each.name], 1 + margin) for each in leanest_first}
    for word in ("FAIL", "UNMEASURED", "INCONCLUSIVE"):  # the first that holds of any
        if word == "UNMEASURED" and unknown:
            named = ", ".join(f"{each.name} ({_why_unknown(choice, each)})" for each in unknown)
            reason = f"{choice.subject}: whether {mine.name} is right-sized is not known, since there is no figure of {named}."
            return _said("UNMEASURED", choice, mine, reason)
        for other in leanest_first:
            if words[other.name] == word:
                return _said(
                    word, choice, mine, _against(word, choice, mine, other, margin, error), ratio=ratios[other.name], margin=margin
                )
    closest = leanest_first[0] if leanest_first and choice.right_sized != mine.name else None
    if closest is None:
        reason = f"{choice.subject}: {mine.name} is the leanest {choice.noun}{_that_meets(choice)}."
        return _said("PASS", choice, mine, reason, ratio=ratios[leanest_first[0].name] if leanest_first else None, margin=margin)
    return _said("PASS", choice, mine, _against("PASS", choice, mine, closest, margin, error), ratio=ratios[closest.name], margin=margin)


def judge_met(choice: Choice) -> Verdict | None:
    """A FAIL where no candidate meets what is asked, naming the nearest; UNMEASURED where none has a figure to tell by; else None.

    Where nothing was metered the floor of accuracy alone is judged, which needs no meter.
    """
    metered = any(each.run is not None and each.run.metered for each in choice.candidates)
    asked = choice if metered else replace(choice, limits={})
    missed = {each.name: asked.missed(each) for each in asked.candidates if each.run is not None}
    if not missed or None in missed.values():
        return None
    nearest = _nearest(asked)
    if nearest is None:
        name, first = next((name, each) for name, each in missed.items() if each is not None)
        return _no_figure(asked, asked.candidate(name), first.metric)
    each, metric, says = nearest
    known = [name for name, one in missed.items() if one is not None and one.known]
    others = "".join(f" {one.name}: {asked.shortfall(one).rstrip('.')}." for one in asked.candidates if one.name not in known)
    return _said("FAIL", asked, each, f"{asked.subject}:{says}{others}", metric=metric)


def _may_be_leaner(choice: Choice, each: Candidate) -> bool:
    """Whether a candidate without a figure could have been the right one: it failed for a reason that is none of this machine's."""
    if each.run is None:
        return not each.impossible
    missed = choice.missed(each)
    return missed is None or not missed.known


def _why_unknown(choice: Choice, each: Candidate) -> str:
    missed = None if each.run is None else choice.missed(each)
    outcome = choice.outcome(each, ENERGY if missed is None else missed.metric)
    return outcome.reason.rstrip(".") if isinstance(outcome, Missing) else "it could not be compared"


def _said(
    word: Word, choice: Choice, mine: Candidate, reason: str, *, metric: Metric = ENERGY, ratio: Ratio | None = None, margin: float = 0.0
) -> Verdict:
    outcome = choice.outcome(mine, metric)
    found = outcome if isinstance(outcome, Estimate) else None
    smallest = None if ratio is None else sees(ratio, 1 + margin)
    return Verdict(word, metric.name, "comparison", reason, found, None, smallest, run=mine.name)


def _against(word: str, choice: Choice, mine: Candidate, other: Candidate, margin: float, error: float) -> str:
    """The sentence a manager understands: how many times the energy, for how much accuracy."""
    ratio = choice.ratio(mine, other, error)
    joules = " against ".join(show(choice.value(each, ENERGY) or 0.0, ENERGY.dimension) for each in (mine, other))
    uses = "" if ratio is None else times(ratio)
    text = f"{choice.subject}: {mine.name} uses {uses} the energy per query of {other.name} ({joules}{_domains(choice, mine, other)})"
    difference = choice.accuracy_difference(mine, other)
    if difference is not None:
        scores = " against ".join(significant(choice.value(each, ACCURACY) or 0.0, 3) for each in (mine, other))
        text += f", for {difference} of accuracy ({scores})"
    relation = {"FAIL": "more than", "PASS": "within"}.get(word, "not clearly on either side of")
    return f"{text}: {relation} the margin of {show_share(margin)}."


def _that_meets(choice: Choice) -> str:
    return " that meets what is asked" if choice.floor is not None or choice.limits else ""


def _who_meets(choice: Choice) -> str:
    if choice.right_sized is not None:
        return f" {choice.right_sized} is the leanest that meets what is asked."
    nearest = None if any(not choice.shortfall(each) for each in choice.candidates) else _nearest(choice)
    return f" No {choice.noun} that meets what is asked has a figure of energy." if nearest is None else nearest[2]


def _nearest(choice: Choice) -> tuple[Candidate, Metric, str] | None:
    """Of the candidates that are known to miss what is asked the nearest, in which metric it misses it, and what to say of it; None where
    of none that is known.
    """
    missed = {each.name: found for each in choice.candidates if each.run is not None and (found := choice.missed(each)) and found.known}
    known = [choice.candidate(name) for name in missed]
    if not known:
        return None
    for name, limit in choice.demands.items():
        metric = METRICS[name]
        each = min(known, key=lambda one: _beyond(choice.value(one, metric), metric, limit))
        if _beyond(value := choice.value(each, metric), metric, limit) > 1 and value is not None:
            asked = show_limit(limit, metric.dimension)
            if metric is ACCURACY:
                return each, metric, f" No {choice.noun} meets the floor of {asked}; the best is {each.name} with {significant(value, 3)}."
            has = f"the nearest is {each.name} with {show(value, metric.dimension)}"
            return each, metric, f" No {choice.noun} meets the limit of {asked} of {name}; {has}."
    worst = {
        one.name: max(_beyond(choice.value(one, METRICS[name]), METRICS[name], limit) for name, limit in choice.demands.items())
        for one in known
    }
    each = min(known, key=lambda one: worst[one.name])
    return each, missed[each.name].metric, f" No {choice.noun} meets all that is asked; the nearest, {each.name}, {missed[each.name].says}."


def _beyond(value: float | None, metric: Metric, limit: float) -> float:
    """How many times too high, or too low, a figure is; 1 or less where it meets the limit."""
    if value is None:
        return math.inf
    if metric.better == "lower":
        return value / limit
    return limit / value if value > 0 else math.inf


def _domains(choice: Choice, mine: Candidate, other: Candidate) -> str:
    """Where the joules of two candidates were read: ' on gpu:0', or both where they differ: one needs no GPU, or had another card."""
    places = [_domain(choice, each) for each in (mine, other)]
    if mine.card != other.card:
        return f" on {places[0]} and {places[1]}, compared by way of what both cards measured"
    return f" on {places[0]}" if places[0] == places[1] else f"; {places[0]} against {places[1]}, since one leaves the GPU idle"


def _domain(choice: Choice, each: Candidate) -> str:
    outcome = choice.outcome(each, ENERGY)
    if isinstance(outcome, Missing):
        return ""
    return f"{outcome.domain}{' (modelled)' if outcome.method == 'modelled' else ''}"


def times(ratio: Ratio) -> str:
    """'12.4 times [11.9, 13.0]', to three digits; '-' for an open side."""

    def each(value: float) -> str:
        return "-" if value <= 0 or math.isinf(value) else significant(value, 3)

    return f"{each(ratio.value)} times [{each(ratio.low)}, {each(ratio.high)}]"
