"""Verdicts: the words, what they do to a build, the sentences, and how often they are wrong."""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import block
from making import figure as made
from making import run as made_run

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.judging.budget import Limit
from pytest_greencompute.judging.by_limit import judge_budget, judge_limit
from pytest_greencompute.judging.by_other_run import judge_baseline, judge_scores, worse_ratio
from pytest_greencompute.judging.judge import named
from pytest_greencompute.judging.verdict import Acceptance, Policy, Verdict, accepted, effect, unmeasured, word_for
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import RATE, RATIO, TIME

ENERGY_METRIC = METRICS["energy_per_query"]
LATENCY = METRICS["latency_p95"]
THROUGHPUT = METRICS["throughput"]
ACCURACY = METRICS["accuracy"]
BADNESS = {"PASS": 0, "INCONCLUSIVE": 1, "FAIL": 2}


# Words


@pytest.mark.parametrize(
    ("low", "high", "lower_is_better", "higher_is_better"),
    [
        (8.0, 9.0, "PASS", "FAIL"),
        (8.0, 10.0, "PASS", "INCONCLUSIVE"),
        (9.0, 11.0, "INCONCLUSIVE", "INCONCLUSIVE"),
        (10.0, 11.0, "INCONCLUSIVE", "PASS"),
        (10.1, 11.0, "FAIL", "PASS"),
        (10.0, 10.0, "PASS", "PASS"),
        (None, 9.0, "PASS", "FAIL"),
        (None, 11.0, "INCONCLUSIVE", "INCONCLUSIVE"),
        (9.0, None, "INCONCLUSIVE", "INCONCLUSIVE"),
        (11.0, None, "FAIL", "PASS"),
        (None, None, "INCONCLUSIVE", "INCONCLUSIVE"),
        (math.nan, math.nan, "INCONCLUSIVE", "INCONCLUSIVE"),
    ],
)
def test_the_whole_interval_must_lie_on_one_side(
    low: float | None, high: float | None, lower_is_better: str, higher_is_better: str
) -> None:
    found = made(10.0, low, high)
    assert word_for(found, 10.0, "lower") == lower_is_better
    assert word_for(found, 10.0, "higher") == higher_is_better


WORDS = ("PASS", "FAIL", "INCONCLUSIVE", "UNMEASURED", "ACCEPTED")
POLICIES = [Policy(*each) for each in itertools.product(("fail", "warn"), ("warn", "fail"), ("fail", "warn", "skip"), ("warn", "fail"))]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda each: f"{each.enforce}-{each.inconclusive}-{each.unmeasured}-{each.modelled}")
def test_what_each_word_does_to_the_build(policy: Policy) -> None:
    measured = {word: effect(Verdict(word, "energy_per_query", "budget", "", made(1.0)), policy) for word in WORDS}  # type: ignore[arg-type]
    lenient = policy.enforce == "warn"
    assert measured == {
        "PASS": "green",
        "FAIL": "warn" if lenient else "fail",
        "INCONCLUSIVE": "warn" if lenient else policy.inconclusive,
        "UNMEASURED": "warn" if lenient else policy.unmeasured,
        "ACCEPTED": "warn",
    }
    for word in WORDS:
        modelled = Verdict(word, "energy_per_query", "budget", "", made(1.0, method="modelled"))  # type: ignore[arg-type]
        assert modelled.modelled
        if policy.modelled == "fail":
            assert effect(modelled, policy) == ("warn" if lenient else "fail")
        else:
            assert effect(modelled, policy) == measured[word]


# Absolute budgets: words and sentences


def budget(metric: str, value: float) -> Limit:
    return Limit(METRICS[metric], value, "pyproject.toml:14")


def test_a_failed_energy_budget_is_one_sentence_with_figure_interval_limit_and_domain() -> None:
    verdict = judge_budget(ENERGY_METRIC, made(1.931, 1.920, 1.942), budget("energy_per_query", 0.8), "test_sentiment_large")
    assert verdict.reason == "test_sentiment_large used 1.931 J per query [1.920, 1.942] on gpu:0, over its budget of 0.8 J (2.4 times)."
    assert (verdict.word, verdict.kind, verdict.limit, verdict.where) == ("FAIL", "budget", 0.8, "pyproject.toml:14")
    assert verdict.sees == pytest.approx(0.011 / 1.931)


