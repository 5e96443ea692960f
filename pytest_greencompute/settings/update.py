"""``--energy-update``: which limits follow from what a session measured, and writing them into the budget file.

Laws: ``tighten`` makes no limit laxer and ``loosen`` none stricter; a limit that holds for several tests must suit the worst of them,
and is tightened only where all of them were measured; nothing is written from a figure that is not certain, nor from a test that broke.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.judging.budget import Budget, Limit, Line, lines_for, resolve
from pytest_greencompute.judging.by_other_run import largest_fine
from pytest_greencompute.judging.verdict import Word
from pytest_greencompute.results.result import Figure as ShownFigure
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.settings.toml_edit import SET_ON, Keys, NewLimit, first_written, in_their_unit, rewritten, written_at
from pytest_greencompute.settings.toml_file import Table, TomlFile
from pytest_greencompute.store.files import write_atomically
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.units import SHARES, parse, show_limit

MOST_NAMED = 5
ALL = 0.999  # of a share: more is rounded to a limit that nothing can exceed
FIRST = "energy_per_query"  # what a test without any limit gets one for


@dataclass(frozen=True, slots=True)
class Measured:
    """What a session measured: its ``runs``, and the budget that held for each test that ran.

    ``broken`` tests failed, or were skipped, for another reason than their budgets. ``collected`` are all metered tests, with those
    that -k left out; ``whole`` says of a pattern whether every test that it may name was collected.
    """

    runs: Sequence[Result]
    budgets: Mapping[str, Budget]
    broken: Set[str] = frozenset()
    collected: Set[str] = frozenset()
    whole: Callable[[str], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class Place:
    """Where a limit is written: a table of the budgets, by its keys below ``budgets`` (none: a marker), and how people call it."""

    keys: Keys
    name: str
    metric: Metric
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value judged by a limit, in SI units: ``end`` is the bad end of its interval. ``why_not``: it must not be used."""

    test: str
    value: float
    end: float
    wanted: float
    cards: tuple[str, ...]
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written, how people read each, and what was left as it is, with the reason. ``by_hand`` is in Python code."""

    limits: Sequence[NewLimit] = ()
    told: Sequence[str] = ()
    left: Sequence[str] = ()
    by_hand: Sequence[str] = ()


@dataclass(slots=True)
class _Draft:
    limits: list[NewLimit] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)


def plan(way: str, measured: Measured, settings: Settings, data: Table, table: tuple[str, ...]) -> Plan:
    """The limits that ``way`` (tighten or loosen) gives. ``data`` is the budget file's content, ``table`` the keys of its budgets."""
    draft = _Draft()
    groups: dict[tuple[Keys, str, str], tuple[Place, Limit, list[Figure]]] = {}
    for run in measured.runs:
        budget = measured.budgets.get(run.test)
        if budget is None or run.run is None or not run.metered:
            continue
        for verdict in run.verdicts:
            limit = _limit_of(run, verdict, budget)
            if limit is not None:
                place = _place(run, verdict, limit, settings.budgets)
                figure = _figure(way, run, verdict, place, measured, settings)
                groups.setdefault((place.keys, place.name, verdict.metric), (place, limit, []))[2].append(figure)
    for place, limit, figures in groups.values():
        _renew(way, place, limit, figures, measured, settings, (data, table), draft)
    if way == "tighten":
        _begin(measured, settings, table, draft)
    return Plan(_with_kept_cards(draft.limits, data), draft.told, draft.left, draft.by_hand)


def _limit_of(run: Result, verdict: ShownVerdict, budget: Budget) -> Limit | None:
    if verdict.kind != "budget" or verdict.limit is None:
        return None
    of_run, unnamed = budget.limits.get(run.name, {}), budget.limits.get(None, {})
    return of_run.get(verdict.metric) or unnamed.get(verdict.metric)


def _place(run: Result, verdict: ShownVerdict, limit: Limit, budgets: Mapping[str, tuple[Line, ...]]) -> Place:
    metric = METRICS[verdict.metric]
    for pattern, lines in budgets.items():
        for index, line in enumerate(lines):
            for name, by_metric in line.limits.items():
                if by_metric.get(metric.name) is limit:
                    on = ("on", index - 1) if line.on else ()
                    where = f" on {', '.join(line.on.values())}" if line.on else ""
                    return Place((pattern, *on, *(() if name is None else (name,))), f"{_called(pattern, name)}{where}", metric, line)
    return Place((), _called(limit.where, run.name), metric)


