"""The figures of a load, from its raw run: what they are, why there is none, and that a file brings them back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from pytest_greencompute.errors import GreencomputeError, MeterError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.estimates.measured_kinds import ServedRun
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.budget import Budget, Limit
from pytest_greencompute.judging.by_limit import judge_budget
from pytest_greencompute.judging.judge import Bench, judge_run, times_open
from pytest_greencompute.results.run_json import run_from_json, run_to_json, schema
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.readings import FOREIGN, Block, Idle, Source, Span
from pytest_greencompute.values.run import Latency, Run, Serving

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


def test_joules_per_token_of_the_prompts_and_of_all_tokens() -> None:
    told = replace(RUN, serving=replace(SERVING, prompt_tokens=1200))  # 20 a prompt
    per_query, generated = figure(told, "energy_per_query").value, figure(told, "tokens_per_query").value
    assert figure(told, "energy_per_input_token").value == pytest.approx(per_query / 20)
    assert figure(told, "energy_per_total_token").value == pytest.approx(per_query / (20 + generated))
    assert Figures(told, Aim()).of(METRICS["energy_per_total_token"]) == figure(told, "energy_per_total_token")
    for metric in ("energy_per_input_token", "energy_per_total_token"):
        assert "this one did not" in why(RUN, metric)
        assert "only a server under load" in why(replace(RUN, serving=None), metric)
        assert "this one did not" in why(replace(told, serving=replace(SERVING, prompt_tokens=1200, by_events=1)), metric)


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


def test_tokens_that_are_counted_as_events_are_a_lower_bound_and_pass_nothing() -> None:
    bound = replace(RUN, serving=replace(SERVING, by_events=1, token_gaps=()))
    for metric in ("energy_per_token", "inter_token_latency_p50"):
        assert "an event of a stream may bring several" in why(bound, metric)
    metric = METRICS["tokens_per_query"]
    found = figure(bound, "tokens_per_query")
    assert found.value == pytest.approx(240 / 61.5)
    words = [judge_budget(metric, found, Limit(metric, limit, ""), "it", by_interval=False).word for limit in (100.0, 3.0)]
    assert words == ["UNMEASURED", "FAIL"]
    served = ServedRun(bound, [], Aim(), lambda _: pytest.fail("it was measured"))
    with pytest.raises(MeterError, match="There is no certain tokens_per_query"):
        _ = served.tokens_per_query


def test_what_a_server_had_in_its_cache_and_how_often_it_was_reconnected() -> None:
    def served(**fields: Any) -> ServedRun:
        return ServedRun(replace(RUN, serving=replace(SERVING, **fields)), [], Aim(), lambda _: pytest.fail("it was measured"))

    assert served(prompt_tokens=40, cached_tokens=10).cached_share == 0.25
    assert served(prompt_tokens=40, cached_tokens=0).cached_share == 0
    assert served(prompt_tokens=40).cached_share is None
    assert served(cached_tokens=0).cached_share is None
    assert served(reconnected=7).reconnected == 7
    assert figure(served(reconnected=7).raw, "error_rate").value == pytest.approx(12 / 72)


def test_a_file_of_an_older_version_has_none_of_these_counts() -> None:
    kept = json.loads(json.dumps(run_to_json(RUN)))
    for name in ("by_events", "cut", "reconnected", "prompt_tokens", "cached_tokens"):
        del kept["raw"]["serving"][name]
    assert run_from_json(kept) == RUN


@pytest.mark.parametrize(
    ("metric", "limit", "open_"),
    [
        ("time_to_first_token_p99", 9.0, True),  # 60 requests bound only one side
        ("time_to_first_token_p99", 0.001, False),
        ("latency_p50", 0.129, True),  # the figure itself
        ("latency_p50", 9.0, False),
        ("energy_per_query", 3.35, False),  # not of a time
    ],
)
def test_a_load_may_go_on_for_a_time_that_is_not_certain(metric: str, limit: float, open_: bool) -> None:
    budget = Budget({None: {metric: Limit(METRICS[metric], limit, "")}}, (), {})
    assert times_open(Figures(RUN, Aim(budget.confidence)), None, budget, Bench(Aim()), "it") is open_
    assert not times_open(Figures(replace(RUN, serving=None), Aim(budget.confidence)), None, budget, Bench(Aim()), "it")


def test_a_look_that_ends_a_load_is_surer_than_its_verdict() -> None:
    """Of 60 times the largest ten are 0.15 s and more: at 99 % the median is below, but not for certain at every look."""
    seconds = [*[0.1] * 40, *[0.2] * 20]
    run = replace(RUN, latencies=tuple(Latency(1, each) for each in seconds), looks=8)
    budget = Budget({None: {"latency_p50": Limit(METRICS["latency_p50"], 0.15, "")}}, (), {})
    assert judge_run(Figures(run, Aim(budget.confidence)), None, budget, Bench(Aim()), "it")[0].word == "INCONCLUSIVE"
    assert times_open(Figures(run, Aim(budget.confidence)), None, budget, Bench(Aim()), "it")


def test_a_stranger_in_one_stretch_spoils_the_run() -> None:
    spoiled = replace(RUN, blocks=(*RUN.blocks[:-1], stretch(5, 10.0, 205.0, marks=(FOREIGN,))))
    assert "another process used the GPU during 1 of 6" in why(spoiled, "energy_per_query")


def test_a_single_stretch_has_no_interval() -> None:
    one = replace(RUN, blocks=RUN.blocks[:1], serving=replace(SERVING, tokens=(40.0,)))
    assert (figure(one, "energy_per_query").low, figure(one, "energy_per_query").high) == (None, None)


def test_a_file_brings_the_run_back_as_it_was() -> None:
    kept = json.loads(json.dumps(run_to_json(RUN)))
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
        ("reconnected", -1),
        ("by_events", 0.5),
        ("cached_tokens", "3"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(field: str, wrong: object) -> None:
    kept = json.loads(json.dumps(run_to_json(RUN)))
    kept["raw"]["serving"][field] = wrong
    with pytest.raises((GreencomputeError, TypeError, ValueError, AttributeError)):
        run_from_json(kept)


@pytest.mark.parametrize("queries", [0, -1, float("nan"), float("inf")])
def test_a_stretch_without_queries_measures_nothing(queries: float) -> None:
    with pytest.raises(GreencomputeError):
        stretch(0, queries, 1.0)
