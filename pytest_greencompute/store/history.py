"""What was saved before: the figures of every session under ``.greencompute/baselines/``, each with its commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.store.baselines import FOLDER
from pytest_greencompute.store.reports import read_report

ON_A_PAGE = 50  # sessions whose files are read for a page: each holds every sample


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


def saved(root: Path, baselines: Sequence[str] = (), *, newest: int | None = None) -> History:
    """The history of a project, of all baselines or of those named; of the ``newest`` sessions alone, if given.

    A file that is broken is said, and the others stand.
    """
    points: list[Point] = []
    problems = []
    paths = [path for path in (root / FOLDER).glob("*/*.json") if not baselines or path.parent.name in baselines]
    paths.sort(key=lambda path: (path.stem.partition("-")[0], path.parent.name, path.stem))  # the name begins with when it was saved
    for path in paths[-newest:] if newest else paths:
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
