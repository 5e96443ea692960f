"""Estimate + limit, or estimate + baseline, -> verdict. The whole interval is judged, never the point (but see accuracy).

Laws: no figure is UNMEASURED, never PASS; an open side of an interval can neither pass nor fail by that side; a verdict is
a value with a sentence for people, and what it does to the build is one table (``effect``).
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pytest_greencompute.estimates.estimate import ONE_WINDOW, Estimate, is_bound
from pytest_greencompute.judging.budget import Names, Rank
from pytest_greencompute.stats.intervals import FAR
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.metrics import Better, Metric
from pytest_greencompute.values.units import show_limit

ORDER = ("FAIL", "UNMEASURED", "INCONCLUSIVE", "ACCEPTED", "PASS")
Word = Literal["PASS", "FAIL", "INCONCLUSIVE", "UNMEASURED", "ACCEPTED"]
Effect = Literal["green", "warn", "fail", "skip"]
MORE_SECONDS = "more seconds (--energy-max-seconds)"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One budget's result. ``reason`` is a whole sentence; ``sees`` the smallest relative regression that this data could show.

    ``kind`` is "budget", "comparison" (of candidates) or what the run was held against (``judge.HELD_AGAINST``). ``limit`` is an SI float
    (against another run: the worst value that is still fine); None where there was none to judge. ``pairs`` is how many pairs of base and
    head were measured for it. Against another run ``base`` is its figure (SI) and ``ratio`` how many times worse this one is, where they
    can be had.
    """

    word: Word
    metric: str
    kind: str
    reason: str
    estimate: Estimate | None = None
    limit: float | None = None
    sees: float | None = None
    where: str = ""
    run: str | None = None
    pairs: int | None = None
    base: float | None = None
    ratio: Ratio | None = None

    @property
    def modelled(self) -> bool:
        return self.estimate is not None and self.estimate.method == "modelled"


@dataclass(frozen=True, slots=True)
class Policy:
    """What each word does to the build. ``fail``: the test is red; ``warn``: it is said; ``skip``: the test is skipped."""

    enforce: Literal["fail", "warn"] = "fail"
    inconclusive: Literal["warn", "fail"] = "warn"
    unmeasured: Literal["fail", "warn", "skip"] = "warn"
    modelled: Literal["warn", "fail"] = "warn"

    @property
    def fails_unmeasured(self) -> bool:
        """Whether a budget without a figure is red."""
        return self.enforce == self.unmeasured == "fail"


