"""The picture of the page: places of bars, worst first, also of figures that are far away or open."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telling import compared, measured, session, told, with_energy, with_verdict

from pytest_greencompute.report.bars import AT_LEAST, AT_MOST, FIRST, ROOM, Bar, Picture, picture
from pytest_greencompute.results.result import Result
from pytest_greencompute.stats.ratios import Ratio

BUDGET = told(measured(), energy_per_query=0.8)


def drawn(*results: Result) -> Picture:
    found = picture(results)
    assert found is not None
    return found


def bar(result: Result) -> Bar:
    (found,) = drawn(result).bars
    return found


def test_places_are_in_per_cent_of_an_axis_that_ends_beyond_the_limit() -> None:
    found = drawn(BUDGET)
    assert found.limit == 100 / AT_LEAST
    (made,) = found.bars
    energy = BUDGET.metrics["energy_per_query"]
    assert energy.low is not None
    assert energy.high is not None
    expected = [value / 0.8 * found.limit for value in (energy.value, energy.low, energy.high)]
    assert (made.fill, *made.ends) == pytest.approx(expected, abs=0.01)
    assert (made.amount, made.beyond, made.interval, made.open) == ("76 %", False, made.ends, False)


@pytest.mark.parametrize(("times", "open_end"), [(3.0, False), (100.0, False), (math.inf, True)])
def test_what_is_far_away_goes_on_after_the_end_and_flattens_nothing(times: float, open_end: bool) -> None:
    far = with_verdict(compared(1.2, "FAIL"), ratio=Ratio(times, times * 0.9, times * 1.1))
    found = drawn(far, BUDGET)
    assert found.limit == pytest.approx(100 / AT_MOST)
    (first, _) = found.bars
    assert (first.fill, first.beyond, first.interval, first.ends, first.open) == (100.0, True, (100.0, 100.0), (), open_end)
    assert (found.bars[1].fill or 0) > 30


def test_an_open_side_reaches_the_edge_and_without_an_interval_there_is_none() -> None:
    above = bar(with_energy(BUDGET, high=None))
    assert above.interval == (above.ends[0], 100.0)
    below = bar(with_energy(BUDGET, low=None))
    assert below.interval == (0.0, below.ends[0])
    assert above.open
    assert below.open
    neither = bar(with_energy(BUDGET, low=None, high=None))
    assert (neither.interval, neither.ends, neither.open) == (None, (), False)
    assert neither.fill is not None


def test_zero_and_less_are_at_the_start() -> None:
    for value in (0.0, -0.5):
        made = bar(with_energy(BUDGET, value=value, low=-1.0, high=0.1))
        assert (made.fill, made.ends[0]) == (0.0, 0.0)


def test_what_has_no_figure_has_its_reason_and_no_bar() -> None:
    made = bar(with_verdict(BUDGET, word="UNMEASURED", reason="no meter."))
    assert (made.word, made.said, made.fill, made.interval, made.amount) == ("UNMEASURED", "no meter.", None, None, "")


def test_runs_without_a_verdict_are_counted_and_those_beyond_the_first_are_folded() -> None:
    many = [replace(BUDGET, test=f"t.py::test_{n}") for n in range(200)]
    found = drawn(told(measured()), *many, told(measured(), "fail", energy_per_query=0.5))
    assert (found.free, len(found.bars), len(found.folded)) == (1, FIRST, 201 - FIRST)
    assert [each.word for each in found.bars[:2]] == ["FAIL", "PASS"]
    assert picture([told(measured())]) is None
    assert picture(session().results) is None


def test_a_long_name_is_cut_in_the_middle_and_kept_whole_beside() -> None:
    made = bar(replace(BUDGET, test="t.py::test_" + "x" * 300 + "[fp16]\n"))
    assert len(made.short) == 32
    assert made.short.endswith("[fp16]\\n")
    assert made.name.endswith("[fp16]\n")


def test_the_caption_says_what_the_bars_are_of() -> None:
    assert "how much of its budget it takes. " in drawn(BUDGET).caption
    assert "tolerance" not in drawn(BUDGET).caption
    assert "worst first: how many times the other run it is. " in drawn(compared(1.02, "PASS")).caption


def test_the_tolerance_beside_another_run_has_a_mark_where_it_is_on_the_picture() -> None:
    beside, free = drawn(compared(1.02, "PASS"), BUDGET).bars
    assert (beside.fine, free.fine) == (pytest.approx(105 / AT_LEAST), None)
    assert "up to the dotted line, the tolerance" in drawn(compared(1.02, "PASS")).caption
    wide = with_verdict(compared(1.02, "PASS"), limit=0.6 * 2)
    assert drawn(wide).limit == pytest.approx(100 / (2 * ROOM), abs=0.01)
    beyond = with_verdict(compared(1.02, "PASS"), limit=0.6 * 9)
    assert bar(beyond).fine is None
    bare = bar(with_verdict(compared(1.02, "PASS"), ratio=Ratio(1.02, 0.0, math.inf)))
    assert (bare.interval, bare.fine) == (None, beside.fine)


@given(st.lists(st.tuples(*[st.floats(allow_nan=False)] * 3), min_size=1, max_size=5))
def test_every_place_is_on_the_picture(ratios: list[tuple[float, float, float]]) -> None:
    found = drawn(*(with_verdict(compared(1.2, "FAIL"), ratio=Ratio(*each)) for each in ratios))
    assert 100 / AT_MOST <= found.limit <= 100 / AT_LEAST
    for each in found.bars:
        assert all(place is None or 0 <= place <= 100 for place in (each.fill, *(each.interval or ()), *each.ends, each.fine))
