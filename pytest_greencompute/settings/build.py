"""Options and files -> frozen settings, checked, with every problem in one error."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.budget import TERMS, Line, Names, Terms, parse_lines, parse_term
from pytest_greencompute.judging.verdict import Acceptance, Policy
from pytest_greencompute.machine.ci import in_ci
from pytest_greencompute.meters.registry import BUILT_IN
from pytest_greencompute.settings import parse
from pytest_greencompute.settings.options import OPTIONS
from pytest_greencompute.settings.settings import Expected, Settings
from pytest_greencompute.settings.toml_file import TomlFile, TomlTable
from pytest_greencompute.values.footprint import Footprint
from pytest_greencompute.values.names import unknown_key
from pytest_greencompute.values.units import ENERGY, POWER, parse_intensity, parse_positive, parse_price, parse_traffic

# Settings that only a file has.
FILE_KEYS = (
    "meters",
    "domains",
    "floor",
    "accuracy_confidence",
    "unmetered",
    "cpu_watts_per_core",
    "lock_folder",
    "remember_devices",
    "reasoning_markers",
    "base_link",
    "allow",
    "country",
    "carbon_intensity",
    "electricity_price",
    "pue",
    "traffic",
    "fleet",
    "budgets",
    "accept",
)
FOOTPRINT = ("country", "carbon_intensity", "electricity_price", "pue", "traffic")  # what turns energy into carbon, money and a year's kWh
Given = Mapping[str, str | bool]  # what the command line gave, by the option's key; absent where it did not
BY_KEY = {option.key: option for option in OPTIONS}
T = TypeVar("T")
D = TypeVar("D")


def build(given: Given, files: tuple[TomlFile, ...], environ: Mapping[str, str], invocation_dir: Path) -> Settings:
    """Settings from what the command line gave over what the files say.

    Raises one SettingsError that lists every problem with file and line.
    """
    return _Builder(given, files, environ, invocation_dir).build()


@dataclass(frozen=True, slots=True)
class _Ours:
    """The table of a file that is ours: [tool.greencompute], or the whole file where it has no [tool]."""

    file: TomlFile
    keys: tuple[str, ...]
    data: TomlTable

    def where(self, *keys: str | int) -> str:
        """File and line of a key in it."""
        return self.file.where(*self.keys, *keys)


class _Builder:
    """Collects problems instead of stopping at the first."""

    def __init__(self, given: Given, files: tuple[TomlFile, ...], environ: Mapping[str, str], folder: Path) -> None:
        self.given = given
        self.environ = environ
        self.folder = folder
        self.problems: list[str] = []
        self.tables = [self._table(file) for file in files]
        self.files = files

    def _table(self, file: TomlFile) -> _Ours:
        tool = file.data.get("tool")
        keys: tuple[str, ...] = ()
        table: object = file.data
        if file.path.name == "pyproject.toml" or isinstance(tool, Mapping):
            table = tool.get("greencompute", {}) if isinstance(tool, Mapping) else {}
            keys = ("tool", "greencompute")
        ours = _Ours(file, keys, table if isinstance(table, Mapping) else {})
        if not isinstance(table, Mapping):
            self.problems.append(f"{ours.where()}: [tool.greencompute] must be a table.")
        known = [option.key for option in OPTIONS if option.twin] + list(FILE_KEYS)
        for key in ours.data:
            option = BY_KEY.get(key)
            if option is not None and not option.twin:
                self.problems.append(f"{ours.where(key)}: {key!r} belongs on the command line, as --energy-{option.name}. Remove it here.")
            elif key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
                hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}."
                self.problems.append(f"{ours.where(key)}: {key!r} is not a setting.{hint}")
        return ours

    def first(self, *keys: str) -> tuple[_Ours, str] | None:
        """The first table that has one of ``keys``, and that key."""
        return next(((table, key) for table in self.tables for key in keys if key in table.data), None)

    def written(self, *keys: str) -> tuple[object, str]:
        """What the first file that has one of ``keys`` says, and where; (None, '') where none has it."""
        found = self.first(*keys)
        return (None, "") if found is None else (found[0].data[found[1]], found[0].where(found[1]))

    def value(self, key: str, parser: Callable[[Any], T], default: D) -> T | D:
        """``key`` from the command line, else from a file, parsed; problems are collected."""
        value, where = (self.given[key], f"--energy-{BY_KEY[key].name}") if key in self.given and key in BY_KEY else self.written(key)
        return default if where == "" else self.parsed(value, where, key, parser, default)

    def parsed(self, value: object, where: str, key: str, parser: Callable[[Any], T], default: D) -> T | D:
        """A value that stands at ``where``, parsed; ``default`` where that is a problem, which is kept."""
        try:
            return parser(value)
        except SettingsError as error:
            self.problems.append(f"{where}: {error}" if where.startswith("--") else f"{where}: {key}: {error}")
            return default

    def build(self) -> Settings:
        """The settings. Raises SettingsError."""
        meters = self._meters()
        budgets, home = self._budgets(), self._home()
        enabled = self.flag("budget")
        settings = Settings(
            enabled=enabled,
            policy=self._policy(),
            meters=meters,
            domains=self.value("domains", partial(parse.domains, of_others=bool({*meters} - {*BUILT_IN})), ("auto",)),
            terms=self._terms(from_file=False),
            file_terms=self._terms(from_file=True),
            budgets=budgets,
            accept=self._accept(),
            total_j=self.value("total", lambda value: parse_positive(value, ENERGY), None),
            save=self.value("save", parse.baseline_name, None),
            baseline=self.value("baseline", parse.baseline_name, None),
            json_path=self.path("json"),
            accuracy_confidence=self.value("accuracy_confidence", parse.confidence, None),
            unmetered=self.value("unmetered", parse.unmetered, "once"),
            cpu_watts_per_core=self.value("cpu_watts_per_core", lambda value: parse_positive(value, POWER), None),
            lock_folder=self.value("lock_folder", lambda value: Path(parse.text(value)).expanduser(), None),
            remember_devices=self.value("remember_devices", parse.flag, True),
            reasoning_markers=self.value("reasoning_markers", parse.markers, None),
            only=self.flag("only"),
            benchmarks=self.flag("benchmarks"),
            advise=self.flag("advise"),
            advise_students=self.flag("advise_students"),
            skip=self.flag("skip"),
            allow=self.value("allow", parse.allow, frozenset()),
            base_refs=self.value("base_ref", parse.names, ()),
            base_python=self.value("base_python", parse.text, None),
            base_link=self.value("base_link", parse.names, ()),
            base_turns=self.choice("base_turns", "sets"),
            launches=self.value("launches", parse.launches, 1),
            explain=self.choice("explain", "on"),
            update=self.choice("update", None) if "update" in self.given else None,
            footprint=self._footprint(enabled=enabled),
            home=home,
            budget_file=self.files[0].path if "budget_file" in self.given else None,
            html_path=self.path("html"),
            markdown_path=self.path("markdown"),
            openmetrics_path=self.path("openmetrics"),
            codecarbon_csv_path=self.path("codecarbon_csv"),
            mlflow=self.value("mlflow", parse.text, None),
            opentelemetry=self.flag("opentelemetry") or None,
            github={None: None, "on": True, "off": False}[self.choice("github", None)],
            xdist=self.choice("xdist", None),
            where=self._where(budgets),
            folder=self.files[0].folder if self.files else None,
            fleet=self._fleet(),
            names=Names() if home is None else home[0].names,
        )
        if self.problems:
            raise SettingsError("\n".join(self.problems))
        return settings

    # --- one value ---

    def flag(self, key: str) -> bool:
        """A flag, off by default."""
        return self.value(key, parse.flag, False)

    def path(self, key: str) -> Path | None:
        """A path, as seen from the current folder."""
        return self.value(key, lambda value: self.folder / parse.text(value), None)

    def choice(self, key: str, default: D) -> str | D:
        """One of the option's choices."""
        choices = BY_KEY[key].choices or ()
        return self.value(key, lambda value: parse.choice(value, choices), default)

    def _meters(self) -> tuple[str, ...]:
        """From the command line, else from the first file that has ``meters`` (or ``meter``, the option's own twin)."""
        found = None if "meter" in self.given else self.first("meters", "meter")
        if found is None:
            return self.value("meter", parse.names, ())
        table, key = found
        return self.parsed(table.data[key], table.where(key), key, parse.names, ())

    def _policy(self) -> Policy:
        strict = self.flag("strict")

        def word(key: str, default: str) -> Any:  # the option's choices are those of the policy
            chosen = self.choice(key, default)
            return "fail" if strict and key != "enforce" else chosen

        unmeasured = word("unmeasured", "fail" if in_ci(self.environ) else "warn")
        return Policy(word("enforce", "fail"), word("inconclusive", "warn"), unmeasured, word("modelled", "warn"))

    def _terms(self, *, from_file: bool) -> Terms:
        """The terms that the command line gives, or those of the files."""
        found = {key: self._term(key, from_file=from_file) for key in TERMS}
        return Terms(**{key: value for key, value in found.items() if value is not None})

    def _term(self, key: str, *, from_file: bool) -> Any:
        value, where = self.written(key) if from_file else (self.given.get(key), f"--energy-{key.replace('_', '-')}")
        if value is None:
            return None
        return self.parsed(value, where, key, lambda written: parse_term(key, parse.number_like(written)), None)

    def _fleet(self) -> Expected:
        """What hosts are expected to measure."""
        found = self.first("fleet")
        if found is None:
            return Expected()
        table, written = found[0], found[0].data["fleet"]
        if not isinstance(written, Mapping):
            self.problems.append(f"{table.where('fleet')}: fleet must be a table, [tool.greencompute.fleet].")
            return Expected()
        parsers: Mapping[str, Callable[[Any], Any]] = {"hardware": parse.hardware, "tests": parse.names, "hosts": parse.hosts}
        told: dict[str, Any] = {}
        for key, value in written.items():
            where = table.where("fleet", key)
            if key in parsers:
                told[key] = self.parsed(value, where, key, parsers[key], getattr(Expected(), key))
            else:
                self.problems.append(f"{where}: {unknown_key(key, list(parsers), 'key of fleet')}")
        return Expected(**told)

    def _footprint(self, *, enabled: bool) -> Footprint | None:
        """The factors that the files ask for. A country's table is read only where something is measured."""
        if self.first(*FOOTPRINT) is None:
            return None
        (_, country), (_, intensity) = self.written("country"), self.written("carbon_intensity")
        if country and intensity:
            self.problems.append(f"{intensity}: carbon_intensity and country ({country}) say the same thing twice. Remove one of them.")
        price, currency = self.value("electricity_price", parse_price, (None, ""))
        found = Footprint(
            self.value("carbon_intensity", parse_intensity, None),
            "set by you" if intensity else "",
            price,
            currency,
            self.value("pue", parse.pue, 1.0),
            self.value("traffic", parse_traffic, None),
        )
        return self.value("country", lambda code: parse.with_country(found, code, enabled=enabled), found)

    # --- budgets ---

    def _home(self) -> tuple[TomlFile, tuple[str, ...]] | None:
        """Where budgets stand: the first file that has some, else the first file."""
        found = self.first("budgets")
        home = found[0] if found is not None else next(iter(self.tables), None)
        return None if home is None else (home.file, (*home.keys, "budgets"))

    def _where(self, budgets: Mapping[str, object]) -> dict[str, str]:
        """Where each pattern of the budgets stands."""
        home = self._home()
        return {} if home is None else {pattern: home[0].where(*home[1], pattern) for pattern in budgets}

    def _budgets(self) -> dict[str, tuple[Line, ...]]:
        found = self.first("budgets")
        if found is None:
            return {}
        table, budgets = found[0], found[0].data["budgets"]
        if not isinstance(budgets, Mapping) or not all(isinstance(each, Mapping) for each in budgets.values()):
            self.problems.append(f"{table.where('budgets')}: budgets must be tables, one per test.")
            return {}
        parsed: dict[str, tuple[Line, ...]] = {}
        for pattern, written in budgets.items():
            try:
                parsed[pattern] = parse_lines(written, lambda *keys, pattern=pattern: table.where("budgets", pattern, *keys))
            except SettingsError as error:
                self.problems.extend(f"{line} (budget of {pattern})" for line in str(error).splitlines())
        return parsed

    def _accept(self) -> tuple[Acceptance, ...]:
        found = self.first("accept")
        if found is None:
            return ()
        table, entries = found[0], found[0].data["accept"]
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            self.problems.append(f"{table.where('accept')}: accept must be a list of tables, [[tool.greencompute.accept]].")
            return ()
        parsed = []
        for index, entry in enumerate(entries):
            where = table.where("accept", index)
            try:
                parsed.append(replace(parse.acceptance(entry, where), names=table.file.names))
            except SettingsError as error:
                self.problems.append(f"{where}: accept: {error}")
        return tuple(parsed)
