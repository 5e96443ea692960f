"""What the settings of a session are to the processes that measure its sides: told there, and settings of their own here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pytest_greencompute.judging.budget import Budget, Terms
from pytest_greencompute.judging.verdict import Policy
from pytest_greencompute.pairing.told import Told
from pytest_greencompute.protocol.layout import PERCENTILE
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.names import asked_by, highest_percentile

LAUNCHES_SHARE = 2.5


def told_to_sides(settings: Settings, budget: Budget, root: Path, home: Path) -> Told:
    """What a process that measures one side needs to know. ``root`` is where this side's tests run, ``home`` the folder of its project."""
    return Told(
        max_seconds=side_seconds(settings, budget),
        needs_p99=any(highest_percentile(limits, PERCENTILE) > PERCENTILE for limits in budget.limits.values()),
        count=tuple(asked_by(name for limits in budget.limits.values() for name in limits)),
        budget_file=_budget_file(settings.budget_file, root, home),
        benchmarks=settings.benchmarks,
        domains=settings.domains,
        meters=settings.meters,
        allow=settings.allow,
        cpu_watts_per_core=settings.cpu_watts_per_core,
        footprint=settings.footprint,
        reasoning_markers=settings.reasoning_markers,
    )


def lent_to_sides(settings: Settings, root: Path, home: Path) -> Sequence[str]:
    """What checkouts have of this tree beside their own (``base_link``), from ``root``."""
    return settings.base_link if home == root else [str(home / link) for link in settings.base_link]


def side_seconds(settings: Settings, budget: Budget) -> float:
    """The longest time that a side's sets may take: all sides have equal parts of what the test may cost.

    Where whole launches take turns, their getting ready and the run of the test itself are to fit in beside.
    """
    sides = 1 + len(settings.base_refs)
    return budget.seconds(commits=sides - 1) / (sides if settings.base_turns == "sets" else LAUNCHES_SHARE * sides)


def _budget_file(named: Path | None, root: Path, home: Path) -> str | None:
    """The named budget file as another commit's checkout has it; one outside of the project is the same file for all."""
    if named is None:
        return None
    path = named.resolve()
    return os.path.relpath(path, root.resolve()) if home.resolve() in path.parents else str(path)


def of_side(told: Told) -> Settings:
    """The settings of a process that measures one side of a comparison: what the comparing process told it, and nothing from its files."""
    return Settings(
        enabled=True,
        policy=Policy("warn", "warn", "warn", "warn"),
        meters=told.meters,
        domains=told.domains,
        terms=Terms(),
        file_terms=Terms(),
        cpu_watts_per_core=told.cpu_watts_per_core,
        reasoning_markers=told.reasoning_markers,
        allow=told.allow,
        benchmarks=told.benchmarks,
        footprint=told.footprint,
    )
