"""Which limits are laxer here than at another commit: a reviewer must see that first, since so a gate goes quiet. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_greencompute.budget import Budget, Limit
from pytest_greencompute.metrics import METRICS
from pytest_greencompute.units import show_limit, show_share
from pytest_greencompute.verdict import Acceptance

# What each word may do to the build, the strictest first.
STRICTNESS = ("fail", "skip", "warn")


@dataclass(frozen=True, slots=True)
class Stance:
    """What one commit asks of one test: its budget, the failures that its file accepts, and what each word does to the build."""

    budget: Budget
    accept: tuple[Acceptance, ...] = ()
    policy: Mapping[str, str] = field(default_factory=dict)


def laxer(base: Stance, head: Stance, test: str) -> tuple[str, ...]:
    """A sentence for each limit of ``test`` that ``head`` raises or drops, each tolerance that it widens, each failure that it accepts
    newly, and each setting by which less turns the build red. A run that has another name now, and limits as strict, is no change."""
    found = []
    new = [limits for run, limits in head.budget.limits.items() if run not in base.budget.limits]
    for run, limits in base.budget.limits.items():
        now = head.budget.limits.get(run)
        subject = test if run is None else f"{test} ({run})"
        if now is None and any(_as_strict(limits, each) for each in new):
            continue
        for name, limit in limits.items():
            metric = METRICS[name]
            written = show_limit(limit.value, metric.dimension)
            after = (now or {}).get(name)
            if after is None:
                found.append(f"{subject}: the limit of {metric.short} ({name}) was {written} and is gone")
            elif _is_laxer(limit, after):
                found.append(
                    f"{subject}: the limit of {metric.short} ({name}) was {written} and is {show_limit(after.value, metric.dimension)}"
                )
    return (*found, *_terms(base, head, test), *_accepted(base, head, test), *_policy(base, head))


def _is_laxer(before: Limit, now: Limit) -> bool:
    return now.value > before.value if before.metric.better == "lower" else now.value < before.value


def _as_strict(before: Mapping[str, Limit], now: Mapping[str, Limit]) -> bool:
    return all(name in now and not _is_laxer(limit, now[name]) for name, limit in before.items())


def _terms(base: Stance, head: Stance, test: str) -> list[str]:
    judged = {name for stance in (base, head) for limits in stance.budget.limits.values() for name in limits} | {"energy_per_query"}
    wider: dict[tuple[float, float], list[str]] = {}
    for name in sorted(judged):
        before, now = (stance.budget.tolerance(METRICS[name]) for stance in (base, head))
        if now > before:
            wider.setdefault((before, now), []).append(name)
    found = [
        f"{test}: the tolerance of {', '.join(names)} was {show_share(before)} and is {show_share(now)}"
        for (before, now), names in wider.items()
    ]
    if head.budget.confidence < base.budget.confidence:
        found.append(f"{test}: the confidence was {base.budget.confidence:g} and is {head.budget.confidence:g}")
    return found


def _accepted(base: Stance, head: Stance, test: str) -> list[str]:
    """A failure that is accepted up to a higher value, or until later, is accepted anew."""
    known = {(each.test, each.metric.name): each for each in base.accept}
    found = []
    for each in head.accept:
        before = known.get((each.test, each.metric.name))
        higher = before is not None and (each.up_to > before.up_to if each.metric.better == "lower" else each.up_to < before.up_to)
        if before is None or higher or each.expires > before.expires:
            up_to = show_limit(each.up_to, each.metric.dimension)
            found.append(f"{test}: a failure of {each.metric.name} is accepted up to {up_to} until {each.expires} ({each.reason})")
    return found


def _policy(base: Stance, head: Stance) -> list[str]:
    return [
        f"the setting {key} was {base.policy[key]!r} and is {now!r}"
        for key, now in head.policy.items()
        if key in base.policy and STRICTNESS.index(now) > STRICTNESS.index(base.policy[key])
    ]
