"""Base against head: words, sentences, what stops a comparison, and that a difference between launches is no regression."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import pytest_greencompute
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.pairs import (
    LAUNCHES_FOR_FAIL,
    MAX_PAIRS,
    UNANIMOUS,
    FreshLaunch,
    PairedTest,
    judge_pairs,
    judge_pairs_sequentially,
    judge_runs,
)
from pytest_greencompute.judging.percentiles import order_statistic, percentile_pairs, percentile_sections
from pytest_greencompute.judging.rule import Rule

POSITIVE = st.floats(1e-6, 1e6)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=40)
QUIET = [1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.01, 0.99]
Source = Callable[[], tuple[float, float]]


def times(factor: float, values: list[float] = QUIET) -> list[float]:
    """The same samples dearer by a factor, in another order."""
    return [factor * value for value in (*values[3:], *values[:3])]


def noisy(factor: float, *, noise: float = 0.01, seed: int = 1) -> Source:
    rng = random.Random(seed)
    return lambda: (1 + noise * rng.gauss(0, 1), factor * (1 + noise * rng.gauss(0, 1)))


class Launches:
    """A machine on which every launch of each side has a factor of its own."""

    def __init__(self, factors: list[tuple[float, float]], noise: float = 0.003) -> None:
        self.factors, self.noise, self.relaunched = factors, noise, 0
        self.rng = random.Random(7)

    def pair(self) -> tuple[float, float]:
        base, head = self.factors[self.relaunched]
        return base * (1 + self.noise * self.rng.gauss(0, 1)), head * (1 + self.noise * self.rng.gauss(0, 1))

    def relaunch(self) -> None:
        self.relaunched += 1


# Pairs whose number was decided beforehand


@pytest.mark.parametrize(("factor", "word"), [(1.0, "PASS"), (0.8, "PASS"), (1.05, "INCONCLUSIVE"), (1.1, "FAIL"), (2.0, "FAIL")])
def test_pairs_are_judged_by_the_interval_of_their_ratio(factor: float, word: str) -> None:
    verdict = judge_pairs(QUIET, times(factor))
    assert verdict.word == word
    assert verdict.estimate is not None
    assert verdict.estimate.value == pytest.approx(factor, rel=0.01)
    assert (verdict.limit, verdict.pairs, verdict.kind) == (1.05, 8, "base_ref")


def test_a_verdict_is_one_sentence_with_the_ratio_its_interval_and_the_tolerance() -> None:
    assert judge_pairs(QUIET, times(1.1)).reason == "+10 % [+9.0 %, +11 %] over 8 pairs, worse than the tolerance of 5.0 %."
    assert judge_pairs(QUIET, times(1.0)).reason == "+0.0 % [-0.9 %, +0.9 %] over 8 pairs, within the tolerance of 5.0 %."


def test_higher_is_better_turns_the_ratio_round() -> None:
    verdict = judge_pairs(QUIET, times(0.5), better="higher")
    assert verdict.word == "FAIL"
    assert verdict.estimate is not None
    assert verdict.estimate.value == pytest.approx(2.0, rel=0.01)
    assert judge_pairs(QUIET, times(2.0), better="higher").word == "PASS"


def test_a_regression_below_the_floor_does_not_matter_and_the_sentence_says_so() -> None:
    small = [value * 1e-3 for value in QUIET]
    assert judge_pairs(small, times(2.0, small), floor=5e-4).word == "FAIL"
    within = judge_pairs(small, times(2.0, small), floor=5e-3)
    assert within.word == "PASS"
    assert within.reason.endswith("over 8 pairs, within the floor (+500 %).")
    assert within.limit == pytest.approx(6.0, rel=0.01)
    assert judge_pairs(small, times(0.5, small), better="higher", floor=4e-4).word == "FAIL"
    never = judge_pairs(small, times(0.5, small), better="higher", floor=2e-3)
    assert (never.word, never.limit, never.sees) == ("PASS", None, None)
    assert never.reason.endswith("within the floor.")


def test_no_pair_is_unmeasured_and_one_is_inconclusive() -> None:
    nothing = judge_pairs([], [])
    assert (nothing.word, nothing.estimate, nothing.pairs) == ("UNMEASURED", None, 0)
    one = judge_pairs([1.0], [5.0])
    assert one.word == "INCONCLUSIVE"
    assert one.reason.endswith("over 1 pair, not clearly on either side of the tolerance of 5.0 %: one pair has no interval.")
    assert one.sees is None


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_what_is_not_above_zero_has_no_ratio(bad: float) -> None:
    assert judge_pairs([1.0, bad], [1.0, 1.0]).word == "UNMEASURED"
    assert judge_runs([[1.0, bad]], [[1.0, 1.0]]).word == "UNMEASURED"
    assert judge_pairs_sequentially(lambda: (1.0, bad)).word == "UNMEASURED"


@pytest.mark.parametrize(
    "call",
    [
        lambda: judge_pairs([1.0], [1.0, 2.0]),
        lambda: judge_pairs([1.0, math.nan], [1.0, 2.0]),
        lambda: judge_pairs([1.0, 2.0], [1.0, math.inf]),
        lambda: judge_pairs([1.0, "one"], [1.0, 2.0]),  # type: ignore[list-item]
        lambda: judge_pairs(1.0, 2.0),  # type: ignore[arg-type]
        lambda: judge_pairs([1.0], [1.0], tolerance=-0.1),
        lambda: judge_pairs([1.0], [1.0], tolerance=math.nan),
        lambda: judge_pairs([1.0], [1.0], tolerance=1),
        lambda: judge_runs([[1.0]], [[1.0]], tolerance=5),
        lambda: judge_pairs([1.0], [1.0], tolerance="5 %"),  # type: ignore[arg-type]
        lambda: judge_pairs([1.0], [1.0], confidence=1.0),
        lambda: judge_pairs([1.0], [1.0], floor=-1.0),
        lambda: judge_pairs([1.0], [1.0], better="smaller"),  # type: ignore[arg-type]
        lambda: judge_pairs([1.0], [1.0], budgets=0),
        lambda: judge_runs([1.0, 2.0], [1.0, 2.0]),  # type: ignore[list-item]
        lambda: judge_runs([[1.0, math.nan]], [[1.0]]),
        lambda: judge_pairs_sequentially(lambda: (1.0, math.nan)),
        lambda: judge_pairs_sequentially(lambda: 1.0),  # type: ignore[arg-type, return-value]
        lambda: judge_pairs_sequentially(lambda: (1.0, 1.0), max_pairs=0),
        lambda: judge_pairs_sequentially(lambda: (1.0, 1.0), max_pairs=True),
        lambda: judge_pairs_sequentially(lambda: (1.0, 1.0), launches=2),
        lambda: judge_pairs_sequentially(lambda: (1.0, 1.0), launches=20, relaunch=lambda: None),
        lambda: percentile_pairs([[1.0]], [[1.0]], 1.0),
        lambda: percentile_pairs([[1.0]], [], 0.5),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(call: Callable[[], Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        call()
    assert caught.value.remedy


@given(PAIRS, st.floats(1e-3, 1e3))
def test_the_unit_of_the_samples_does_not_matter(pairs: list[tuple[float, float]], unit: float) -> None:
    base, head = [list(side) for side in zip(*pairs, strict=True)]
    one, other = judge_pairs(base, head), judge_pairs([unit * each for each in base], [unit * each for each in head])
    assert one.estimate is not None
    assert other.estimate is not None
    assert other.estimate.value == pytest.approx(one.estimate.value, rel=1e-6)


@given(PAIRS)
def test_a_side_that_fails_passes_when_the_sides_are_swapped(pairs: list[tuple[float, float]]) -> None:
    base, head = [list(side) for side in zip(*pairs, strict=True)]
    one, other = judge_pairs(base, head), judge_pairs(head, base)
    assert not (one.word == "FAIL" and other.word != "PASS")
    assert one.estimate is not None
    assert other.estimate is not None
    assert other.estimate.value == pytest.approx(1 / one.estimate.value, rel=1e-6)
    higher = judge_pairs(base, head, better="higher").estimate
    assert higher is not None
    assert higher.value == pytest.approx(other.estimate.value, rel=1e-6)


BADNESS = {"PASS": 0, "INCONCLUSIVE": 1, "FAIL": 2}


@given(PAIRS, st.floats(1, 3))
def test_a_dearer_head_is_never_judged_better(pairs: list[tuple[float, float]], factor: float) -> None:
    base, head = [list(side) for side in zip(*pairs, strict=True)]
    before, after = judge_pairs(base, head), judge_pairs(base, [factor * each for each in head])
    assert BADNESS[after.word] >= BADNESS[before.word]


@given(PAIRS, st.integers(1, 500))
def test_more_budgets_make_a_fail_harder_and_leave_a_pass_alone(pairs: list[tuple[float, float]], budgets: int) -> None:
    base, head = [list(side) for side in zip(*pairs, strict=True)]
    alone, among = judge_pairs(base, head), judge_pairs(base, head, budgets=budgets)
    assert (alone.word == "PASS") == (among.word == "PASS")
    assert not (among.word == "FAIL" and alone.word != "FAIL")


@given(PAIRS)
def test_what_it_sees_is_what_would_have_failed(pairs: list[tuple[float, float]]) -> None:
    base, head = [list(side) for side in zip(*pairs, strict=True)]
    verdict = judge_pairs(base, head)
    if verdict.sees is None or verdict.sees > 1e6 or verdict.estimate is None:
        return
    there = [each / verdict.estimate.value * (1 + verdict.sees) for each in head]
    assert judge_pairs(base, [1.0001 * each for each in there]).word == "FAIL"
    assert judge_pairs(base, [0.9999 * each for each in there]).word != "FAIL"


# Runs of several launches


def test_a_single_launch_a_side_says_what_is_assumed_of_launches() -> None:
    verdict = judge_runs([QUIET], [times(1.0)])
    assert verdict.word == "INCONCLUSIVE"
    sentence = "not clearly on either side of the tolerance of 5.0 %. With so few, launches are assumed to differ by 2.3 %."
    assert verdict.reason.endswith(f"over 1 and 1 launches, {sentence}")
    assert judge_runs([QUIET], [times(1.3)]).word == "FAIL"
    assert judge_runs([QUIET], [times(0.8)]).word == "PASS"
    assert "assumed" not in judge_runs([QUIET] * 3, [QUIET] * 3).reason


def test_several_launches_show_what_one_cannot() -> None:
    assert judge_runs([QUIET] * 4, [times(1.0)] * 4).word == "PASS"
    assert judge_runs([QUIET] * 4, [times(1.1)] * 4).word == "FAIL"
    seen = [judge_runs([QUIET] * m, [times(1.0)] * m).sees for m in range(1, 9)]
    assert all(more is not None and fewer is not None and more < fewer for fewer, more in itertools.pairwise(seen))


def test_launches_in_two_modes_are_no_regression() -> None:
    slow = times(1.12)
    assert judge_runs([QUIET], [slow]).word == "INCONCLUSIVE"
    assert judge_runs([QUIET, QUIET], [slow, slow]).word == "INCONCLUSIVE"
    assert judge_runs([QUIET, QUIET, slow], [slow, slow, QUIET]).word == "INCONCLUSIVE"


def test_a_launch_of_one_sample_says_nothing_of_its_noise_unless_there_are_three() -> None:
    lone = judge_runs([[1.0]], [[2.0]])
    assert lone.word == "INCONCLUSIVE"
    assert ": one sample of a launch does not show its noise." in lone.reason
    assert judge_runs([[1.0], [1.01], [0.99]], [[2.0], [2.01], [1.99]]).word == "FAIL"


@pytest.mark.parametrize(("base", "head"), [([], []), ([], [QUIET]), ([QUIET], []), ([QUIET, []], [QUIET])])
def test_a_launch_without_samples_is_unmeasured(base: list[list[float]], head: list[list[float]]) -> None:
    assert judge_runs(base, head).word == "UNMEASURED"


def test_runs_may_be_arrays() -> None:
    assert judge_runs(np.ones((4, 5)), np.ones((4, 5))).word == "PASS"  # type: ignore[arg-type]


def test_better_higher_swaps_the_sides_of_runs() -> None:
    assert judge_runs([QUIET] * 4, [times(0.5)] * 4, better="higher").word == "FAIL"
    assert judge_runs([QUIET] * 4, [times(2.0)] * 4, better="higher").word == "PASS"


# Pairs as they come


@pytest.mark.parametrize(("factor", "word"), [(1.0, "PASS"), (1.1, "FAIL"), (1.05, "INCONCLUSIVE")])
def test_it_stops_as_soon_as_it_is_certain(factor: float, word: str) -> None:
    verdict = judge_pairs_sequentially(noisy(factor))
    assert verdict.word == word
    assert verdict.pairs is not None
    assert verdict.pairs == MAX_PAIRS if word == "INCONCLUSIVE" else verdict.pairs <= 11
    assert "within one launch of each" in verdict.reason


def test_a_fail_is_seen_again_in_three_fresh_launches_before_it_is_one() -> None:
    machine = Launches([(1.0, 1.1)] * 4)
    verdict = judge_pairs_sequentially(machine.pair, relaunch=machine.relaunch)
    assert (verdict.word, machine.relaunched) == ("FAIL", 3)
    assert verdict.reason.endswith("and the same in 3 fresh launches of both (9 pairs in all).")
    assert verdict.pairs == 3 + 3 * 2


def test_a_pass_needs_no_relaunch() -> None:
    machine = Launches([(1.0, 1.0)])
    assert judge_pairs_sequentially(machine.pair, relaunch=machine.relaunch).word == "PASS"
    assert machine.relaunched == 0


def test_a_difference_that_fresh_launches_do_not_show_is_inconclusive() -> None:
    machine = Launches([(1.0, 1.12), (1.0, 1.12), (1.12, 1.12)])
    verdict = judge_pairs_sequentially(machine.pair, relaunch=machine.relaunch)
    assert (verdict.word, machine.relaunched) == ("INCONCLUSIVE", 2)
    assert verdict.reason.endswith("in the first launch of each, but by only 0 of 2 pairs in launch 3.")


def test_launches_ask_for_a_pass_in_each() -> None:
    machine = Launches([(1.12, 1.1), (1.0, 1.1)])
    missed = judge_pairs_sequentially(machine.pair)
    assert missed.word == "PASS"
    machine = Launches([(1.12, 1.1), (1.0, 1.1)])
    assert judge_pairs_sequentially(machine.pair, relaunch=machine.relaunch, launches=2).word == "INCONCLUSIVE"
    machine = Launches([(1.0, 1.0)] * 3)
    assert judge_pairs_sequentially(machine.pair, relaunch=machine.relaunch, launches=3).word == "PASS"
    assert machine.relaunched == 2


@settings(max_examples=60)
@given(st.integers(1, 80), st.floats(0.9, 1.3), st.floats(0, 0.1), st.integers(1, 4), st.integers(0, 2**32))
def test_it_never_takes_more_pairs_than_it_may(most: int, factor: float, noise: float, launches: int, seed: int) -> None:
    if most <= UNANIMOUS * (launches - 1):
        return
    source = noisy(factor, noise=noise, seed=seed)
    told = itertools.count()

    def counted() -> tuple[float, float]:
        next(told)
        base, head = source()
        return max(base, 0.01), max(head, 0.01)

    verdict = judge_pairs_sequentially(counted, max_pairs=most, relaunch=lambda: None, launches=launches)
    assert verdict.pairs == next(told) <= most


def test_a_fail_without_pairs_left_to_see_it_again_is_inconclusive() -> None:
    machine = Launches([(1.0, 1.3)] * 4)
    verdict = judge_pairs_sequentially(machine.pair, relaunch=machine.relaunch, max_pairs=10)
    assert (verdict.word, machine.relaunched) == ("INCONCLUSIVE", 0)
    assert verdict.reason.endswith("in 1 of the 4 launches of each that must show it, when the pairs or the time ran out.")


def test_a_pair_may_be_anything_that_holds_two_numbers() -> None:
    assert judge_pairs_sequentially(lambda: np.array([1.0, 2.0])).word == "FAIL"  # type: ignore[arg-type, return-value]
    assert judge_pairs_sequentially(lambda: [2.0, 1.0]).word == "PASS"  # type: ignore[arg-type, return-value]


def test_what_measuring_raises_comes_through() -> None:
    def broken() -> tuple[float, float]:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        judge_pairs_sequentially(broken)


def test_looking_often_buys_no_false_alarm() -> None:
    fails = sum(judge_pairs_sequentially(noisy(1.05, noise=0.005, seed=seed)).word == "FAIL" for seed in range(600))
    assert fails <= 10


# The test that a driver feeds


def feed(test: PairedTest, pairs: Iterator[tuple[float, float]]) -> PairedTest:
    while test.asks == "pair":
        test.tell(*next(pairs))
    return test


def pairs_of(factor: float) -> Iterator[tuple[float, float]]:
    return zip(itertools.cycle(QUIET), itertools.cycle(times(factor)), strict=False)


def test_it_says_what_it_needs_next() -> None:
    test = feed(PairedTest(), pairs_of(1.1))
    assert (test.asks, test.verdict.word) == ("relaunch", "INCONCLUSIVE")
    for _ in range(LAUNCHES_FOR_FAIL - 1):
        test.relaunched()
        assert test.asks == "pair"
        feed(test, pairs_of(1.1))
    assert (test.asks, test.verdict.word) == ("nothing", "FAIL")


def test_pairs_that_it_did_not_ask_for_are_left_out_so_that_metrics_can_share_them() -> None:
    test = feed(PairedTest(), pairs_of(1.0))
    before = test.verdict
    assert test.tell(1.0, 100.0) == "nothing"
    test.relaunched()
    assert test.verdict == before


def test_a_relaunch_in_the_middle_is_refused() -> None:
    test = PairedTest()
    test.tell(1.0, 1.0)
    with pytest.raises(SettingsError, match="middle"):
        test.relaunched()


def test_before_the_first_pair_nothing_is_measured_and_after_one_nothing_is_clear() -> None:
    test = PairedTest()
    assert test.verdict.word == "UNMEASURED"
    test.tell(1.0, 3.0)
    assert test.verdict.word == "INCONCLUSIVE"


def test_when_time_is_up_it_judges_what_is_there() -> None:
    test = PairedTest()
    for pair in itertools.islice(pairs_of(1.0), 4):  # the first planned look is at 5
        test.tell(*pair)
    assert (test.asks, test.verdict.word) == ("pair", "INCONCLUSIVE")
    test.stop()
    assert (test.asks, test.verdict.word) == ("nothing", "INCONCLUSIVE")
    quiet = PairedTest()
    for _ in range(4):
        quiet.tell(1.0, 1.0)
    quiet.stop()
    assert (quiet.asks, quiet.verdict.word) == ("nothing", "PASS")
    empty = PairedTest()
    empty.stop()
    assert (empty.asks, empty.verdict.word) == ("nothing", "UNMEASURED")


def test_a_fail_when_time_is_up_still_wants_to_be_seen_again() -> None:
    test = PairedTest(Rule(), for_fail=2)
    for _ in range(4):
        test.tell(1.0, 3.0 + 0.001 * test.pairs)
    test.stop()
    assert (test.asks, test.verdict.word) == ("relaunch", "INCONCLUSIVE")
    test.relaunched()
    test.tell(1.0, 3.0)
    test.stop()
    assert (test.asks, test.verdict.word) == ("nothing", "INCONCLUSIVE")
    assert test.verdict.reason.endswith("in 1 of the 2 launches of each that must show it, when the pairs or the time ran out.")


# Few pairs


def test_three_pairs_are_a_verdict_where_they_agree_very_well() -> None:
    test = PairedTest()
    assert [test.tell(1.0, now) for now in (1.0, 1.001, 0.999)] == ["pair", "pair", "nothing"]
    assert (test.verdict.word, test.pairs) == ("PASS", 3)
    far = PairedTest()
    assert [far.tell(1.0, now) for now in (1.15, 1.16, 1.14)] == ["pair", "pair", "relaunch"]
    noisy_ones = PairedTest()
    assert [noisy_ones.tell(1.0, now) for now in (1.0, 1.02, 0.98)] == ["pair"] * 3


# Every sample further to its side

STREAM = st.lists(st.floats(-0.3, 0.3), min_size=24, max_size=24)
STREAMS = st.lists(STREAM, min_size=LAUNCHES_FOR_FAIL, max_size=LAUNCHES_FOR_FAIL)


def played(streams: list[list[float]], launches: int = 1) -> str:
    """The word on launches of pairs, each the logarithm of a ratio."""
    test = PairedTest(max_pairs=24, launches=launches)
    pairs, left = iter(streams[0]), streams[1:]
    while test.asks != "nothing":
        if test.asks == "relaunch":
            pairs, left = iter(left[0]), left[1:]
            test.relaunched()
        test.tell(1.0, math.exp(next(pairs)))
    return test.verdict.word


@settings(max_examples=300)
@given(STREAMS, st.floats(0, 0.4), st.floats(0, 0.5), st.integers(1, 2))
def test_launches_of_a_dearer_head_are_never_judged_better(noise: list[list[float]], worse: float, further: float, launches: int) -> None:
    before = played([[worse + each / 4 for each in launch] for launch in noise], launches=launches)
    after = played([[worse + further + each / 4 for each in launch] for launch in noise], launches=launches)
    assert BADNESS[after] >= BADNESS[before]


@pytest.mark.parametrize("worse", [0.08, 0.15])
def test_the_interval_of_a_fail_misses_the_truth_in_one_of_a_hundred_although_each_look_has_all_of_the_error(worse: float) -> None:
    rng, trials, missed = random.Random(5), 1500, 0
    for _ in range(trials):
        test = PairedTest()
        while test.asks != "nothing":
            if test.asks == "relaunch":
                test.relaunched()
            test.tell(1.0, (1 + worse) * math.exp(rng.gauss(0, 0.014)))
        ratio = test.verdict.ratio
        assert ratio is not None
        missed += test.verdict.word == "FAIL" and not ratio.low <= 1 + worse <= ratio.high
    assert missed <= stats.binom.isf(0.001, trials, 0.01)


def test_a_first_launch_that_decides_sooner_asks_fresh_ones_for_no_more() -> None:
    first = [0.147, 0.125, 0.12, 0.131, 0.101, 0.163, 0.101, 0.096]
    again = [[0.111, 0.109], [0.117, 0.104], [0.127, 0.091]]
    launches = [first + [0.1] * 16, *(two + [-0.2] * 22 for two in again)]
    one_per_cent_more = [[each + 0.01 for each in launch] for launch in launches]
    assert (played(launches) == "FAIL") <= (played(one_per_cent_more) == "FAIL")


@settings(max_examples=200)
@given(STREAMS, st.floats(-0.4, 0.4), st.floats(1, 20))
def test_what_is_further_from_the_tolerance_in_every_pair_is_no_less_certain(noise: list[list[float]], worse: float, times: float) -> None:
    limit = math.log1p(Rule().tolerance)
    beyond = [[worse + each / 4 for each in launch] for launch in noise]
    before = played([[limit + each for each in launch] for launch in beyond])
    after = played([[limit + times * each for each in launch] for launch in beyond])
    assert before in {after, "INCONCLUSIVE"}


RUNS = st.lists(st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=6), min_size=1, max_size=5)


@given(RUNS, RUNS, st.floats(-0.5, 0.5), st.floats(0, 1))
def test_runs_of_a_dearer_head_are_never_judged_better(
    base: list[list[float]], head: list[list[float]], worse: float, further: float
) -> None:
    def word(by: float) -> str:
        return judge_runs([[math.exp(each) for each in run] for run in base], [[math.exp(by + each) for each in run] for run in head]).word

    assert BADNESS[word(worse + further)] >= BADNESS[word(worse)]


@pytest.mark.parametrize("heads", [[2000.0], [2000.0, 8_070_000.0], [1100.0, 1e6, 1e12], [5000.0, 2000.0, 1e9, 3000.0]])
def test_what_is_a_thousand_times_worse_in_every_sample_fails_however_few_and_unlike_they_are(heads: list[float]) -> None:
    """Where Student's t of their logarithms says nothing."""
    bases = [1.0] * len(heads)
    assert judge_pairs(bases, heads).word == "FAIL"
    assert judge_pairs(heads, bases).word == "PASS"
    assert judge_runs([[each] for each in bases], [[each] for each in heads]).word == "FAIL"
    assert judge_runs([[each] for each in heads], [[each] for each in bases]).word == "PASS"


