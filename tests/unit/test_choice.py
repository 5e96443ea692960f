"""Which candidate is the right size: worked out on paper, every word with its sentence, and wrong verdicts no more often than promised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from making import block, idle, latencies, run, source
from scipy.stats import binomtest, t

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.judging.choice import ACCURACY, ENERGY, Candidate, Choice, Gain, grid, sweep_name
from pytest_greencompute.judging.right_size import judge_met, judge_right_size, times
from pytest_greencompute.models.answers import digests
from pytest_greencompute.stats.distributions import paired_difference_interval
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import RATIO

AIM = Aim()
HUNDRED = 100


def scores(right: int, of: int = HUNDRED) -> tuple[float, ...]:
    return (1.0,) * right + (0.0,) * (of - right)


def measured(joules: float | Sequence[float], right: int | None = None, **fields: Any) -> Run:
    """Ten sets of one block at so many joules a query."""
    each = [joules] * 10 if isinstance(joules, int | float) else joules
    blocks = [block(value * 10, set_index=index) for index, value in enumerate(each)]
    return run(blocks, scores=None if right is None else scores(right), **fields)


def candidate(name: str, joules: float | Sequence[float], right: int | None = None, **fields: Any) -> Candidate:
    return Candidate(name, measured(joules, right, **fields))


def too_little(name: str, right: int | None = None) -> Candidate:
    """One of whose second the counter has shown nothing."""
    blocks = [block(0.0, busy_s=0.1, gap_s=0.0, set_index=index) for index in range(10)]
    return Candidate(name, run(blocks, scores=None if right is None else scores(right)))


def choice(*candidates: Candidate, **asked: Any) -> Choice:
    return Choice(candidates, AIM, **{"subject": "test_it", **asked})


LARGE, SMALL, TFIDF = candidate("large", 8.0, 90), candidate("small", 2.0, 80), candidate("tfidf", 0.5, 60)
THREE = (LARGE, SMALL, TFIDF)


def test_samples_are_of_many_batches_where_candidates_run_other_ones_in_a_set() -> None:
    """A set is one batch of ten. Of sorted queries batches differ tenfold, of mixed ones they do not: the work in all is the same."""
    walk = [place * 7 % 10 for place in range(80)]
    ordered, mixed = candidate("in order", [1.0 + place for place in walk], batch_size=10), candidate("mixed", [5.5] * 80, batch_size=10)
    ratios = [choice(ordered, mixed, batches=batches).ratio(ordered, mixed) for batches in (1, 10, 1000)]
    assert ratios[0] is not None
    assert ratios[0].low < 0.9
    for ratio in ratios[1:]:
        assert ratio is not None
        assert ratio.value == pytest.approx(1.0)
        assert ratio.high / ratio.low < 1.001


# What is chosen


@pytest.mark.parametrize(
    ("floor", "right"), [(None, "tfidf"), (0.6, "tfidf"), (0.61, "small"), (0.8, "small"), (0.85, "large"), (0.95, None)]
)
def test_the_right_sized_one_is_the_leanest_that_meets_the_floor(floor: float | None, right: str | None) -> None:
    assert choice(*THREE, floor=floor).right_sized == right


def test_limits_leave_out_what_is_slower_and_what_answers_fewer() -> None:
    slow, fast = candidate("slow", 1.0, latencies=latencies([0.1] * 200)), candidate("fast", 2.0, latencies=latencies([0.01] * 200))
    assert choice(slow, fast).right_sized == "slow"
    found = choice(slow, fast, limits={"latency_p95": 0.04})
    assert found.right_sized == "fast"
    assert found.shortfall(slow) == "has a latency_p95 of 0.100 s, over the limit of 40 ms"
    assert (
        choice(slow, fast, limits={"throughput": 11.0}).shortfall(slow)
        == "has a throughput of 10.0 queries/s, under the limit of 11 queries/s"
    )
    assert choice(slow, fast, limits={"throughput": 9.0}).right_sized == "slow"


def test_the_front_holds_those_that_no_other_beats_leanest_first() -> None:
    wasteful = candidate("wasteful", 9.0, 70)
    twin = candidate("twin", 2.0, 80)
    assert choice(*THREE, wasteful).front == ("tfidf", "small", "large")
    assert choice(*THREE, twin).front == ("tfidf", "small", "twin", "large")
    assert choice(candidate("a", 1.0), candidate("b", 2.0)).front == ("a",)


def test_the_best_is_the_most_accurate_and_there_is_none_without_references() -> None:
    assert choice(*THREE).best is LARGE
    assert choice(candidate("a", 1.0), candidate("b", 2.0)).best is None


def test_a_candidate_without_a_figure_is_neither_the_leanest_nor_on_the_front() -> None:
    broken, nothing = Candidate("broken", problem="it raised ValueError: no"), too_little("nothing", 99)
    spoiled = candidate("spoiled", 0.1, 99, problem="the meter was lost")
    found = choice(*THREE, broken, nothing, spoiled)
    assert found.right_sized == "tfidf"
    assert found.front == ("tfidf", "small", "large")
    assert found.shortfall(broken) == "it raised ValueError: no"
    assert found.ratio(LARGE, nothing) is None
    assert found.ratio(broken, LARGE) is None
    outcome = found.outcome(nothing, ENERGY)
    assert isinstance(outcome, Missing)
    assert outcome.reason == "its energy came out as 0 J per query, too little for this meter to tell"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"floor": 0.0}, "floor is 0.0."),
        ({"floor": math.nan}, "floor is nan."),
        ({"floor": 1.01}, "floor is 1.01."),
        ({"limits": {"latency_p95": math.nan}}, "The limit of latency_p95 is nan."),
        ({"limits": {"latency_p95": 0.0}}, "The limit of latency_p95 is 0.0."),
        (
            {"limits": {"accuracy": 0.5}},
            "'accuracy' does not limit a comparison. Known: latency_p50, latency_p90, latency_p95, latency_p99, throughput, and",
        ),
    ],
)
def test_what_must_be_met_is_checked_at_once(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        choice(LARGE, SMALL, **asked)
    assert says in str(refused.value)


@pytest.mark.parametrize("candidates", [(LARGE,), (LARGE, SMALL, LARGE), ()])
def test_a_choice_is_between_two_that_are_told_apart(candidates: tuple[Candidate, ...]) -> None:
    with pytest.raises(SettingsError, match="compares nothing"):
        choice(*candidates)


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_margin_is_a_share(margin: float) -> None:
    with pytest.raises(SettingsError, match="margin is"):
        judge_right_size(choice(*THREE), "large", margin)


# Ratios


def test_the_ratio_of_turns_is_that_of_the_pairs_so_that_what_both_share_cancels() -> None:
    drift = np.linspace(1.0, 2.0, 10)
    one, two = candidate("one", (3.0 * drift).tolist()), candidate("two", (2.0 * drift).tolist())
    paired = choice(one, two).ratio(one, two)
    apart = choice(one, two, by_turns=False).ratio(one, two)
    assert paired is not None
    assert apart is not None
    assert paired.value == pytest.approx(1.5)
    assert paired.high / paired.low < 1.001
    assert apart.value == pytest.approx(1.5)
    assert apart.high / apart.low > 2


def test_sets_that_one_side_lost_are_no_pair() -> None:
    one = Candidate("one", run([block(30, set_index=index) for index in range(12) if index % 4]))
    two = Candidate("two", run([block(20 if index % 4 else 2000, set_index=index) for index in range(12)]))
    ratio = choice(one, two).ratio(one, two)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.5)


def test_of_few_sets_the_ratio_comes_from_the_two_intervals() -> None:
    spread = [0.99, 1.0, 1.01]
    one, two = candidate("one", [3.0 * each for each in spread]), candidate("two", [2.0 * each for each in reversed(spread)])
    ratio = choice(one, two).ratio(one, two)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.5)
    # Student's t with two degrees of freedom on either side: 9.92 * 1 % / sqrt(3), joined as independent.
    half = math.hypot(*[math.atanh(t.ppf(0.995, 2) * 0.01 / math.sqrt(3))] * 2)
    assert math.log(ratio.high / ratio.value) == pytest.approx(half, rel=0.02)
    single = candidate("single", [2.0])
    open_ratio = choice(one, single).ratio(one, single)
    assert open_ratio is not None
    assert (open_ratio.low, open_ratio.high) == (0.0, math.inf)


def test_more_planned_looks_and_less_error_make_a_wider_ratio() -> None:
    rng = np.random.default_rng(3)
    one, two = candidate("one", (3 + rng.normal(0, 0.1, 10)).tolist()), candidate("two", (2 + rng.normal(0, 0.1, 10)).tolist())
    widths = [
        math.log(ratio.high / ratio.low)
        for ratio in (
            choice(one, two).ratio(one, two),
            choice(one, two, looks=6).ratio(one, two),
            choice(one, two, looks=6).ratio(one, two, 0.001),
            choice(one, two, by_turns=False).ratio(one, two),
            choice(one, two, by_turns=False).ratio(one, two, 0.001),
        )
        if ratio is not None
    ]
    assert widths[0] < widths[1] < widths[2]
    assert widths[3] < widths[4]


def test_a_comparison_is_settled_when_every_ratio_to_the_leanest_is_known_to_two_per_cent() -> None:
    rough = candidate("rough", [2.0 * (1 + 0.2 * (-1) ** index) for index in range(10)], 80)
    assert choice(*THREE).settled()
    assert not choice(LARGE, rough, TFIDF).settled()
    assert choice(LARGE, Candidate("broken", problem="it raised")).settled()


def test_times_reads_well() -> None:
    assert times(Ratio(12.44, 11.9, 13.04)) == "12.4 times [11.9, 13.0]"
    assert times(Ratio(12.44, 0.0, math.inf)) == "12.4 times [-, -]"


# Which energy counts


def on_both(name: str, gpu_j: float, cpu_j: float, right: int | None = None) -> Candidate:
    """Ten sets on a machine with a GPU that idles at 50 W, and a CPU."""
    # A span lasts 1.2 s, 0.2 s of it a gap, whose idle power is taken off.
    blocks = [block({"gpu:0": gpu_j * 10 + 10, "cpu": cpu_j * 10}, set_index=index) for index in range(10)]
    idles = [idle(50.0) for _ in range(5)]
    return Candidate(
        name, run(blocks, sources=(source(), source("cpu", tick_s=0.0, device="CPU")), idles=idles, scores=scores(right or 90))
    )


def test_where_all_run_on_the_gpu_it_alone_counts() -> None:
    found = choice(on_both("a", 20.0, 3.0), on_both("b", 10.0, 30.0))
    assert not found.everywhere
    assert found.value(found.candidates[0], ENERGY) == pytest.approx(20.0)
    assert found.right_sized == "b"


def test_where_one_leaves_the_gpu_idle_every_domain_counts_for_all_and_the_sentence_says_so() -> None:
    bert, tfidf = on_both("bert", 20.0, 3.0), on_both("tfidf", 5.0, 2.0)  # 5 J a query are the idle 50 W for the second of ten queries
    found = choice(bert, tfidf)
    assert found.everywhere
    assert found.value(bert, ENERGY) == pytest.approx(23.0)
    assert found.value(tfidf, ENERGY) == pytest.approx(2.0)
    ratio = found.ratio(bert, tfidf)
    assert ratio is not None
    assert ratio.value == pytest.approx(11.5)
    said = judge_right_size(found, "bert", 0.2)
    assert said.word == "FAIL"
    assert "(23.0 J against 2.00 J; gpu:0+cpu against cpu, since one leaves the GPU idle)" in said.reason


def test_a_single_set_in_which_the_idle_gpu_drew_a_little_more_does_not_make_it_count() -> None:
    bert, tfidf = on_both("bert", 20.0, 3.0), on_both("tfidf", 5.0, 2.0)
    assert tfidf.run is not None
    warmer = block({"gpu:0": 66.0, "cpu": 20.0}, set_index=4)  # 55 W in one set of ten
    blocks = [warmer if each.set_index == 4 else each for each in tfidf.run.blocks]
    tfidf = Candidate("tfidf", run(blocks, sources=tfidf.run.sources, idles=tfidf.run.idles))
    ratio = choice(bert, tfidf).ratio(bert, tfidf)
    assert ratio is not None
    assert ratio.low == pytest.approx(11.5, rel=0.001)


def test_domains_that_the_user_named_are_kept_and_an_idle_gpu_is_then_no_figure() -> None:
    bert, tfidf = on_both("bert", 20.0, 3.0), on_both("tfidf", 5.0, 2.0)
    found = Choice((bert, tfidf), Aim(domains=("gpu",)))
    assert not found.everywhere
    assert found.value(bert, ENERGY) == pytest.approx(20.0)
    assert judge_right_size(found, "bert", 0.2).word == "UNMEASURED"


def test_a_gpu_without_another_meter_leaves_a_model_that_needs_none_without_a_figure() -> None:
    alone = Candidate("tfidf", run([block(60, set_index=index) for index in range(10)], idles=[idle(50.0)] * 5))
    found = choice(candidate("bert", 20.0), alone)
    assert not found.everywhere
    assert "did not run there" in found.shortfall(alone) or found.value(alone, ENERGY) is None
    assert judge_right_size(found, "bert", 0.2).word == "UNMEASURED"


def test_a_spoiled_run_does_not_change_which_energy_counts() -> None:
    blocks = [block({"gpu:0": 200, "cpu": 9}, set_index=index, marks=["throttled"]) for index in range(10)]
    spoiled = Candidate("spoiled", run(blocks, sources=(source(), source("cpu", tick_s=0.0, device="CPU"))))
    found = choice(on_both("a", 20.0, 3.0), spoiled)
    assert not found.everywhere
    assert isinstance(found.outcome(spoiled, ENERGY), Missing)


# Accuracy beside


def test_the_difference_of_accuracy_is_paired() -> None:
    one = candidate("one", 1.0, 80)
    other = Candidate("other", run(measured(1.0).blocks, scores=(0.0,) * 5 + (1.0,) * 75 + (0.0,) * 20))
    found = choice(one, other).accuracy_difference(one, other)
    assert found is not None
    assert found.value == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx(paired_difference_interval(5, 0, 100, 0.99))
    assert str(Gain(0.05, 0.01, -0.02)) == "+5.0 points [+1.0, -2.0]"


def test_scores_that_are_not_right_or_wrong_are_compared_by_students_t() -> None:
    graded, worse = [0.5, 0.75, 1.0, 0.25], [0.5, 0.5, 0.75, 0.25]
    one, other = (Candidate(name, run(measured(1.0).blocks, queries=4, scores=tuple(each))) for name, each in [("a", graded), ("b", worse)])
    found = choice(one, other).accuracy_difference(one, other)
    assert found is not None
    half = t.ppf(0.995, 3) * np.std(np.subtract(graded, worse), ddof=1) / 2
    assert (found.value, found.low, found.high) == pytest.approx((0.125, 0.125 - half, 0.125 + half))


def test_without_scores_or_with_others_there_is_no_difference() -> None:
    bare, short = candidate("bare", 1.0), Candidate("short", run(measured(1.0).blocks, scores=scores(3, 5)))
    assert choice(LARGE, bare).accuracy_difference(LARGE, bare) is None
    assert choice(LARGE, short).accuracy_difference(LARGE, short) is None


def test_agreement_is_with_full_precision_where_that_is_swept_else_with_the_first() -> None:
    def one(name: str, answers: str, **values: Any) -> Candidate:
        return Candidate(name, run(measured(1.0).blocks, queries=4, answers=digests(list(answers))), values=values)

    plain = choice(one("a", "wxyz"), one("b", "wxyy"))
    assert [plain.agreement(each) for each in plain.candidates] == [None, 0.75]
    swept = choice(one("bf16", "wxyy", precision="bf16"), one("fp32", "wxyz", precision="fp32"))
    assert [swept.agreement(each) for each in swept.candidates] == [0.75, None]
    kept = choice(plain.candidates[0], Candidate("c", measured(1.0), alike=0.5), Candidate("d", problem="it raised"))
    assert [kept.agreement(each) for each in kept.candidates] == [None, 0.5, None]


# The verdict


def test_a_default_that_costs_more_than_the_margin_fails_and_the_sentence_says_how_much_for_what() -> None:
    said = judge_right_size(choice(*THREE, floor=0.8), "large", 0.2)
    assert said.word == "FAIL"
    assert (said.metric, said.kind, said.run) == ("energy_per_query", "comparison", "large")
    assert said.estimate is not None
    assert said.estimate.value == pytest.approx(8.0)
    assert said.reason.startswith(
        "test_it: large uses 4.00 times [4.00, 4.00] the energy per query of small (8.00 J against 2.00 J on gpu:0), for +10.0 points ["
    )
    assert said.reason.endswith("] of accuracy (0.900 against 0.800): more than the margin of 20 %.")


def test_the_leanest_that_meets_what_is_asked_passes() -> None:
    said = judge_right_size(choice(*THREE, floor=0.8), "small", 0.2)
    assert (said.word, said.reason) == ("PASS", "test_it: small is the leanest candidate that meets what is asked.")
    assert judge_right_size(choice(*THREE), "tfidf", 0.0).reason == "test_it: tfidf is the leanest candidate."


def test_a_default_within_the_margin_passes_and_says_by_how_much() -> None:
    said = judge_right_size(choice(candidate("a", 1.1), candidate("b", 1.0)), "a", 0.2)
    assert said.word == "PASS"
    assert (
        said.reason
        == "test_it: a uses 1.10 times [1.10, 1.10] the energy per query of b (1.10 J against 1.00 J on gpu:0): within the margin of 20 %."
    )
    assert said.sees == pytest.approx(0.2, abs=0.001)


def test_a_default_around_the_margin_is_inconclusive() -> None:
    rough = candidate("rough", [1.2 * (1 + 0.1 * (-1) ** index) for index in range(10)])
    said = judge_right_size(choice(rough, candidate("b", 1.0)), "rough", 0.2)
    assert said.word == "INCONCLUSIVE"
    assert said.reason.endswith("not clearly on either side of the margin of 20 %.")


def test_a_default_under_the_floor_fails_and_the_leanest_that_meets_it_is_named() -> None:
    said = judge_right_size(choice(*THREE, floor=0.7), "tfidf", 0.2)
    assert (said.word, said.metric) == ("FAIL", "accuracy")
    assert (
        said.reason
        == "test_it: tfidf, the configured candidate, scores 0.600, under the floor of 0.7. small is the leanest that meets what is asked."
    )
    assert said.estimate is not None
    assert said.estimate.dimension is RATIO


def test_a_floor_that_nobody_meets_says_the_best() -> None:
    found = choice(*THREE, Candidate("broken", problem="it raised ValueError: no"), floor=0.95)
    said = judge_right_size(found, "large", 0.2)
    assert said.word == "FAIL"
    assert (
        said.reason == "test_it: large, the configured candidate, scores 0.900, under the floor of 0.95."
        " No candidate meets the floor of 0.95; the best is large with 0.900."
    )
    alone = judge_met(found)
    assert alone is not None
    assert (alone.word, alone.metric, alone.run) == ("FAIL", "accuracy", "large")
    assert alone.reason == "test_it: No candidate meets the floor of 0.95; the best is large with 0.900. broken: it raised ValueError: no."


def test_a_floor_that_one_meets_is_no_failure_and_one_that_cannot_be_judged_is_unmeasured() -> None:
    assert judge_met(choice(*THREE, floor=0.9)) is None
    assert judge_met(choice(*THREE)) is None
    unknown = judge_met(choice(candidate("a", 1.0), candidate("b", 2.0), floor=0.9))
    assert unknown is not None
    assert (unknown.word, unknown.metric, unknown.run) == ("UNMEASURED", "accuracy", "a")


def timed(name: str, latency_s: float, right: int | None = None, **fields: Any) -> Candidate:
    return candidate(name, 1.0, right, latencies=latencies([latency_s] * 200), **fields)


@pytest.mark.parametrize(
    ("candidates", "asked", "says", "run"),
    [
        (
            [timed("a", 0.2), timed("b", 0.05)],
            {},
            "No candidate meets the limit of 40 ms of latency_p95; the nearest is b with 50.0 ms.",
            "b",
        ),
        (
            [timed("a", 0.2), candidate("b", 1.0)],
            {},
            "No candidate meets the limit of 40 ms of latency_p95; the nearest is a with 0.200 s. b: has no latency_p95 to hold against"
            " the limit of 40 ms.",
            "a",
        ),
        (
            [timed("a", 0.01, 50), timed("b", 0.05, 90)],
            {"floor": 0.9},
            "No candidate meets all that is asked; the nearest, b, has a latency_p95 of 50.0 ms, over the limit of 40 ms.",
            "b",
        ),
        (
            [timed("a", 0.05, 50), timed("b", 0.2, 60)],
            {"floor": 0.9},
            "No candidate meets the floor of 0.9; the best is b with 0.600.",
            "b",
        ),
    ],
    ids=["one limit", "one without a figure", "each meets something", "the floor first"],
)
def test_limits_that_nobody_meets_fail_as_a_floor_does(candidates: list[Candidate], asked: dict[str, Any], says: str, run: str) -> None:
    found = judge_met(choice(*candidates, limits={"latency_p95": 0.04}, **asked))
    assert found is not None
    assert (found.word, found.run, found.reason) == ("FAIL", run, f"test_it: {says}")


def test_a_throughput_that_nobody_has_names_the_fastest() -> None:
    found = judge_met(choice(candidate("a", 1.0), candidate("b", 1.0), limits={"throughput": 1e6}))
    assert found is not None
    assert found.reason.startswith("test_it: No candidate meets the limit of 1000000 queries/s of throughput; the nearest is a with ")


def test_of_limits_that_one_meets_or_that_nothing_was_metered_for_nothing_is_said() -> None:
    fast, slow = timed("fast", 0.01), timed("slow", 0.2)
    assert judge_met(choice(fast, slow, limits={"latency_p95": 0.04})) is None
    assert judge_met(choice(fast, candidate("b", 1.0), limits={"latency_p95": 0.04})) is None
    unmetered = [Candidate(each.name, replace(each.run, metered=False)) for each in (slow, timed("b", 0.3)) if each.run is not None]
    assert judge_met(choice(*unmetered, limits={"latency_p95": 0.04})) is None


def test_a_default_that_is_too_slow_where_nobody_is_fast_enough_names_the_nearest() -> None:
    said = judge_right_size(choice(timed("a", 0.2), timed("b", 0.05), limits={"latency_p95": 0.04}), "a", 0.2)
    assert said.reason == (
        "test_it: a, the configured candidate, has a latency_p95 of 0.200 s, over the limit of 40 ms."
        " No candidate meets the limit of 40 ms of latency_p95; the nearest is b with 50.0 ms."
    )


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Candidate("other", problem="it raised ValueError: no"), "other (it raised ValueError: no)"),
        (candidate("other", 1.0, 90, problem="the meter was lost"), "other (the meter was lost)"),
        (too_little("other", 90), "other (its energy came out as 0 J per query, too little for this meter to tell)"),
        (candidate("other", 1.0), "other (no references were given to measure(), so there is no accuracy)"),
    ],
)
def test_a_candidate_without_a_figure_that_might_be_leaner_leaves_the_question_open(broken: Candidate, why: str) -> None:
    said = judge_right_size(choice(SMALL, LARGE, broken, floor=0.7), "small", 0.2)
    assert said.word == "UNMEASURED"
    assert said.reason == f"test_it: whether small is right-sized is not known, since there is no figure of {why}."


def test_a_failure_is_certain_whatever_broke_beside_it() -> None:
    assert judge_right_size(choice(*THREE, Candidate("other", problem="it raised")), "large", 0.2).word == "FAIL"


@pytest.mark.parametrize(
    "left_out",
    [Candidate("other", problem="out of memory", impossible=True), candidate("other", 0.1, 60, problem="the meter was lost")],
    ids=["what this machine cannot do", "what is under the floor"],
)
def test_what_nobody_could_have_chosen_does_not_matter(left_out: Candidate) -> None:
    assert judge_right_size(choice(SMALL, LARGE, left_out, floor=0.7), "small", 0.2).word == "PASS"


@pytest.mark.parametrize(
    ("default", "limits", "says"),
    [
        (Candidate("mine", problem="it raised ValueError: no"), {}, "has no energy_per_query to judge: it raised ValueError: no."),
        (candidate("mine", 1.0, problem="the meter was lost"), {}, "has no energy_per_query to judge: the meter was lost."),
        (
            too_little("mine"),
            {},
            "has no energy_per_query to judge: its energy came out as 0 J per query, too little for this meter to",
        ),
        (candidate("mine", 1.0), {"latency_p95": 0.04}, "has no latency_p95 to judge: no latency was measured"),
    ],
)
def test_a_default_without_a_figure_is_unmeasured_and_never_passes(default: Candidate, limits: dict[str, float], says: str) -> None:
    said = judge_right_size(choice(default, candidate("other", 5.0), limits=limits), "mine", 0.2)
    assert (said.word, said.run) == ("UNMEASURED", "mine")
    assert says in said.reason


def test_modelled_energy_makes_a_modelled_verdict_that_says_so() -> None:
    sources = (source("cpu", method="modelled", tick_s=0.0),)
    blocks = [[block({"cpu": joules * 10}, set_index=index) for index in range(10)] for joules in (2.0, 1.0)]
    a, b = (Candidate(name, run(each, sources=sources)) for name, each in zip("ab", blocks, strict=True))
    said = judge_right_size(choice(a, b), "a", 0.2)
    assert said.modelled
    assert "(2.00 J against 1.00 J on cpu (modelled))" in said.reason


def test_a_name_that_no_candidate_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"There is no candidate 'smal'\. Did you mean 'small'\?"):
        judge_right_size(choice(*THREE), "smal", 0.2)
    with pytest.raises(SettingsError, match=r"There is no setting 'x'\. Known: batch_size=1, batch_size=2\."):
        choice(*(Candidate(f"batch_size={n}", measured(1.0), values={"batch_size": n}) for n in (1, 2))).candidate("x")


def test_the_more_candidates_there_are_the_surer_each_verdict_must_be() -> None:
    mine, other, *heavy = noisy(np.random.default_rng(14), [1.0, 1.05, 50.0, 50.0, 50.0])
    of_two, of_five = (judge_right_size(choice(mine, other, *more), mine.name, 0.2) for more in ((), heavy))
    assert of_two.sees is not None
    assert of_five.sees is not None
    assert 0.2 < of_two.sees < of_five.sees


# How often it is wrong


def noisy(rng: np.random.Generator, joules: Sequence[float], sets: int = 8, noise: float = 0.02) -> tuple[Candidate, ...]:
    """Candidates whose sets share a drift of a tenth, and have noise of their own."""
    drift = np.cumsum(rng.normal(0, 0.03, sets)) + 1
    return tuple(
        candidate(f"c{number}", (each * drift * np.exp(rng.normal(0, noise, sets))).tolist()) for number, each in enumerate(joules)
    )


@pytest.mark.parametrize("by_turns", [True, False], ids=["by turns", "one after the other"])
def test_at_exactly_the_margin_one_verdict_in_a_hundred_fails_at_most(by_turns: bool) -> None:
    rng, trials = np.random.default_rng(11), 400
    fails = 0
    for _ in range(trials):
        found = choice(*noisy(rng, [1.2, 1.0, 1.0]), by_turns=by_turns)
        fails += judge_right_size(found, "c0", 0.2).word == "FAIL"
    assert binomtest(fails, trials, 0.01, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize(("mine", "word"), [(1.45, "FAIL"), (1.0, "PASS")])
def test_well_beside_the_margin_eight_sets_of_two_per_cent_decide(mine: float, word: str) -> None:
    rng, trials = np.random.default_rng(12), 60
    words = [judge_right_size(choice(*noisy(rng, [mine, 1.0, 1.0])), "c0", 0.2).word for _ in range(trials)]
    assert words.count(word) >= 0.95 * trials  # type: ignore[arg-type]


def test_the_interval_of_a_ratio_holds_the_true_one_as_often_as_promised() -> None:
    rng, trials = np.random.default_rng(13), 400
    inside = 0
    for _ in range(trials):
        found = choice(*noisy(rng, [3.0, 2.0]))
        ratio = found.ratio(*found.candidates)
        assert ratio is not None
        inside += ratio.low <= 1.5 <= ratio.high
    assert binomtest(inside, trials, 0.99, alternative="less").pvalue > 0.01


# Sweeps


def test_a_grid_holds_every_combination_the_last_axis_fastest() -> None:
    assert grid({"batch_size": [1, 4], "precision": ["fp32", "bf16"]}) == (
        {"batch_size": 1, "precision": "fp32"},
        {"batch_size": 1, "precision": "bf16"},
        {"batch_size": 4, "precision": "fp32"},
        {"batch_size": 4, "precision": "bf16"},
    )
    assert sweep_name({"batch_size": 16, "precision": "bf16"}) == "batch_size=16 precision=bf16"


def test_the_sentence_of_a_sweep_speaks_of_settings() -> None:
    swept = [Candidate(sweep_name({"batch_size": size}), measured(8.0 / size, 90), values={"batch_size": size}) for size in (1, 4)]
    said = judge_right_size(choice(*swept), "batch_size=1", 0.1)
    assert said.reason.startswith(
        "test_it: batch_size=1 uses 4.00 times [4.00, 4.00] the energy per query of batch_size=4 (8.00 J against 2.00 J on gpu:0)"
    )
    assert judge_right_size(choice(*swept), "batch_size=4", 0.1).reason == "test_it: batch_size=4 is the leanest setting."
    assert judge_right_size(choice(*swept, floor=0.95), "batch_size=4", 0.1).reason.startswith(
        "test_it: batch_size=4, the configured setting, scores 0.900, under the floor of 0.95."
        " No setting meets the floor of 0.95; the best is"
    )


def test_figures_are_quantities_and_reasons() -> None:
    found = choice(*THREE)
    assert isinstance(found.outcome(LARGE, ACCURACY), Estimate)
    assert found.value(LARGE, ACCURACY) == 0.9
    assert found.value(Candidate("x", problem="it raised"), ACCURACY) is None


def test_scores_in_per_cent_meet_no_floor() -> None:
    several = [
        Candidate(name, replace(measured(joules), scores=(score,) * HUNDRED)) for name, joules, score in [("a", 8, 90.0), ("b", 2, 3.0)]
    ]
    made = choice(*several, floor=0.9)
    assert made.right_sized is None
    assert made.shortfall(several[1]).startswith("has no accuracy to hold against the floor of 0.9: a query scores 3, and a limit of")
    assert choice(*several).right_sized == "b"
