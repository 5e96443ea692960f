"""``--energy-update``: which limits follow from what a session measured, and writing them into the budget file.

Laws: ``tighten`` makes no limit laxer and ``loosen`` none stricter; a limit that holds for several tests must suit the worst of them,
and is tightened only where all of them were measured; nothing is written from a figure that is not certain, nor from a test that broke.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.judging.budget import Budget, Limit, Line, lines_for, resolve
from pytest_greencompute.judging.by_other_run import largest_fine
from pytest_greencompute.results.result import Figure, Result, ShownVerdict
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.settings.toml_edit import SET_ON, Keys, NewLimit, first_written, in_their_unit, rewritten, written_at
from pytest_greencompute.settings.toml_file import TomlFile, TomlTable
from pytest_greencompute.store.files import read_only, write_atomically
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.names import listed
from pytest_greencompute.values.units import SHARES, parse, show_limit

MOST_NAMED = 5
ALL = 0.999  # of a share: more is rounded to a limit that nothing can exceed
FIRST = "energy_per_query"  # what a test without any limit gets one for


@dataclass(frozen=True, slots=True)
class Findings:
    """What a session found out: the ``results`` of its runs, and the budget that held for each test that ran.

    ``broken`` tests failed, or were skipped, for another reason than their budgets. ``collected`` are all metered tests, with those
    that -k left out; ``whole`` says of a pattern whether every test that it may name was collected.
    """

    results: Sequence[Result]
    budgets: Mapping[str, Budget]
    broken: Set[str] = frozenset()
    collected: Set[str] = frozenset()
    whole: Callable[[str], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class Target:
    """Where a limit is written: a table of the budgets, by its keys below ``budgets`` (none: a marker), and how people call it."""

    keys: Keys
    name: str
    metric: Metric
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Basis:
    """One measured value judged by a limit, in SI units: ``end`` is the bad end of its interval, ``wanted`` the limit that follows.
    ``why_not``: it must not be used.
    """

    test: str
    value: float
    end: float = 0.0
    wanted: float = 0.0
    cards: tuple[str, ...] = ()
    why_not: str = ""


@dataclass(slots=True)
class Changes:
    """What is to be written, what is ``said`` of each, and what was left as it is, with the reason. ``by_hand`` is in Python code."""

    limits: list[NewLimit] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Work:
    """What the limits follow from. ``data`` is the file's content, ``table`` the keys of its budgets."""

    way: str
    findings: Findings
    settings: Settings
    data: TomlTable
    table: tuple[str, ...]


def changes(way: str, findings: Findings, settings: Settings, data: TomlTable, table: tuple[str, ...]) -> Changes:
    """The limits that ``way`` (tighten or loosen) gives. ``data`` is the budget file's content, ``table`` the keys of its budgets."""
    work, made = _Work(way, findings, settings, data, table), Changes()
    groups: dict[tuple[Keys, str, str], tuple[Target, Limit, list[Basis]]] = {}
    for result in findings.results:
        budget = findings.budgets.get(result.test)
        if budget is None or result.run is None or not result.metered:
            continue
        for verdict in result.verdicts:
            limit = _limit_of(result, verdict, budget)
            if limit is not None:
                target = _target(result, verdict, limit, settings.budgets, budget.lines)
                why_not = _why_not(way, result, verdict.word, findings) or _modelled(result, target.metric, target.line, settings)
                basis = _basis(result, target.metric, budget, settings, why_not)
                groups.setdefault((target.keys, target.name, verdict.metric), (target, limit, []))[2].append(basis)
    for target, limit, bases in groups.values():
        _renew(work, target, limit, bases, made)
    if way == "tighten":
        _begin(work, made)
    made.limits = _with_kept_cards(made.limits, data)
    return made


def _limit_of(result: Result, verdict: ShownVerdict, budget: Budget) -> Limit | None:
    if verdict.kind != "budget" or verdict.limit is None:
        return None
    of_run, unnamed = budget.limits.get(result.name, {}), budget.limits.get(None, {})
    return of_run.get(verdict.metric) or unnamed.get(verdict.metric)


