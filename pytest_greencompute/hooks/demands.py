"""What the commit that is checked out here demands of each test: its files, its markers and pytest's own file, without the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.hooks.collecting import node_id_of, tests_of
from pytest_greencompute.pairing.demands import Demands
from pytest_greencompute.settings.addopts import addopts_of, left_out_by, options_in
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import read_files
from pytest_greencompute.settings.folders import Where
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.provenance import Json


def demands_here(items: Sequence[pytest.Item], where: Where, budget_file: str | None, marker: str, ini: Path | None) -> dict[str, Demands]:
    """The demands of this commit by node id; with the reason where its files or markers do not parse.

    Its options are those of pytest's own configuration file ``ini`` (``addopts``): what stands on the command line is of no commit.
    """
    try:
        given = options_in(addopts_of(ini))
        own = given.get("budget_file")
        files = read_files(where, budget_file or (None if own is None else str(own)))
        settings = build({**given, "budget": True}, files, os.environ, where.folder)
        by_itself = build(given, files, os.environ, where.folder).enabled
        tests = tests_of(items, settings, marker)
    except SettingsError as error:
        return {node_id_of(item): Demands(unread=str(error).partition("\n")[0]) for item in items}
    values = values_of(replace(settings, enabled=by_itself)) | {"left_out": left_out_by(addopts_of(ini))}
    expected = {node_id_of(item) for item in items if _may_fail(item)}
    return {
        node_id: Demands(
            test.lines,
            tuple(each for each in settings.accept if each.rank(node_id) is not None),
            asdict(settings.policy),
            values | {"xfail": node_id in expected},
            None if test.group is None else test.group.demand,
        )
        for node_id, test in tests.items()
    }


def _may_fail(item: pytest.Item) -> bool:
    """Whether a mark lets the test fail without that anything turns red. A condition in words is taken to hold."""
    return any(all(mark.args) and mark.kwargs.get("condition", True) for mark in item.iter_markers("xfail"))


def values_of(settings: Settings) -> dict[str, Json]:
    """The settings that can let more pass (``judging.laxer.LAXER``), but for terms, limits, accepted failures and what words do."""
    footprint = settings.footprint
    price: Json = None if footprint is None or footprint.price_per_j is None else [footprint.price_per_j, footprint.currency]
    return {
        "budget": settings.enabled,
        "total": settings.total_j,
        "skip": settings.skip,
        "meters": list(settings.meters),
        "baseline": settings.baseline,
        "base_ref": list(settings.base_refs),
        "base_python": settings.base_python,
        "base_turns": settings.base_turns,
        "launches": settings.launches,
        "benchmarks": settings.benchmarks,
        "domains": list(settings.domains),
        "accuracy_confidence": settings.accuracy_confidence,
        "unmetered": settings.unmetered,
        "cpu_watts_per_core": settings.cpu_watts_per_core,
        "reasoning_markers": settings.reasoning_markers and list(settings.reasoning_markers),
        "base_link": list(settings.base_link),
        "allow": sorted(settings.allow),
        "fleet": [*settings.fleet.hardware, *settings.fleet.tests, *(f"{each} hosts" for each in range(2, settings.fleet.hosts + 1))],
        "carbon_intensity": None if footprint is None else footprint.kg_per_j,
        "electricity_price": price,
        "pue": 1.0 if footprint is None else footprint.pue,
    }
