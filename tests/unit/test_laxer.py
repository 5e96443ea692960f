"""What was made laxer is named; what is stricter, new or the same is not."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.hooks.demands import values_of
from pytest_greencompute.judging.budget import HARDWARE_KEYS, SET_ON, TERMS, Line, parse_lines, resolve
from pytest_greencompute.judging.laxer import DIRECTIONS, LAXER, GroupDemand, Stance, laxer
from pytest_greencompute.judging.verdict import Acceptance
from pytest_greencompute.pairing.demands import Demands, group_from_json, group_to_json, line_from_json, line_to_json
from pytest_greencompute.session.groups import ASKED
from pytest_greencompute.settings.addopts import addopts_of, left_out_by, options_in
from pytest_greencompute.settings.build import FILE_KEYS, build
from pytest_greencompute.settings.options import OPTIONS
from pytest_greencompute.settings.parse import ACCEPT_KEYS
from pytest_greencompute.values.metrics import METRICS

POLICY = {"enforce": "fail", "inconclusive": "warn", "unmeasured": "fail", "modelled": "warn"}


def lines(**written: Any) -> tuple[Line, ...]:
    return parse_lines(written, lambda *_: "pyproject.toml:3")


def stance(**written: Any) -> Stance:
    return Stance(resolve(lines(**written), {"gpu": ("NVIDIA H100 80GB HBM3",)}), policy=POLICY)


BEFORE = {"energy_per_query": "0.8 J", "latency_p95": "40 ms", "accuracy": 0.92, "prefill": {"energy_per_query": "0.1 J"}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"energy_per_query": "0.7 J", "accuracy": 0.95}, []),
        ({"energy_per_query": "1 J"}, ["test_x: the limit of energy (energy_per_query) was 0.8 J and is 1 J"]),
        ({"accuracy": 0.9}, ["test_x: the limit of accuracy (accuracy) was 0.92 and is 0.9"]),
        ({"latency_p95": None}, ["test_x: the limit of latency (latency_p95) was 40 ms and is gone"]),
        ({"prefill": {"energy_per_query": "0.2 J"}}, ["test_x (prefill): the limit of energy (energy_per_query) was 0.1 J and is 0.2 J"]),
        ({"tolerance": "10 %"}, ["test_x: the tolerance of energy_per_query, latency_p95 was 5.0 % and is 10 %"]),
        ({"confidence": 0.9}, ["test_x: the confidence was 0.99 and is 0.9"]),
        ({"throughput": "5 /s"}, []),
    ],
)
def test_a_limit_that_is_laxer_is_named_with_both_values(change: dict[str, Any], said: list[str]) -> None:
    now = {key: value for key, value in (BEFORE | change).items() if value is not None}
    assert list(laxer(stance(**BEFORE), stance(**now), "test_x")) == said


def test_limits_that_are_gone_are_named_and_a_run_that_has_another_name_and_is_as_strict_is_not() -> None:
    prefill, laxer_decode, strict = ({"energy_per_query": limit} for limit in ("1 J", "9 J", "1 J"))
    assert len(laxer(stance(energy_per_query="1 J"), stance(), "test_x")) == 1
    assert len(laxer(stance(prefill=prefill), stance(), "test_x")) == 1
    assert len(laxer(stance(prefill=prefill), stance(decode=laxer_decode), "test_x")) == 1
    assert len(laxer(stance(prefill=prefill, decode=laxer_decode), stance(decode=laxer_decode), "test_x")) == 1
    assert len(laxer(stance(energy_per_query="1 J"), stance(decode=laxer_decode), "test_x")) == 1
    assert laxer(stance(prefill=prefill), stance(first=strict), "test_x") == ()


def test_limits_are_compared_as_they_hold_on_this_hardware() -> None:
    other = [{"gpu": "NVIDIA A100*", "energy_per_query": "5 J"}]
    here = [{"gpu": "NVIDIA H100*", "energy_per_query": "2 J"}]
    base, head = ({"energy_per_query": "1 J", "on": on} for on in ([], other))
    assert laxer(stance(**base), stance(**head), "t") == ()
    assert len(laxer(stance(**base), stance(energy_per_query="1 J", on=here), "t")) == 1


def accept(**fields: Any) -> Acceptance:
    made = Acceptance("t.py::test_x", METRICS["energy_per_query"], 1.0, "until the driver is mended", datetime.date(2027, 1, 1), "p:1")
    return replace(made, **fields)


@pytest.mark.parametrize(
    ("before", "now", "count"),
    [
        ((), (accept(),), 1),
        ((accept(),), (accept(),), 0),
        ((accept(),), (), 0),
        ((accept(),), (accept(up_to=2.0),), 1),
        ((accept(),), (accept(up_to=0.5),), 0),
        ((accept(),), (accept(expires=datetime.date(2028, 1, 1)),), 1),
    ],
)
def test_a_failure_that_is_accepted_anew_is_named(before: tuple[Acceptance, ...], now: tuple[Acceptance, ...], count: int) -> None:
    found = laxer(replace(stance(), accept=before), replace(stance(), accept=now), "test_x")
    assert len(found) == count
    assert all("is accepted up to" in each and "until the driver is mended" in each for each in found)


def test_a_setting_by_which_less_is_red_is_named() -> None:
    laxer_policy = {**POLICY, "unmeasured": "warn"}
    assert laxer(stance(), replace(stance(), policy=laxer_policy), "t") == ("the setting unmeasured was 'fail' and is 'warn'",)
    assert laxer(replace(stance(), policy=laxer_policy), stance(), "t") == ()


def values(line: Line) -> dict[str | None, dict[str, float]]:
    return {run: {name: limit.value for name, limit in limits.items()} for run, limits in line.limits.items()}


def test_lines_and_accepted_failures_travel_as_plain_values() -> None:
    written = lines(**BEFORE, tolerance={"energy_per_query": "3 %"}, confidence=0.95, on=[{"gpu": "NVIDIA*", "energy_per_query": "2 J"}])
    back = tuple(line_from_json(line_to_json(line)) for line in written)
    assert [(values(line), line.terms, line.on) for line in back] == [(values(line), line.terms, line.on) for line in written]
    there = Demands.from_json(json.loads(json.dumps(Demands(accept=(accept(),)).to_json())))
    assert there is not None
    assert there.accept == (accept(),)


def test_a_metric_of_another_version_is_left_out() -> None:
    told = line_to_json(lines(energy_per_query="1 J")[0])
    told["limits"][0][1]["energy_per_dream"] = 3.0
    assert list(line_from_json(told).limits[None]) == ["energy_per_query"]
    told = Demands(accept=(accept(),)).to_json()
    told["accept"][0]["metric"] = "energy_per_dream"
    assert Demands.from_json(told) == Demands(settings=None)


def test_the_demands_of_another_version_are_read_as_far_as_they_are_known() -> None:
    whole = Demands(lines(energy_per_query="1 J", set_on="GPU-1"), (accept(),), POLICY, {"skip": False}, GroupDemand("g", None, 0.2, 0.9))
    told = json.loads(json.dumps(whole.to_json()))
    assert set(told) == {"lines", "accept", "policy", "settings", "group"}
    newer = told | {"dreams": 1, "accept": [told["accept"][0] | {"dreams": 1}]}
    newer["lines"][0]["terms"]["dreams"] = 1
    assert Demands.from_json(newer) == replace(whole, lines=tuple(line_from_json(line_to_json(line)) for line in whole.lines))
    older = {key: told[key] for key in ("lines", "accept", "policy")}
    for line in older["lines"]:
        del line["cards"], line["rank"]
    there = Demands.from_json(older)
    assert there is not None
    assert (there.settings, there.group) == (None, None)
    assert there.lines[0].limits[None]["energy_per_query"].cards == ()
    assert "settings" not in there.to_json()
    assert Demands.from_json({}) is None
    assert Demands.from_json(Demands(unread="it is broken").to_json()) == Demands(unread="it is broken")


# Every setting has a row


def test_every_option_setting_and_key_has_a_row() -> None:
    known = {option.key for option in OPTIONS} | set(FILE_KEYS) | {*TERMS, *HARDWARE_KEYS, SET_ON, "on"}
    known |= {f"accept.{key}" for key in ACCEPT_KEYS} | {f"energy_group.{key}" for key in ASKED}
    assert set(LAXER) == known
    told = (*DIRECTIONS, "a limit", "a term", "an accepted failure", "what a word does", "a group", "")
    assert all(row.how in told for row in LAXER.values())
    assert all(row.why for row in LAXER.values() if not row.how)


def test_every_row_with_a_direction_is_told_by_each_commit() -> None:
    settings = build({"budget": True}, (), {}, Path())
    assert set(values_of(settings)) == {key for key, row in LAXER.items() if row.how in DIRECTIONS} - {"meter"}


FIRST = {
    "budget": True,
    "total": 10.0,
    "skip": False,
    "meters": ["nvml", "rapl"],
    "baseline": "main",
    "base_ref": ["main", "v1"],
    "base_python": None,
    "base_turns": "sets",
    "launches": 4,
    "benchmarks": True,
    "domains": ["auto"],
    "accuracy_confidence": None,
    "unmetered": "once",
    "cpu_watts_per_core": None,
    "reasoning_markers": None,
    "base_link": [],
    "allow": [],
    "carbon_intensity": 1.5e-8,
    "electricity_price": [7e-8, "EUR"],
    "pue": 1.2,
}


@pytest.mark.parametrize(
    ("key", "looser", "said"),
    [
        ("budget", False, "the setting budget was True and is False"),
        ("total", 20.0, "the setting total was 10 and is 20"),
        ("total", None, "the setting total was 10 and is not set"),
        ("skip", True, "the setting skip was False and is True"),
        ("meters", ["cputime"], "the setting meters was 'nvml', 'rapl' and is 'cputime'"),
        ("baseline", None, "the setting baseline was 'main' and is not set"),
        ("base_ref", ["main"], "the setting base_ref was 'main', 'v1' and is 'main'"),
        ("base_python", "/usr/bin/python3", "the setting base_python was not set and is '/usr/bin/python3'"),
        ("base_turns", "launches", "the setting base_turns was 'sets' and is 'launches'"),
        ("launches", 1, "the setting launches was 4 and is 1"),
        ("benchmarks", False, "the setting benchmarks was True and is False"),
        ("domains", ["cpu"], "the setting domains was 'auto' and is 'cpu'"),
        ("accuracy_confidence", 0.9, "the setting accuracy_confidence was not set and is 0.9"),
        ("unmetered", "skip", "the setting unmetered was 'once' and is 'skip'"),
        ("unmetered", 10, "the setting unmetered was 'once' and is 10"),
        ("cpu_watts_per_core", 1.0, "the setting cpu_watts_per_core was not set and is 1"),
        ("reasoning_markers", ["<a>", "</a>"], "the setting reasoning_markers was not set and is '<a>', '</a>'"),
        ("base_link", ["src/"], "the setting base_link was empty and is 'src/'"),
        ("allow", ["another process"], "the setting allow was empty and is 'another process'"),
        ("carbon_intensity", 1e-8, "the setting carbon_intensity was 1.5e-08 and is 1e-08"),
        ("electricity_price", [5e-8, "EUR"], "the setting electricity_price was 7e-08, 'EUR' and is 5e-08, 'EUR'"),
        ("electricity_price", [9e-8, "USD"], "the setting electricity_price was 7e-08, 'EUR' and is 9e-08, 'USD'"),
        ("pue", 1.0, "the setting pue was 1.2 and is 1"),
    ],
)
def test_a_setting_that_lets_more_pass_is_named(key: str, looser: Any, said: str) -> None:
    base, head = (replace(stance(), settings=each) for each in (FIRST, FIRST | {key: looser}))
    assert laxer(base, head, "t") == (said,)
    assert laxer(base, base, "t") == ()
    without = replace(stance(), settings={name: value for name, value in FIRST.items() if name != key})
    assert laxer(without, head, "t") == ()  # what another version does not tell is not compared


def test_what_pytests_own_marks_and_options_let_pass_is_named() -> None:
    base = replace(stance(), settings={"xfail": False, "left_out": ["-m not slow"]})
    head = replace(stance(), settings={"xfail": True, "left_out": ["-m not slow", "--ignore tests/gpu"]})
    assert laxer(base, head, "t") == ("t: a failure is expected now (xfail)", "addopts leaves tests out: --ignore tests/gpu")
    assert laxer(head, base, "t") == laxer(head, head, "t") == laxer(replace(stance(), settings={}), head, "t") == ()


def test_what_addopts_leaves_out_is_read() -> None:
    words = ["-q", "-k", "not gpu", "-mfast", "--ignore=a", "--ignore", "b", "--deselect=t.py::t", "--energy-budget", "-x"]
    assert left_out_by(words) == ["-k not gpu", "-m fast", "--deselect t.py::t", "--ignore a", "--ignore b"]


@pytest.mark.parametrize(
    ("key", "stricter"),
    [
        ("total", 5.0),
        ("base_ref", ["main", "v1", "v2"]),
        ("launches", 8),
        ("pue", 1.3),
        ("carbon_intensity", 2e-8),
        ("electricity_price", [8e-8, "EUR"]),
    ],
)
def test_a_setting_that_is_stricter_is_not_named(key: str, stricter: Any) -> None:
    assert laxer(replace(stance(), settings=FIRST), replace(stance(), settings=FIRST | {key: stricter}), "t") == ()


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({}, {"floor": {"energy_per_query": "2 mJ"}}, ["t: the floor of energy_per_query was 0 J and is 2 mJ"]),
        ({"max_seconds": "60 s"}, {"max_seconds": "1 s"}, ["t: max_seconds was 60 and is 1"]),
        ({"max_seconds": "1 s"}, {"max_seconds": "60 s"}, []),
        ({}, {"confidence": 0.999999}, ["t: the confidence was 0.99 and is 0.999999"]),
        (
            {"energy_per_query": "1 J", "set_on": "GPU-1"},
            {"energy_per_query": "1 J", "set_on": "GPU-2"},
            ["t: the limit of energy (energy_per_query) was set on GPU-1 and is on GPU-2"],
        ),
        (
            {"energy_per_query": "1 J", "set_on": "GPU-1"},
            {"energy_per_query": "1 J"},
            ["t: the limit of energy (energy_per_query) was set on GPU-1 and is on no card"],
        ),
        ({"energy_per_query": "1 J", "set_on": "GPU-1"}, {"energy_per_query": "0.9 J", "set_on": "GPU-2"}, []),
        (
            {"on": [{"gpu": "NVIDIA A100*", "energy_per_query": "5 J"}]},
            {},
            ["t: the limit of energy (energy_per_query) on other hardware is gone"],
        ),
    ],
)
def test_terms_cards_and_limits_elsewhere(before: dict[str, Any], now: dict[str, Any], said: list[str]) -> None:
    assert list(laxer(stance(**before), stance(**now), "t")) == said


GROUP = {"name": "g", "default": "large", "margin": 0.2, "floor": 0.9, "latency_p95": 0.04}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (GROUP, []),
        (GROUP | {"margin": 0.1, "floor": 0.95}, []),
        (GROUP | {"margin": 0.5}, ["energy_group 'g': margin was 20 % and is 50 %"]),
        (GROUP | {"floor": 0.8}, ["energy_group 'g': floor was 0.9 and is 0.8"]),
        (GROUP | {"floor": None}, ["energy_group 'g': floor was 0.9 and is gone"]),
        (GROUP | {"default": None}, ["energy_group 'g': default was 'large' and is None"]),
        (GROUP | {"latency_p95": 0.4}, ["energy_group 'g': latency_p95 was 40 ms and is 0.4 s"]),
        ({}, ["energy_group 'g' has lost a candidate"]),
    ],
)
def test_what_a_group_asks_less_of_its_candidates_is_named(now: dict[str, Any], said: list[str]) -> None:
    assert list(laxer(*(replace(stance(), group=group_from_json(each) if each else None) for each in (GROUP, now)), "t")) == said


def test_what_a_group_asks_for_travels_as_plain_values() -> None:
    assert group_to_json(group_from_json(GROUP | {"energy_per_dream": 3.0})) == GROUP


def test_cards_travel_with_their_limits() -> None:
    (line, *_) = lines(energy_per_query="1 J", set_on="GPU-1, GPU-2")
    assert line_from_json(line_to_json(line)).limits[None]["energy_per_query"].cards == ("GPU-1", "GPU-2")


# Options in pytest's own file


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = "-q --energy-tolerance 50% --energy-strict"'),
        ("pyproject.toml", '[tool.pytest]\naddopts = ["-q", "--energy-tolerance=50%", "--energy-strict"]'),
        ("pytest.toml", '[pytest]\naddopts = ["--energy-tolerance", "50%", "--energy-strict"]'),
        ("pytest.ini", "[pytest]\naddopts =\n  --energy-tolerance=50%\n  --energy-strict"),
        ("setup.cfg", "[tool:pytest]\naddopts = --energy-strict --energy-tolerance=50%"),
        ("tox.ini", "[tox]\nenvlist = a\n[pytest]\naddopts = --energy-strict --energy-tolerance=50%"),
    ],
)
def test_our_options_are_found_in_every_file_of_pytest(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert options_in(addopts_of(path)) == {"tolerance": "50%", "strict": True}


@pytest.mark.parametrize("text", ["", "[pytest", "[pytest]\naddopts = 'half", "[pytest]\naddopts = --energy-tolerance"])
def test_a_file_without_our_options_gives_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pytest.ini"
    path.write_text(text, encoding="utf-8")
    assert options_in(addopts_of(path)) == {}
    assert addopts_of(None) == addopts_of(tmp_path / "none.ini") == []
