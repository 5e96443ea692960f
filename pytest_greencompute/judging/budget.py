"""Budgets: what a marker, a file or an option wrote, parsed once, and which of the lines hold for a test on this hardware.

A *line* is one place that wrote something: a marker, one table of a file, the command line, the defaults. A line may
limit metrics, for the test's unnamed run or for a named one, and set how strictly they are judged (its terms).
Precedence, first wins, key by key: a matching ``on`` line, the marker, the command line, the file, the default. Of the patterns of a
file that speak of a test the most specific one that sets a key wins, its ``on`` lines before its own (``specificity``).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.names import unknown_key
from pytest_greencompute.values.units import RATIO, SHARES, TIME, parse, parse_positive, parse_share

HARDWARE_KEYS = ("gpu", "cpu", "meter")
DEFAULT_SECONDS = 60.0  # for each run
SECONDS_A_COMMIT = 240.0  # its sets beside those of this side, and the fresh launches of both that a FAIL needs
TERMS = ("tolerance", "floor", "confidence", "max_seconds")
SET_ON = "set_on"  # beside the energy limits of a table: the card that they were set on
DEFAULT_TOLERANCE = 0.05
STARS = (1, 2, 3, 4, 5)
SaysWhere = Callable[..., str]
Rank = tuple[int, ...]
EXACT: Rank = (1 << 62,)
COMMAND_LINE = "command line"  # where the line with the options' terms stands


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of one metric, as an SI float, and where it was written.

    ``cards`` are the UUIDs of the devices that an energy limit was set on, as ``--energy-update`` notes them; empty: nobody knows.
    """

    metric: Metric
    value: float
    where: str
    cards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """How strictly to judge. Empty or None: this line says nothing about it.

    ``tolerance`` and ``floor`` map a metric's name to a share and to an SI amount; the key ``*`` stands for every metric
    that has no tolerance of its own in the metric table (accuracy has: 0). Also how sure, and how long to measure.
    """

    tolerance: Mapping[str, float] = field(default_factory=dict)
    floor: Mapping[str, float] = field(default_factory=dict)
    confidence: float | None = None
    max_seconds: float | None = None

    def over(self, other: Terms) -> Terms:
        """These terms, and those of ``other`` that these say nothing about."""
        return Terms(**{name: getattr(self, name) or getattr(other, name) for name in TERMS})


@dataclass(frozen=True, slots=True)
class Line:
    """What one place wrote about one test. ``on`` maps a hardware key to a pattern; empty: it holds everywhere. ``rank`` says how specific
    the pattern is under which a file wrote it; empty: no file did.
    """

    where: str
    limits: Mapping[str | None, Mapping[str, Limit]] = field(default_factory=dict)
    terms: Terms = field(default_factory=Terms)
    on: Mapping[str, str] = field(default_factory=dict)
    rank: Rank = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """What holds for one test on one machine: limits by run name (None: the unnamed run) and metric, and the terms."""

    limits: Mapping[str | None, Mapping[str, Limit]]
    lines: tuple[Line, ...]
    other_hardware: Mapping[str | None, frozenset[str]]

    @property
    def confidence(self) -> float:
        return next((line.terms.confidence for line in self.lines if line.terms.confidence is not None), 0.99)

    @property
    def max_seconds(self) -> float:
        """The time limit that was given, or that of a run by itself."""
        return self.given_seconds or DEFAULT_SECONDS

    @property
    def given_seconds(self) -> float | None:
        """The time limit of the whole test that somebody has given."""
        return next((line.terms.max_seconds for line in self.lines if line.terms.max_seconds is not None), None)

    def seconds(self, *, runs: int = 1, commits: int = 0) -> float:
        """What the whole test may cost, with so many runs, measured by turns with so many other commits."""
        return self.given_seconds or runs * (DEFAULT_SECONDS + SECONDS_A_COMMIT * commits)

    def tolerance(self, metric: Metric) -> float:
        """The share by which the metric may be worse than its baseline."""
        default = DEFAULT_TOLERANCE if metric.tolerance is None else metric.tolerance
        return self._term(metric, "tolerance", default)

    def floor(self, metric: Metric) -> float:
        """The absolute change (SI) below which a worse metric is not a regression."""
        return self._term(metric, "floor", metric.floor)

    def _term(self, metric: Metric, term: str, default: float) -> float:
        for line in self.lines:
            written: Mapping[str, float] = getattr(line.terms, term)
            if metric.name in written:
                return written[metric.name]
            if "*" in written and metric.tolerance is None:
                return written["*"]
        return default