@pytest.mark.parametrize(
    ("metric", "found", "limit", "word", "sentence"),
    [
        (
            "energy_per_query",
            made(0.612, 0.607, 0.617),
            0.8,
            "PASS",
            "t used 0.6120 J per query [0.6070, 0.6170] on gpu:0, within its budget of 0.8 J.",
        ),
        (
            "energy_per_query",
            made(0.82, 0.81, 0.83),
            0.8,
            "FAIL",
            "t used 0.8200 J per query [0.8100, 0.8300] on gpu:0, over its budget of 0.8 J (by 2.5 %).",
        ),
        (
            "energy_per_query",
            made(0.8, 0.7, 0.9),
            0.8,
            "INCONCLUSIVE",
            "t used 0.8000 J per query [0.7000, 0.9000] on gpu:0, not clearly on either side of its budget of 0.8 J:"
            " the interval holds the limit; more seconds (--energy-max-seconds) narrow it.",
        ),
        (
            "energy_per_query",
            made(0.2, 0.1, 0.3, method="modelled", domain="cpu"),
            0.8,
            "PASS",
            "t used 0.2000 J per query [0.1000, 0.3000] on cpu (modelled), within its budget of 0.8 J.",
        ),
        (
            "energy_per_query",
            made(0.2, n=1),
            0.8,
            "INCONCLUSIVE",
            "t used 0.2000 J per query [-, -] on gpu:0, not clearly on either side of its budget of 0.8 J: 1 sample is too few.",
        ),
        (
            "latency_p95",
            made(0.0880, 0.0879, 0.0882, dimension=TIME),
            0.04,
            "FAIL",
            "t took 88.00 ms at the 95th percentile [87.90, 88.20], over its budget of 40 ms (2.2 times).",
        ),
        (
            "latency_p95",
            made(0.031, 0.030, None, dimension=TIME, n=88, note="88 batches bound only one side"),
            0.04,
            "INCONCLUSIVE",
            "t took 31.00 ms at the 95th percentile [30.00, -], not clearly on either side of its budget of 40 ms:"
            " 88 batches bound only one side.",
        ),
        (
            "latency_p95",
            made(0.051, 0.050, None, dimension=TIME, n=88, note="88 batches bound only one side"),
            0.04,
            "FAIL",
            "t took 51.00 ms at the 95th percentile [50.00, -], over its budget of 40 ms (1.3 times).",
        ),
    ],
)
def test_every_word_has_its_sentence(metric: str, found: Estimate, limit: float, word: str, sentence: str) -> None:
    verdict = judge_budget(METRICS[metric], found, budget(metric, limit), "t")
    assert verdict.reason == sentence
    assert verdict.word == word


def test_a_floor_of_throughput_is_judged_the_other_way_round() -> None:
    verdict = judge_budget(THROUGHPUT, made(100.0, 98, 102, dimension=RATE), budget("throughput", 150), "t")
    assert verdict.word == "FAIL"
    assert "under its floor of 150" in verdict.reason
    assert "(1.5 times)" in verdict.reason
    assert judge_budget(THROUGHPUT, made(100.0, 98, 102, dimension=RATE), budget("throughput", 90), "t").word == "PASS"


def test_accuracy_is_judged_by_its_figure_and_its_interval_is_printed() -> None:
    found = made(0.941, 0.909, 0.965, dimension=RATIO)
    verdict = judge_budget(ACCURACY, found, budget("accuracy", 0.92), "t", by_interval=False)
    assert verdict.word == "PASS"
    assert verdict.reason == "t scored 0.9410 [0.9090, 0.9650], at or above its floor of 0.92."
    assert judge_budget(ACCURACY, found, budget("accuracy", 0.92), "t").word == "INCONCLUSIVE"
    failed = judge_budget(ACCURACY, found, budget("accuracy", 0.95), "t", by_interval=False)
    assert failed.reason == "t scored 0.9410 [0.9090, 0.9650], under its floor of 0.95."


