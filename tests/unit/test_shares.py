"""How much of its budget a run takes: by which verdict, how much, and as a bar of characters."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telling import compared, measured, told, with_energy, with_verdict

from pytest_greencompute.judging.verdict import Verdict, unmeasured
from pytest_greencompute.report.escape import fitted
from pytest_greencompute.report.shares import Share, share_of, worst_first
from pytest_greencompute.results.result import Result
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.metrics import METRICS


def share(result: Result) -> Share:
    found = share_of(result)
    assert found is not None
    return found


def test_a_budget_is_a_hundred_per_cent_and_the_interval_goes_with_the_figure() -> None:
    made = told(measured(), energy_per_query=0.8)
    found, energy = share(made), made.metrics["energy_per_query"]
    assert energy.low is not None
    assert energy.high is not None
    assert (found.word, found.of, found.amount) == ("PASS", "budget", "76 %")
    assert (found.value, found.low, found.high) == pytest.approx((0.612 / 0.8, energy.low / 0.8, energy.high / 0.8))
    assert found.said == "energy/query 0.612 J of 0.8 J"


def test_where_more_is_better_the_limit_is_a_share_of_the_figure_and_the_ends_change_sides() -> None:
    made = told(measured(), accuracy=0.99)
    found, accuracy = share(made), made.metrics["accuracy"]
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.99 / 0.94, 0.99 / accuracy.high, 0.99 / accuracy.low))
    assert found.said == "accuracy 0.940, at least 0.99"
    assert found.word == "FAIL"


def test_another_run_is_a_hundred_per_cent_where_a_run_is_held_against_it() -> None:
    found = share(compared(1.2, "FAIL"))
    assert (found.of, found.value, found.low, found.high, found.amount) == ("base", 1.2, 1.18, 1.22, "120 %")
    assert found.said == "energy/query +20 % [+18 %, +22 %] against main (0123abcd)"
    open_sides = replace(compared(1.2, "FAIL").verdicts[0], ratio=Ratio(1.2, 0.0, math.inf))
    found = share(replace(compared(1.2, "FAIL"), verdicts=(open_sides,)))
    assert (found.low, found.high) == (None, None)


def test_the_worst_word_decides_then_energy_then_a_budget() -> None:
    made = told(measured(), latency_p95=0.032, energy_per_query=0.8, accuracy=0.93)
    assert share(made).said.startswith("energy/query"), "though latency is nearer to its limit"
    assert share(told(measured(), energy_per_query=0.8, latency_p95=0.02)).said.startswith("p95")
    both = compared(1.02, "PASS")
    both = replace(both, verdicts=(*both.verdicts, *told(measured(), energy_per_query=0.8).verdicts))
    assert share(both).of == "budget"
    red = compared(1.2, "FAIL")
    assert share(replace(red, verdicts=(*told(measured(), energy_per_query=0.8).verdicts, *red.verdicts))).of == "base"


def test_nothing_is_drawn_of_what_was_not_measured_nor_beside_a_limit_of_zero() -> None:
    missing = unmeasured(METRICS["energy_per_query"], "test_y", "no meter")
    found = share(told(measured(), extra=(missing,), accuracy=0.9))
    assert (found.word, found.value, found.bar, found.said) == ("UNMEASURED", None, "", missing.reason)
    none = share(with_verdict(told(measured(), energy_per_query=0.8), limit=0.0))
    assert (none.value, none.bar, none.amount) == (None, "", "")
    candidate = Verdict("FAIL", "energy_per_query", "comparison", "b costs less.")
    assert (share(told(measured(), extra=(candidate,))).of, share(told(measured(), extra=(candidate,))).said) == ("", "b costs less.")
    assert share_of(told(measured())) is None


def test_a_figure_of_none_where_more_is_better_is_infinitely_far() -> None:
    made = told(measured(scores=(0.0,) * 100), accuracy=0.9)
    assert share(made).value == math.inf
    assert share(made).amount == "> 1000 times"


def test_a_figure_below_zero_has_an_empty_bar() -> None:
    found = share(with_energy(told(measured(), energy_per_query=0.8), value=-0.1, low=-0.2, high=0.1))
    assert (found.amount, found.bar) == ("-12 %", "········│···   -12 %")


@pytest.mark.parametrize(
    ("value", "bar"),
    [
        (0.0, "········│···     0 %"),
        (0.5, "████····│···    50 %"),
        (0.765, "██████▏·│···    76 %"),
        (1.0, "████████│··· 100.0 %"),
        (1.004, "████████│··· 100.4 %"),
        (1.2, "████████│█▋·   120 %"),
        (1.375, "████████│███   138 %"),
        (1.4, "████████│██»   140 %"),
        (122.4, "████████│██» 122 times"),
        (math.inf, "████████│██» > 1000 times"),
    ],
)
def test_a_bar_of_characters(value: float, bar: str) -> None:
    assert Share("PASS", "budget", "", value).bar == bar


def test_what_is_within_the_tolerance_of_another_run_is_told_from_what_is_not() -> None:
    made = compared(1.02, "PASS")
    assert share(made).fine == pytest.approx(1.05)
    (verdict,) = made.verdicts
    throughput = replace(verdict, metric="throughput", base=100.0, limit=80.0)
    assert share(replace(made, verdicts=(throughput,))).fine == pytest.approx(1.25)
    for none in (replace(verdict, limit=None), replace(verdict, base=None), replace(verdict, limit=verdict.base)):
        assert share(replace(made, verdicts=(none,))).fine is None
    assert share(told(measured(), energy_per_query=0.8)).fine is None


@pytest.mark.parametrize(
    ("value", "bar"),
    [
        (0.5, "████····│·┊·    50 %"),
        (1.02, "████████│▍┊· 102.0 %"),
        (1.05, "████████│█┊· 105.0 %"),
        (1.1, "████████│█┊▍   110 %"),
        (1.2, "████████│█┊»   120 %"),
        (math.inf, "████████│█┊» > 1000 times"),
    ],
)
def test_a_bar_of_characters_has_a_cell_for_the_tolerance(value: float, bar: str) -> None:
    assert Share("PASS", "base", "", value, fine=1.05).bar == bar


@given(st.floats(allow_nan=False), st.none() | st.floats(min_value=1, exclude_min=True, allow_infinity=False))
def test_every_bar_is_as_long_and_can_be_shown_in_ascii(value: float, fine: float | None) -> None:
    bar = Share("PASS", "budget", "", value, fine=fine).bar
    assert bar.index(" ") == 12
    plain = fitted(bar, "ascii")
    assert plain.isascii()
    assert len(plain) == len(bar)


def test_red_comes_first_then_the_worse_word_then_who_takes_the_most() -> None:
    shares = [
        (Share("PASS", "budget", "", 0.2), False),
        (Share("FAIL", "budget", "", 1.2), False),
        (Share("PASS", "budget", "", 0.9), False),
        (Share("PASS", "budget", "modelled", 0.1), True),
        (Share("UNMEASURED", "budget", ""), False),
        (Share("FAIL", "budget", "", math.inf), True),
    ]
    ranked = sorted(shares, key=lambda each: worst_first(each[0], red=each[1]))
    assert [(each.word, each.value) for each, _ in ranked] == [
        ("FAIL", math.inf),
        ("PASS", 0.1),
        ("FAIL", 1.2),
        ("UNMEASURED", None),
        ("PASS", 0.9),
        ("PASS", 0.2),
    ]
