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
from pytest_greencompute.values.metrics import Metric
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
        metric = ENERGY if missed is None else missed.metric
        outcome = choice.outcome(mine, metric)
        why = outcome.reason if isinstance(outcome, Missing) else ""
        return replace(unmeasured(metric, f"{choice.subject} ({default})", why.rstrip("."), kind="comparison"), run=default)
    return _by_energy(choice, mine, margin)


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


def judge_floor(choice: Choice) -> Verdict | None:
    """A FAIL where there are scores and no candidate reaches the floor of accuracy, naming the best; else None. Needs no meter."""
    best = choice.best
    if choice.floor is None or best is None or not (choice.value(best, ACCURACY) or 0.0) < choice.floor:
        return None
    broken = "".join(f" {each.name}: {each.problem}." for each in choice.candidates if each.problem)
    return _said("FAIL", choice, best, f"{choice.subject}:{_nobody_meets(choice, best)}{broken}", metric=ACCURACY)


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
    best = choice.best
    return f" No {choice.noun} meets what is asked." if best is None or choice.floor is None else _nobody_meets(choice, best)


def _nobody_meets(choice: Choice, best: Candidate) -> str:
    top = choice.value(best, ACCURACY) or 0.0
    scored = f"the best is {best.name} with {significant(top, 3)}"
    if choice.floor is not None and top < choice.floor:
        return f" No {choice.noun} meets the floor of {show_limit(choice.floor, ACCURACY.dimension)}; {scored}."
    return f" No {choice.noun} meets all that is asked; of accuracy, {scored}."


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