def test_an_accuracy_of_zero_prints_its_interval_too() -> None:
    verdict = judge_budget(ACCURACY, made(0.0, 0.0, 0.162, dimension=RATIO), budget("accuracy", 0.9), "t", by_interval=False)
    assert "0 [0.000, 0.162]" in verdict.reason


def test_no_figure_is_never_a_pass() -> None:
    verdict = judge_budget(ENERGY_METRIC, Missing("no meter works here"), budget("energy_per_query", 0.8), "t")
    assert (verdict.word, verdict.estimate) == ("UNMEASURED", None)
    assert verdict.reason == "t has no energy_per_query to judge: no meter works here."
    unclear = judge_budget(ENERGY_METRIC, Missing("the window is short", unclear=True), budget("energy_per_query", 0.8), "t")
    assert unclear.word == "INCONCLUSIVE"
    assert unmeasured(ENERGY_METRIC, "t", "no limit for this hardware").reason.endswith("no limit for this hardware.")


# Acceptances


DAY = datetime.date(2027, 3, 1)
FAILED = judge_budget(ENERGY_METRIC, made(1.0, 0.99, 1.01), budget("energy_per_query", 0.8), "t")


def accept(**fields: Any) -> Acceptance:
    return replace(Acceptance("tests/test_x.py::test_*", ENERGY_METRIC, 1.2, "new model, issue 12", DAY, "pyproject.toml:40"), **fields)


def test_a_known_failure_is_accepted_until_its_day_has_passed() -> None:
    for today in (DAY - datetime.timedelta(days=100), DAY):
        verdict = accepted(FAILED, "tests/test_x.py::test_y", [accept()], today)
        assert verdict.word == "ACCEPTED"
        assert verdict.reason == f"{FAILED.reason} Accepted up to 1.2 J until 2027-03-01: new model, issue 12 (pyproject.toml:40)."
    verdict = accepted(FAILED, "tests/test_x.py::test_y", [accept()], DAY + datetime.timedelta(days=1))
    assert verdict.word == "FAIL"
    assert verdict.reason.endswith("It was accepted until 2027-03-01 (pyproject.toml:40).")


def test_an_exceeded_acceptance_is_red_again_and_says_so() -> None:
    verdict = accepted(FAILED, "tests/test_x.py::test_y", [accept(up_to=0.9)], DAY)
    assert verdict.word == "FAIL"
    assert verdict.reason.endswith("It was accepted only up to 0.9 J (pyproject.toml:40).")


@pytest.mark.parametrize("other", [accept(test="tests/test_z.py::*"), accept(metric=LATENCY)])
def test_an_acceptance_of_another_test_or_metric_changes_nothing(other: Acceptance) -> None:
    assert accepted(FAILED, "tests/test_x.py::test_y", [other], DAY) == FAILED


def test_a_renewed_acceptance_counts_though_the_expired_one_still_stands_before_it() -> None:
    old = accept(expires=DAY - datetime.timedelta(days=30))
    assert accepted(FAILED, "tests/test_x.py::test_y", [old, accept()], DAY).word == "ACCEPTED"


def test_of_entries_that_are_as_specific_the_first_to_end_and_the_strictest_decides() -> None:
    strict, lax = accept(up_to=0.9), accept()
    for entries in ([strict, lax], [lax, strict]):
        assert accepted(FAILED, "tests/test_x.py::test_y", entries, DAY).word == "FAIL"
    later = replace(strict, expires=strict.expires + datetime.timedelta(days=1))
    for entries in ([later, lax], [lax, later]):
        assert accepted(FAILED, "tests/test_x.py::test_y", entries, DAY).word == "ACCEPTED"


def test_only_failures_are_accepted() -> None:
    passed = judge_budget(ENERGY_METRIC, made(0.5, 0.4, 0.6), budget("energy_per_query", 0.8), "t")
    assert accepted(passed, "tests/test_x.py::test_y", [accept()], DAY) == passed
    nothing = unmeasured(ENERGY_METRIC, "t", "no meter")
    assert accepted(nothing, "tests/test_x.py::test_y", [accept()], DAY) == nothing


