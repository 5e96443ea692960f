"""What ``greencompute noise`` foretells of a verdict's price, held against what the gate then takes, on cases of the benchmark."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.judging.noise import price_of
from pytest_greencompute.judging.rule import Rule
from tests.truth.benchmarks import load

benchmark = load("verdicts", "noise")
SLICE = [cell for cell in benchmark.CELLS if cell.wanders == 0.005 or cell.load_s]


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    return [row for cell in SLICE for row in benchmark.rows(cell, 2)]


def test_the_benchmark_has_ten_cases_of_two_counters_two_lengths_and_several_levels_of_noise() -> None:
    assert len(benchmark.CELLS) == 10
    for what in ("sees", "query_s", "wanders", "load_s"):
        assert len({getattr(cell, what) for cell in benchmark.CELLS}) >= 2


def test_what_is_foretold_is_within_half_of_what_the_gate_takes_in_the_median(rows: list[Any]) -> None:
    assert {(row.word, word) for row in rows for word in row.words} == {("PASS", "PASS"), ("FAIL", "FAIL")}
    assert benchmark.typical_factor(rows) <= benchmark.WITHIN


@pytest.mark.parametrize("word", ["PASS", "FAIL"])
def test_neither_word_is_foretold_too_short_or_too_long_as_a_rule(rows: list[Any], word: str) -> None:
    logs = [math.log(row.foretold_s / np.median(row.taken_s)) for row in rows if row.word == word]
    assert abs(np.median(logs)) <= math.log(1.25)


def test_loading_and_getting_ready_are_in_the_price(rows: list[Any]) -> None:
    loaded = {row.word: row.foretold_s for row in rows if row.cell.load_s}
    without = {
        row.word: row.foretold_s for row in rows if row.cell.query_s == 0.05 and row.cell.sees == benchmark.ALL and not row.cell.load_s
    }
    assert loaded["PASS"] >= without["PASS"] + 2 * 5.0 * 0.9
    assert loaded["FAIL"] >= without["FAIL"] + 4 * 2 * 5.0 * 0.9


def test_a_verdict_that_the_noise_lets_nobody_see_is_not_foretold() -> None:
    rng = np.random.default_rng(1)
    wild = [[(1.0, float(np.exp(rng.normal(0, 0.5)))) for _ in range(20)] for _ in range(2)]
    price = price_of(wild, Rule(), most_pairs=10, agreeing=1, rng=rng)
    assert (price.to_pass, price.to_fail) == (None, None)


def test_a_large_tolerance_asks_for_a_regression_that_is_beyond_it() -> None:
    quiet = [[(1.0, 1.001), (1.0, 0.999), (1.0, 1.0)] for _ in range(2)]
    assert price_of(quiet, Rule(0.2), most_pairs=20, agreeing=1, rng=np.random.default_rng(1)).worse == pytest.approx(0.4)
    price = price_of(quiet, Rule(), most_pairs=20, agreeing=1, rng=np.random.default_rng(1))
    assert price.worse == 0.15
    assert price.to_fail is not None
    assert (price.to_fail.word, price.to_fail.launches) == ("FAIL", 3)


def test_more_launches_that_must_agree_cost_a_pass_more() -> None:
    quiet = [[(1.0, 1.001), (1.0, 0.999), (1.0, 1.0)] for _ in range(2)]
    one, two = (price_of(quiet, Rule(), most_pairs=20, agreeing=each, rng=np.random.default_rng(1)).to_pass for each in (1, 2))
    assert one is not None
    assert two is not None
    assert (one.launches, two.launches) == (0, 1)
    assert two.again >= 2
