"""Estimates: figures worked out by hand, intervals that cover as often as they promise, and reasons where there is no figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import block, idle, latencies, run, source
from scipy.stats import binomtest, poisson

from pytest_greencompute.estimates import of_run
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.domains import idle_watts, judged_sources, stood_idle
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome, with_systematic
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.verdict import word_for
from pytest_greencompute.stats.distributions import student_t_quantile
from pytest_greencompute.stats.intervals import FAR, FINEST, bootstrap_low, mean_interval, positive_low
from pytest_greencompute.stats.looks import looks
from pytest_greencompute.values.footprint import Footprint
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.run import Run

AIM = Aim()


def figured(found: Run, name: str = "energy_per_query", aim: Aim = AIM) -> Estimate:
    outcome = estimate(found, METRICS[name], aim)
    assert isinstance(outcome, Estimate), outcome
    return outcome


def missing(found: Run, name: str = "energy_per_query", aim: Aim = AIM) -> Missing:
    outcome = estimate(found, METRICS[name], aim)
    assert isinstance(outcome, Missing), outcome
    return outcome


# The bound of a mean by resampling


@pytest.mark.parametrize("n", [10, 40, 200])
def test_the_bootstrap_bound_is_too_high_about_as_often_as_it_may_be(n: int) -> None:
    rng = np.random.default_rng(n)
    trials, chance = 800, 0.05
    skewed = rng.beta(0.5, 2.0, (trials, n))
    above = sum(bootstrap_low(values, chance) > 0.2 for values in skewed.tolist())
    assert above <= trials * chance * 1.7


def test_the_bootstrap_bound_of_many_is_students_and_the_same_each_time() -> None:
    values = np.random.default_rng(5).standard_normal(4000).tolist()
    assert bootstrap_low(values, 0.005) == pytest.approx(mean_interval(values, 0.99)[1], abs=0.004)
    assert bootstrap_low(values, 0.005) == bootstrap_low(values, 0.005)


@pytest.mark.parametrize(("values", "bound"), [([0.5], -math.inf), ([0.1, 0.9], -math.inf), ([0.3] * 9, 0.3)])
def test_the_bootstrap_bound_of_too_few_or_equal_values(values: list[float], bound: float) -> None:
    assert bootstrap_low(values, 0.005) == pytest.approx(bound)


# Energy, by hand


def test_energy_per_query_is_the_blocks_energy_less_idle_power_for_the_time_that_was_not_busy() -> None:
    # 112 J in 1.2 s of which 1.0 s was busy: 112 - 60 W * 0.2 s = 100 J for 10 queries.
    found = figured(run([block(112, set_index=k) for k in range(4)], idles=(idle(60), idle(60))))
    assert found.value == pytest.approx(10.0)
    assert (found.low, found.high) == pytest.approx((10.0 - FINEST * 10, 10.0 + FINEST * 10))  # nothing is known more finely
    assert (found.domain, found.method, found.n, found.dimension.si) == ("gpu:0", "counter", 4, "J")


def test_without_idle_readings_nothing_is_taken_off() -> None:
    assert figured(run([block(112, set_index=k) for k in range(4)])).value == pytest.approx(11.2)


def test_energy_above_idle_also_loses_the_idle_power_of_the_busy_time() -> None:
    made = run([block(112, set_index=k) for k in range(4)], idles=(idle(60), idle(60)))
    assert figured(made, "energy_above_idle_per_query").value == pytest.approx(4.0)
    assert figured(made, "average_power").value == pytest.approx(100.0)
    assert figured(made, "average_power").dimension.si == "W"


def test_throughput_counts_the_busy_time_only() -> None:
    assert figured(run([block(112, set_index=k, queries=30, busy_s=1.5) for k in range(4)]), "throughput").value == pytest.approx(20.0)


def test_the_interval_is_students_over_complete_sets() -> None:
    # Sets of 9, 10 and 11 J per query: sd 1, t(0.995, 2) = 9.9248, half = 9.9248 / sqrt(3).
    blocks = [block(joules, set_index=k) for k, pair in enumerate([(80, 100), (90, 110), (100, 120)]) for joules in pair]
    found = figured(run(blocks))
    assert found.n == 3
    assert found.value == pytest.approx(10.0)
    assert found.half_width == pytest.approx(9.92484 / math.sqrt(3), rel=1e-4)


def test_sets_that_differ_by_more_than_noise_explains_are_judged_by_their_own_spread() -> None:
    quiet = run([block(joules, set_index=k, phase=number / 9) for k, joules in enumerate([99.0, 101.0]) for number in range(9)])
    found = figured(quiet)
    assert found.n == 2
    # No noise within the sets; between them a standard deviation of 0.1414 J per query: Student's t with one degree of freedom at 99 %.
    assert found.half_width == pytest.approx(63.657 * 0.141421 / math.sqrt(2), rel=1e-4)


def test_one_set_has_an_interval_from_its_own_phases() -> None:
    rng = np.random.default_rng(2)
    found = figured(run([block(100 + float(rng.standard_normal()), phase=k / 9) for k in range(9)]))
    assert found.n == 1
    assert found.half_width is not None
    assert 0.03 < found.half_width < 0.5


def test_one_block_alone_has_no_interval() -> None:
    found = figured(run([block(100)]))
    assert (found.low, found.high, found.half_width, found.n) == (None, None, None, 1)


def test_planned_looks_share_the_error_among_them() -> None:
    blocks = [block(100 + k % 3, set_index=k) for k in range(8)]
    one, two = figured(run(blocks)), figured(run(blocks, looks=2))
    shared = mean_interval([10 + k % 3 / 10 for k in range(8)], 0.995)
    assert two.half_width == pytest.approx(shared[2] - shared[0], rel=1e-3)  # type: ignore[operator]
    assert two.half_width > one.half_width  # type: ignore[operator]
    assert two.confidence == 0.99


def test_the_uncertainty_of_idle_power_and_the_counters_step_widen_the_interval() -> None:
    blocks = [block(112, set_index=k) for k in range(4)]
    unsure = figured(run(blocks, idles=(idle(55), idle(65))))
    # Idle power 60 W with a standard error of 5 W, over 0.2 s of gap for 10 queries, at 99 %.
    assert unsure.half_width == pytest.approx(2.6 * 5 * 0.2 / 10, rel=0.01)
    coarse = figured(run(blocks, sources=(source(step_j=1.0),)))
    assert coarse.half_width == pytest.approx(0.1, rel=0.02)
    # Ticks that come up to 10 ms early or late leave 93 W * 10 ms open at two ends of four blocks, for 40 queries.
    trembling = figured(run(blocks, sources=(source(jitter_s=0.01),)))
    assert trembling.half_width == pytest.approx(112 / 1.2 * 0.01 * math.sqrt(8) / 40, rel=0.2)


def test_idle_power_is_weighted_by_time() -> None:
    watts, error = idle_watts(run([], idles=(idle(60, seconds=3.0), idle(80, seconds=1.0), idle(5, "cpu"))), "gpu:0")
    assert watts == pytest.approx(65)
    assert error == pytest.approx(math.sqrt(200) / math.sqrt(2))
    assert idle_watts(run([]), "gpu:0") == (0.0, 0.0)


def test_the_weakest_method_and_the_largest_systematic_share_are_told() -> None:
    both = (source("gpu:0", systematic=0.02), source("cpu", method="modelled", tick_s=0.0, systematic=0.3))
    found = figured(run([block({"gpu:0": 100, "cpu": 20}, set_index=k) for k in range(4)], sources=both), aim=Aim(domains=("all",)))
    assert found.value == pytest.approx(12.0)
    assert (found.method, found.domain, found.systematic) == ("modelled", "gpu:0+cpu", 0.3)
    assert str(found).endswith("modelled")


# Whose energy


MIXED = (source("gpu:0"), source("gpu:1"), source("cpu", tick_s=0.0), source("dram", tick_s=0.0))


@pytest.mark.parametrize(
    ("domains", "counted"),
    [
        (("auto",), ["gpu:0", "gpu:1"]),
        (("gpu",), ["gpu:0", "gpu:1"]),
        (("gpu:1",), ["gpu:1"]),
        (("cpu",), ["cpu"]),
        (("cpu", "dram"), ["cpu", "dram"]),
        (("gpu:0", "dram"), ["gpu:0", "dram"]),
        (("all",), ["gpu:0", "gpu:1", "cpu", "dram"]),
    ],
)
def test_the_domains_that_count_are_those_asked_for(domains: tuple[str, ...], counted: list[str]) -> None:
    each = {made.domain: 100.0 for made in MIXED}
    made = run([block(each, set_index=k) for k in range(4)], sources=MIXED)
    chosen = judged_sources(made, Aim(domains=domains))
    assert not isinstance(chosen, Missing)
    assert [each.domain for each in chosen] == counted
    assert figured(made, aim=Aim(domains=domains)).value == pytest.approx(10.0 * len(counted))


def test_without_a_gpu_auto_counts_everything_that_is_metered() -> None:
    made = run([block({"cpu": 50, "dram": 10}, set_index=k) for k in range(4)], sources=MIXED[2:])
    assert figured(made).value == pytest.approx(6.0)


@pytest.mark.parametrize("wanted", ["gpu:7", "dram"])
def test_a_domain_that_nothing_meters_is_missing_and_named(wanted: str) -> None:
    reason = missing(run([block(100)]), aim=Aim(domains=(wanted,))).reason
    assert wanted in reason
    assert "metered: gpu:0" in reason


def test_without_any_meter_the_doctor_is_named() -> None:
    assert "greencompute doctor" in missing(run([], sources=())).reason


def test_a_gpu_that_stood_idle_is_left_out_of_the_sum() -> None:
    sources = (source("gpu:0"), source("gpu:1"))
    idles = tuple(idle(60, each.domain) for each in sources for _ in range(3))
    made = run([block({"gpu:0": 312, "gpu:1": 72}, set_index=k) for k in range(4)], sources=sources, idles=idles)
    assert stood_idle(made, sources[1])
    assert not stood_idle(made, sources[0])
    found = figured(made)
    assert found.domain == "gpu:0"
    assert found.value == pytest.approx(30.0)


def test_where_all_gpus_stood_idle_the_model_did_not_run_there() -> None:
    made = run([block(72, set_index=k) for k in range(4)], idles=(idle(60), idle(60)))
    assert "did not run there" in missing(made).reason
    assert "gpu:0" in missing(made).reason


@pytest.mark.parametrize(("energy", "domains"), [({"gpu:0": 0.0}, "gpu:0"), ({"gpu:0": 5.0, "gpu:1": 0.0}, "gpu:1"), ({"cpu": 0.0}, "cpu")])
def test_a_counter_that_stood_still_is_no_figure_of_nothing(energy: dict[str, float], domains: str) -> None:
    still = run([block(energy, set_index=index) for index in range(9)], sources=tuple(map(source, energy)))
    for name in ("energy_per_query", "average_power"):
        outcome = estimate(still, METRICS[name], Aim())
        assert isinstance(outcome, Missing)
        assert outcome.reason.startswith(f"the counter of {domains} stood still while the queries ran: 0 J")
    window = replace(still, blocks=(block(energy, busy_s=3.0),), window=True)
    assert isinstance(estimate(window, METRICS["energy_per_query"], Aim()), Missing)
    modelled = replace(still, sources=tuple(replace(each, method="modelled") for each in still.sources))
    assert isinstance(estimate(modelled, METRICS["energy_per_query"], Aim()), Estimate)
    alone = Aim(domains=("gpu:0",))
    assert isinstance(estimate(still, METRICS["energy_per_query"], alone), Estimate) is (len(energy) > 1)


def test_a_cpu_is_never_said_to_stand_idle() -> None:
    made = run([block({"cpu": 24}, set_index=k) for k in range(4)], sources=(source("cpu"),), idles=(idle(20, "cpu"), idle(20, "cpu")))
    assert figured(made).value == pytest.approx(2.0)


# Spoiled blocks


def test_one_block_with_another_process_leaves_no_energy() -> None:
    blocks = [block(100, set_index=k, marks=("another process",) if k == 2 else ()) for k in range(9)]
    reason = missing(run(blocks)).reason
    assert "another process" in reason
    assert "1 of 9 blocks" in reason
    assert isinstance(estimate(run(blocks), METRICS["throughput"], AIM), Estimate)


@pytest.mark.parametrize(("marked", "spoiled"), [(4, False), (5, True), (9, True)])
def test_more_than_half_the_blocks_marked_leave_no_energy(marked: int, spoiled: bool) -> None:
    blocks = [block(100, set_index=k, marks=("thermal slowdown",) if k < marked else ()) for k in range(9)]
    outcome = estimate(run(blocks), METRICS["energy_per_query"], AIM)
    assert isinstance(outcome, Missing) is spoiled
    if isinstance(outcome, Missing):
        assert f"{marked} of 9 blocks were spoiled (thermal slowdown)" in outcome.reason


def test_a_problem_is_the_reason_for_every_energy_figure() -> None:
    made = run([], problem="the GPU has no counter", latencies=latencies([0.01] * 9), scores=(1.0,))
    outcomes = Figures(made, AIM).every()
    assert [name for name, outcome in outcomes.items() if isinstance(outcome, Estimate)] == [
        "latency_p50",
        "latency_p90",
        "latency_p95",
        "latency_p99",
        "accuracy",
    ]
    assert missing(made).reason == "the GPU has no counter"


def test_an_unmetered_run_has_only_its_score() -> None:
    made = run([], metered=False, sources=(), scores=(1.0, 0.0))
    assert "--energy-budget" in missing(made).reason
    assert figured(made, "accuracy").value == 0.5


def test_a_run_that_lost_all_its_sets_has_no_figure() -> None:
    assert missing(run([])).reason == "no block was measured"


# Windows


def test_a_window_is_off_by_at_most_the_rise_over_a_tick() -> None:
    # 2 s at 300 W over 60 W idle: 240 W of rise over half a tick at either end.
    made = run([block(600 + 60 * 0.2, queries=1, busy_s=2.0)], window=True, idles=(idle(60), idle(60)))
    found = figured(made)
    assert found.value == pytest.approx(600)
    assert found.half_width == pytest.approx(240 * 0.1)
    assert found.n == 1


def test_a_window_under_ten_ticks_is_unclear_and_says_how_long_it_must_be() -> None:
    outcome = missing(run([block(300, queries=1, busy_s=0.9)], window=True, idles=(idle(60), idle(60))))
    assert outcome.unclear
    assert "1.00 s" in outcome.reason
    assert isinstance(estimate(run([block(300, queries=1, busy_s=1.0)], window=True), METRICS["energy_per_query"], AIM), Estimate)


def test_a_window_has_no_latency_per_query() -> None:
    assert "use measure()" in missing(run([block(300, queries=1)], window=True), "latency_p95").reason


# Positive quantities


POSITIVE = ("energy_per_query", "average_power", "throughput", "carbon_per_query", "cost_per_query")


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("looks", [1, 6])
def test_however_much_the_sets_differ_a_positive_quantity_stays_above_zero(name: str, looks: int) -> None:
    """Student's t alone says [-3.6 J, 7.7 J]."""
    blocks = [block(joules, set_index=k, busy_s=joules / 20) for k, joules in enumerate([1.0, 4.0, 70.0, 8.0])]
    aim = Aim(footprint=Footprint(1e-7, "set by you", 1e-7, "EUR"))
    found = figured(run(blocks, looks=looks), name, aim)
    assert found.low is not None
    assert 0 < found.low < found.value
    assert found.high is not None
    assert max(found.value / found.low, found.high / found.value) < 1000


