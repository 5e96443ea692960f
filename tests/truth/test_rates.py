"""Verdicts of pairs are as rarely wrong as promised: a part of the benchmark, with the benchmark's bounds and what chance adds to them."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from scipy import stats

from tests.truth.benchmarks import load

TRIALS = 250
NOISY = ("normal 5 %", "single blocks, sees a quarter, 10 ms")  # sets that scatter by 5 and by 8 %

rates = load("verdicts", "rates")
CELLS = {cell.name: cell for cell in rates.CELLS}
STEADY = [name for name, cell in CELLS.items() if not cell.launches_differ]
SINGLES = [name for name, cell in CELLS.items() if cell.singles is not None]


def judged(name: str, effect: float, trials: int = TRIALS, launches: int = 1) -> Any:
    if launches == 1:
        return rates.judged(CELLS[name], trials, effect)
    return rates.paired(rates.streams(CELLS[name], trials, rates.LAUNCHES_FOR_FAIL, rates.MAX_PAIRS), effect, launches=launches)


def allowed(rate: float, trials: int = TRIALS) -> float:
    """The largest share that a true rate may show in so many trials, but for one case in a thousand."""
    return float(stats.binom.isf(0.001, trials, rate)) / trials


@pytest.mark.parametrize("name", CELLS)
def test_unchanged_code_hardly_ever_fails(name: str) -> None:
    result = judged(name, 0.0)
    assert result.rate("FAIL") <= allowed(0.005)
    assert max(result.pairs) <= rates.MAX_PAIRS
    if name in STEADY:
        assert result.rate("PASS") >= 0.95


@pytest.mark.parametrize("name", [name for name in STEADY if name not in NOISY])
def test_ten_per_cent_more_is_nearly_always_a_fail_and_never_passes(name: str) -> None:
    result = judged(name, 0.10)
    assert 1 - result.rate("FAIL") <= allowed(0.01)
    assert result.rate("PASS") <= allowed(0.005)
    assert max(result.pairs) <= rates.MAX_PAIRS


@pytest.mark.parametrize("name", NOISY)
def test_ten_per_cent_more_never_passes_where_noise_hides_it(name: str) -> None:
    assert judged(name, 0.10, trials=100).rate("PASS") <= allowed(0.005, 100)


@pytest.mark.parametrize("name", ["normal 1 %", "shared drift 2 % + 0.5 %", "outliers 5 % at +30 % + 1 %", *SINGLES])
def test_right_at_the_tolerance_it_seldom_decides(name: str) -> None:
    result = judged(name, 0.05)
    assert result.rate("FAIL") <= allowed(0.01)
    assert result.rate("PASS") <= allowed(0.01)


def test_one_per_cent_of_noise_takes_seven_pairs() -> None:
    assert statistics.median(judged("normal 1 %", 0.0).pairs) <= 7
    assert statistics.median(judged("normal 1 %", 0.1).first) <= 7


def test_launches_buy_down_what_two_modes_hide() -> None:
    missed = [judged("two modes 12 % + 0.3 %", 0.10, trials=400, launches=launches).rate("PASS") for launches in (1, 2, 3)]
    for launches, rate in enumerate(missed, start=1):
        assert rate == pytest.approx(0.25**launches, abs=4 * (0.25**launches / 400) ** 0.5)


def test_the_benchmark_would_notice_a_rule_that_cries_wolf() -> None:
    factors = rates.streams(CELLS["two modes 12 % + 0.3 %"], TRIALS, rates.LAUNCHES_FOR_FAIL, rates.MAX_PAIRS)
    for rule in rates.RULES.values():
        assert rates.red(rule, factors, 0.0) > 0.15
