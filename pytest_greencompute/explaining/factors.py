"""The figure as a product: what was asked of the model, how much it works for that, and what the work costs; each on both sides."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.explaining.risen import Risen

TOKENS, FLOPS = "tokens per query", "flops per query"
CALLS, ITEMS = "calls per query", "items per call"
SESSION_CALLS, SESSION_ITEMS, SESSION_TOKENS = "sessions' calls per query", "items per session's call", "sessions' tokens per query"
SECONDS = "seconds per query"
NEW, PROMPT, CACHED = "new tokens", "prompt tokens", "cached share of the prompt"


@dataclass(frozen=True, slots=True)
class Term:
    """One factor of the product on both sides. ``part``: the logarithm of its ratio over that of the whole, so that all terms' parts add
    up to 1; None where the whole did not change.
    """

    name: str
    unit: str
    base: float
    head: float
    part: float | None = None

    @property
    def ratio(self) -> float:
        return self.head / self.base


@dataclass(frozen=True, slots=True)
class ChangedFactor:
    """A fact of the work that is another one now: a number or a text of both sides; None: not known on that side."""

    name: str
    base: float | str | None
    head: float | str | None
    unit: str = ""


def product(base: Profile, head: Profile, risen: Risen) -> tuple[Term, ...]:
    """The factors of joules per query, out of those that both sides know; their product is the figure on either side."""
    terms: list[tuple[str, str, float, float]] = []
    before = ("query", 1.0, 1.0)
    for name, noun in ((TOKENS, "token"), (FLOPS, "FLOP")):
        one, other = base.factor(name), head.factor(name)
        if isinstance(one, float | int) and isinstance(other, float | int) and one > 0 and other > 0:
            unit = f"{noun}s per {before[0]}"
            terms.append((unit, unit, one / before[1], other / before[2]))
            before = (noun, one, other)
    unit = f"J per {before[0]}"
    terms.append((f"joules per {before[0]}", unit, risen.base_j / before[1], risen.head_j / before[2]))
    whole = math.log(risen.head_j / risen.base_j)
    return tuple(Term(*each, part=math.log(each[3] / each[2]) / whole if whole else None) for each in terms)


def changed(base: Profile, head: Profile, least: float = 0.01) -> tuple[ChangedFactor, ...]:
    """The factors that differ: texts, and numbers by more than a share of ``least``."""
    names = dict.fromkeys([*(each.name for each in head.factors), *(each.name for each in base.factors)])
    units = {each.name: each.unit for each in (*base.factors, *head.factors)}
    found = [ChangedFactor(name, base.factor(name), head.factor(name), units[name]) for name in names]
    return tuple(each for each in found if _differs(each.base, each.head, least))


def _differs(one: float | str | None, other: float | str | None, least: float) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return abs(one - other) > least * max(one, other)
    return one is not None and other is not None and one != other