def fresh(*beyond: float, first: tuple[float, ...] = (0.10, 0.11, 0.09)) -> bool | None:
    return FreshLaunch(20, first, list(beyond)).agrees


def test_a_fresh_launch_needs_two_pairs_that_agree_overwhelmingly_and_four_that_merely_agree() -> None:
    assert fresh(0.10) is None
    assert fresh(0.10, 0.11) is True
    assert fresh(-0.10, -0.11) is False
    assert fresh(0.01, 0.02) is None
    assert fresh(0.10, -0.01) is None
    assert fresh(0.01, 0.02, 0.01, 0.03) is True
    assert fresh(0.10, 0.11, first=(0.5, 0.0, -0.5)) is None


def test_a_fail_without_fresh_launches_shares_its_error_among_the_looks() -> None:
    def word(for_fail: int) -> str:
        test = PairedTest(for_fail=for_fail)
        for now in (1.15, 1.142, 1.158):
            test.tell(1.0, now)
        return test.asks

    assert word(LAUNCHES_FOR_FAIL) == "relaunch"
    assert word(1) == "pair"


# Percentiles


def test_sets_are_joined_until_they_can_show_their_percentile() -> None:
    base = [[float(each) for each in range(1, 6)]] * 8
    head = [[2.0 * each for each in range(1, 6)]] * 8
    for fraction, pairs in ((0.5, 8), (0.95, 2), (0.99, 0)):
        found = percentile_pairs(base, head, fraction)
        assert len(found) == pairs
        assert all(now == pytest.approx(2 * before) for before, now in found)
    assert percentile_pairs(base, head, 0.5)[0] == pytest.approx((3.0, 6.0))
    assert percentile_pairs([], [], 0.5) == []


