"""How often a bisect is right and what it costs, on some histories of the benchmark."""

from __future__ import annotations

from typing import Any

import pytest

from tests.truth.benchmarks import load

benchmark = load("verdicts", "bisecting")
SEEDS = range(1000, 1008)


@pytest.fixture(scope="module")
def outcomes() -> list[Any]:
    return [benchmark.searched(noise, seed, 0.0) for noise in benchmark.NOISES for seed in SEEDS]


def test_the_benchmark_has_histories_as_they_are_promised() -> None:
    assert (benchmark.HISTORIES, benchmark.COMMITS, benchmark.STEP, benchmark.BROKEN) == (200, 64, (0.08, 0.30), 0.05)
    assert benchmark.NOISES == (0.01, 0.02)


def test_answers_that_claim_99_percent_are_right(outcomes: list[Any]) -> None:
    sure = [each for each in outcomes if each.claimed >= benchmark.CLAIM]
    assert len(sure) >= 0.9 * len(outcomes)
    assert sum(not each.right for each in sure) <= 1  # of 16 that may each err once in 100


def test_it_takes_fewer_pairs_than_a_plain_bisect_of_the_same_error(outcomes: list[Any]) -> None:
    plain = [benchmark.halved(noise, seed, 0.0) for noise in benchmark.NOISES for seed in SEEDS]
    assert sum(each.pairs for each in outcomes) <= 0.7 * sum(each.pairs for each in plain)


def test_claims_on_the_way_are_no_bolder_than_they_are_right(outcomes: list[Any]) -> None:
    claims = [each for outcome in outcomes for each in outcome.claims]
    assert sum(claimed for claimed, _ in claims) <= sum(right for _, right in claims) + 0.02 * len(claims)
