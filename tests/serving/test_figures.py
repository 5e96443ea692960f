"""The figures of a load, from its raw run: what they are, why there is none, and that a file brings them back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.estimate import Aim, Estimate, Missing, estimate
from pytest_greencompute.metrics import METRICS
from pytest_greencompute.samples import FOREIGN, Block, Idle, Latency, Run, Serving, Source, Span
from pytest_greencompute.store.runfile import run_from_json, run_to_json, schema

GPU = Source("nvml", "gpu:0", "counter", "a GPU", "GPU-1", tick_s=0.1, step_j=0.001, systematic=0.05)


def stretch(index: int, queries: float, joules: float, **fields: Any) -> Block:
    a, b = index * 10**9, (index + 1) * 10**9
    return Block(index, 0.0, queries, a, b, {"gpu:0": Span(joules, a, b)}, **fields)


SERVING = Serving(
    8, 60, {"status 429": 12}, (40.0, 41.0, 39.0, 40.0, 40.5, 39.5), tuple(0.01 + 0.001 * n for n in range(60)), (0.002, 0.003)
)
RUN = Run(
    "test_it",
    "concurrency=8",
    4,
    8,
    metered=True,
    sources=(GPU,),
    blocks=tuple(stretch(index, 10 + 0.1 * index, 200 + index) for index in range(6)),
    idles=(Idle("gpu:0", 50.0, 1.0),),
    latencies=tuple(Latency(1, 0.1 + 0.001 * n) for n in range(60)),
    serving=SERVING,
)


def figure(run: Run, metric: str) -> Estimate:
    found = estimate(run, METRICS[metric], Aim())
    assert isinstance(found, Estimate), found
    return found


def why(run: Run, metric: str) -> str:
    found = estimate(run, METRICS[metric], Aim())
    assert isinstance(found, Missing), found
    return found.reason


def test_sums_over_sums() -> None:
    joules, queries = sum(range(200, 206)), 61.5
    assert figure(RUN, "energy_per_query").value == pytest.approx(joules / queries)
    assert figure(RUN, "energy_per_token").value == pytest.approx(joules / 240)
    assert figure(RUN, "energy_above_idle_per_query").value == pytest.approx((joules - 6 * 50) / queries)
    assert figure(RUN, "average_power").value == pytest.approx(joules / 6)
    assert figure(RUN, "throughput").value == pytest.approx(queries / 6)
    assert figure(RUN, "tokens_per_query").value == pytest.approx(240 / queries)
    assert figure(RUN, "error_rate").value == pytest.approx(12 / 72)
    assert figure(RUN, "latency_p50").value == pytest.approx(0.129)
    assert figure(RUN, "time_to_first_token_p50").value == pytest.approx(0.039)
    assert figure(RUN, "inter_token_latency_p95").value == 0.003


def test_each_interval_holds_its_figure_and_too_few_times_bound_one_side_only() -> None:
    for metric in ("energy_per_query", "energy_per_token", "throughput", "error_rate", "time_to_first_token_p50"):
        found = figure(RUN, metric)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
    tail = figure(RUN, "time_to_first_token_p99")
    assert tail.high is None
    assert "60 requests bound only one side" in tail.note


def test_what_is_not_there_says_why() -> None:
    silent = replace(RUN, serving=replace(SERVING, tokens=None, first_tokens=(), token_gaps=()))
    assert "did not say how many tokens" in why(silent, "energy_per_token")
    assert "did not say how many tokens" in why(silent, "tokens_per_query")
    assert "no token was streamed" in why(silent, "time_to_first_token_p95")
    assert "generated no token" in why(replace(RUN, serving=replace(SERVING, tokens=(0.0,) * 6)), "energy_per_token")
    nothing = replace(RUN, blocks=(), sources=(), latencies=(), serving=Serving(8, 0, {}, None), problem="the server answered nothing")
    assert "answered nothing" in why(nothing, "energy_per_query")
    assert "no request was answered" in why(nothing, "inter_token_latency_p50")
    assert "no request ended" in why(nothing, "error_rate")
    assert "not counted" in why(RUN, "peak_memory")
    plain = replace(RUN, serving=None)
    assert "only serve_load" in why(plain, "error_rate")
    assert "only serve_load" in why(plain, "time_to_first_token_p50")


def test_a_stranger_in_one_stretch_spoils_the_run() -> None:
    spoiled = replace(RUN, blocks=(*RUN.blocks[:-1], stretch(5, 10.0, 205.0, marks=(FOREIGN,))))
    assert "another process used the GPU during 1 of 6" in why(spoiled, "energy_per_query")


def test_a_single_stretch_has_no_interval() -> None:
    one = replace(RUN, blocks=RUN.blocks[:1], serving=replace(SERVING, tokens=(40.0,)))
    assert (figure(one, "energy_per_query").low, figure(one, "energy_per_query").high) == (None, None)


def test_a_file_brings_the_run_back_as_it_was() -> None:
    kept = json.loads(json.dumps(run_to_json(RUN, {}, [])))
    assert run_from_json(kept) == RUN
    definitions = schema()
    jsonschema.validate(kept["raw"], {**definitions["$defs"]["raw"], "$defs": definitions["$defs"]})


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("concurrency", 0),
        ("concurrency", 1.5),
        ("answered", -1),
        ("failed", {"status 429": -1}),
        ("failed", {"status 429": True}),
        ("failed", ["status 429"]),
        ("tokens", [40.0]),
        ("tokens", [-1.0] * 6),
        ("tokens", 7),
        ("first_tokens", [None]),
        ("token_gaps", ["1"]),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(field: str, wrong: object) -> None:
    kept = json.loads(json.dumps(run_to_json(RUN, {}, [])))
    kept["raw"]["serving"][field] = wrong
    with pytest.raises((GreencomputeError, TypeError, ValueError, AttributeError)):
        run_from_json(kept)


@pytest.mark.parametrize("queries", [0, -1, float("nan"), float("inf")])
def test_a_stretch_without_queries_measures_nothing(queries: float) -> None:
    with pytest.raises(GreencomputeError):
        stretch(0, queries, 1.0)
