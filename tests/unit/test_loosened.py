"""What was made laxer is named; what is stricter, new or the same is not."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest

from pytest_greencompute.budget import Line, parse_lines, resolve
from pytest_greencompute.loosened import Stance, laxer
from pytest_greencompute.metrics import METRICS
from pytest_greencompute.store.stances import acceptance_to_json, acceptances_from_json, line_from_json, line_to_json
from pytest_greencompute.verdict import Acceptance

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
    assert acceptances_from_json([acceptance_to_json(accept())]) == (accept(),)


def test_a_metric_of_another_version_is_left_out() -> None:
    told = line_to_json(lines(energy_per_query="1 J")[0])
    told["limits"][0][1]["energy_per_dream"] = 3.0
    assert list(line_from_json(told).limits[None]) == ["energy_per_query"]
    assert acceptances_from_json([{**acceptance_to_json(accept()), "metric": "energy_per_dream"}]) == ()
