"""What was saved before: the figures of every session that was kept, each with its commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_greencompute.results.result import Figure
from pytest_greencompute.results.summary import Summary

ON_A_PAGE = 50  # sessions whose files are read for a page: each holds every sample


@dataclass(frozen=True, slots=True)
class Point:
    """One run of one saved session. ``created`` is UTC as in the report; ``metrics`` are its figures."""

    baseline: str
    created: str
    commit: str
    dirty: bool
    test: str
    run: str | None
    metrics: Mapping[str, Figure]
    devices: tuple[str, ...]

    @property
    def when(self) -> str:
        """'2026-11-26 18:00:00'."""
        return self.created.replace("T", " ").removesuffix("Z")

    @property
    def at(self) -> str:
        """The commit in short, and whether the tree differed from it."""
        return f"{self.commit[:10]}{' (changed)' if self.dirty else ''}"


@dataclass(frozen=True, slots=True)
class History:
    """All points, oldest first, and a sentence for each file that could not be read."""

    points: tuple[Point, ...] = ()
    problems: tuple[str, ...] = ()


def points_of(baseline: str, session: Summary) -> list[Point]:
    """The points of one session."""
    devices = tuple(dict.fromkeys(each.device for each in session.facts.sources if each.device))
    return [
        Point(baseline, session.created, session.commit, session.dirty, each.test, each.name, each.metrics, devices)
        for each in session.results
        if each.metered
    ]