def test_a_score_below_what_was_accepted_is_red_though_its_interval_reaches_up_to_it() -> None:
    failed = judge_budget(ACCURACY, made(0.85, 0.67, 0.95, dimension=RATIO), budget("accuracy", 0.92), "t", by_interval=False)
    entry = accept(metric=ACCURACY, up_to=0.90)
    assert accepted(failed, "tests/test_x.py::test_y", [entry], DAY).word == "FAIL"
    assert accepted(failed, "tests/test_x.py::test_y", [replace(entry, up_to=0.84)], DAY).word == "ACCEPTED"


# Against saved runs

MAIN = named("baseline", "main")


def saved(*values: float, half: float = 0.005) -> list[Estimate]:
    return [made(value, value * (1 - half), value * (1 + half)) for value in values]


def against(head: Estimate, bases: Sequence[Estimate], metric: str = "energy_per_query", **fields: Any) -> Verdict:
    return judge_baseline(METRICS[metric], head, bases, "t", MAIN, **{"tolerance": 0.05, **fields})


def test_unchanged_energy_passes_and_a_doubled_one_fails() -> None:
    bases = saved(1.00, 1.01, 0.99, 1.00, 1.005)
    assert against(made(1.002, 0.997, 1.007), bases).word == "PASS"
    verdict = against(made(2.0, 1.99, 2.01), bases)
    assert verdict.word == "FAIL"
    assert verdict.limit == pytest.approx(1.05 * 1.001, rel=1e-3)
    assert verdict.reason.startswith("t used 2.000 J per query [1.990, 2.010] on gpu:0: +100 % [")
    assert verdict.reason.endswith("against baseline 'main' (1.00 J, 5 runs), worse than the tolerance of 5.0 %.")
    assert (verdict.kind, verdict.where) == ("baseline", "main")


def test_few_saved_runs_say_what_is_assumed_of_launches() -> None:
    verdict = against(made(1.0, 0.99, 1.01), saved(1.0))
    assert verdict.reason.endswith("With 1 saved run, launches are assumed to differ by 2.3 %.")
    assert verdict.word == "INCONCLUSIVE"
    assert against(made(1.2, 1.19, 1.21), saved(1.0)).word == "FAIL"
    assert "assumed" not in against(made(1.0, 0.99, 1.01), saved(1.0, 1.0, 1.0)).reason


def test_higher_is_better_turns_the_ratio_round() -> None:
    bases = [made(value, value * 0.99, value * 1.01, dimension=RATE) for value in (100.0, 101.0, 99.0)]
    slower = against(made(50.0, 49.5, 50.5, dimension=RATE), bases, "throughput")
    assert slower.word == "FAIL"
    assert slower.limit == pytest.approx(100 / 1.05, rel=1e-3)
    assert against(made(200.0, 198, 202, dimension=RATE), bases, "throughput").word == "PASS"
    assert worse_ratio([made(50.0, 49, 51, dimension=RATE)], bases, "higher", 0.99).value == pytest.approx(2.0, rel=1e-3)


def test_a_change_below_the_absolute_floor_is_no_regression() -> None:
    bases, head = saved(1e-3, 1.001e-3, 0.999e-3), made(2e-3, 1.99e-3, 2.01e-3)
    assert against(head, bases).word == "FAIL"
    assert against(head, bases, floor=5e-3).word == "PASS"
    assert against(head, bases, floor=5e-3).limit == pytest.approx(6e-3, rel=1e-3)
    assert against(head, bases, floor=1e-3).word == "INCONCLUSIVE"
    bases = [made(value, value * 0.99, value * 1.01, dimension=RATE) for value in (100.0, 100.1, 99.9)]
    head = made(50.0, 49.9, 50.1, dimension=RATE)
    assert against(head, bases, "throughput", floor=30).word == "FAIL"
    assert against(head, bases, "throughput", floor=60).word == "PASS"
    assert against(head, bases, "throughput", floor=60).limit == pytest.approx(40.0, rel=1e-3)
    assert against(head, bases, "throughput", floor=200).limit is None, "no change is larger"