def _called(test: str, run: str | None) -> str:
    return test if run is None else f"{test} ({run})"


# --- one figure -------------------------------------------------------------------------------------------------------


def _figure(way: str, run: Result, verdict: ShownVerdict, place: Place, measured: Measured, settings: Settings) -> Figure:
    metric, budget = place.metric, measured.budgets[run.test]
    why_not = _why_not(way, run, verdict.word, measured) or _modelled(run, metric, place.line, settings)
    return _from_run(run, metric, budget, settings, why_not)


def _from_run(run: Result, metric: Metric, budget: Budget, settings: Settings, why_not: str) -> Figure:
    shown = run.metrics.get(metric.name)
    if shown is None:
        return Figure(run.test, 0.0, 0.0, 0.0, (), why_not or "no figure")
    if metric.whole:  # headroom would make 3.8 stars of 4, which no budget may hold
        return Figure(run.test, shown.value, 0.0, 0.0, (), why_not or f"{metric.name} are set by hand")
    value, low, high = shown.value, shown.low, shown.high
    if metric.kind == "score":
        end = min(value, _low_score(run, metric, settings))
        wanted = min(value - budget.tolerance(metric), end, 1.0)
    elif metric.exact:  # judged by the figure itself, so its interval asks for no headroom
        if (low is None) != (high is None):
            return Figure(run.test, value, 0.0, 0.0, (), why_not or "only a bound of it is known")
        end, wanted = value, _with_headroom(metric, value, value, value, budget)
        if metric.dimension in SHARES and wanted > ALL:
            why_not = why_not or "a limit of all of them could never fail"
    else:
        bad = high if metric.better == "lower" else low
        if bad is None:
            return Figure(run.test, value, 0.0, 0.0, (), why_not or "the interval is open")
        end, wanted = bad, _with_headroom(metric, value, low, high, budget)
    if wanted < 0 or (wanted == 0 and not metric.zero):
        return Figure(run.test, value, end, wanted, (), why_not or "no limit above zero follows")
    return Figure(run.test, value, end, wanted, _cards(run, shown), why_not)


def _with_headroom(metric: Metric, value: float, low: float | None, high: float | None, budget: Budget) -> float:
    """The tolerance (or the floor, where it allows for more), but at least one half-width behind the interval's bad end."""
    half = max(high - value if high is not None else 0.0, value - low if low is not None else 0.0)
    fine = largest_fine(budget.tolerance(metric), floor=budget.floor(metric), level=value, better=metric.better) if value > 0 else 1.0
    if metric.better == "lower":
        return max(value * fine, (high or 0.0) + half, budget.floor(metric))
    return min(value / fine, (low or 0.0) - half)


def _low_score(run: Result, metric: Metric, settings: Settings) -> float:
    """The low end of a score's interval where that is judged, else nothing that would bound it."""
    if settings.accuracy_confidence is None or run.run is None:
        return float("inf")
    outcome = estimate(run.run, metric, Aim(settings.accuracy_confidence))
    return outcome.low if isinstance(outcome, Estimate) and outcome.low is not None else 0.0


def _cards(run: Result, shown: ShownFigure) -> tuple[str, ...]:
    """UUIDs of the devices whose energy the figure counts; none for other figures."""
    domains, sources = shown.domain.split("+"), () if run.run is None else run.run.sources
    return tuple(source.uuid for source in sources if source.domain in domains and source.uuid)


def _why_not(way: str, run: Result, word: Word, measured: Measured) -> str:
    """Why a figure must not become a limit; empty where it may."""
    if run.test in measured.broken:
        return "the test failed or was skipped for another reason"
    if word not in {"PASS", "FAIL"}:
        return word
    mine = [each for other in measured.runs if other.test == run.test for each in other.verdicts]
    failed = [each for each in mine if each.word == "FAIL"]
    if way == "tighten":
        return f"FAIL {', '.join(dict.fromkeys(each.metric for each in failed))}" if failed else ""
    limited = {each.metric for each in mine if each.kind == "budget"}
    others = [each.metric for each in failed if each.metric not in limited]
    return f"FAIL {', '.join(dict.fromkeys(others))}, which has no limit to loosen" if others else ""