@given(st.lists(st.floats(0.0, 9.0), min_size=4, max_size=9), st.data())
def test_the_mean_order_statistic_is_that_over_all_choices(values: list[float], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(values)))
    rank = data.draw(st.integers(1, size))
    each = [sorted(chosen)[rank - 1] for chosen in itertools.combinations(values, size)]
    assert order_statistic(sorted(values), size, rank) == pytest.approx(statistics.fmean(each))


def logs_of(pairs: list[tuple[float, float]]) -> list[float]:
    return [math.log(now / before) for before, now in pairs]


def test_the_mean_of_a_percentiles_pairs_is_the_ratio_of_the_figures_of_all_batches() -> None:
    base, head = np.random.default_rng(5).lognormal(0, 0.3, (2, 30, 20))
    found = logs_of(percentile_pairs(base.tolist(), head.tolist(), 0.95))
    assert found[:7] == logs_of(percentile_pairs(base[:7].tolist(), head[:7].tolist(), 0.95))
    levels = [order_statistic(sorted(np.log(side).ravel()), 20, 19) for side in (base, head)]
    assert statistics.fmean(found) == pytest.approx(levels[1] - levels[0])


def test_pairs_of_a_percentile_scatter_less_than_those_of_sections_that_share_nothing() -> None:
    rng = np.random.default_rng(6)
    sizes = 1 + 0.6 * rng.random(128) ** 2  # queries of many lengths, the same on both sides
    spread: dict[str, list[float]] = {"all": [], "sections": []}
    for _ in range(60):
        batches = np.array([sizes[rng.permutation(128)[:120]] for _ in range(2)]).reshape(12, 20)
        base, head = (batches * rng.lognormal(0, 0.05, batches.shape) for _ in range(2))
        spread["all"].append(statistics.fmean(logs_of(percentile_pairs(base.tolist(), head.tolist(), 0.95))))
        apart = [percentile_sections(side.tolist(), 0.95) for side in (base, head)]
        spread["sections"].append(statistics.fmean(logs_of([*zip(*apart, strict=True)])))
    assert statistics.pstdev(spread["all"]) < 0.8 * statistics.pstdev(spread["sections"])