def test_a_baseline_without_the_metric_and_a_figure_that_has_no_ratio_are_unmeasured() -> None:
    assert "holds no energy_per_query" in against(made(1.0, 0.9, 1.1), []).reason
    assert against(made(1.0, 0.9, 1.1), saved(1.0, -0.1)).word == "UNMEASURED"
    negative = against(made(-0.1, -0.2, 0.1), saved(1.0))
    assert negative.word == "UNMEASURED"
    assert "-0.100 J has no ratio" in negative.reason
    assert against(made(1.0), saved(1.0)).word == "INCONCLUSIVE"
    missing = judge_baseline(ENERGY_METRIC, Missing("no meter"), saved(1.0), "t", MAIN, tolerance=0.05)
    assert (missing.word, missing.kind) == ("UNMEASURED", "baseline")


def test_an_open_side_can_neither_pass_nor_fail_against_a_baseline() -> None:
    bases = [made(value, value * 0.95, value * 1.05, dimension=TIME) for value in (0.1, 0.1, 0.1)]
    open_above = made(0.1, 0.095, None, dimension=TIME, n=88, note="88 batches bound only one side")
    verdict = against(open_above, bases, "latency_p95", tolerance=10.0)
    assert verdict.word == "INCONCLUSIVE"
    assert verdict.sees is None
    assert verdict.reason.endswith("not clearly on either side of the tolerance of 1000 %: 88 batches bound only one side.")
    assert against(replace(open_above, value=0.3, low=0.29), bases, "latency_p95").word == "FAIL"
    saved_open = [replace(each, high=None) for each in bases[:1]]
    assert against(made(0.3, 0.29, 0.31, dimension=TIME), saved_open, "latency_p95").word == "INCONCLUSIVE"
    assert against(made(0.05, 0.04, 0.06, dimension=TIME), saved_open, "latency_p95").word == "PASS"


@given(
    head=st.floats(1e-9, 1e9),
    half=st.floats(0, 1e9),
    values=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=6),
    metric=st.sampled_from(["energy_above_idle_per_query", "throughput"]),
)
def test_no_figure_however_wild_breaks_the_comparison(head: float, half: float, values: list[float], metric: str) -> None:
    dimension = METRICS[metric].dimension
    bases = [made(value, value - half, value + half, dimension=dimension) for value in values]
    verdict = against(made(head, head - half, head + half, dimension=dimension), bases, metric)
    assert verdict.word in WORDS
    assert verdict.sees is None or math.isfinite(verdict.sees)
    assert verdict.limit is not None
    assert math.isfinite(verdict.limit)
    assert len(verdict.reason) < 500


def rates(spread: float, saved_runs: int, factor: float, trials: int = 1000) -> dict[str, float]:
    """How often each word comes, where launches differ by ``spread`` and the head costs ``factor`` times the base."""
    rng = np.random.default_rng([int(spread * 1000), saved_runs, int(factor * 100)])
    words = dict.fromkeys(WORDS, 0)
    for _ in range(trials):
        values = np.exp(spread * rng.standard_normal(saved_runs + 1))
        # Within a launch the figure is known to 0.5 %.
        noisy = values * (1 + 0.002 * rng.standard_normal(saved_runs + 1))
        words[against(saved(float(noisy[0]) * factor)[0], saved(*map(float, noisy[1:]))).word] += 1
    return {word: count / trials for word, count in words.items()}


@pytest.mark.parametrize("saved_runs", [1, 2, 3, 5])
@pytest.mark.parametrize("spread", [0.01, 0.03])
def test_unchanged_code_hardly_ever_fails_against_saved_runs(spread: float, saved_runs: int) -> None:
    assert rates(spread, saved_runs, 1.0)["FAIL"] <= 0.005


@pytest.mark.parametrize("saved_runs", [1, 2, 3, 5])
@pytest.mark.parametrize("spread", [0.01, 0.03])
def test_twice_the_energy_never_passes_and_is_mostly_caught(spread: float, saved_runs: int) -> None:
    found = rates(spread, saved_runs, 2.0, trials=500)
    assert found["PASS"] == 0
    assert found["FAIL"] >= 0.95


def test_a_change_of_exactly_the_tolerance_hardly_ever_fails() -> None:
    assert rates(0.01, 5, 1.05)["FAIL"] <= 0.01


# Scores against a baseline


