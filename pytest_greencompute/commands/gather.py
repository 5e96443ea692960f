"""``greencompute gather REPORT…``: the reports of many hosts as one, with one exit status."""

from __future__ import annotations

import datetime
import os
import re
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.saying import tell
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.fleet.asked import collected
from pytest_greencompute.fleet.gathering import PLUGIN, Gathering, Requirements
from pytest_greencompute.judging.judge import Bench
from pytest_greencompute.machine.ci import as_in_ci
from pytest_greencompute.machine.facts import facts
from pytest_greencompute.report.forms import FORMS, Form, Report, in_github, loaded, log_lines
from pytest_greencompute.report.terminal import show_summary
from pytest_greencompute.results.document import now
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.settings import parse
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import home_of, read_nearest
from pytest_greencompute.settings.settings import Expected, Settings
from pytest_greencompute.store.runs import store_of
from pytest_greencompute.values.footprint import Footprint

ENDINGS: Mapping[str, Form] = {
    **{form.ending: form for form in FORMS if form.ending},
    ".json": next(form for form in FORMS if form.setting == "json_path"),
    ".xml": Form("", "JUnit report", "junit_xml", ending=".xml"),
}
MOST_PARTS = 10_000


def run(given: Arguments, root: Path) -> int:
    """The command. 0: green; 1: red, for a report that is refused, too. Raises SettingsError for bad usage."""
    options = {name: given[name] for name in ("tolerance", "confidence", "baseline") if given.get(name) is not None}
    # As in CI, wherever it is run: a budget without a figure is red unless the settings say otherwise.
    settings = build({"budget": True, **options}, read_nearest(root), as_in_ci(os.environ), root)
    outputs = outputs_of(given["output"], root)
    gathering = Gathering(settings, bench_of(settings, root), _wanted(given, settings, root))
    for path, name in _parts(given["reports"], root, {path.resolve() for path, _ in outputs}):
        gathering.read(path, name)
    return ended(gathering, outputs, root)


def ended(gathering: Gathering, outputs: Sequence[tuple[Path, Form]], root: Path) -> int:
    """Judge what has been gathered, write and print it; the exit status."""
    settings = gathering.settings
    summary = _written(gathering.end(now()), [*_asked_for(outputs, home_of(root)), *_for_github(settings)])
    _print(summary, settings, root)
    return summary.exit_status


def _written(summary: Summary, made: Sequence[Report]) -> Summary:
    """The session when its reports have been written; one that could not be is red."""
    for report in made:
        if problem := report.write(summary):
            summary = replace(summary, said=(*summary.said, (f"the {report.name} was not written: {problem}", report.wanted)))
            summary = replace(summary, exit_status=int(summary.red))
    return summary


def _asked_for(outputs: Sequence[tuple[Path, Form]], home: Path) -> list[Report]:
    return [Report(form.name, partial(form.make, path, home)) for path, form in outputs]


def _for_github(settings: Settings) -> list[Report]:
    if not in_github(settings, os.environ):
        return []
    told: list[Report] = loaded("github").reports(os.environ, wanted=settings.github is True)
    return told


def outputs_of(written: Sequence[str], root: Path) -> list[tuple[Path, Form]]:
    """Where reports are to be written, each with its form; the JSON report last, since it tells of the others."""
    found = []
    for name in written:
        form = ENDINGS.get(Path(name).suffix.lower())
        if form is None:
            raise SettingsError(f"{name!r} has no form that is known.", remedy=f"End its name with one of {', '.join(ENDINGS)}.")
        found.append((root / name, form))
    return sorted(found, key=lambda each: each[0].suffix.lower() == ".json")


def bench_of(settings: Settings, root: Path) -> Bench:
    """What runs are judged by besides their budgets."""
    sessions = () if settings.baseline is None else store_of(home_of(root)).named(settings.baseline).runs()
    return Bench(
        Aim(domains=settings.domains, footprint=settings.footprint or Footprint()),
        settings.accuracy_confidence,
        settings.accept,
        datetime.datetime.now(tz=datetime.timezone.utc).date(),
        settings.baseline,
        sessions,
        compares=bool(settings.base_refs),
    )