def effect(verdict: Verdict, policy: Policy) -> Effect:
    """What ``verdict`` does to its test under ``policy``."""
    by_word: Mapping[Word, Effect] = {
        "PASS": "green",
        "FAIL": "fail",
        "INCONCLUSIVE": policy.inconclusive,
        "UNMEASURED": policy.unmeasured,
        "ACCEPTED": "warn",
    }
    does = by_word[verdict.word]
    if verdict.modelled and policy.modelled == "fail":
        does = "fail"
    return "warn" if does in {"fail", "skip"} and policy.enforce == "warn" else does


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A known FAIL that the file accepts until a date and up to a value (SI). ``reason`` is never empty."""

    test: str
    metric: Metric
    up_to: float
    reason: str
    expires: datetime.date
    where: str
    names: Names = field(default_factory=Names)

    def rank(self, node_id: str) -> Rank | None:
        """How specific it is about that test; None where it is not."""
        return self.names.rank(self.test, node_id)


def word_for(estimate: Estimate, limit: float, better: Better) -> Word:
    """PASS where the whole interval is on the good side of ``limit``, FAIL where it is on the bad one, else INCONCLUSIVE.

    Where the data leave a side open, FAIL takes every sample of a positive quantity to be ``FAR`` times beyond.
    """
    low, high = (estimate.low, estimate.high) if better == "lower" else _turned(estimate.low, estimate.high)
    bound = limit if better == "lower" else -limit
    if high is not None and high <= bound:
        return "PASS"
    return "FAIL" if (low is not None and low > bound) or far_beyond(estimate, limit, better) else "INCONCLUSIVE"


def _turned(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    return None if high is None else -high, None if low is None else -low


def far_beyond(estimate: Estimate, limit: float, better: Better) -> bool:
    if estimate.extremes is None or limit <= 0:
        return False
    smallest, largest = estimate.extremes
    near, far = (limit, smallest) if better == "lower" else (largest, limit)
    return near * FAR <= far or math.isclose(near * FAR, far)


def point_word(estimate: Estimate, limit: float, better: Better) -> Word:
    """The word of an exact figure. One that is only a bound may be on either side of a limit beyond it: UNMEASURED."""
    return word_of_bounds(bounds_of(estimate), (limit, limit), better)


def word_of_bounds(figure: tuple[float, float], limit: tuple[float, float], better: Better) -> Word:
    """An exact figure and its limit, each with the bounds between which it lies: equal ones, unless something was not counted."""
    (low, high), (least, most) = figure, limit
    if better == "higher":
        low, high, least, most = -high, -low, -most, -least
    if high <= least:
        return "PASS"
    return "FAIL" if low > most else "UNMEASURED"


def bounds_of(estimate: Estimate) -> tuple[float, float]:
    """Between what an exact figure lies: it is what it is, unless one side alone is open."""
    if not is_bound(estimate):
        return estimate.value, estimate.value
    return (-math.inf if estimate.low is None else estimate.low), (math.inf if estimate.high is None else estimate.high)


def narrowed_by(metric: Metric, outcome: Estimate | None) -> str:
    """What would narrow the interval of a figure."""
    if metric.kind == "score":
        return "more labelled queries"  # the same ones again say nothing new
    return "a longer window" if outcome is not None and outcome.note == ONE_WINDOW else MORE_SECONDS


def unmeasured(metric: Metric, subject: str, why: str, *, kind: str = "budget", where: str = "") -> Verdict:
    """An UNMEASURED verdict with its sentence."""
    return Verdict("UNMEASURED", metric.name, kind, f"{subject} has no {metric.name} to judge: {why}.", where=where)


def accepted(verdict: Verdict, node_id: str, acceptances: Sequence[Acceptance], today: datetime.date) -> Verdict:
    """A FAIL that an entry of the file accepts becomes ACCEPTED, unless all that speak of it have expired or are exceeded (said).

    Of those that have not expired the most specific decides: one for all tests does not soften one for a test by name. Of several that are
    as specific it is the one that ends first, and of those the strictest, whichever stands first.
    A score is exceeded by its figure, since that is what its floor is judged by; everything else by its whole interval.
    """
    if verdict.word != "FAIL" or verdict.estimate is None:
        return verdict
    refused = ""
    about = [(rank, entry) for entry in acceptances if entry.metric.name == verdict.metric and (rank := entry.rank(node_id)) is not None]
    first = max((rank for rank, entry in about if today <= entry.expires), default=())
    expired = [entry for _, entry in about if today > entry.expires]
    alive = [entry for rank, entry in about if today <= entry.expires and rank == first]
    alive.sort(key=lambda entry: (entry.expires, entry.up_to if entry.metric.better == "lower" else -entry.up_to))
    for entry in (*expired, *alive[:1]):
        up_to = show_limit(entry.up_to, verdict.estimate.dimension)
        word = (point_word if entry.metric.exact else word_for)(verdict.estimate, entry.up_to, entry.metric.better)
        if today > entry.expires:
            refused += f" It was accepted until {entry.expires} ({entry.where})."
        elif word == "FAIL":
            refused += f" It was accepted only up to {up_to} ({entry.where})."
        else:
            why = f"{verdict.reason} Accepted up to {up_to} until {entry.expires}: {entry.reason} ({entry.where})."
            return replace(verdict, word="ACCEPTED", reason=why)
    return replace(verdict, reason=verdict.reason + refused)