def paired(base: Sequence[float], head: Sequence[float], **fields: Any) -> Verdict:
    outcome = made(sum(head) / max(len(head), 1), 0.0, 1.0, dimension=RATIO)
    return judge_scores(ACCURACY, head, base, outcome, "t", named("baseline", "main"), **{"tolerance": 0.0, **fields})


def test_ten_more_wrong_answers_of_two_hundred_are_a_drop_and_three_may_be_chance() -> None:
    base = [1.0] * 190 + [0.0] * 10
    assert paired(base, base).word == "PASS"
    few = paired(base, [0.0] * 3 + base[3:])
    assert few.word == "INCONCLUSIVE"
    assert "a drop that chance may explain (3 of 200 scores changed)" in few.reason
    many = paired(base, [0.0] * 10 + base[10:])
    assert many.word == "FAIL"
    assert "against 0.950 in baseline 'main': a drop (10 of 200 scores changed)." in many.reason


def test_answers_that_got_better_pass() -> None:
    assert paired([0.0] * 10 + [1.0] * 90, [1.0] * 100).word == "PASS"


def test_graded_scores_are_compared_pair_by_pair() -> None:
    rng = np.random.default_rng(1)
    base = [float(each) for each in rng.uniform(0.3, 1.0, 200)]
    assert paired(base, [each - 0.1 for each in base]).word == "FAIL"
    noisy = [each + float(noise) for each, noise in zip(base, 0.1 * rng.standard_normal(200), strict=True)]
    assert paired(base, noisy).word != "FAIL"
    assert paired(base, [each - 0.01 for each in base], tolerance=0.02).word == "PASS"


def test_graded_scores_of_few_queries_hardly_ever_fail_by_chance_and_give_the_same_word_each_time() -> None:
    rng = np.random.default_rng(8)
    fails = 0
    for _ in range(300):
        base, head = rng.beta(5, 1, (2, 25)) ** 2
        fails += paired([*map(float, base)], [*map(float, head)]).word == "FAIL"
    assert fails <= 7
    assert len({paired([*map(float, base)], [*map(float, base - 0.01 * head)]).word for _ in range(3)}) == 1


def test_a_change_within_the_floor_says_so() -> None:
    verdict = against(made(2e-3, 1.99e-3, 2.01e-3), saved(1e-3, 1.001e-3, 0.999e-3), floor=5e-3)
    assert verdict.reason.endswith("within the floor (+500 %).")
    assert verdict.sees is not None
    assert verdict.sees > 5


def test_more_saved_runs_see_more() -> None:
    seen = [against(made(1.0, 0.995, 1.005), saved(*[1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.01][:runs])).sees for runs in range(1, 8)]
    assert all(fewer is not None and more is not None and more < fewer for fewer, more in itertools.pairwise(seen))


def test_scores_of_other_queries_are_not_compared() -> None:
    assert paired([1.0] * 10, [1.0] * 9).word == "UNMEASURED"
    assert "10 scores and this run 9" in paired([1.0] * 10, [1.0] * 9).reason
    assert paired([], []).word == "UNMEASURED"


def test_unchanged_answers_hardly_ever_fail_and_a_drop_of_exactly_the_tolerance_neither() -> None:
    rng = np.random.default_rng(4)
    alarms = {0.0: 0, 0.02: 0}
    for _ in range(1000):
        base = (rng.random(400) < 0.9).astype(float)
        flipped = np.where(rng.random(400) < 0.04, 1 - base, base)
        for drop in alarms:
            # Right answers are lost with a probability that makes up for the wrong ones that came right, and for the drop.
            lost = rng.random(400) < (0.04 * 0.1 + drop) / 0.9
            head = np.where(base == 1, np.where(lost, 0.0, 1.0), flipped)
            alarms[drop] += paired([*map(float, base)], [*map(float, head)], tolerance=drop).word == "FAIL"
    assert alarms[0.0] <= 10
    assert alarms[0.02] <= 10


# judge_limit, as researchers call it