def _modelled(run: Result, metric: Metric, line: Line | None, settings: Settings) -> str:
    """A modelled figure becomes a limit only where the limit cannot be about a measured one: its line, or all settings, name the meter."""
    shown = run.metrics.get(metric.name)
    if shown is None or shown.method != "modelled" or len(settings.meters) == 1 or (line is not None and "meter" in line.on):
        return ""
    return "modelled"


# --- one limit --------------------------------------------------------------------------------------------------------


def _renew(
    way: str,
    place: Place,
    limit: Limit,
    figures: Sequence[Figure],
    measured: Measured,
    settings: Settings,
    file: tuple[Table, tuple[str, ...]],
    draft: _Draft,
) -> None:
    """The new value of one limit, if it moves in the direction that was asked for."""
    metric, (data, table) = place.metric, file
    usable = [figure for figure in figures if not figure.why_not]
    worst = _worst(metric, usable)
    old = written_at(data, (*table, *place.keys, metric.name)) if place.keys else show_limit(limit.value, metric.dimension)
    new = None if worst is None else in_their_unit(old, worst.wanted, worst.end, metric.dimension, up=metric.better == "lower")
    moves = new is not None and _moves(way, metric, limit.value, parse(new, metric.dimension))
    why = _why_left(way, place, limit, figures, measured, settings)
    if why and (moves or worst is None):
        draft.left.append(f"{place.name} {metric.name} ({why})")
    elif moves and new is not None and worst is not None:
        change = f"{place.name} {metric.name} {old} -> {new}"
        if not place.keys:
            draft.by_hand.append(change)
            return
        cards = tuple(dict.fromkeys(card for figure in usable for card in figure.cards))
        draft.limits.append(NewLimit((*table, *place.keys), metric.name, new, ", ".join(cards)))
        draft.told.append(change)


def _worst(metric: Metric, figures: Sequence[Figure]) -> Figure | None:
    if not figures:
        return None
    return (max if metric.better == "lower" else min)(figures, key=lambda figure: figure.wanted)


def _moves(way: str, metric: Metric, old: float, new: float) -> bool:
    stricter = new < old if metric.better == "lower" else new > old
    return stricter if way == "tighten" else not stricter and new != old


def _why_left(way: str, place: Place, limit: Limit, figures: Sequence[Figure], measured: Measured, settings: Settings) -> str:
    """Why the limit stays as it is; empty where it may be rewritten."""
    reasons = {figure.test: figure.why_not for figure in figures if figure.why_not}
    if limit.cards and place.metric.kind == "energy" and any(not figure.cards for figure in figures if not figure.why_not):
        return f"it was set on {', '.join(limit.cards)}, and no card was counted here"
    if way == "loosen":
        return next(iter(reasons.values()), "") if len(reasons) == len(figures) else ""
    if reasons:
        test, why = next(iter(reasons.items()))
        return why if len(figures) == 1 else f"{test}: {why}"
    return _missing(place, limit, figures, measured, settings) if place.keys else ""


def _missing(place: Place, limit: Limit, figures: Sequence[Figure], measured: Measured, settings: Settings) -> str:
    """A test that the limit holds for and that has no figure in this session; empty where there is none."""
    pattern = str(place.keys[0])
    if not any(char in pattern for char in "*?") or any(pattern in settings.names.of(test) for test in measured.budgets):
        return ""
    if not measured.whole(pattern):
        return "it may hold for tests that were not collected"
    for test in sorted(measured.collected - {figure.test for figure in figures}):
        budget = measured.budgets.get(test) or _file_budget(test, place, settings)
        if any(each is limit for by_metric in budget.limits.values() for each in by_metric.values()):
            return f"{test} was not measured"
    return ""


def _file_budget(test: str, place: Place, settings: Settings) -> Budget:
    """What the file says of a test that did not run, on hardware where the line of ``place`` holds."""
    on = {} if place.line is None else {key: (pattern,) for key, pattern in place.line.on.items()}
    return resolve(lines_for(test, settings.budgets, settings.names), on)