def _target(
    result: Result, verdict: ShownVerdict, limit: Limit, budgets: Mapping[str, tuple[Line, ...]], holding: Sequence[Line]
) -> Target:
    metric = METRICS[verdict.metric]
    for pattern, lines in budgets.items():
        for index, line in enumerate(lines):
            for name, by_metric in line.limits.items():
                if by_metric.get(metric.name) is limit:
                    on = ("on", index - 1) if line.on else ()
                    where = f" on {', '.join(line.on.values())}" if line.on else ""
                    return Target((pattern, *on, *(() if name is None else (name,))), f"{_called(pattern, name)}{where}", metric, line)
    of_marker = next((line for line in holding if any(by_metric.get(metric.name) is limit for by_metric in line.limits.values())), None)
    return Target((), _called(limit.where, result.name), metric, of_marker)


def _called(test: str, run: str | None) -> str:
    return test if run is None else f"{test} ({run})"


# --- one figure -------------------------------------------------------------------------------------------------------


def _basis(result: Result, metric: Metric, budget: Budget, settings: Settings, why_not: str) -> Basis:
    shown = result.metrics.get(metric.name)
    if shown is None:
        return Basis(result.test, 0.0, why_not=why_not or "no figure")
    value, low, high = shown.value, shown.low, shown.high
    if metric.whole:  # headroom would make 3.8 stars of 4, which no budget may hold
        return Basis(result.test, value, why_not=why_not or f"{metric.name} are set by hand")
    if metric.kind == "score":
        end = min(value, _low_score(result, metric, settings))
        wanted = min(value - budget.tolerance(metric), end, 1.0)
    elif metric.exact:  # judged by the figure itself, so its interval asks for no headroom
        if (low is None) != (high is None):
            return Basis(result.test, value, why_not=why_not or "only a bound of it is known")
        end, wanted = value, _with_headroom(metric, value, value, value, budget)
        if metric.dimension in SHARES and wanted > ALL:
            why_not = why_not or "a limit of all of them could never fail"
    else:
        bad = high if metric.better == "lower" else low
        if bad is None:
            return Basis(result.test, value, why_not=why_not or "its interval is open: more queries or --energy-max-seconds bound it")
        end, wanted = bad, _with_headroom(metric, value, low, high, budget)
    if wanted < 0 or (wanted == 0 and not metric.zero):
        return Basis(result.test, value, end, wanted, why_not=why_not or "no limit above zero follows")
    return Basis(result.test, value, end, wanted, _cards(result, shown), why_not)


def _with_headroom(metric: Metric, value: float, low: float | None, high: float | None, budget: Budget) -> float:
    """The tolerance (or the floor, where it allows for more), but at least one half-width behind the interval's bad end."""
    half = max(high - value if high is not None else 0.0, value - low if low is not None else 0.0)
    fine = largest_fine(budget.tolerance(metric), floor=budget.floor(metric), level=value, better=metric.better) if value > 0 else 1.0
    if metric.better == "lower":
        return max(value * fine, (high or 0.0) + half, budget.floor(metric))
    return min(value / fine, (low or 0.0) - half)


def _low_score(result: Result, metric: Metric, settings: Settings) -> float:
    """The low end of a score's interval where that is judged, else nothing that would bound it."""
    if settings.accuracy_confidence is None or result.run is None:
        return float("inf")
    outcome = estimate(result.run, metric, Aim(settings.accuracy_confidence))
    return outcome.low if isinstance(outcome, Estimate) and outcome.low is not None else 0.0


def _cards(result: Result, shown: Figure) -> tuple[str, ...]:
    """UUIDs of the devices whose energy the figure counts; none for other figures."""
    domains = shown.domain.split("+")
    return () if result.run is None else tuple(each.uuid for each in result.run.sources if each.domain in domains and each.uuid)


