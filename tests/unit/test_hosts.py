"""Hosts of one kind as one sample: what is pooled, what each must say, and what a person means by a kind of hardware."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import figure

from pytest_greencompute.estimates.estimate import Estimate, Missing
from pytest_greencompute.fleet.expected import Gap, Measurements, gaps, is_meant
from pytest_greencompute.judging.budget import Budget, Limit, parse_lines, resolve
from pytest_greencompute.judging.by_limit import judge_budget
from pytest_greencompute.judging.hosts import HostFigures, disagreeing, pooled, pooled_estimate
from pytest_greencompute.judging.verdict import Verdict, unmeasured
from pytest_greencompute.settings.settings import Expected
from pytest_greencompute.stats.distributions import student_t_quantile
from pytest_greencompute.stats.ratios import PRIORS, LaunchLevel, Ratio, level_ratio
from pytest_greencompute.values.metrics import METRICS

ENERGY, ACCURACY, THROUGHPUT = METRICS["energy_per_query"], METRICS["accuracy"], METRICS["throughput"]
BUDGET = resolve(parse_lines({"energy_per_query": "1 J"}, lambda *_: "p:1"), {})


def level(joules: float, percent: float = 1.0) -> Estimate:
    return figure(joules, joules * (1 - percent / 100), joules * (1 + percent / 100))


def host(name: str, outcome: Estimate | Missing, limit: float = 1.0, **fields: object) -> HostFigures:
    verdict = replace(judge_budget(ENERGY, outcome, Limit(ENERGY, limit, "p:1"), name), where="p:1")
    made = HostFigures(name, {"energy_per_query": outcome}, (verdict,))
    return replace(made, **fields)  # type: ignore[arg-type]


def judged(*hosts: HostFigures, budget: Budget = BUDGET, alarms: int = 1) -> list[Verdict]:
    return list(pooled(hosts, budget, "t on H100", alarms=alarms))


def test_the_interval_of_a_level_is_that_of_the_random_effects_model() -> None:
    logs, errors = [0.0, 0.02, -0.01], [0.004, 0.003, 0.005]
    found = level_ratio([LaunchLevel(log, error) for log, error in zip(logs, errors, strict=True)], low_error=0.005, high_error=0.005)
    seen = sum((log - statistics.fmean(logs)) ** 2 for log in logs) - sum(error**2 for error in errors) * 2 / 3
    for side, end in (("low", found.low), ("high", found.high)):
        prior = PRIORS[side]
        degrees = prior.degrees + 2
        between = (prior.degrees * prior.spread**2 + max(0.0, seen)) / degrees
        half = student_t_quantile(0.995, degrees) * math.sqrt(between / 3 + sum(error**2 for error in errors) / 9)
        assert abs(math.log(end / found.value)) == pytest.approx(half)
    assert found.value == pytest.approx(math.exp(statistics.fmean(logs)))


def test_one_host_keeps_its_own_verdicts() -> None:
    only = host("a", level(0.5))
    assert judged(only) == list(only.verdicts)


@pytest.mark.parametrize(
    ("joules", "word"),
    [
        ((0.5, 0.5, 0.5), "PASS"),
        ((1.5, 1.5, 1.5), "FAIL"),
        ((0.97, 0.98, 0.96), "PASS"),  # each of them is below for certain
        ((1.03, 1.02, 1.04), "FAIL"),
        ((0.97, 0.98, 1.03), "INCONCLUSIVE"),
        ((0.5, 0.5, 3.0), "INCONCLUSIVE"),  # two kinds of hosts: nobody knows what the next one will use
    ],
)
def test_hosts_are_pooled_and_what_all_say_is_what_they_say(joules: tuple[float, ...], word: str) -> None:
    (verdict,) = judged(*(host(f"h{index}", level(each)) for index, each in enumerate(joules)))
    assert verdict.word == word, verdict.reason
    assert "t on H100 (3 hosts) used" in verdict.reason
    assert verdict.where == "p:1"


def test_more_verdicts_to_share_the_error_need_a_clearer_fail() -> None:
    hosts = [host("a", level(1.0, 3)), host("b", level(1.09, 0.1)), host("c", level(1.13, 0.1)), host("d", level(1.12, 0.1))]
    (alone,), (among,) = judged(*hosts), judged(*hosts, alarms=100_000)
    assert (alone.word, among.word) == ("FAIL", "INCONCLUSIVE")
    assert "not clearly enough to fail one of 100000 verdicts" in among.reason


def test_a_host_without_a_figure_stays_unmeasured_beside_the_others() -> None:
    lost = Missing("the meter was lost")
    pool, missing = judged(host("a", level(0.5)), host("b", level(0.5)), host("c", lost))
    assert (pool.word, missing.word) == ("PASS", "UNMEASURED")
    assert missing.reason.startswith("c: ")
    only, missing = judged(host("a", level(0.5)), host("c", lost))
    assert (only.word, missing.word) == ("PASS", "UNMEASURED")
    (none,) = judged(host("a", lost), host("b", lost))
    assert none.word == "UNMEASURED"


def test_exact_figures_are_judged_on_every_host_and_the_worst_counts() -> None:
    def scored(name: str, value: float) -> HostFigures:
        outcome = Estimate(value, value - 0.02, value + 0.02, ACCURACY.dimension, 100, 0.99)
        verdict = judge_budget(ACCURACY, outcome, Limit(ACCURACY, 0.9, "p:1"), name, by_interval=False)
        return HostFigures(name, {"accuracy": outcome}, (verdict,))

    (verdict,) = judged(scored("a", 0.95), scored("b", 0.89), scored("c", 0.94))
    assert verdict.word == "FAIL"
    assert verdict.reason.startswith("b: ")


def test_a_higher_figure_may_be_the_better_one() -> None:
    rates = [Estimate(each, each * 0.99, each * 1.01, THROUGHPUT.dimension, 9, 0.99) for each in (100.0, 102.0, 98.0)]
    pool = pooled_estimate(THROUGHPUT, rates, 0.99)
    assert pool.value == pytest.approx(100.0, rel=0.001)
    assert pool.low is not None
    assert pool.high is not None
    # The side that makes a FAIL assumes more of hosts, here the upper one.
    assert math.log(pool.high / pool.value) > math.log(pool.value / pool.low)


def test_a_comparison_side_by_side_is_pooled_by_its_ratios() -> None:
    def beside(name: str, times: float) -> HostFigures:
        verdict = Verdict(
            "PASS", "energy_per_query", "base_ref", "…", level(0.5), where="main", base=0.5, ratio=Ratio(times, times * 0.99, times * 1.01)
        )
        return HostFigures(name, {"energy_per_query": level(0.5)}, (replace(verdict, word="PASS" if times < 1.04 else "INCONCLUSIVE"),))

    (same,) = judged(beside("a", 1.0), beside("b", 1.01), beside("c", 0.99))
    assert (same.word, same.kind, same.where) == ("PASS", "base_ref", "main")
    (worse,) = judged(beside("a", 1.15), beside("b", 1.16), beside("c", 1.14))
    assert worse.word == "FAIL", worse.reason
    assert worse.ratio is not None
    assert worse.ratio.value == pytest.approx(1.15, rel=0.001)
    (unsure,) = judged(beside("a", 1.0), beside("b", 1.12))
    assert unsure.word == "INCONCLUSIVE"
    assert "With so few hosts, launches are assumed to differ by 2.3 %." in unsure.reason


def test_saved_runs_that_are_equal_are_several_all_the_same() -> None:
    saved = {"energy_per_query": (level(0.5), level(0.5), level(0.5))}

    def held(name: str) -> HostFigures:
        verdict = Verdict(
            "INCONCLUSIVE", "energy_per_query", "baseline", "…", level(0.6), where="main", base=0.5, ratio=Ratio(1.2, 0.9, 1.5)
        )
        return HostFigures(name, {"energy_per_query": level(0.6)}, (verdict,), saved=saved)

    (verdict,) = judged(held("a"), held("b"), held("c"))
    assert verdict.word == "FAIL"
    assert "(0.500 J, 3 saved), worse than the tolerance of 5.0 %." in verdict.reason
    assert "With so few hosts" not in verdict.reason


def test_a_host_that_was_not_compared_is_unmeasured() -> None:
    verdict = Verdict("PASS", "energy_per_query", "base_ref", "…", level(0.5), where="main", base=0.5, ratio=Ratio(1.0, 0.99, 1.01))
    compared = HostFigures("a", {"energy_per_query": level(0.5)}, (verdict,))
    _, missing = judged(compared, HostFigures("b", {"energy_per_query": level(0.5)}))
    assert missing.word == "UNMEASURED"
    assert "main" in missing.reason


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=6), st.floats(1.0, 3.0))
def test_no_fail_gets_milder_when_every_host_uses_more(joules: list[float], times: float) -> None:
    before, after = (
        judged(*(host(f"h{index}", level(factor * each)) for index, each in enumerate(joules)))[0].word for factor in (1.0, times)
    )
    order = ("PASS", "INCONCLUSIVE", "FAIL")
    assert order.index(after) >= order.index(before)


def test_the_two_hosts_that_are_farthest_apart_are_named() -> None:
    hosts = [host("a", level(0.5)), host("b", level(0.505)), host("c", level(0.6)), host("d", level(0.7))]
    (said,) = disagreeing(hosts, ["energy_per_query"])
    assert "d used 0.7000 J" in said
    assert "a used 0.5000 J" in said
    assert disagreeing(hosts[:2], ["energy_per_query", "accuracy"]) == []


# --- what is expected -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "kind", "meant"),
    [
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("h100", "2 × NVIDIA H100 80GB HBM3", True),
        ("A100", "NVIDIA A100-SXM4-80GB", True),
        ("L4", "NVIDIA L4", True),
        ("L4", "NVIDIA L40S", False),
        ("L4", "NVIDIA GL4", False),
        ("NVIDIA L4*", "NVIDIA L40S", True),
        ("NVIDIA L4*", "Tesla NVIDIA L4", False),
        ("EPYC", "AMD EPYC 7763 64-Core Processor", True),
        (".*", "anything", False),
    ],
)
def test_what_is_meant_by_a_kind(expected: str, kind: str, meant: bool) -> None:
    assert is_meant(expected, kind) is meant


def test_every_expected_pair_that_is_not_there_is_a_gap() -> None:
    seen = Measurements({"NVIDIA L4": {"t::a": 2}, "NVIDIA H100": {"t::a": 1, "t::b": 1}}, {"NVIDIA L4": {"t::b": "needs 80 GB"}})
    assert gaps(Expected(), seen) == []
    assert gaps(Expected(("H100", "L4")), seen) == []
    assert gaps(Expected(("H100",), ("t::c",)), seen) == [Gap("t::c", "NVIDIA H100", "no part has it on NVIDIA H100")]
    assert [(gap.test, gap.why) for gap in gaps(Expected(("H100", "L4"), hosts=2), seen)] == [
        ("t::a", "1 of 2 hosts measured it on NVIDIA H100"),
        ("t::b", "1 of 2 hosts measured it on NVIDIA H100"),
    ]
    assert {gap.test for gap in gaps(Expected(("T4",)), seen)} == {"t::a", "t::b"}
    assert [gap.test for gap in gaps(Expected(("T4",)), Measurements())] == ["every test"]
    assert [gap.hardware for gap in gaps(Expected((), ("t::c",)), seen)] == ["NVIDIA L4", "NVIDIA H100"]


def test_unmeasured_verdicts_of_all_hosts_are_one() -> None:
    verdict = unmeasured(ENERGY, "t", "no limit for this hardware")
    assert [each.word for each in judged(HostFigures("a", {}, (verdict,)), HostFigures("b", {}, (verdict,)))] == ["UNMEASURED"]