def parse_lines(written: Mapping[str, Any], where: SaysWhere) -> tuple[Line, ...]:
    """The lines that one marker or one table of a file wrote: its own, then its ``on`` lines.

    ``where(*keys)`` says where a key stands ("pyproject.toml:14"). Raises one SettingsError that lists every problem.
    """
    problems: list[str] = []
    lines = [_line({key: value for key, value in written.items() if key != "on"}, where, problems, on={})]
    on_lines = written.get("on", [])
    if not isinstance(on_lines, list | tuple) or not all(isinstance(entry, Mapping) for entry in on_lines):
        problems.append(f"{where('on')}: 'on' must be a list of tables, each with a hardware key and limits.")
        on_lines = []
    for index, entry in enumerate(on_lines):
        lines.append(_on_line(entry, lambda *keys, _index=index: where("on", _index, *keys), problems))
    if problems:
        raise SettingsError("\n".join(problems))
    return tuple(lines)


def _on_line(entry: Mapping[str, Any], where: SaysWhere, problems: list[str]) -> Line:
    on = {key: entry[key] for key in HARDWARE_KEYS if key in entry}
    if not on:
        problems.append(f"{where()}: an 'on' line needs one of {', '.join(HARDWARE_KEYS)} to say where it holds.")
    for key, pattern in on.items():
        if not isinstance(pattern, str):
            problems.append(f'{where(key)}: {key} = {pattern!r} must be a name, such as "NVIDIA H100 80GB HBM3".')
    return _line({key: value for key, value in entry.items() if key not in on}, where, problems, on=on)


def _line(written: Mapping[str, Any], where: SaysWhere, problems: list[str], *, on: Mapping[str, str]) -> Line:
    limits: dict[str | None, dict[str, Limit]] = {}
    terms: dict[str, Any] = {}
    for key, value in written.items():
        place = where(key)
        try:
            if key in METRICS:
                limits.setdefault(None, {})[key] = _limit(METRICS[key], value, place, written.get(SET_ON))
            elif key == SET_ON:
                _cards(value)
            elif key in TERMS:
                terms[key] = parse_term(key, value)
            elif isinstance(value, Mapping):
                limits[key] = _named_run(key, value, where, problems)
            else:
                raise unknown_key(key, [*METRICS, *TERMS, SET_ON, *(HARDWARE_KEYS if on else ("on",))], "budget key")
        except SettingsError as error:
            problems.append(f"{place}: {key}: {error}" if key in METRICS or key in TERMS else f"{place}: {error}")
    return Line(where(), limits, Terms(**terms), on)


def _named_run(name: str, written: Mapping[str, Any], where: SaysWhere, problems: list[str]) -> dict[str, Limit]:
    limits: dict[str, Limit] = {}
    for key, value in written.items():
        place = where(name, key)
        try:
            if key == SET_ON:
                _cards(value)
                continue
            if key not in METRICS:
                raise unknown_key(key, [*METRICS, SET_ON], f"budget key of the run {name!r}")
            limits[key] = _limit(METRICS[key], value, place, written.get(SET_ON))
        except SettingsError as error:
            problems.append(f"{place}: {key}: {error}" if key in METRICS else f"{place}: {error}")
    return limits


def _cards(written: object) -> tuple[str, ...]:
    names = tuple(name.strip() for name in written.split(",")) if isinstance(written, str) else ()
    if not names or not all(names):
        raise SettingsError(f"{SET_ON} = {written!r} must be the UUID of a card.", remedy="Remove it, or let `--energy-update` write it.")
    return names


def _limit(metric: Metric, written: object, where: str, set_on: object = None) -> Limit:
    value = _not_negative(written, "limit", metric) if metric.zero else parse_positive(written, metric.dimension)
    if metric.name == "stars" and value not in STARS:
        raise SettingsError(f"{written!r} is no number of stars.", remedy="Write 1, 2, 3, 4 or 5: so many at least.")
    check_share(metric, value, written)
    known = metric.kind == "energy" and isinstance(set_on, str)  # a set_on that is none is told as its own mistake
    return Limit(metric, value, where, tuple(name.strip() for name in str(set_on).split(",")) if known else ())


def check_share(metric: Metric, value: float, written: object) -> None:
    """Raises SettingsError for a limit of a share that is none, or that nothing could exceed."""
    if metric.dimension not in SHARES:
        return
    if value > 1:
        raise SettingsError(f"{written!r} is more than 1.", remedy="Write a share between 0 and 1, such as 0.92 or '92 %'.")
    if value == 1 and metric.better == "lower":
        remedy = "Write the share that is still fine, such as 0.01 or '1 %', or remove the limit."
        raise SettingsError(f"{written!r} is all of them, so it can never fail.", remedy=remedy)