@pytest.mark.parametrize("wrap", [list, tuple, np.array, lambda values: np.array(values, dtype=np.float32)])
def test_samples_are_judged_by_the_interval_of_their_mean(wrap: Any) -> None:
    samples = wrap([1.00, 1.01, 0.99, 1.00, 1.00, 1.01])
    assert judge_limit(samples, 1.1).word == "PASS"
    assert judge_limit(samples, 0.9).word == "FAIL"
    assert judge_limit(samples, 1.0).word == "INCONCLUSIVE"
    assert judge_limit(samples, 0.9, direction="min").word == "PASS"
    assert judge_limit(samples, 1.1, direction="min").word == "FAIL"


def test_the_verdict_of_samples_carries_its_figure_and_what_it_could_see() -> None:
    verdict = judge_limit([9.0, 10.0, 11.0], 20.0)
    assert verdict.estimate is not None
    assert verdict.estimate.value == 10.0
    assert verdict.estimate.half_width == pytest.approx(9.92484 / math.sqrt(3), rel=1e-4)
    assert verdict.sees == pytest.approx(9.92484 / math.sqrt(3) / 20, rel=1e-4)
    assert verdict.limit == 20.0
    assert verdict.reason == "The mean of 3 samples is 10 [4.27, 15.73]; the limit is 20: PASS."


def test_too_few_samples_never_pass() -> None:
    assert judge_limit([], 1.0).word == "UNMEASURED"
    assert judge_limit(np.array([]), 1.0).word == "UNMEASURED"
    one = judge_limit([0.5], 1.0)
    assert one.word == "INCONCLUSIVE"
    assert one.reason == "The mean of 1 sample is 0.5 with no interval; the limit is 1: INCONCLUSIVE."


POSITIVE = st.lists(st.floats(0.05, 20.0), min_size=2, max_size=8)


@given(POSITIVE, st.floats(1.001, 1e6), st.sampled_from(["max", "min"]))
def test_samples_that_are_all_so_many_times_worse_are_never_judged_better(samples: list[float], times: float, direction: Any) -> None:
    further = [each * times if direction == "max" else each / times for each in samples]
    before, after = (judge_limit(each, 1.0, direction=direction).word for each in (samples, further))
    assert BADNESS[after] >= BADNESS[before]


@given(POSITIVE, st.floats(1.001, 1e6), st.booleans(), st.sampled_from(["max", "min"]))
def test_what_is_certain_stays_so_where_every_sample_is_further_from_the_limit(
    samples: list[float], times: float, above: bool, direction: Any
) -> None:
    """Each on its side of the limit: some of them will be below zero, which only a difference can be."""
    nearer = [1 + each if above else 1 - each for each in samples]
    further = [1 + times * (each - 1) for each in nearer]
    before, after = (judge_limit(each, 1.0, direction=direction, signed=not above).word for each in (nearer, further))
    assert before in {after, "INCONCLUSIVE"}


@given(st.lists(st.floats(1001, 1e12), min_size=1, max_size=8), st.floats(0.9, 1 - 1e-9))
def test_what_is_a_thousand_times_over_in_every_sample_fails_at_any_confidence(samples: list[float], confidence: float) -> None:
    assert judge_limit(samples, 1.0, confidence=confidence).word == "FAIL"


@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=6), st.floats(1.001, 1e6), st.floats(0.5, 2.0), st.integers(1, 13))
def test_a_run_that_is_so_many_times_dearer_in_every_block_is_never_judged_better(
    joules: list[float], times: float, budget_j: float, looks: int
) -> None:
    def word(by: float) -> str:
        blocks = [block(each * by, set_index=index, queries=1) for index, each in enumerate(joules)]
        found = estimate(made_run(blocks, looks=looks), ENERGY_METRIC, Aim())
        return judge_budget(ENERGY_METRIC, found, Limit(ENERGY_METRIC, budget_j, "here"), "x").word

    assert BADNESS[word(times)] >= BADNESS[word(1.0)]