def _why_not(way: str, result: Result, word: str, findings: Findings) -> str:
    """Why a figure must not become a limit; empty where it may. ``word`` is that of its verdict."""
    if result.test in findings.broken:
        return "the test failed or was skipped for another reason"
    if word not in {"PASS", "FAIL"}:
        return word
    mine = [each for other in findings.results if other.test == result.test for each in other.verdicts]
    failed = [each for each in mine if each.word == "FAIL"]
    if way == "tighten":
        return f"FAIL {', '.join(dict.fromkeys(each.metric for each in failed))}" if failed else ""
    limited = {each.metric for each in mine if each.kind == "budget"}
    others = [each.metric for each in failed if each.metric not in limited]
    return f"FAIL {', '.join(dict.fromkeys(others))}, which has no limit to loosen" if others else ""


def _modelled(result: Result, metric: Metric, line: Line | None, settings: Settings) -> str:
    """A modelled figure becomes a limit only where the limit cannot be about a measured one: its line, or all settings, name the meter."""
    shown = result.metrics.get(metric.name)
    if shown is None or shown.method != "modelled" or len(settings.meters) == 1 or (line is not None and "meter" in line.on):
        return ""
    return "modelled"


# --- one limit --------------------------------------------------------------------------------------------------------


def _renew(work: _Work, target: Target, limit: Limit, bases: Sequence[Basis], made: Changes) -> None:
    """The new value of one limit, if it moves in the direction that was asked for."""
    metric, keys = target.metric, (*work.table, *target.keys)
    usable = [basis for basis in bases if not basis.why_not]
    worst = (max if metric.better == "lower" else min)(usable, key=lambda basis: basis.wanted, default=None)
    old = written_at(work.data, (*keys, metric.name)) if target.keys else show_limit(limit.value, metric.dimension)
    new = None if worst is None else in_their_unit(old, worst.wanted, worst.end, metric.dimension, up=metric.better == "lower")
    moves = new is not None and _moves(work.way, metric, limit.value, parse(new, metric.dimension))
    why = _why_left(work, target, limit, bases)
    if why and (moves or worst is None):
        made.left.append(f"{target.name} {metric.name} ({why})")
    elif moves and new is not None:
        change = f"{target.name} {metric.name} {old} -> {new}"
        if not target.keys:
            made.by_hand.append(change)
            return
        cards = tuple(dict.fromkeys(card for basis in usable for card in basis.cards))
        made.limits.append(NewLimit(keys, metric.name, new, ", ".join(cards)))
        made.said.append(change)


def _moves(way: str, metric: Metric, old: float, new: float) -> bool:
    stricter = new < old if metric.better == "lower" else new > old
    return stricter if way == "tighten" else not stricter and new != old


def _why_left(work: _Work, target: Target, limit: Limit, bases: Sequence[Basis]) -> str:
    """Why the limit stays as it is; empty where it may be rewritten."""
    reasons = {basis.test: basis.why_not for basis in bases if basis.why_not}
    if limit.cards and target.metric.kind == "energy" and any(not basis.cards for basis in bases if not basis.why_not):
        return f"it was set on {', '.join(limit.cards)}, and no card was counted here"
    if work.way == "loosen":
        return next(iter(reasons.values()), "") if len(reasons) == len(bases) else ""
    if reasons:
        test, why = next(iter(reasons.items()))
        return why if len(bases) == 1 else f"{test}: {why}"
    return _missing(work, target, limit, bases) if target.keys else ""


def _missing(work: _Work, target: Target, limit: Limit, bases: Sequence[Basis]) -> str:
    """A test that the limit holds for and that has no figure in this session; empty where there is none."""
    pattern, findings, settings = str(target.keys[0]), work.findings, work.settings
    if not any(char in pattern for char in "*?") or any(pattern in settings.names.of(test) for test in findings.budgets):
        return ""
    if not findings.whole(pattern):
        return "it may hold for tests that were not collected"
    for test in sorted(findings.collected - {basis.test for basis in bases}):
        budget = findings.budgets.get(test) or _file_budget(test, target, settings)
        if any(each is limit for by_metric in budget.limits.values() for each in by_metric.values()):
            return f"{test} was not measured"
    return ""