def test_the_step_of_a_counter_that_is_wider_than_the_figure_leaves_it_above_zero() -> None:
    coarse = (source(tick_s=0.0, step_j=0.034),)
    window = figured(run([block(0.025, queries=1, busy_s=2.0)], window=True, sources=coarse))
    assert window.high == pytest.approx(0.059)
    assert window.low == pytest.approx(0.025 * 0.005)
    blocks = figured(run([block(0.025 + 0.001 * (k % 2), set_index=k, queries=1) for k in range(4)], sources=coarse))
    assert blocks.high == pytest.approx(0.0595, rel=0.01)
    assert blocks.low == pytest.approx(0.0255 * 0.005**0.25, rel=0.01)


def test_a_difference_of_two_readings_may_fall_below_zero() -> None:
    blocks = [block(joules, set_index=k) for k, joules in enumerate([100.0, 73.0, 75.0])]
    found = figured(run(blocks, idles=(idle(60), idle(60))), "energy_above_idle_per_query")
    assert found.low is not None
    assert found.low < 0


def test_a_sample_that_is_negative_leaves_no_bound_above_zero() -> None:
    assert positive_low([1.0, -1.0, 5.0], 0.005) == 0.0


def test_a_sample_of_zero_leaves_a_bound_by_the_mean() -> None:
    """A stretch in which a counter did not move: the others are millions of times over a budget all the same."""
    blocks = [block(joules, set_index=k) for k, joules in enumerate([1.0, 4.0, 70.0, 0.0])]
    found = figured(run(blocks))
    assert found.low == pytest.approx(0.0005 * found.value)
    assert positive_low([0.0, 0.0], 0.005) == 0.0


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_zeros_and_prizes_together_err_no_more_often_than_promised(n: int) -> None:
    chance, trials = 0.04, 20_000
    for share in (chance / 20 / n, chance / n, chance ** (1 / n), 0.5):
        prize = np.random.default_rng(n).random((trials, n)) < share
        wrong = sum(positive_low(row, chance) >= 1 - 1e-9 for row in np.where(prize, 1 / share, 0.0).tolist())
        assert wrong <= poisson.ppf(0.999, trials * 1.1 * chance)