def percentile_word(slower: Callable[[Any], Any], fraction: float, seed: int, sets: int = 40) -> str:
    """What pairs of a percentile say of a head whose batches (an array of sets and batches) ``slower`` made of the base's."""
    rng = np.random.default_rng(seed)
    batches = 1 + 0.6 * rng.random((sets, 20))
    base, head = (batches * rng.lognormal(0, 0.04, batches.shape) for _ in range(2))
    test = PairedTest(for_fail=1, first=sets)
    for before, now in percentile_pairs(base.tolist(), slower(head).tolist(), fraction):
        test.tell(before, now)
    test.stop()
    return test.verdict.word


def every(step: int, times: float) -> Callable[[Any], Any]:
    """Every so-many-th call takes so many times as long."""

    def slower(head: Any) -> Any:
        calls = head.copy().reshape(-1)
        calls[::step] *= times
        return calls.reshape(head.shape)

    return slower


def tail(share: float, times: float) -> Callable[[Any], Any]:
    """The slowest batches take longer."""
    return lambda head: np.where(head > np.quantile(head, 1 - share), head * times, head)


@pytest.mark.parametrize(
    ("slower", "fraction"),
    [(lambda head: head * 1.15, 0.95), (every(15, 4.0), 0.95), (every(20, 4.0), 0.99), (tail(0.10, 1.2), 0.95), (tail(0.04, 1.5), 0.99)],
)
def test_what_only_some_batches_take_longer_fails_a_percentile_that_it_concerns(slower: Callable[[Any], Any], fraction: float) -> None:
    words = [percentile_word(slower, fraction, seed, sets=150) for seed in range(6)]
    assert words.count("FAIL") >= 5
    assert "PASS" not in words


