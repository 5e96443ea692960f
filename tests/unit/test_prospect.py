"""What a verdict will still take: foretold from the pairs or blocks so far, and held against what the real decision then takes."""

from __future__ import annotations

import copy
import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.judging.pairs import PairedTest
from pytest_greencompute.judging.prospect import (
    LEAST_SEEN,
    Likely,
    Prospect,
    comparison,
    late_words,
    likely_words,
    prospect,
    sets_to_clear,
)
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.judging.verdict import Verdict, Word, word_for
from pytest_greencompute.stats.distributions import student_t_quantile
from pytest_greencompute.values.metrics import Better
from pytest_greencompute.values.units import ENERGY

SECONDS_A_PAIR = 2.0


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def followed(noise: float, worse: float, seed: int, *, better: Better = "lower") -> tuple[list[tuple[int, Prospect]], PairedTest]:
    """A comparison played by the real rules, and what was foretold after each of its first dozen pairs."""
    luck = random.Random(seed)
    test, told = comparison(Rule(better=better), 60), []
    sign = 1 if better == "lower" else -1
    while test.asks != "nothing":
        if test.asks == "relaunch":
            test.relaunched()
        if len(test.measured) >= LEAST_SEEN and test.pairs < 12 and (found := prospect(test, rng())) is not None:
            told.append((test.pairs, found))
        test.tell(3.0, 3.0 * math.exp(sign * luck.gauss(math.log1p(worse), noise)))
    return told, test


@pytest.mark.parametrize("worse", [0.0, 0.10, 0.15])
@pytest.mark.parametrize("noise", [0.005, 0.01, 0.02])
def test_the_pairs_to_come_are_foretold_within_half_in_the_median(noise: float, worse: float) -> None:
    factors, right = [], []
    for seed in range(8):
        told, test = followed(noise, worse, seed)
        for pairs, found in told:
            left = test.pairs - pairs
            factors.append(max(found.pairs + found.again, 0.5) / left)
            right.append(found.word == test.verdict.word)
    assert statistics.median(max(each, 1 / each) for each in factors) <= 1.5
    assert 1 / 1.5 <= statistics.median(factors) <= 1.5
    assert statistics.fmean(right) >= 0.85


def test_more_pairs_foretell_better() -> None:
    """At three per cent of noise, two pairs say little of what is to come; eleven say more."""
    early, late = [], []
    for seed in range(30):
        told, test = followed(0.03, 0.0, seed)
        errors = {pairs: abs(math.log(max(found.pairs + found.again, 0.5) / (test.pairs - pairs))) for pairs, found in told}
        early += [errors[2]] if 2 in errors else []
        late += [error for pairs, error in errors.items() if pairs >= 9]
    assert statistics.fmean(late) < statistics.fmean(early)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.002, 0.03), st.sampled_from([0.0, 0.15]))
def test_a_test_that_is_looked_at_stays_what_it_is(seed: int, noise: float, worse: float) -> None:
    luck = random.Random(seed)
    test = comparison(Rule(), 30)
    for _ in range(luck.randint(0, 12)):
        test.tell(1.0, math.exp(luck.gauss(math.log1p(worse), noise)))
    before = copy.deepcopy(test)
    prospect(test, rng())
    assert (test.asks, test.pairs, test.measured, test.verdict) == (before.asks, before.pairs, before.measured, before.verdict)


def test_nothing_is_foretold_of_a_single_pair_and_what_is_decided_takes_nothing_more() -> None:
    test = comparison(Rule(), 30)
    assert prospect(test, rng()) is None
    test.tell(1.0, 1.001)
    assert prospect(test, rng()) is None
    while test.asks == "pair":
        test.tell(1.0, 1.0 + 0.001 * (-1) ** test.pairs)
    assert prospect(test, rng()) == Prospect("PASS")


def test_a_rate_that_falls_is_foretold_as_a_figure_that_rises() -> None:
    for better in ("lower", "higher"):
        told, test = followed(0.01, 0.15, 3, better=better)
        assert test.verdict.word == "FAIL"
        assert {found.word for _, found in told} == {"FAIL"}
        assert told[0][1].launches == 3