def _file_budget(test: str, target: Target, settings: Settings) -> Budget:
    """What the file says of a test that did not run, on hardware where the line of ``target`` holds."""
    on = {} if target.line is None else {key: (pattern,) for key, pattern in target.line.on.items()}
    return resolve(lines_for(test, settings.budgets, settings.names), on)


def _begin(work: _Work, made: Changes) -> None:
    """First limits for the tests that have none of any kind, on any hardware."""
    metric, findings, settings = METRICS[FIRST], work.findings, work.settings
    for test, budget in findings.budgets.items():
        if budget.limits or budget.other_hardware:
            continue
        results = [each for each in findings.results if each.test == test and each.metered and each.run is not None]
        for result in sorted(results, key=lambda each: each.name is not None):  # a table before those inside it
            why_not = _why_not("tighten", result, "PASS", findings) or _modelled(result, metric, None, settings)
            basis = _basis(result, metric, budget, settings, why_not)
            name = None if len(results) == 1 else result.name
            if basis.why_not:
                made.left.append(f"{_called(test, result.name)} {FIRST} ({basis.why_not})")
                continue
            new = first_written(basis.wanted, basis.end, metric.dimension, up=True)
            keys = (*work.table, next(iter(settings.names.of(test)), test), *(() if name is None else (name,)))
            made.limits.append(NewLimit(keys, FIRST, new, ", ".join(basis.cards)))
            made.said.append(f"{_called(test, name)} {FIRST} {new} (new)")


def _with_kept_cards(limits: Iterable[NewLimit], data: TomlTable) -> list[NewLimit]:
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


def update(way: str, findings: Findings, settings: Settings) -> list[tuple[str, bool]]:
    """Write the new limits into the budget file; the sentences for the end of the session, each with whether it is bad."""
    if settings.home is None:
        return [("no limit was updated: there is no budget file; `greencompute init` makes one", True)]
    file, table = settings.home
    made = changes(way, findings, settings, file.data, table)
    said: list[tuple[str, bool]] = []
    if made.limits:
        try:
            refused = _write(file, made)
        except SettingsError as error:
            return [(f"{file.name} was not updated: {error}", True)]
        told = [each for each in made.said if each not in refused]
        if told:
            said.append((f"updated {len(told)} limit{'' if len(told) == 1 else 's'} in {file.name}: {_some(told)}", False))
        if refused:
            said.append((f"{file.name} could not be edited here without touching the rest; write it by hand: {_some(refused)}", True))
    elif not made.by_hand:  # which stand in no file of ours
        said.append((f"{file.name} was not updated: no limit to {way}", False))
    if made.by_hand:
        said.append((f"limits in Python code are yours to change: {_some(made.by_hand)}", False))
    if made.left:
        said.append((f"left as {'it is' if len(made.left) == 1 else 'they are'}: {_some(made.left)}", False))
    return said


_some = partial(listed, most=MOST_NAMED)


def _write(file: TomlFile, made: Changes) -> list[str]:
    """Write what can be written; what cannot is the answer. Raises SettingsError where the file is not to be touched."""
    try:
        before = file.path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"it cannot be read any more ({error}).") from error
    if before.replace("\r\n", "\n").replace("\r", "\n") != file.text:
        raise SettingsError("it has changed since the session began.", remedy="Run pytest again.")
    if read_only(file.path):
        raise SettingsError("it is read-only.")
    text, refused = before, []
    for limit, told in zip(made.limits, made.said, strict=True):
        new = rewritten(text, limit)
        if new is None:
            refused.append(told)
        else:
            text = new
    if text != before:
        write_atomically(file.path, text, newline="")
    return refused