def _wanted(given: Arguments, settings: Settings, root: Path) -> Requirements:
    """What the parts are held to. Raises SettingsError."""
    here, commit = facts(os.environ, root), given.get("commit")
    if commit is not None and not re.fullmatch(r"[0-9a-f]{7,64}", commit):
        raise SettingsError(f"--commit: {commit!r} is no commit.", remedy="Write the SHA in full, or at least seven digits of it.")
    expected = settings.fleet
    hardware, hosts, tests = (given.get(f"expect_{name}") for name in ("hardware", "hosts", "tests"))
    expected = Expected(
        expected.hardware if hardware is None else parse.hardware(hardware),
        _tests(_words(tests) if tests is not None else list(expected.tests), root),
        expected.hosts if hosts is None else parse.hosts(hosts),
    )
    return Requirements(commit or here.commit, here.versions.get(PLUGIN), expected)


def _words(written: str) -> list[str]:
    try:
        return shlex.split(written)
    except ValueError as error:
        raise SettingsError(f"--expect-tests: {written!r} cannot be read: {error}.", remedy="Quote it as for a shell.") from error


def _tests(arguments: Sequence[str], root: Path) -> tuple[str, ...]:
    """The metered tests that pytest collects with these arguments; @FILE: those that a file names. Raises SettingsError."""
    if not arguments:
        return ()
    if len(arguments) == 1 and arguments[0].startswith("@"):
        path = root / arguments[0][1:]
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} cannot be read: {error}.", remedy="It holds a node id a line.") from error
    else:
        return collected(arguments, root).tests
    found = tuple(dict.fromkeys(line.strip() for line in lines if "::" in line))
    if not found or any(line.startswith("ERROR ") for line in lines):
        why = "names no test" if not found else "tells of errors, so tests are missing in it"
        raise SettingsError(f"{path} {why}.", remedy="Write it anew: pytest --collect-only -q --energy-only, without another -q or -v.")
    return found


def _parts(names: Sequence[str], root: Path, outputs: Container[Path]) -> Iterator[tuple[Path, str]]:
    """The files that are meant, each with its name for people; a folder stands for all reports in it. Raises SettingsError."""
    found: dict[Path, str] = {}
    for name in names:
        path = root / name
        if path.resolve() in outputs:
            raise SettingsError(f"{name} is to be gathered, and to be written over.", remedy="Write to another file: -o PATH.")
        inside = sorted(each for each in path.rglob("*.json") if each.resolve() not in outputs) if path.is_dir() else []
        for each in inside or [path]:  # a folder that holds none is refused by its name, as a file that is not there
            found.setdefault(each, os.path.relpath(each, root) if inside else name)
    if all(each.is_dir() for each in found):
        raise SettingsError(f"{' '.join(names)} holds no JSON report.", remedy="pytest --energy-json PATH writes one on each host.")
    if len(found) > MOST_PARTS:
        raise SettingsError(f"There are {len(found):,} reports, and {MOST_PARTS:,} are the most that are gathered.")
    yield from sorted(found.items(), key=lambda each: each[1])


class Printed:
    """Standard output as the terminal's section is written to it."""

    @staticmethod
    def write_line(line: str, **_: bool) -> None:
        print(line)

    @staticmethod
    def write_sep(sep: str, title: str) -> None:
        print(f"{sep * 2} {title} {sep * 2}")


def _print(summary: Summary, settings: Settings, root: Path) -> None:
    before, after = log_lines(settings, os.environ)
    for line in before:
        print(line)
    show_summary(Printed(), summary)
    for _, verdict in summary.reds:
        tell(f"{verdict.word}: {verdict.reason}")
    for line in after(summary, {}, root):
        print(line)