def parse_term(key: str, written: object) -> Any:
    """One of TERMS from what a user wrote. Raises SettingsError."""
    if key in {"tolerance", "floor"}:
        return _per_metric(key, written)
    if key == "confidence":
        value = parse(written, RATIO)
        if not 0.5 <= value < 1:
            raise SettingsError(f"{written!r} is not between 0.5 and 1.", remedy="Write it like 0.99.")
        return value
    return parse_positive(written, TIME)


def _per_metric(key: str, written: object) -> dict[str, float]:
    if isinstance(written, Mapping):
        unknown = [name for name in written if name not in METRICS]
        if unknown:
            raise unknown_key(str(unknown[0]), list(METRICS), f"metric in {key}")
        for name in written:
            if METRICS[name].kind == "rating":
                raise SettingsError(f"{name} has no {key}: it is not compared with other runs.", remedy=f"Remove {name} from {key}.")
        return {name: _not_negative(value, key, METRICS[name]) for name, value in written.items()}
    if key == "floor":
        raise SettingsError(f"{written!r} has no metric.", remedy='Write a floor per metric, such as { energy_per_query = "1 mJ" }.')
    return {"*": _not_negative(written, key, None)}


def _not_negative(written: object, key: str, metric: Metric | None) -> float:
    share = key == "tolerance" or metric is None
    value = parse(written, RATIO if share or metric is None else metric.dimension)
    if value < 0:
        raise SettingsError(f"{written!r} is negative.", remedy=f"A {key} is zero or more.")
    if share and value > 1:  # a bare 5 is 500 %, which nobody means, and which nothing would fail
        raise SettingsError(f"{written!r} is more than 1.", remedy="Write a tolerance as '5 %' or as 0.05.")
    if key != "limit" and value >= 1 and metric is not None and metric.dimension in SHARES and (metric.kind == "score" or not share):
        remedy = "Write the change that is still fine, such as '1 %'."
        raise SettingsError(f"{written!r} is as much as {metric.name} can change, so it can never fail.", remedy=remedy)
    return parse_share(written) if share else value


def resolve(lines: Iterable[Line], hardware: Mapping[str, Sequence[str]]) -> Budget:
    """What holds on ``hardware`` (names by hardware key) out of ``lines``, given in order of precedence without ``on`` lines' own.

    ``other_hardware`` of the answer names the metrics that only have limits for other hardware: those are UNMEASURED. Raises SettingsError
    where two lines that are as specific differ.
    """
    every = tuple(lines)
    here = tuple(line for line in every if not line.on or _matches(line.on, hardware))
    check_clashes(here)
    told = _most_specific(here)
    holding = tuple(line for line in told if line.on) + tuple(line for line in told if not line.on)
    limits: dict[str | None, dict[str, Limit]] = {}
    for line in holding:
        for run, by_metric in line.limits.items():
            for name, limit in by_metric.items():
                limits.setdefault(run, {}).setdefault(name, limit)
    other: dict[str | None, set[str]] = {}
    for line in every:
        for run, by_metric in line.limits.items():
            other.setdefault(run, set()).update(name for name in by_metric if name not in limits.get(run, {}))
    return Budget(limits, holding, {run: frozenset(names) for run, names in other.items() if names})


def _matches(on: Mapping[str, str], hardware: Mapping[str, Sequence[str]]) -> bool:
    return all(any(wild(pattern).fullmatch(name) for name in hardware.get(key, ())) for key, pattern in on.items())


# --- patterns: which of them wins ---------------------------------------------------------------------------------------


def wild(pattern: str) -> re.Pattern[str]:
    """A pattern in which only ``*`` and ``?`` are wild; brackets are test parameters, not classes."""
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern), re.DOTALL)


def specificity(pattern: str) -> Rank:
    """How specific a pattern is, to be compared: by its characters that are not wild, then by its ``?``, then by how few ``*`` it has.

    So a pattern that matches only a part of what another matches is always the more specific one of the two.
    """
    stars = re.findall(r"[*?]*\*[*?]*", pattern)
    return (sum(char not in "*?" for char in pattern), pattern.count("?"), -len(stars))