@pytest.mark.parametrize("samples", [[1e308, 1e308], [1e308, 1.7e308], [0.0, 1e308, 1e308], [1e200, 1.1e200]])
def test_samples_whose_sum_is_no_float_are_judged(samples: list[float]) -> None:
    verdict = judge_limit(samples, 1.0)
    assert (verdict.word, judge_limit(samples, 1.0, direction="min").word) == ("FAIL", "PASS")
    assert verdict.estimate is not None
    assert verdict.estimate.value == pytest.approx(sum(each / len(samples) for each in samples))
    assert judge_limit([-1e308, 1e308], 1.0).word == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("samples", "limit", "fields"),
    [
        ([1.0, math.nan], 1.0, {}),
        ([1.0, math.inf], 1.0, {}),
        ([1.0, 2.0], math.nan, {}),
        ([1.0, 2.0], math.inf, {}),
        ([1.0, 2.0], 1.0, {"direction": "up"}),
        ([1.0, 2.0], 1.0, {"confidence": 1.0}),
        ([1.0, 2.0], 1.0, {"confidence": math.nan}),
        (["a", "b"], 1.0, {}),
        ([[1.0, 2.0], [3.0, 4.0]], 1.0, {}),
        ([1.0, 2.0], "1 J", {}),
    ],
)
def test_what_cannot_be_judged_is_refused(samples: Any, limit: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        judge_limit(samples, limit, **fields)


@pytest.mark.parametrize(
    ("samples", "limit"), [([0.2, 40.0, 3.0], 1e-9), ([1.0], 1e-3), ([1.0, 2000.0], 1e-3), ([5.0, 9.0, 60.0, 8.0], 0.1)]
)
@pytest.mark.parametrize("confidence", [0.99, 0.99999])
def test_samples_that_are_all_far_over_the_limit_fail_however_few_they_are(samples: list[float], limit: float, confidence: float) -> None:
    verdict = judge_limit(samples, limit, confidence=confidence)
    assert verdict.word == "FAIL" if min(samples) >= 1000 * limit or confidence == 0.99 else "INCONCLUSIVE"
    assert judge_limit(samples, 1e4 * max(samples), direction="min", confidence=confidence).word == "FAIL"


def test_a_sample_of_zero_does_not_hide_that_the_others_are_far_over() -> None:
    for samples in ([0.0, 5.0, 6.0, 7.0, 8.0], [0.0, 1e-3]):
        assert judge_limit(samples, 1e-9).word == "FAIL"
        assert judge_limit(samples, 1e-9, signed=True).word == "INCONCLUSIVE"
        assert judge_limit(samples, max(samples) / 2).word == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("samples", "fields"),
    [([0.001, 4.0, 9.0], {}), ([-0.2, 40.0, 3.0], {}), ([0.2, 40.0, 3.0], {"signed": True}), ([1.0], {"signed": True})],
)
def test_samples_that_may_be_below_zero_or_are_near_the_limit_are_not(samples: list[float], fields: dict[str, bool]) -> None:
    assert judge_limit(samples, 1.0 if len(samples) > 1 and not fields else 1e-9, **fields).word == "INCONCLUSIVE"


def test_skewed_samples_at_the_boundary_fail_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(4)
    words = [judge_limit(rng.lognormal(-0.5, 1.0, 4), 1.0).word for _ in range(3000)]
    assert words.count("FAIL") <= 3000 * 0.005


@pytest.mark.parametrize(("better", "far"), [("lower", (1.0, 7.0)), ("higher", (1e-7, 1e-6))])
def test_an_open_side_fails_where_each_sample_is_a_thousand_times_beyond(better: Any, far: tuple[float, float]) -> None:
    open_sided = replace(made(sum(far) / 2, dimension=TIME, n=2), extremes=far)
    assert word_for(open_sided, 1e-3, better) == "FAIL"
    assert word_for(open_sided, 2e-3 if better == "lower" else 0.9e-3, better) == "INCONCLUSIVE"
    assert word_for(replace(open_sided, extremes=None), 1e-3, better) == "INCONCLUSIVE"
    assert word_for(open_sided, 0.0, better) == "INCONCLUSIVE"


def test_judging_samples_at_the_boundary_is_wrong_at_most_one_time_in_a_hundred() -> None:
    rng = np.random.default_rng(9)
    words = [judge_limit(rng.normal(1.0, 0.02, 9), 1.0).word for _ in range(3000)]
    assert sum(word != "INCONCLUSIVE" for word in words) / 3000 <= 0.013
