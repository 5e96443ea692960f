"""Which limits are laxer here than at another commit: a reviewer must see that first, since so a gate goes quiet. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_greencompute.judging.budget import Budget, Limit
from pytest_greencompute.judging.verdict import Acceptance
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Json
from pytest_greencompute.values.units import show_limit, show_share

# What each word may do to the build, the strictest first.
STRICTNESS = ("fail", "skip", "warn")


class Loosening(NamedTuple):
    """Whether a setting can let more pass. ``how`` is a key of ``DIRECTIONS``, or what this module tells it with; '' if it cannot."""

    how: str
    why: str = ""


def _rank(unmetered: str | int) -> float:
    return {"once": float("inf"), "skip": 0.0}[unmetered] if isinstance(unmetered, str) else unmetered


# When a setting's new value lets more pass than the one before it. None: it was not set.
DIRECTIONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "higher, or gone": lambda before, now: before is not None and (now is None or now > before),
    "lower": lambda before, now: before is not None and now is not None and now < before,
    "more of them": lambda before, now: bool(set(now) - set(before)),
    "fewer of them": lambda before, now: bool(set(before) - set(now)),
    "set": lambda before, now: bool(now) and not before,
    "no more": lambda before, now: bool(before) and before != now,
    "another": lambda before, now: before != now,
    "fewer queries": lambda before, now: _rank(now) < _rank(before),
    "lower, or another currency": lambda before, now: bool(before and now) and (now[0] < before[0] or now[1] != before[1]),
}
SHOWN = "what is shown, not what is judged"
LIMITS, TERMS, ACCEPTED, POLICY, GROUP = "a limit", "a term", "an accepted failure", "what a word does", "a group"
# Every option, setting, and key of a budget, of an accepted failure and of a group; the keys of metrics are limits.
LAXER: Mapping[str, Loosening] = {
    "budget": Loosening("no more", "nothing is measured without the option"),
    "budget_file": Loosening("", "what it holds is compared"),
    "total": Loosening("higher, or gone"),
    "only": Loosening("", "budgets hold all the same"),
    "skip": Loosening("set", "metered tests do not run"),
    "meter": Loosening("another", "another scale"),
    "meters": Loosening("another", "another scale"),
    "save": Loosening("", "changes no verdict"),
    "baseline": Loosening("no more"),
    "base_ref": Loosening("fewer of them"),
    "base_python": Loosening("another", "other versions on the other side"),
    "base_turns": Loosening("another", "whole launches see less than sets"),
    "launches": Loosening("lower", "a PASS is less sure"),
    "explain": Loosening("", "changes no verdict"),
    "update": Loosening("", "command line only"),
    "advise": Loosening("", "command line only"),
    "advise_students": Loosening("", "command line only"),
    "max_seconds": Loosening(TERMS, "INCONCLUSIVE instead of FAIL"),
    "confidence": Loosening(TERMS, "lower passes more easily, and higher fails less easily"),
    "tolerance": Loosening(TERMS),
    "floor": Loosening(TERMS),
    "enforce": Loosening(POLICY),
    "inconclusive": Loosening(POLICY),
    "unmeasured": Loosening(POLICY),
    "modelled": Loosening(POLICY),
    "strict": Loosening(POLICY),
    **{
        name: Loosening("", SHOWN)
        for name in ("json", "html", "markdown", "codecarbon_csv", "mlflow", "opentelemetry", "openmetrics", "github")
    },
    "benchmarks": Loosening("no more", "benchmarks are not metered"),
    "xdist": Loosening("", "each worker has a GPU of its own"),
    "domains": Loosening("another", "other energy counts"),
    "accuracy_confidence": Loosening("another", "an interval instead of the score itself: INCONCLUSIVE instead of FAIL, and the reverse"),
    "unmetered": Loosening("fewer queries", "without --energy-budget fewer answers are scored"),
    "cpu_watts_per_core": Loosening("another", "another scale"),
    "lock_folder": Loosening("", "only who waits for whom"),
    "remember_devices": Loosening("", "only what is looked at once more"),
    "reasoning_markers": Loosening("another", "other parts of an answer count"),
    "base_link": Loosening("more of them", "what is lent to the other commit is the same on both sides"),
    "allow": Loosening("more of them", "blocks that something spoiled count"),
    "fleet": Loosening("fewer of them", "what is not expected is not missed"),
    "country": Loosening("", "its figure is compared as carbon_intensity"),
    "carbon_intensity": Loosening("lower"),
    "electricity_price": Loosening("lower, or another currency"),
    "pue": Loosening("lower"),
    "traffic": Loosening("", SHOWN),
    "budgets": Loosening(LIMITS),
    "on": Loosening(LIMITS, "as it holds on this hardware, and gone elsewhere"),
    **{name: Loosening(LIMITS, "the line of a limit") for name in ("gpu", "cpu")},
    "set_on": Loosening(LIMITS, "the interval holds by what cards differ, or does not"),
    "accept": Loosening(ACCEPTED),
    **{f"accept.{name}": Loosening(ACCEPTED) for name in ("test", "metric", "up_to", "expires")},
    "accept.reason": Loosening("", "for people"),
    **{f"energy_group.{name}": Loosening(GROUP) for name in ("default", "margin", "floor")},
    **{f"energy_group.{name}": Loosening(GROUP) for name in ("latency_p50", "latency_p90", "latency_p95", "latency_p99", "throughput")},
}


@dataclass(frozen=True, slots=True)
class GroupDemand:
    """What an energy_group asks of its candidates; ``limits`` by metric, as ``floor`` in SI units. None: it does not ask for it."""

    name: str
    default: str | None
    margin: float
    floor: float | None
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stance:
    """What one commit asks of one test: its budget, the failures that its file accepts, and what each word does to the build.

    ``settings`` are the values of those that ``DIRECTIONS`` are about, ``group`` what the test's energy_group asks for.
    """

    budget: Budget
    accept: tuple[Acceptance, ...] = ()
    policy: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Json] = field(default_factory=dict)
    group: GroupDemand | None = None


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
            elif after.value == limit.value and after.cards != limit.cards:
                cards = [", ".join(each.cards) or "no card" for each in (limit, after)]
                found.append(f"{subject}: the limit of {metric.short} ({name}) was set on {cards[0]} and is on {cards[1]}")
            elif _is_laxer(limit, after):
                found.append(
                    f"{subject}: the limit of {metric.short} ({name}) was {written} and is {show_limit(after.value, metric.dimension)}"
                )
    found += _elsewhere(base.budget, head.budget, test)
    found += [*_terms(base, head, test), *_accepted(base, head, test), *_group(base.group, head.group)]
    return (*found, *_settings(base, head), *_of_pytest(base.settings, head.settings, test))


def _elsewhere(base: Budget, head: Budget, test: str) -> list[str]:
    """Limits that hold on other hardware only, which makes them UNMEASURED here, and that are gone."""
    return [
        f"{test}{'' if run is None else f' ({run})'}: the limit of {METRICS[name].short} ({name}) on other hardware is gone"
        for run, names in base.other_hardware.items()
        for name in sorted(names)
        if name not in head.limits.get(run, {}) and name not in head.other_hardware.get(run, ())
    ]


def _is_laxer(before: Limit, now: Limit) -> bool:
    return now.value > before.value if before.metric.better == "lower" else now.value < before.value


def _as_strict(before: Mapping[str, Limit], now: Mapping[str, Limit]) -> bool:
    return all(name in now and not _is_laxer(limit, now[name]) for name, limit in before.items())


def _terms(base: Stance, head: Stance, test: str) -> list[str]:
    one, other = base.budget, head.budget
    judged = sorted({name for budget in (one, other) for limits in budget.limits.values() for name in limits} | {"energy_per_query"})
    wider: dict[tuple[str, str], list[str]] = {}
    for metric in (METRICS[name] for name in judged):
        if other.tolerance(metric) > one.tolerance(metric):
            shares = show_share(one.tolerance(metric)), show_share(other.tolerance(metric))
            wider.setdefault(shares, []).append(metric.name)
    found = [f"{test}: the tolerance of {', '.join(names)} was {before} and is {now}" for (before, now), names in wider.items()]
    for metric in (METRICS[name] for name in judged):
        if other.floor(metric) > one.floor(metric):
            before, now = (show_limit(budget.floor(metric), metric.dimension) for budget in (one, other))
            found.append(f"{test}: the floor of {metric.name} was {before} and is {now}")
    if other.confidence != one.confidence:
        found.append(f"{test}: the confidence was {one.confidence:g} and is {other.confidence:g}")
    if other.max_seconds < one.max_seconds:
        found.append(f"{test}: max_seconds was {one.max_seconds:g} and is {other.max_seconds:g}")
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


def _group(base: GroupDemand | None, head: GroupDemand | None) -> list[str]:
    """What the candidates of a group must meet less of now; other settings of another group are not compared."""
    if base is None:
        return []
    called = f"energy_group {base.name!r}"
    if head is None or head.name != base.name:
        return [f"{called} has lost a candidate"]
    found = [f"{called}: default was {base.default!r} and is {head.default!r}"] if base.default not in (None, head.default) else []
    if head.margin > base.margin:
        found.append(f"{called}: margin was {show_share(base.margin)} and is {show_share(head.margin)}")
    wanted = {"floor": (METRICS["accuracy"], base.floor, head.floor)}
    wanted |= {key: (METRICS[key], limit, head.limits.get(key)) for key, limit in base.limits.items()}
    for key, (metric, before, now) in wanted.items():
        if before is not None and (now is None or _is_laxer(Limit(metric, before, ""), Limit(metric, now, ""))):
            told = "gone" if now is None else show_limit(now, metric.dimension)
            found.append(f"{called}: {key} was {show_limit(before, metric.dimension)} and is {told}")
    return found


def _settings(base: Stance, head: Stance) -> list[str]:
    words = [(key, base.policy[key], now, STRICTNESS.index) for key, now in head.policy.items() if key in base.policy]
    found = [f"the setting {key} was {before!r} and is {now!r}" for key, before, now, rank in words if rank(now) > rank(before)]
    for key, row in LAXER.items():
        if row.how in DIRECTIONS and key in base.settings and key in head.settings:
            before, now = base.settings[key], head.settings[key]
            if DIRECTIONS[row.how](before, now):
                found.append(f"the setting {key} was {_shown(before)} and is {_shown(now)}")
    return found


def _of_pytest(base: Mapping[str, Json], head: Mapping[str, Json], test: str) -> list[str]:
    """What pytest's own marks and options let pass: a failure that is expected, and tests that do not run."""
    found = [f"{test}: a failure is expected now (xfail)"] if base.get("xfail") is False and head.get("xfail") else []
    before, now = (_several(each.get("left_out", head.get("left_out"))) for each in (base, head))
    return [*found, *(f"addopts leaves tests out: {each}" for each in now if each not in before)]


def _several(value: Json) -> Sequence[Json]:
    return value if isinstance(value, list | tuple) else ()


def _shown(value: Json) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "empty"
    return (
        "not set" if value is None else f"{value:g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)
    )