@dataclass(frozen=True, slots=True)
class Names:
    """What a file calls the tests: their paths from the folder of the file, where pytest's own root is another one.

    ``down`` is pytest's root and ``up`` the file's folder, each as seen from the folder that holds both, with a slash at its end. Of files
    outside of its root pytest's names do not say where they are: ``outside`` does, seen from the folder that holds both.
    """

    down: str = ""
    up: str = ""
    outside: Mapping[str, str] = field(default_factory=dict)

    def of(self, node_id: str) -> tuple[str, ...]:
        """The names of a test in the file, the file's own first: pytest's will do, too. None for a test outside of the file's folder."""
        if not self.down and not self.up:
            return (node_id,)
        path, found, rest = node_id.partition("::")
        whole = self.outside.get(path) or posixpath.normpath(self.down + path)
        return (f"{whole.removeprefix(self.up)}{found}{rest}", node_id) if whole.startswith(self.up) else ()

    def rank(self, pattern: str, node_id: str) -> Rank | None:
        """How specific a pattern of the file is for a test; None where it does not speak of it."""
        names = self.of(node_id)
        if pattern in names:
            return EXACT
        return specificity(pattern) if any(wild(pattern).fullmatch(name) for name in names) else None


def lines_for(node_id: str, table: Mapping[str, tuple[Line, ...]], names: Names = Names()) -> tuple[Line, ...]:
    """The lines of a file that speak of ``node_id``, the most specific pattern first, and of its ``on`` lines the narrowest."""
    ranked = [(rank, lines) for pattern, lines in table.items() if (rank := names.rank(pattern, node_id)) is not None]
    ranked.sort(key=lambda each: each[0], reverse=True)
    return tuple(replace(line, rank=rank) for rank, lines in ranked for line in narrowest_first(lines))


def narrowest_first(lines: Iterable[Line]) -> list[Line]:
    """The lines of one place: those for a GPU by name before those for any GPU."""
    return sorted(lines, key=_width, reverse=True)


def _width(line: Line) -> Rank:
    return tuple(map(sum, zip(*map(specificity, line.on.values()), strict=True))) if line.on else ()


def check_clashes(lines: Iterable[Line]) -> None:
    """Raises SettingsError where two patterns that are as specific say different things: which of them stands first must not decide."""
    said: dict[tuple[Any, ...], tuple[Any, str]] = {}
    for line in lines:
        for key, (value, where) in _said(line).items() if line.rank else ():
            before, place = said.setdefault((line.rank, _width(line), bool(line.on), *key), (value, where))
            if before != value:
                raise SettingsError(
                    f"{place} and {where} set {' '.join(map(str, filter(None, key)))} by patterns that are as specific, and differ.",
                    remedy="Name the test more exactly in one of them.",
                )


def _said(line: Line) -> dict[tuple[str | None, ...], tuple[Any, str]]:
    """What a line sets, by key, each with where it stands."""
    found: dict[tuple[str | None, ...], tuple[Any, str]] = {
        (name, run): (limit.value, limit.where) for run, by_metric in line.limits.items() for name, limit in by_metric.items()
    }
    for term in ("tolerance", "floor"):
        found |= {(term, name): (value, line.where) for name, value in getattr(line.terms, term).items()}
    single = {"confidence": line.terms.confidence, "max_seconds": line.terms.max_seconds}
    return found | {(term,): (value, line.where) for term, value in single.items() if value is not None}


def _most_specific(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines, without what a file says under one pattern and says otherwise under a more specific one."""
    ranks = sorted({line.rank for line in lines if line.rank}, reverse=True)
    if len(ranks) < 2:
        return tuple(lines)
    said: set[tuple[str | None, ...]] = set()
    kept: dict[Rank, list[Line]] = {}
    for rank, group in groupby(sorted(lines, key=lambda line: line.rank, reverse=True), key=lambda line: line.rank):
        same = list(group)
        kept[rank] = [_without(line, said) if rank else line for line in same]
        said.update(key for line in same for key in _said(line) if rank)
    return tuple(kept[line.rank].pop(0) for line in lines)


def _without(line: Line, said: set[tuple[str | None, ...]]) -> Line:
    limits = {run: {name: limit for name, limit in each.items() if (name, run) not in said} for run, each in line.limits.items()}
    terms, other = line.terms, {run: each for run, each in limits.items() if each}
    return replace(
        line,
        limits=other,
        terms=Terms(
            _left_of(terms.tolerance, "tolerance", said),
            _left_of(terms.floor, "floor", said),
            None if ("confidence",) in said else terms.confidence,
            None if ("max_seconds",) in said else terms.max_seconds,
        ),
    )


def _left_of(written: Mapping[str, float], term: str, said: set[tuple[str | None, ...]]) -> dict[str, float]:
    """A tolerance for every metric is one for each that has none of its own."""
    plain = [name for name, metric in METRICS.items() if metric.tolerance is None]
    every = {**dict.fromkeys(plain if "*" in written else (), written.get("*", 0.0)), **written}
    gone = {name for name in every if (term, name) in said} | set(plain if (term, "*") in said else ()) | {"*"}
    return {name: value for name, value in every.items() if name not in gone}
