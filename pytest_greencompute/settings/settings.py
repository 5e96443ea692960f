"""The settings of a session: frozen, checked, in SI units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_greencompute.judging.budget import COMMAND_LINE, Line, Names, Terms, lines_for
from pytest_greencompute.judging.verdict import Acceptance, Policy
from pytest_greencompute.settings.toml_file import TomlFile
from pytest_greencompute.values.footprint import Footprint


@dataclass(frozen=True, slots=True)
class Expected:
    """What a fleet of hosts is to measure: each of ``tests`` on each kind of ``hardware``, by at least ``hosts`` hosts of it.

    Empty: nothing was said. ``tests`` are arguments of pytest's: what they collect; tests that any host has measured are expected, too.
    """

    hardware: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    hosts: int = 1


@dataclass(frozen=True)
class Settings:
    """All that a session was told, checked. ``terms`` is what the command line says of every budget, ``file_terms`` what the file says.

    ``footprint`` is what energy is to be turned into; None where nobody asked. ``home`` is the file that holds the budgets, or would, and
    the keys of their table in it; None where there is no file. ``budget_file`` is the file that an option names for them. ``github`` None:
    where GitHub Actions runs. ``folder`` is the project's, by its file; None where there is none. ``names`` are what its budgets call
    tests.
    """

    enabled: bool
    policy: Policy
    meters: tuple[str, ...]
    domains: tuple[str, ...]
    terms: Terms
    file_terms: Terms
    budgets: Mapping[str, tuple[Line, ...]] = field(default_factory=dict)
    accept: tuple[Acceptance, ...] = ()
    total_j: float | None = None
    save: str | None = None
    baseline: str | None = None
    json_path: Path | None = None
    accuracy_confidence: float | None = None
    unmetered: str | int = "once"
    cpu_watts_per_core: float | None = None
    lock_folder: Path | None = None
    remember_devices: bool = True
    reasoning_markers: tuple[str, str] | None = None
    only: bool = False
    skip: bool = False
    benchmarks: bool = False
    advise: bool = False
    advise_students: bool = False
    allow: frozenset[str] = frozenset()
    base_refs: tuple[str, ...] = ()
    base_python: str | None = None
    base_link: tuple[str, ...] = ()
    base_turns: str = "sets"
    launches: int = 1
    explain: str = "on"
    update: str | None = None
    footprint: Footprint | None = None
    home: tuple[TomlFile, tuple[str, ...]] | None = None
    budget_file: Path | None = None
    html_path: Path | None = None
    markdown_path: Path | None = None
    openmetrics_path: Path | None = None
    codecarbon_csv_path: Path | None = None
    mlflow: str | None = None
    opentelemetry: bool | None = None
    github: bool | None = None
    xdist: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    fleet: Expected = field(default_factory=Expected)
    names: Names = field(default_factory=Names)

    def lines_for(self, node_id: str) -> tuple[Line, ...]:
        """The lines on a test behind those of its marks, in order of precedence: the command line, the file on it, the file on all."""
        of_file = lines_for(node_id, self.budgets, self.names)
        return (Line(COMMAND_LINE, terms=self.terms), *of_file, Line("the file", terms=self.file_terms))