def _begin(measured: Measured, settings: Settings, table: tuple[str, ...], draft: _Draft) -> None:
    """First limits for the tests that have none of any kind, on any hardware."""
    metric = METRICS[FIRST]
    for test, budget in measured.budgets.items():
        runs = [run for run in measured.runs if run.test == test and run.metered and run.run is not None]
        if budget.limits or budget.other_hardware:
            continue
        for run in sorted(runs, key=lambda each: each.name is not None):  # a table before those inside it
            figure = _from_run(run, metric, budget, settings, _why_no_first(run, metric, measured, settings))
            name = None if len(runs) == 1 else run.name
            if figure.why_not:
                draft.left.append(f"{_called(test, run.name)} {FIRST} ({figure.why_not})")
                continue
            new = first_written(figure.wanted, figure.end, metric.dimension, up=True)
            keys = (*table, next(iter(settings.names.of(test)), test), *(() if name is None else (name,)))
            draft.limits.append(NewLimit(keys, FIRST, new, ", ".join(figure.cards)))
            draft.told.append(f"{_called(test, name)} {FIRST} {new} (new)")


def _why_no_first(run: Result, metric: Metric, measured: Measured, settings: Settings) -> str:
    return _why_not("tighten", run, "PASS", measured) or _modelled(run, metric, None, settings)


def _with_kept_cards(limits: Iterable[NewLimit], data: Table) -> list[NewLimit]:
    """Cards of an older update stay noted where another energy limit of the same table still comes from it."""
    limits = list(limits)
    energy = {metric.name for metric in METRICS.values() if metric.kind == "energy"}
    made = []
    for limit in limits:
        noted = [each.set_on for each in limits if each.table == limit.table and each.set_on]
        there = written_at(data, limit.table)
        before = there if isinstance(there, Mapping) else {}
        renewed = {each.metric for each in limits if each.table == limit.table}
        if isinstance(before.get(SET_ON), str) and energy & set(before) - renewed:
            noted.append(before[SET_ON])
        cards = dict.fromkeys(card.strip() for each in noted for card in each.split(","))
        made.append(replace(limit, set_on=", ".join(cards) if limit.set_on else ""))
    return made


# --- the file ---------------------------------------------------------------------------------------------------------


def update(way: str, measured: Measured, settings: Settings) -> list[tuple[str, bool]]:
    """Write the new limits into the budget file; the sentences for the end of the session, each with whether it is bad."""
    if settings.home is None:
        return [("no limit was updated: there is no budget file; `greencompute init` makes one", True)]
    file, table = settings.home
    planned = plan(way, measured, settings, file.data, table)
    said: list[tuple[str, bool]] = []
    if planned.limits:
        try:
            refused = _write(file, planned)
        except SettingsError as error:
            return [(f"{file.name} was not updated: {error}", True)]
        told = [each for each in planned.told if each not in refused]
        if told:
            said.append((f"updated {len(told)} limit{'' if len(told) == 1 else 's'} in {file.name}: {_some(told)}", False))
        if refused:
            said.append((f"{file.name} could not be edited here without touching the rest; write it by hand: {_some(refused)}", True))
    else:
        said.append((f"{file.name} was not updated: no limit to {way}", False))
    if planned.by_hand:
        said.append((f"limits in Python code are yours to change: {_some(planned.by_hand)}", False))
    if planned.left:
        said.append((f"left as {'it is' if len(planned.left) == 1 else 'they are'}: {_some(planned.left)}", False))
    return said


def _some(each: Sequence[str]) -> str:
    more = f", and {len(each) - MOST_NAMED} more" if len(each) > MOST_NAMED else ""
    return ", ".join(each[:MOST_NAMED]) + more


def _write(file: TomlFile, planned: Plan) -> list[str]:
    """Write what can be written; what cannot is the answer. Raises SettingsError where the file is not to be touched."""
    try:
        before = file.path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"it cannot be read any more ({error}).") from error
    if before.replace("\r\n", "\n").replace("\r", "\n") != file.text:
        raise SettingsError("it has changed since the session began.", remedy="Run pytest again.")
    if not os.access(file.path, os.W_OK) or not file.path.stat().st_mode & 0o222:
        raise SettingsError("it is read-only.")
    text, refused = before, []
    for limit, told in zip(planned.limits, planned.told, strict=True):
        new = rewritten(text, limit)
        if new is None:
            refused.append(told)
        else:
            text = new
    if text != before:
        write_atomically(file.path, text, newline="")
    return refused