def test_one_block_has_no_interval_and_is_the_smallest_of_its_samples() -> None:
    assert figured(run([block(100)])).extremes == (10.0, 10.0)


def test_what_cards_differ_by_leaves_a_positive_figure_positive() -> None:
    found = Estimate(1.0, 0.001, 2.0, METRICS["energy_per_query"].dimension, 4, 0.99, systematic=0.05)
    assert with_systematic(found).low == pytest.approx(0.00095)


# Latency


def test_percentiles_are_order_statistics() -> None:
    made = run([], latencies=latencies(reversed([k / 1000 for k in range(1, 201)])))
    assert figured(made, "latency_p50").value == 0.100
    assert figured(made, "latency_p95").value == 0.190
    assert figured(made, "latency_p99").value == 0.198
    found = figured(made, "latency_p95")
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.190 < found.high


@given(n=st.integers(1, 3000), name=st.sampled_from(["latency_p50", "latency_p95", "latency_p99"]))
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(n: int, name: str) -> None:
    share = Fraction(str(METRICS[name].fraction))
    made = run([], latencies=latencies(range(1, n + 1)))
    assert figured(made, name).value == math.ceil(n * share)


@pytest.mark.parametrize(("name", "enough"), [("latency_p95", 104), ("latency_p99", 528)])
def test_with_few_batches_the_upper_side_is_open_and_said(name: str, enough: int) -> None:
    few = figured(run([], latencies=latencies(k / 1000 for k in range(1, enough))), name)
    assert few.high is None
    assert few.low is not None
    assert few.half_width is None
    assert few.relative == math.inf
    assert f"{enough - 1} batches" in few.note
    assert figured(run([], latencies=latencies(k / 1000 for k in range(1, enough + 1))), name).high is not None


