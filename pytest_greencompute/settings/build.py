"""Options and files -> frozen settings, checked, with every problem in one error."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_greencompute.judging.budget import Names
from pytest_greencompute.settings.options import OPTIONS
from pytest_greencompute.settings.parse import (
    _allow,
    _baseline_name,
    _choice,
    _confidence,
    _domains,
    _flag,
    _launches,
    _markers,
    _names,
    _number_like,
    _pue,
    _text,
    _unmetered,
    _with_country,
    acceptance,
)
from pytest_greencompute.settings.settings import Settings

if TYPE_CHECKING:
    from pytest_greencompute.judging.budget import Line, Terms
    from pytest_greencompute.judging.verdict import Acceptance, Policy
    from pytest_greencompute.settings.toml_file import TomlFile
    from pytest_greencompute.values.footprint import Footprint

# Settings that only a file has.
FILE_KEYS = (
    "meters",
    "domains",
    "floor",
    "accuracy_confidence",
    "unmetered",
    "cpu_watts_per_core",
    "lock_folder",
    "reasoning_markers",
    "base_link",
    "allow",
    "country",
    "carbon_intensity",
    "electricity_price",
    "pue",
    "traffic",
    "budgets",
    "accept",
)
FOOTPRINT = ("country", "carbon_intensity", "electricity_price", "pue", "traffic")  # what turns energy into carbon, money and a year's kWh


def build(given: Mapping[str, Any], files: tuple[TomlFile, ...], environ: Mapping[str, str], invocation_dir: Path) -> Settings:
    """Settings from what the command line gave (option key -> value; absent where not given) over what the files say.

    Raises one SettingsError that lists every problem with file and line.
    """
    return _Builder(given, files, environ, invocation_dir).build()


class _Builder:
    """Collects problems instead of stopping at the first."""

    def __init__(self, given: Mapping[str, Any], files: tuple[TomlFile, ...], environ: Mapping[str, str], folder: Path) -> None:
        self.given = given
        self.environ = environ
        self.folder = folder
        self.problems: list[str] = []
        self.tables = [self._table(file) for file in files]
        self.files = files

    def _table(self, file: TomlFile) -> tuple[TomlFile, tuple[str, ...], Mapping[str, Any]]:
        """A file's table: [tool.greencompute], or the whole file where it has no [tool]."""
        tool = file.data.get("tool")
        if file.path.name == "pyproject.toml" or isinstance(tool, Mapping):
            table = tool.get("greencompute", {}) if isinstance(tool, Mapping) else {}
            prefix: tuple[str, ...] = ("tool", "greencompute")
        else:
            table, prefix = file.data, ()
        if not isinstance(table, Mapping):
            self.problems.append(f"{file.where(*prefix)}: [tool.greencompute] must be a table.")
            table = {}
        known = [option.key for option in OPTIONS if option.twin] + list(FILE_KEYS)
        told = {option.key: option for option in OPTIONS if not option.twin}
        for key in table:
            if key in told:
                where = file.where(*prefix, key)
                self.problems.append(f"{where}: {key!r} belongs on the command line, as --energy-{told[key].name}. Remove it here.")
            elif key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
                hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}."
                self.problems.append(f"{file.where(*prefix, key)}: {key!r} is not a setting.{hint}")
        return file, prefix, table

    def written(self, key: str) -> tuple[Any, str]:
        """What the first file that has ``key`` says, and where; (None, '') where none has it."""
        for file, prefix, table in self.tables:
            if key in table:
                return table[key], file.where(*prefix, key)
        return None, ""

    def value(self, key: str, parse: Any, default: Any) -> Any:
        """``key`` from the command line, else from a file, parsed; problems are collected."""
        option = next((option for option in OPTIONS if option.key == key), None)
        if option is not None and key in self.given:
            value, where = self.given[key], f"--energy-{option.name}"
        else:
            value, where = self.written(key)
        return default if where == "" else self.parsed(value, where, key, parse, default)

    def _path(self, value: Any) -> Path:
        return self.folder / _text(value)

    def parsed(self, value: Any, where: str, key: str, parse: Any, default: Any) -> Any:
        from pytest_greencompute.errors import SettingsError

        try:
            return parse(value)
        except SettingsError as error:
            self.problems.append(f"{where}: {error}" if where.startswith("--") else f"{where}: {key}: {error}")
            return default

    def build(self) -> Settings:
        from pytest_greencompute.errors import SettingsError
        from pytest_greencompute.values.units import ENERGY, POWER, parse_positive

        meters = self._meters()
        budgets, home = self._budgets(), self._home()
        enabled = self.value("budget", _flag, False)
        settings = Settings(
            enabled=enabled,
            policy=self._policy(),
            meters=meters,
            domains=self.value("domains", _domains, ("auto",)),
            terms=self._terms(self.given, ""),
            file_terms=self._terms({}, "file"),
            budgets=budgets,
            accept=self._accept(),
            total_j=self.value("total", lambda value: parse_positive(value, ENERGY), None),
            save=self.value("save", _baseline_name, None),
            baseline=self.value("baseline", _baseline_name, None),
            json_path=self.value("json", self._path, None),
            accuracy_confidence=self.value("accuracy_confidence", _confidence, None),
            unmetered=self.value("unmetered", _unmetered, "once"),
            cpu_watts_per_core=self.value("cpu_watts_per_core", lambda value: parse_positive(value, POWER), None),
            lock_folder=self.value("lock_folder", lambda value: Path(_text(value)).expanduser(), None),
            reasoning_markers=self.value("reasoning_markers", _markers, None),
            only=self.value("only", _flag, False),
            benchmarks=self.value("benchmarks", _flag, False),
            skip=self.value("skip", _flag, False),
            allow=self.value("allow", _allow, frozenset()),
            base_refs=self.value("base_ref", _names, ()),
            base_python=self.value("base_python", _text, None),
            base_link=self.value("base_link", _names, ()),
            base_turns=self.value("base_turns", lambda value: _choice(value, ("sets", "launches")), "sets"),
            launches=self.value("launches", _launches, 1),
            update=self.given.get("update"),
            footprint=self._footprint(enabled=enabled),
            home=home,
            budget_file=self.files[0].path if "budget_file" in self.given else None,
            html_path=self.value("html", self._path, None),
            markdown_path=self.value("markdown", self._path, None),
            openmetrics_path=self.value("openmetrics", self._path, None),
            codecarbon_csv_path=self.value("codecarbon_csv", self._path, None),
            mlflow=self.value("mlflow", _text, None),
            opentelemetry=self.value("opentelemetry", _flag, False) or None,
            github=self.value("github", lambda value: _choice(value, ("on", "off")) == "on", None),
            xdist=self.value("xdist", lambda value: _choice(value, ("gpu-per-worker",)), None),
            where={pattern: self._where_budget(pattern) for pattern in budgets},
            folder=self.files[0].folder if self.files else None,
            names=Names() if home is None else home[0].names,
        )
        if self.problems:
            raise SettingsError("\n".join(self.problems))
        return settings

    def _meters(self) -> tuple[str, ...]:
        """From the command line, else from the first file that has ``meters`` (or ``meter``, the option's own twin)."""
        if "meter" in self.given:
            return self.value("meter", _names, ())  # type: ignore[no-any-return]
        for file, prefix, table in self.tables:
            for key in ("meters", "meter"):
                if key in table:
                    return self.parsed(table[key], file.where(*prefix, key), key, _names, ())  # type: ignore[no-any-return]
        return ()

    def _policy(self) -> Policy:
        from pytest_greencompute.judging.verdict import Policy
        from pytest_greencompute.machine.ci import in_ci

        def choice(key: str, default: str) -> Any:
            option = next(option for option in OPTIONS if option.key == key)
            return self.value(key, lambda value: _choice(value, option.choices or ()), default)

        policy = Policy(
            enforce=choice("enforce", "fail"),
            inconclusive=choice("inconclusive", "warn"),
            unmeasured=choice("unmeasured", "fail" if in_ci(self.environ) else "warn"),
            modelled=choice("modelled", "warn"),
        )
        if self.value("strict", _flag, False):
            return Policy(policy.enforce, "fail", "fail", "fail")
        return policy

    def _terms(self, given: Mapping[str, Any], source: str) -> Terms:
        from pytest_greencompute.judging.budget import TERMS, Terms, parse_term

        found: dict[str, Any] = {}
        for key in TERMS:
            value, where = (given.get(key), f"--energy-{key.replace('_', '-')}") if not source else self.written(key)
            if value is not None:
                parsed = self.parsed(value, where, key, lambda written, key=key: parse_term(key, _number_like(written)), None)
                if parsed is not None:
                    found[key] = parsed
        return Terms(**found)

    def _footprint(self, *, enabled: bool) -> Footprint | None:
        """The factors that the files ask for. A country's table is read only where something is measured."""
        if not any(key in table for _, _, table in self.tables for key in FOOTPRINT):
            return None
        from pytest_greencompute.values.footprint import Footprint
        from pytest_greencompute.values.units import parse_intensity, parse_price, parse_traffic

        (_, country), (_, intensity) = self.written("country"), self.written("carbon_intensity")
        if country and intensity:
            self.problems.append(f"{intensity}: carbon_intensity and country ({country}) say the same thing twice. Remove one of them.")
        price, currency = self.value("electricity_price", parse_price, (None, ""))
        found = Footprint(
            self.value("carbon_intensity", parse_intensity, None),
            "set by you" if intensity else "",
            price,
            currency,
            self.value("pue", _pue, 1.0),
            self.value("traffic", parse_traffic, None),
        )
        return self.value("country", lambda code: _with_country(found, code, enabled=enabled), found)  # type: ignore[no-any-return]

    def _home(self) -> tuple[TomlFile, tuple[str, ...]] | None:
        """Where budgets stand: the first file that has some, else the first file."""
        tables = sorted(self.tables, key=lambda each: "budgets" not in each[2])
        return (tables[0][0], (*tables[0][1], "budgets")) if tables else None

    def _where_budget(self, pattern: str) -> str:
        for file, prefix, table in self.tables:
            if "budgets" in table:
                return file.where(*prefix, "budgets", pattern)
        return ""

    def _budgets(self) -> dict[str, tuple[Line, ...]]:
        from pytest_greencompute.errors import SettingsError
        from pytest_greencompute.judging.budget import parse_lines

        for file, prefix, table in self.tables:
            if "budgets" not in table:
                continue
            budgets = table["budgets"]
            if not isinstance(budgets, Mapping) or not all(isinstance(each, Mapping) for each in budgets.values()):
                self.problems.append(f"{file.where(*prefix, 'budgets')}: budgets must be tables, one per test.")
                return {}
            found = {}
            for pattern, written in budgets.items():

                def where(*keys: str, _pattern: str = pattern, _file: TomlFile = file, _prefix: tuple[str, ...] = prefix) -> str:
                    return _file.where(*_prefix, "budgets", _pattern, *keys)

                try:
                    found[pattern] = parse_lines(written, where)
                except SettingsError as error:
                    self.problems.extend(f"{line} (budget of {pattern})" for line in str(error).splitlines())
            return found
        return {}

    def _accept(self) -> tuple[Acceptance, ...]:
        from pytest_greencompute.errors import SettingsError

        for file, prefix, table in self.tables:
            if "accept" not in table:
                continue
            entries = table["accept"]
            if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
                self.problems.append(f"{file.where(*prefix, 'accept')}: accept must be a list of tables, [[tool.greencompute.accept]].")
                return ()
            found = []
            for index, entry in enumerate(entries):
                where = file.where(*prefix, "accept", index)
                try:
                    found.append(replace(acceptance(entry, where), names=file.names))
                except SettingsError as error:
                    self.problems.append(f"{where}: accept: {error}")
            return tuple(found)
        return ()
