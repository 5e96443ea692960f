"""What was saved before: the figures of every session under ``.greencompute/baselines/``, each with its commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.store.baselines import FOLDER
from pytest_greencompute.store.reports import read_report


@dataclass(frozen=True, slots=True)
class Point:
    """One run of one saved session. ``created`` is UTC as in the report; ``metrics`` are its figures as the report has them."""

    baseline: str
    created: str
    commit: str
    dirty: bool
    test: str
    run: str | None
    metrics: Mapping[str, Mapping[str, Any]]
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class History:
    """All points, oldest first, and a sentence for each file that could not be read."""

    points: tuple[Point, ...] = ()
    problems: tuple[str, ...] = ()


def saved(root: Path, baselines: Sequence[str] = ()) -> History:
    """The history of a project, of all baselines or of those named. A file that is broken is said, and the others stand."""
    points: list[Point] = []
    problems = []
    for path in sorted((root / FOLDER).glob("*/*.json")):
        if baselines and path.parent.name not in baselines:
            continue
        try:
            points += points_of(path.parent.name, read_report(path))
        except SettingsError as error:
            problems.append(str(error))
    return History(tuple(sorted(points, key=lambda each: each.created)), tuple(problems))


def points_of(baseline: str, report: Mapping[str, Any]) -> list[Point]:
    """The points of one report."""
    session = report["session"]
    devices = tuple(dict.fromkeys(each["device"] for each in session["meters"] if each["device"]))
    return [
        Point(
            baseline,
            report["created"],
            session["commit"] or "",
            bool(session["machine"].get("dirty")),
            run["test"],
            run["name"],
            run["metrics"],
            devices,
        )
        for run in report["runs"]
        if run["metered"]
    ]