def test_what_its_own_pairs_cannot_decide_is_played_on() -> None:
    luck = random.Random(3)
    test = comparison(Rule(), 6)
    for _ in range(5):
        test.tell(1.0, math.exp(luck.gauss(0.0, 0.03)))
    found = prospect(test, rng())
    assert found is not None
    assert found.word == "PASS"
    assert 5 + found.pairs > 6


def test_what_was_not_decided_is_played_on_after_its_last_pair() -> None:
    luck = random.Random(3)
    test = comparison(Rule(), 6)
    while test.asks == "pair":
        test.tell(1.0, math.exp(luck.gauss(0.0, 0.03)))
    assert (test.asks, test.verdict.word) == ("nothing", "INCONCLUSIVE")
    found = prospect(test, rng())
    assert found is not None
    assert (found.word, found.pairs > 0) == ("PASS", True)


def verdict(value: float, low: float | None, high: float | None, limit: float, better: Better = "lower") -> Verdict:
    found = Estimate(value, low, high, ENERGY, 5, 0.99)
    return Verdict(word_for(found, limit, better), "energy_per_query", "budget", "It is so.", found, limit)


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 30), st.floats(0.001, 0.2), st.floats(0.005, 0.3), st.booleans())
def test_the_interval_of_a_figure_clears_its_limit_when_it_was_foretold_to(done: int, noise: float, away: float, over: bool) -> None:
    limit = 1 / (1 + away) if over else 1 + away

    def at(sets: int) -> Verdict:
        half = student_t_quantile(0.995, sets - 1) * noise / math.sqrt(sets)
        return verdict(1.0, 1 - half, 1 + half, limit)

    more = sets_to_clear(at(done), done)
    if at(done).word != "INCONCLUSIVE":
        assert more == 0
    elif math.isfinite(more):
        assert at(done + math.ceil(more)).word == ("FAIL" if over else "PASS")
        assert more == 1 or at(done + math.ceil(0.85 * more) - 1).word == "INCONCLUSIVE"


def test_a_figure_right_at_its_limit_or_with_an_open_side_is_foretold_nothing() -> None:
    assert sets_to_clear(verdict(1.0, 0.9, 1.1, 1.0), 5) == math.inf
    assert sets_to_clear(verdict(1.0, None, None, 1.2), 5) == math.inf
    assert sets_to_clear(verdict(1.0, 0.9, 1.1, 1.05), 1) == math.inf


def likely(word: Word, seconds: float, launches: int = 0, metric: str = "energy_per_query") -> Likely:
    return Likely(metric, word, seconds, launches)


@pytest.mark.parametrize(
    ("open_now", "left_s", "said"),
    [
        ([], 60.0, ""),
        ([likely("PASS", 7.4), likely("PASS", 3.0)], 60.0, "PASS likely in 8 s"),
        ([likely("PASS", 7.4), likely("FAIL", 19.5, 3)], 60.0, "FAIL likely in 20 s, three more launches to confirm"),
        ([likely("FAIL", 5.0, 1)], 60.0, "FAIL likely in 5 s, one more launch to confirm"),
        ([likely("FAIL", 0.2)], 60.0, "FAIL likely in 1 s"),
        (
            [likely("PASS", 7.4), likely("PASS", 100.0, metric="latency_p95")],
            60.0,
            "not decided within the limit: p95 needs about 40 s more",
        ),
        ([likely("FAIL", 85.0, 3)], 60.0, "not decided within the limit: energy needs about 25 s more"),
        ([likely("INCONCLUSIVE", 0.0)], 60.0, "not decided within the limit: energy needs far more time"),
        (
            [likely("INCONCLUSIVE", 0.0, metric="latency_p95"), likely("FAIL", 9.0, 3)],
            60.0,
            "FAIL likely in 9 s, three more launches to confirm",
        ),
    ],
)
def test_what_is_likely_in_words(open_now: list[Likely], left_s: float, said: str) -> None:
    assert likely_words(open_now, left_s) == said


@pytest.mark.parametrize(
    ("left_s", "said"),
    [
        pytest.param(5.0, "needs about 15 s more", id="the time was short"),
        pytest.param(30.0, "needs about 20 s more", id="the pairs were too few, the time would have done"),
        pytest.param(math.inf, "needs about 20 s more", id="no time limit"),
    ],
)
def test_what_is_late_says_what_it_lacks(left_s: float, said: str) -> None:
    assert late_words(Likely("energy_per_query", "PASS", 20.0), left_s) == said