# Scores


def test_right_and_wrong_answers_have_an_exact_binomial_interval() -> None:
    found = figured(run([], scores=(1.0,) * 90 + (0.0,) * 10), "accuracy")
    assert found.value == pytest.approx(0.9)
    exact = binomtest(90, 100).proportion_ci(0.99, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_graded_scores_have_students_interval() -> None:
    found = figured(run([], scores=(0.25, 0.5, 0.75, 1.0)), "accuracy")
    assert found.value == 0.625
    assert found.half_width == pytest.approx(5.8409 * math.sqrt(5 / 48) / 2, rel=1e-4)


def test_a_score_of_all_right_has_an_interval_too() -> None:
    found = figured(run([], scores=(1.0,) * 30), "accuracy")
    assert found.high == 1.0
    assert found.low is not None
    assert 0.8 < found.low < 0.9


def test_without_references_there_is_no_accuracy() -> None:
    assert "references" in missing(run([]), "accuracy").reason


# Coverage, by simulation


def outliers(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return (1 + 0.02 * rng.standard_normal(shape)) * np.where(rng.random(shape) < 0.05, 3.0, 1.0) / 1.1


def cut_t3(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Student's t with three degrees of freedom, as wide as a positive quantity can be: symmetric about 1."""
    return np.clip(1 + 0.15 * rng.standard_t(3, shape), 0.0, 2.0)


SAMPLES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {  # positive, of mean 1
    "normal 2 %": lambda rng, shape: 1 + 0.02 * rng.standard_normal(shape),
    "normal 20 %": lambda rng, shape: np.abs(1 + 0.2 * rng.standard_normal(shape)),
    "lognormal 0.3": lambda rng, shape: np.exp(0.3 * rng.standard_normal(shape) - 0.045),
    "lognormal 1": lambda rng, shape: np.exp(rng.standard_normal(shape) - 0.5),
    "lognormal 1.5": lambda rng, shape: np.exp(1.5 * rng.standard_normal(shape) - 1.125),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "gamma 0.5": lambda rng, shape: rng.gamma(0.5, 2.0, shape),
    "t3": cut_t3,
    "outliers": outliers,
}


@pytest.mark.parametrize("name", list(SAMPLES))
@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 50])
@pytest.mark.parametrize("chance", [0.005, 0.005 / 16])
def test_the_lower_end_is_too_high_no_more_often_than_promised(name: str, n: int, chance: float) -> None:
    """What makes a FAIL: the higher of Student's t and of the bound for positive values, skewed and heavy-tailed samples alike."""
    trials = 40_000
    values = SAMPLES[name](np.random.default_rng(n), (trials, n))
    student = values.mean(axis=1) - student_t_quantile(1 - chance, n - 1) * values.std(axis=1, ddof=1) / math.sqrt(n)
    with np.errstate(divide="ignore"):
        bound = np.maximum(np.exp(np.log(values).mean(axis=1)) * chance ** (1 / n), values.min(axis=1) / FAR)
    assert positive_low(values[0].tolist(), chance) == pytest.approx(bound[0])
    wrong = int((np.maximum(student, bound) > 1).sum())
    assert wrong <= poisson.ppf(0.999, trials * chance * 1.03)
    assert int((bound > 1).sum()) <= poisson.ppf(0.999, trials * chance)


def test_the_bound_for_positive_values_is_no_wider_than_it_must_be() -> None:
    """A lottery with one prize, in which every sample is either worth nothing or all: the worst case is wrong as often as is allowed."""
    rng, chance, n = np.random.default_rng(1), 0.04, 2
    prize = rng.random((50_000, n)) < 0.2  # chance ** (1 / n)
    values = np.where(prize, 5.0, 1e-9)
    wrong = sum(positive_low(row, chance) >= 1 - 1e-9 for row in values.tolist())
    assert wrong / 50_000 == pytest.approx(chance, rel=0.1)


@pytest.mark.parametrize("name", ["normal 2 %", "normal 20 %", "t3"])
@pytest.mark.parametrize("n", [3, 5, 10, 50])
def test_the_whole_interval_covers_as_often_as_it_promises_where_samples_are_not_skewed(name: str, n: int) -> None:
    trials, missed = 4000, 0
    for values in SAMPLES[name](np.random.default_rng(n), (trials, n)).tolist():
        _, low, high = mean_interval(values, 0.99)
        assert low is not None
        assert high is not None
        missed += not max(low, positive_low(values, 0.005)) <= 1 <= high
    assert missed <= poisson.ppf(0.999, trials * 0.01)


def normal(rng: np.random.Generator, count: int) -> np.ndarray:
    return 100 + 2 * rng.standard_normal(count)


def skewed(rng: np.random.Generator, count: int) -> np.ndarray:
    """Sets of nine blocks, of which one in ten is hit by something that costs 10 %."""
    return 100 + (2 * rng.standard_normal((count, 9)) + 10 * (rng.random((count, 9)) < 0.1)).mean(axis=1) - 1.0


@pytest.mark.parametrize("draw", [normal, skewed])
@pytest.mark.parametrize("sets", [3, 5, 13])
def test_the_interval_of_energy_covers_as_often_as_it_promises(draw: Callable[[np.random.Generator, int], np.ndarray], sets: int) -> None:
    rng = np.random.default_rng(7)
    trials, covered = 1200, 0
    for _ in range(trials):
        found = figured(run([block(float(joules), set_index=k) for k, joules in enumerate(draw(rng, sets))]))
        covered += found.low <= 10.0 <= found.high  # type: ignore[operator]
    # Student's interval gives away a few tenths of a per cent where the sets are skewed.
    assert covered / trials >= (0.985 if draw is normal else 0.98)


@pytest.mark.parametrize("swing", [0.0, 40.0])
@pytest.mark.parametrize("sets", [1, 2, 3, 4])
def test_with_few_sets_the_interval_covers_noise_and_what_the_phase_does(sets: int, swing: float) -> None:
    rng = np.random.default_rng(13)
    trials, covered = 500, 0
    for _ in range(trials):
        blocks = []
        for index in range(sets):
            shift = rng.random()
            for k in rng.permutation(9):
                phase = float(k + shift) / 9
                seen = 100 + swing * math.sin(2 * math.pi * phase) + float(rng.standard_normal())
                blocks.append(block(seen, set_index=index, phase=phase))
        found = figured(run(blocks))
        covered += found.low <= 10.0 <= found.high  # type: ignore[operator]
    assert covered / trials >= 0.98


def stopped_word(joules: Sequence[float], plan: tuple[int, ...], limit: float) -> str:
    """The word at the first look at which the verdict is certain, as the measuring loop stops."""
    blocks = [block(float(each), set_index=k) for k, each in enumerate(joules)]
    word = ""
    for count in plan:
        word = word_for(figured(run(blocks[:count], looks=len(plan))), limit, "lower")
        if word != "INCONCLUSIVE":
            break
    return word


def test_stopping_as_soon_as_a_verdict_is_certain_keeps_the_error_over_all_looks() -> None:
    # The limit is the truth itself, the hardest case: either certain word is wrong, whichever look it came from.
    rng = np.random.default_rng(11)
    plan = looks(34)
    assert plan == (5, 8, 13, 20, 33, 34)
    trials = 2000
    wrong = sum(stopped_word(normal(rng, plan[-1]), plan, 10.0) != "INCONCLUSIVE" for _ in range(trials))
    assert wrong / trials <= 0.01


def test_without_sharing_the_error_the_same_simulation_would_fail() -> None:
    """The test above can fail: with the full confidence at each look the wrong words are well above one per cent."""
    rng = np.random.default_rng(11)
    plan = looks(34)
    wrong = 0
    for _ in range(600):
        blocks = [block(float(each), set_index=k) for k, each in enumerate(normal(rng, plan[-1]))]
        words = {word_for(figured(run(blocks[:count])), 10.0, "lower") for count in plan}
        wrong += words != {"INCONCLUSIVE"}
    assert wrong / 600 > 0.015


def test_a_binomial_interval_of_scores_covers_at_least_as_often_as_it_promises() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        found = figured(run([], scores=tuple(float(each) for each in rng.random(60) < 0.93)), "accuracy")
        covered += found.low <= 0.93 <= found.high  # type: ignore[operator]
    assert covered / 400 >= 0.985


def test_the_interval_of_a_percentile_covers_as_often_as_it_promises() -> None:
    rng = np.random.default_rng(5)
    truth = -math.log(0.05)
    covered = 0
    for _ in range(1000):
        found = figured(run([], latencies=latencies(rng.exponential(size=120))), "latency_p95")
        covered += found.low <= truth <= found.high  # type: ignore[operator]
    assert covered / 1000 >= 0.985


def test_a_figure_is_worked_out_once_and_as_it_would_be_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = run([block(100 + k % 2, set_index=k) for k in range(8)], scores=(1.0,) * 9, tokens=(5,) * 100, latencies=latencies([0.1] * 9))
    aim = replace(AIM, footprint=Footprint(1e-7, "set by you", 1e-7, "EUR"))
    alone = {name: estimate(made, metric, aim) for name, metric in METRICS.items()}
    asked: list[str] = []

    def once(run: Run, metric: Metric, aim: Aim) -> Outcome:
        asked.append(metric.name)
        return estimate(run, metric, aim)

    monkeypatch.setattr(of_run, "estimate", once)
    figures = Figures(made, aim)
    assert str(figures.every()) == str(alone)
    assert str(figures.every()) == str(alone)
    assert len(asked) == len(set(asked))
    assert asked.count("energy_per_query") == 1
    assert not {"energy_per_token", "carbon_per_query", "cost_per_query"} & set(asked)  # made of the energy per query
    assert figures.at(0.9) is figures.at(0.9)
    assert figures.at(0.99) is figures
    assert str(figures.at(0.9).of(METRICS["accuracy"])) == str(estimate(made, METRICS["accuracy"], replace(aim, confidence=0.9)))


def test_an_estimate_compares_by_its_figure_and_prints_its_precision() -> None:
    found = figured(run([block(100 + k % 2, set_index=k) for k in range(8)]))
    assert found < "10.1 J"
    assert found > 10
    assert str(found) == "10.1 J ±0.7 %"
    assert str(replace(found, low=None)) == "10.1 J"