def test_pairs_of_a_percentile_err_as_seldom_as_they_promise() -> None:
    same, at = ([percentile_word(lambda head, times=times: head * times, 0.95, seed) for seed in range(400)] for times in (1.0, 1.05))
    assert same.count("FAIL") <= 2
    assert at.count("PASS") <= 8
    assert at.count("FAIL") <= 8
    assert same.count("PASS") >= 360


def test_a_batch_without_time_has_no_percentile_to_compare() -> None:
    assert percentile_pairs([[0.0] * 20], [[1.0] * 20], 0.95) == [(0.0, 1.0)]


def test_a_tail_that_got_slower_is_seen_in_its_percentile_and_not_in_the_median() -> None:
    rng = np.random.default_rng(2)
    base, head = 1 + 0.05 * rng.random((2, 12, 40))
    head[:, ::10] *= 1.5
    pairs = percentile_pairs(base.tolist(), head.tolist(), 0.95)
    assert judge_pairs(*zip(*pairs, strict=True)).word == "FAIL"
    assert judge_pairs(*zip(*percentile_pairs(base.tolist(), head.tolist(), 0.5), strict=True)).word == "PASS"


def test_the_package_exports_the_judges() -> None:
    for name in ("judge_pairs", "judge_pairs_sequentially", "judge_runs"):
        assert callable(getattr(pytest_greencompute, name))
        assert name in pytest_greencompute.__all__
