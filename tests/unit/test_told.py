"""What a side is told is read by other versions of this package, and what they tell is read here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.budget import resolve
from pytest_greencompute.pairing.told import Checkouts, Explaining, Told
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.settings.sides import of_side, told_to_sides
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.footprint import Footprint

WHOLE = Told(
    30.0,
    needs_p99=True,
    count=("flops_per_query",),
    budget_file="budgets.toml",
    benchmarks=True,
    domains=("gpu:0",),
    meters=("nvml",),
    allow=frozenset({"thermal slowdown"}),
    cpu_watts_per_core=3.0,
    footprint=Footprint(kg_per_j=1e-7, carbon_source="set by you", pue=1.2),
    reasoning_markers=("[r]", "[/r]"),
    checkouts=Checkouts("/head", "/base", ("/head/data",)),
)


def sent(told: Told) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(told.to_json(), allow_nan=False))
    return found


@pytest.mark.parametrize("told", [WHOLE, Told(60.0), Told(60.0, spread="spread models")])
def test_what_a_side_is_told_arrives_as_it_was(told: Told) -> None:
    assert Told.from_json(sent(told)) == told


@pytest.mark.parametrize(
    "how",
    [
        Explaining(3.0),
        Explaining(3.0, "device", 8, 32, (), (Behaviour("gpu:0", "GPU-1", 0.1, 0.001, 0.0),)),
        Explaining(3.0, replay=("Net.norm",)),
    ],
)
def test_how_a_side_is_looked_at_arrives_as_it_was(how: Explaining) -> None:
    told = json.loads(json.dumps(dataclasses.asdict(how), allow_nan=False))
    assert Explaining.from_json({"what": "explain", **told}) == how
    assert Explaining.from_json({"limit_s": 3.0}) == Explaining(3.0)


def test_the_keys_are_those_that_every_version_reads() -> None:
    always = {"max_seconds", "budget_file", "needs_p99", "count", "benchmarks", "domains", "meters", "allow", "cpu_watts_per_core"}
    always |= {"footprint", "reasoning_markers"}
    assert set(sent(Told(60.0))) == always
    assert set(sent(WHOLE)) == always | {"head_root", "base_root", "links"}
    assert sent(WHOLE)["allow"] == ["thermal slowdown"]


def test_keys_of_another_version_are_passed_over_and_those_that_it_lacks_have_a_value() -> None:
    more = sent(WHOLE) | {"dreams": 3, "footprint": sent(WHOLE)["footprint"] | {"water_per_j": 1.0}}
    assert Told.from_json(more) == WHOLE
    assert Told.from_json({"max_seconds": 60.0, "domains": ["auto"]}) == Told(60.0)


# Settings that a process of a side is not told, and why it measures the same without them.
JUDGES = "the process that compares judges"
SHOWS = "the process that compares tells what was found"
CHOOSES = "says which sides there are and when each has its turn, which the process that compares does"
NOT_TOLD = {
    **dict.fromkeys(("policy", "budgets", "accept", "total_j", "save", "baseline", "accuracy_confidence", "names"), JUDGES),
    **dict.fromkeys(("terms", "file_terms"), "what of them measuring needs is told as max_seconds"),
    **dict.fromkeys(("json_path", "html_path", "markdown_path", "openmetrics_path", "codecarbon_csv_path"), SHOWS),
    **dict.fromkeys(("mlflow", "opentelemetry", "github", "where", "update"), SHOWS),
    **dict.fromkeys(("base_refs", "base_python", "base_link", "base_turns", "launches", "only", "skip", "xdist"), CHOOSES),
    "explain": "a side is told in so many words when it is to explain",
    "enabled": "a side measures",
    "advise": "advice is on this tree alone",
    "advise_students": "advice is on this tree alone",
    "unmetered": "a side measures, and what is not compared runs as it is",
    "fleet": "what is expected of many hosts is asked where their reports are gathered",
    "lock_folder": "the process that compares holds the lock",
    "remember_devices": "the process that compares tells what it knows of the devices",
    **dict.fromkeys(("home", "folder"), "a side runs in a checkout of its own"),
}


def test_every_setting_is_told_to_a_side_or_there_is_a_reason_why_not() -> None:
    settings = {field.name for field in dataclasses.fields(Settings)}
    told = {field.name for field in dataclasses.fields(Told)} & settings
    assert settings - told == set(NOT_TOLD)
    for name in told - {"budget_file"}:
        assert getattr(of_side(WHOLE), name) == getattr(WHOLE, name)
    back = told_to_sides(
        dataclasses.replace(of_side(WHOLE), budget_file=Path("/elsewhere/b.toml")), resolve([], {}), Path("/a"), Path("/b")
    )
    assert {name: getattr(back, name) for name in told - {"budget_file"}} == {name: getattr(WHOLE, name) for name in told - {"budget_file"}}
    assert back.budget_file == "/elsewhere/b.toml"


@pytest.mark.parametrize("change", [{"max_seconds": 0.0}, {"domains": []}, {"cpu_watts_per_core": -1.0}, {"reasoning_markers": ["[r]"]}])
def test_what_nobody_can_measure_by_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Told.from_json(sent(WHOLE) | change)
