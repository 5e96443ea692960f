"""Which verdicts a run gets: its own limits, those of a named run, the baseline, what is accepted, and what was never measured."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from making import block, latencies, run, source

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.budget import Budget, parse_lines, resolve
from pytest_greencompute.judging.judge import HELD_AGAINST, Bench, hardware_of, judge_run, limits_for, longer_or_dearer, missing_runs, named
from pytest_greencompute.judging.pairs import PairedTest
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.judging.verdict import ORDER, Acceptance, Verdict
from pytest_greencompute.pairing.runs import BaseOfTest, Feed, Match
from pytest_greencompute.pairing.verdicts import against_base, notes_of
from pytest_greencompute.report.changes import changes
from pytest_greencompute.report.table import table
from pytest_greencompute.results.provenance_json import provenance_from_json
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.results.run_json import schema
from pytest_greencompute.session.sentences import sentence_of
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.footprint import Footprint
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Machine, Provenance
from pytest_greencompute.values.run import Count, Run, Serving

GPU = {"gpu": "Made GPU", "uuid": "GPU-1", "meter": "made", "method": "counter", "device": "Made GPU", "driver": "550"}


def on(device: dict[str, str]) -> Provenance:
    return provenance_from_json({"devices": {"gpu:0": device}, "batch_size": 1})


def measured(joules: float = 100.0, **fields: Any) -> Run:
    """Ten joules a query, to about one per cent."""
    blocks = [block(joules * (1 + 0.002 * (k % 3 - 1)), set_index=k) for k in range(9)]
    provenance = on(GPU)
    return run(
        **{"blocks": blocks, "provenance": provenance, "latencies": latencies([0.01] * 110), "scores": (1.0,) * 90 + (0.0,) * 10, **fields}
    )


def budget(**written: Any) -> Budget:
    return resolve(parse_lines(written, lambda *keys: "file.toml:" + ".".join(map(str, keys))), {"gpu": ("Made GPU",)})


def judged(made: Run, limits: Budget, key: str | None = None, **bench: Any) -> dict[tuple[str, str], Verdict]:
    return {(each.metric, each.kind): each for each in judge_run(figures(made, limits), key, limits, Bench(Aim(), **bench), "t")}


def figures(made: Run, limits: Budget) -> Figures:
    return Figures(made, Aim(limits.confidence))


def words(verdicts: dict[tuple[str, str], Verdict]) -> dict[str, str]:
    return {f"{metric}/{kind}": verdict.word for (metric, kind), verdict in verdicts.items()}


# Limits


def test_each_limit_gets_one_verdict() -> None:
    found = judged(measured(), budget(energy_per_query="11 J", latency_p95="5 ms", accuracy=0.9))
    assert words(found) == {"energy_per_query/budget": "PASS", "latency_p95/budget": "FAIL", "accuracy/budget": "PASS"}
    assert found["energy_per_query", "budget"].where == "file.toml:energy_per_query"


def test_an_unmetered_run_is_judged_by_its_score_alone() -> None:
    made = run([], metered=False, sources=(), scores=(1.0,) * 8 + (0.0,) * 2)
    limits = budget(energy_per_query="11 J", latency_p95="5 ms", accuracy=0.9)
    assert words(judged(made, limits)) == {"accuracy/budget": "FAIL"}


def test_accuracy_is_judged_by_its_interval_only_where_a_confidence_is_set() -> None:
    limits = budget(accuracy=0.88)
    assert words(judged(measured(), limits)) == {"accuracy/budget": "PASS"}
    found = judged(measured(), limits, accuracy_confidence=0.95)
    assert words(found) == {"accuracy/budget": "INCONCLUSIVE"}
    assert found["accuracy", "budget"].estimate.confidence == 0.95  # type: ignore[union-attr]


def test_the_confidence_of_the_budget_is_the_one_that_counts() -> None:
    found = judged(measured(), budget(energy_per_query="11 J", confidence=0.9))
    assert found["energy_per_query", "budget"].estimate.confidence == 0.9  # type: ignore[union-attr]


def test_a_limit_for_other_hardware_only_is_unmeasured() -> None:
    found = judged(measured(), budget(on=[{"gpu": "A100", "energy_per_query": "11 J"}]))
    assert words(found) == {"energy_per_query/budget": "UNMEASURED"}
    assert found["energy_per_query", "budget"].reason == "t has no energy_per_query to judge: no limit for this hardware."


def test_a_failure_that_is_accepted_is_told_as_such() -> None:
    entry = Acceptance("tests/test_x.py::*", METRICS["energy_per_query"], 12.0, "known", datetime.date(2027, 3, 1), "file.toml:9")
    limits = budget(energy_per_query="8 J")
    assert words(judged(measured(), limits, accept=(entry,), today=datetime.date(2027, 1, 1))) == {"energy_per_query/budget": "ACCEPTED"}
    assert words(judged(measured(), limits, accept=(entry,), today=datetime.date(2027, 4, 1))) == {"energy_per_query/budget": "FAIL"}
    assert words(judged(measured(), limits)) == {"energy_per_query/budget": "FAIL"}


# Far over


def load(joules: list[float]) -> Run:
    """A served load of one stretch a figure, of a second and ten answers each."""
    stretches = [block(each, set_index=k, at_s=1.0 + k, gap_s=0.0) for k, each in enumerate(joules)]
    return run(stretches, serving=Serving(4, 10 * len(joules), {}, None), latencies=latencies([0.3, 0.4, 0.5]))


FAR_OVER = {
    "four stretches of a load": load([80.0, 250.0, 900.0, 100.0]),
    "one stretch of a load": load([80.0]),
    "three sets": run([block(joules, set_index=k) for k, joules in enumerate([3.0, 250.0, 40.0])], latencies=latencies([0.2])),
    "one block": run([block(100.0)], latencies=latencies([0.2])),
    "a window": run([block(0.025, queries=1, busy_s=2.0)], window=True, sources=(source(tick_s=0.0, step_j=0.034),)),
    "a short window": run([block(30.0, queries=1, busy_s=0.3)], window=True),
}


@pytest.mark.parametrize("made", FAR_OVER.values(), ids=FAR_OVER)
@pytest.mark.parametrize("alarms", [1, 4, 1000])
def test_what_is_a_thousand_times_over_in_every_sample_fails(made: Run, alarms: int) -> None:
    limits = {"energy_per_query": "1 nJ", "average_power": "0.001 mW", "carbon_per_query": 1e-21, "cost_per_query": 1e-21}
    limits = {**limits, "latency_p50": "1 µs", "latency_p99": "1 µs", "throughput": "1000000 /s"}
    bench = Bench(Aim(footprint=Footprint(1e-10, "set by you", 1e-10, "EUR")), alarms=alarms)
    head = bench.figures(made, 0.99)
    found = {each.metric: each for each in judge_run(head, None, budget(**limits), bench, "t")}
    judgeable = [name for name in found if not (made.window and name.startswith("latency"))]
    assert {name: found[name].word for name in judgeable} == dict.fromkeys(judgeable, "FAIL")
    assert all("not clearly" not in each.reason for each in found.values())


def test_a_fail_without_an_interval_says_that_every_sample_is_over() -> None:
    verdict = judged(FAR_OVER["one block"], budget(energy_per_query="1 mJ"))["energy_per_query", "budget"]
    assert verdict.reason == "t used 10.00 J per query [-, -] on gpu:0, over its budget of 1 mJ (10000 times), in its only sample."
    slow = replace(measured(), latencies=latencies([0.3, 0.4, 0.5]))
    verdict = judged(slow, budget(latency_p50="0.1 ms"))["latency_p50", "budget"]
    assert verdict.reason.endswith("over its budget of 0.1 ms (4000 times), each of its 3 samples a thousand times.")


def test_what_is_less_than_a_thousand_times_over_and_uncertain_is_not_judged() -> None:
    assert judged(FAR_OVER["one block"], budget(energy_per_query="11 mJ"))["energy_per_query", "budget"].word == "INCONCLUSIVE"
    assert judged(FAR_OVER["a short window"], budget(energy_per_query="0.1 J"))["energy_per_query", "budget"].word == "INCONCLUSIVE"


# What would tell more


def test_what_is_inconclusive_names_what_would_narrow_it() -> None:
    limits = budget(accuracy=0.88, energy_per_query="10 J")
    found = judged(measured(), limits, accuracy_confidence=0.99)
    assert found["accuracy", "budget"].reason.endswith("the interval holds the limit; more labelled queries narrow it.")
    assert found["energy_per_query", "budget"].reason.endswith("more seconds (--energy-max-seconds) narrow it.")
    window = run([block(600, queries=1, busy_s=2.0)], window=True)
    found = judged(window, budget(energy_per_query="600 J"))
    assert found["energy_per_query", "budget"].reason.endswith("the interval holds the limit; a longer window narrows it.")


def test_an_accuracy_that_many_verdicts_share_the_error_of_asks_for_queries() -> None:
    found = judged(measured(scores=(1.0,) * 75 + (0.0,) * 25), budget(accuracy=0.88), accuracy_confidence=0.99, alarms=1000)
    assert "to fail one of 1000 verdicts; more labelled queries make it clear" in found["accuracy", "budget"].reason


# Named runs


def test_a_named_run_is_judged_by_its_own_limits_and_carries_its_name() -> None:
    limits = budget(energy_per_query="8 J", prefill={"energy_per_query": "11 J"})
    made = measured(name="prefill")
    assert limits_for(made, limits, only=True) == "prefill"
    found = judged(made, limits, key="prefill")
    assert words(found) == {"energy_per_query/budget": "PASS"}
    assert found["energy_per_query", "budget"].run == "prefill"


@pytest.mark.parametrize(("only", "key"), [(True, None), (False, "prefill")])
def test_the_unnamed_limits_hold_for_a_named_run_where_it_is_the_only_one(only: bool, key: str | None) -> None:
    assert limits_for(measured(name="prefill"), budget(energy_per_query="8 J"), only=only) == key


def test_limits_of_a_run_that_was_not_measured_are_unmeasured() -> None:
    limits = budget(energy_per_query="8 J", accuracy=0.9, prefill={"latency_p95": "1 s"})
    found = missing_runs(limits, [], "t", metered=True)
    assert {(each.run, each.metric, each.word) for each in found} == {
        (None, "energy_per_query", "UNMEASURED"),
        (None, "accuracy", "UNMEASURED"),
        ("prefill", "latency_p95", "UNMEASURED"),
    }
    assert all("the test measured nothing" in each.reason for each in found)
    assert [each.metric for each in missing_runs(limits, [], "t", metered=False)] == ["accuracy"]
    (other,) = missing_runs(limits, [measured()], "t", metered=True)
    assert "it measured no run named 'prefill'" in other.reason
    assert missing_runs(limits, [measured(), measured(name="prefill")], "t", metered=True) == ()
    two = missing_runs(budget(energy_per_query="8 J"), [measured(name="a"), measured(name="b")], "t", metered=True)
    assert [each.reason for each in two] == ["t has no energy_per_query to judge: all its runs are named, the limit is not."]


# Baselines


def test_energy_and_accuracy_are_always_compared_and_what_has_a_budget_too() -> None:
    sessions = [(measured(joules),) for joules in (100, 102, 98, 101, 99)]
    found = judged(measured(100.2), budget(latency_p95="1 s"), baseline="main", sessions=sessions)
    assert words(found) == {
        "latency_p95/budget": "PASS",
        "energy_per_query/baseline": "INCONCLUSIVE",
        "accuracy/baseline": "PASS",
        "latency_p95/baseline": "PASS",
    }
    assert found["energy_per_query", "baseline"].where == "main"


def test_twice_the_energy_of_the_baseline_fails() -> None:
    sessions = [(measured(joules),) for joules in (100, 101, 99)]
    assert words(judged(measured(200), budget(), baseline="main", sessions=sessions))["energy_per_query/baseline"] == "FAIL"
    wide = judged(measured(200), budget(tolerance="100 %", floor={"energy_per_query": "20 J"}), baseline="main", sessions=sessions)
    assert wide["energy_per_query", "baseline"].word == "PASS"


def test_answers_that_got_worse_fail_against_the_newest_saved_run() -> None:
    worse = measured(scores=(1.0,) * 70 + (0.0,) * 30)
    found = judged(worse, budget(), baseline="main", sessions=[(measured(),)])
    assert found["accuracy", "baseline"].word == "FAIL"
    assert "20 of 100 scores changed" in found["accuracy", "baseline"].reason


def test_references_that_were_taken_away_do_not_take_the_accuracy_gate_with_them() -> None:
    without = measured(scores=None)
    assert words(judged(without, budget(), baseline="main", sessions=[(measured(),)]))["accuracy/baseline"] == "UNMEASURED"
    assert "accuracy/baseline" not in words(judged(without, budget(), baseline="main", sessions=[(without,)]))


def test_without_a_saved_run_it_is_unmeasured_and_says_what_saves_one() -> None:
    found = judged(measured(), budget(), baseline="main", sessions=[])
    reason = found["energy_per_query", "baseline"].reason
    assert found["energy_per_query", "baseline"].word == "UNMEASURED"
    assert "baseline 'main' has no run of it; `pytest --energy-budget --energy-save main` saves one" in reason


def test_a_saved_run_of_another_gpu_is_unmeasured_and_the_difference_named() -> None:
    other = measured(provenance=on({**GPU, "gpu": "Other GPU", "device": "Other GPU"}))
    found = judged(measured(), budget(), baseline="main", sessions=[(other,)])
    assert found["energy_per_query", "baseline"].word == "UNMEASURED"
    assert "Other GPU" in found["energy_per_query", "baseline"].reason


def test_another_driver_is_a_warning_in_the_sentence() -> None:
    older = [(measured(provenance=on({**GPU, "driver": "535"})),)]
    found = judged(measured(), budget(), baseline="main", sessions=older)
    assert found["energy_per_query", "baseline"].word != "UNMEASURED"
    assert "Differs: " in found["energy_per_query", "baseline"].reason
    assert "535" in found["energy_per_query", "baseline"].reason


def test_an_unmetered_run_is_not_compared() -> None:
    made = replace(measured(), metered=False, blocks=(), latencies=(), sources=())
    assert judged(made, budget(), baseline="main", sessions=[(measured(),)]) == {}


# One ladder: whatever a run is held against, the same situation gets the same word


def saved(base: Run | None, head: Figures, limits: Budget) -> tuple[Verdict, ...]:
    """Against four saved runs that are alike."""
    sessions = [] if base is None else [(base,)] * 4
    return judge_run(head, head.run.name, limits, Bench(Aim(), baseline="main", sessions=sessions), "t")


def at_commit(match: Match, head: Figures, limits: Budget) -> tuple[Verdict, ...]:
    return judge_run(head, head.run.name, limits, Bench(Aim(), compares=True), "t", [against_base(match, head, "t")])


def rules(limits: Budget) -> dict[str, Rule]:
    return {name: Rule(limits.tolerance(METRICS[name]), better=METRICS[name].better) for name in ("energy_per_query", "latency_p50")}


def in_launches(base: Run | None, head: Figures, limits: Budget) -> tuple[Verdict, ...]:
    """Against a commit in four launches of each."""
    launched = ([], [head.run] * 4) if base is None else ([base] * 4, [head.run] * 4)
    return at_commit(Match(BaseOfTest("main", None), rules(limits), Aim(), run=base, launched=launched), head, limits)


def in_pairs(base: Run | None, head: Figures, limits: Budget) -> tuple[Verdict, ...]:
    """Against a commit in nine pairs of sets."""
    match = Match(BaseOfTest("main", None), rules(limits), Aim(), run=base)
    match.problem = ""
    match.tests = {name: PairedTest(rule, for_fail=1, first=9) for name, rule in match.rules.items()}
    if base is not None:
        Feed(match.tests, match.aim).tell(base, head.run, 9)
    match.no_more_pairs()
    return at_commit(match, head, limits)


def said(**provenance: Any) -> dict[str, Any]:
    """A provenance that says more than the one of ``measured``."""
    devices = {"gpu:0": {**GPU, **provenance.pop("gpu", {})}}
    return {"provenance": provenance_from_json({"devices": devices, "batch_size": 1, **provenance})}


def answers(*each: int) -> dict[str, Any]:
    return {"answers": "".join(f"{number:016x}" for number in each)}


def faults(value: float) -> dict[str, Any]:
    return {"counts": {"page_faults_per_query": Count(value, 100)}}


TOKENS: dict[str, Any] = {"tokens": (5,) * 100}
NONE, UNSCORED, SPOILED = {"scores": None}, {"scores": None, **said(batch_size=2)}, {"problem": "the meter stopped"}
RIGHT = (1.0,) * 90 + (0.0,) * 10
ENERGY, ACCURACY, CHANGED, PAGES = "energy_per_query", "accuracy", "answers_changed", "page_faults_per_query"
FINE = {ENERGY: "PASS", ACCURACY: "PASS"}
# What the base has, what this run has, what is limited besides, and the words of all that is compared.
LADDER: dict[str, tuple[dict[str, Any] | None, dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "the same": ({}, {}, {}, FINE),
    "twice the energy": ({}, {"joules": 200.0}, {}, {**FINE, ENERGY: "FAIL"}),
    "half the energy": ({}, {"joules": 50.0}, {}, FINE),
    "worse answers": ({}, {"scores": (1.0,) * 60 + (0.0,) * 40}, {}, {**FINE, ACCURACY: "FAIL"}),
    "references= dropped": ({}, NONE, {}, {**FINE, ACCURACY: "UNMEASURED"}),
    "references= are new": (NONE, {}, {}, {**FINE, ACCURACY: "UNMEASURED"}),
    "never any references=": (NONE, NONE, {}, {ENERGY: "PASS"}),
    "fewer references": ({}, {"scores": RIGHT[:50]}, {}, {**FINE, ACCURACY: "UNMEASURED"}),
    "another score": (said(score="a"), said(score="b"), {}, {**FINE, ACCURACY: "UNMEASURED"}),
    "references= dropped, and another batch size": ({}, UNSCORED, {}, {ENERGY: "UNMEASURED", ACCURACY: "UNMEASURED"}),
    "tokens= dropped": (TOKENS, {}, {}, {**FINE, "tokens_per_query": "UNMEASURED"}),
    "tokens= dropped, and another batch size": (
        {**TOKENS, **said(batch_size=2)},
        {},
        {},
        dict.fromkeys((*FINE, "tokens_per_query"), "UNMEASURED"),
    ),
    "tokens= are new": ({}, TOKENS, {}, FINE),
    "tokens= are new and limited": ({}, TOKENS, {"tokens_per_query": 9}, {**FINE, "tokens_per_query": "UNMEASURED"}),
    "more tokens": (TOKENS, {"tokens": (9,) * 100}, {"tokens_per_query": 9}, {**FINE, "tokens_per_query": "FAIL"}),
    "another count of tokens": (
        {**TOKENS, **said(tokens="a")},
        {**TOKENS, **said(tokens="b")},
        {"tokens_per_query": 9},
        {**FINE, "tokens_per_query": "UNMEASURED"},
    ),
    "count= dropped": (faults(3), {}, {}, {**FINE, PAGES: "UNMEASURED"}),
    "a count of none as before": (faults(0), faults(0), {PAGES: 9}, {**FINE, PAGES: "PASS"}),
    "a count where there was none": (faults(0), faults(3), {PAGES: 9}, {**FINE, PAGES: "FAIL"}),
    "another query": (said(queries={"alike": "a"}), said(queries={"alike": "b"}), {}, dict.fromkeys(FINE, "UNMEASURED")),
    "another order": (said(queries={"exact": "a"}), said(queries={"exact": "b"}), {}, {**FINE, ACCURACY: "UNMEASURED"}),
    "another batch size": ({}, said(batch_size=2), {}, dict.fromkeys(FINE, "UNMEASURED")),
    "another power limit": ({}, said(gpu={"power_limit_w": 300}), {}, dict.fromkeys(FINE, "UNMEASURED")),
    "other watts": (said(gpu={"watts_per_core": 5}), said(gpu={"watts_per_core": 7}), {}, {**FINE, ENERGY: "UNMEASURED"}),
    "another driver": ({}, said(gpu={"driver": "560"}), {}, FINE),
    "other references": (said(references="a"), said(references="b"), {}, FINE),
    "what older files do not say": ({}, said(score="a", queries={"alike": "a"}), {}, FINE),
    "as many answers as before": (answers(1, 2, 3), answers(1, 2, 3), {CHANGED: 0.5}, {**FINE, CHANGED: "PASS"}),
    "other answers": (answers(1, 2, 3), answers(1, 4, 5), {CHANGED: 0.5}, {**FINE, CHANGED: "FAIL"}),
    "fewer answers": (answers(1, 2, 3), answers(1, 2), {CHANGED: 0.5}, {**FINE, CHANGED: "UNMEASURED"}),
    "answers that were not kept": ({}, answers(1, 2), {CHANGED: 0.5}, {**FINE, CHANGED: "UNMEASURED"}),
    "a latency that is new": ({"latencies": ()}, {}, {"latency_p50": "1 s"}, {**FINE, "latency_p50": "UNMEASURED"}),
    "a latency no more": ({}, {"latencies": ()}, {"latency_p50": "1 s"}, {**FINE, "latency_p50": "UNMEASURED"}),
    "stars are of one leaderboard": ({}, {}, {"stars": 3}, FINE),
    "a limit of another run": ({"name": "b"}, {"name": "b"}, {CHANGED: 0.5, "b": {PAGES: 9}}, {**FINE, PAGES: "UNMEASURED"}),
    "no base": (None, {}, {}, dict.fromkeys(FINE, "UNMEASURED")),
    "no base, and limits": (None, {}, {CHANGED: 0.5, PAGES: 9}, dict.fromkeys((*FINE, CHANGED, PAGES), "UNMEASURED")),
    "no energy there": (SPOILED, {}, {}, {**FINE, ENERGY: "UNMEASURED"}),
    "no energy here": ({}, SPOILED, {}, {**FINE, ENERGY: "UNMEASURED"}),
    "none at all there": ({"joules": 0.0}, {}, {}, {**FINE, ENERGY: "UNMEASURED"}),
    "none at all here": ({}, {"joules": 0.0}, {}, {**FINE, ENERGY: "UNMEASURED"}),
    "not metered": ({}, {"metered": False, "sources": (), "blocks": ()}, {}, {}),
}


@pytest.mark.parametrize("judge", [saved, in_pairs, in_launches])
@pytest.mark.parametrize(("before", "now", "limited", "expected"), LADDER.values(), ids=LADDER)
def test_the_same_situation_gets_the_same_word_against_saved_runs_and_against_a_commit(
    judge: Callable[[Run | None, Figures, Budget], tuple[Verdict, ...]],
    before: dict[str, Any] | None,
    now: dict[str, Any],
    limited: dict[str, Any],
    expected: dict[str, str],
) -> None:
    limits = budget(tolerance="40 %", **limited)
    base, head = None if before is None else measured(**before), Figures(measured(**now), Aim())
    assert {each.metric: each.word for each in judge(base, head, limits) if each.kind != "budget"} == expected


def test_every_kind_of_comparison_is_in_the_schema() -> None:
    kinds = schema()["$defs"]["verdict"]["properties"]["kind"]["enum"]
    assert set(kinds) == {"budget", "comparison", *HELD_AGAINST}


@pytest.mark.parametrize("kind", HELD_AGAINST)
def test_every_kind_of_comparison_can_be_asked_for_told_and_shown(kind: str) -> None:
    row, verdict = HELD_AGAINST[kind], Verdict("FAIL", "energy_per_query", kind, "More.", where="{1}")
    assert row.setting in {field.name for field in dataclasses.fields(Settings)}
    assert set(row.follow) <= set(ORDER)
    assert named(kind, "{1}").called.replace("'", "").endswith("{1}")
    (change,) = changes([Result("t.py::t", None, verdicts=(ShownVerdict.of(verdict),))])
    assert change.against == row.shown.format("{1}")
    shown = table([Result("t.py::t", None, verdicts=(ShownVerdict.of(verdict),))])
    assert shown.rows[0].cells[-1] == row.shown.format("{1}")
    settings = build({kind: "main", "budget": True}, (), {}, Path())
    told = sentence_of(verdict, settings)
    assert told.startswith("More.")
    assert "limit is in" not in told


# Hardware


def test_hardware_is_named_by_key() -> None:
    made = run([], sources=(source("gpu:0", device="A"), source("gpu:1", device="A"), source("cpu", device="C", meter="rapl")))
    assert hardware_of([made, made], Machine(cpu="EPYC")) == {"gpu": ("A",), "cpu": ("EPYC",), "meter": ("made", "rapl")}
    assert hardware_of([], Machine()) == {"gpu": (), "cpu": ("",), "meter": ()}


def test_a_change_is_split_in_two_only_where_tokens_were_counted_on_both_sides() -> None:
    def side(joules: float, tokens: int | None, **fields: Any) -> Figures:
        blocks = [block(joules, set_index=index, gap_s=0.0) for index in range(6)]
        return Figures(run(blocks, queries=2, tokens=None if tokens is None else (tokens, tokens), **fields), Aim())

    assert longer_or_dearer(side(50, 10), side(60, 12)) == "tokens per query +20 %, energy per token +0.0 %"
    assert longer_or_dearer(side(50, 20), side(45, 10)) == "tokens per query -50 %, energy per token +80 %"
    assert longer_or_dearer(side(50, 10), side(50, 10)) == ""
    assert longer_or_dearer(side(50, None), side(60, 12)) == ""
    assert longer_or_dearer(side(50, 10), side(60, None)) == ""
    by_words, by_signs = (side(50, count, provenance=Provenance(tokens=str(count))) for count in (10, 30))
    assert longer_or_dearer(by_words, by_signs) == ""
    assert longer_or_dearer(side(50, 0), side(60, 10)) == ""
    match = Match(BaseOfTest("main", None), {}, Aim(), run=side(50, 10).run, launched=((), ()))
    assert notes_of(match, side(60, 12)) == ("against main: tokens per query +20 %, energy per token +0.0 %",)
    assert notes_of(match, side(50, 10)) == ()


@pytest.mark.parametrize("scores", [(85.0,) * 10, (100.0,) + (0.0,) * 99, (1.0,) * 9 + (1.5,)])
@pytest.mark.parametrize("more", [{}, {"accuracy_confidence": 0.95}])
def test_scores_in_per_cent_are_not_held_against_a_share(scores: tuple[float, ...], more: dict[str, Any]) -> None:
    verdict = judged(measured(scores=scores), budget(accuracy="90 %"), **more)["accuracy", "budget"]
    assert verdict.word == "UNMEASURED"
    assert f"a query scores {max(scores):g}, and a limit of accuracy is a share: let score= return 0 to 1" in verdict.reason
    assert judged(measured(scores=(1.0 + 1e-9,) * 10), budget(accuracy="90 %"))["accuracy", "budget"].word == "PASS"
