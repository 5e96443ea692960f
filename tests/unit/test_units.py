"""Quantities: what people write is read exactly or refused with the right unit named, and what is printed reads back."""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.judging.choice import Gain
from pytest_greencompute.results.run_json import schema
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.footprint import Amount
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import (
    DIMENSIONS,
    ENERGY,
    MASS,
    MEMORY,
    MONEY,
    PLAIN,
    POWER,
    RATE,
    RATIO,
    TIME,
    Called,
    Dimension,
    Quantity,
    parse,
    parse_positive,
    parse_share,
    show,
    show_interval,
    show_limit,
    show_share,
    significant,
)

any_dimension = st.sampled_from(DIMENSIONS)
sizes = st.floats(1e-8, 1e8)


# In the formats of reports


def test_the_report_s_schema_has_every_unit_of_a_dimension_and_every_metric_has_one_of_these() -> None:
    units = list(dict.fromkeys(dimension.si for dimension in DIMENSIONS))
    assert schema()["$defs"]["unit"]["enum"] == units
    assert {metric.dimension.si for metric in METRICS.values()} == set(units)


def test_every_unit_is_called_something_in_every_format() -> None:
    with_unit = {each.si: each.called for each in DIMENSIONS if each.si not in {RATIO.si, MONEY.si}}
    for place, plain in enumerate(PLAIN):
        names = [called[place] for called in with_unit.values()]
        assert plain not in names
        assert len(set(names)) == len(names)
    others = {metric.dimension.called for metric in METRICS.values()} - set(with_unit.values())
    assert others == {PLAIN, Called(ucum="{currency}")}


# Reading


@pytest.mark.parametrize(("dimension", "unit"), [(each, unit) for each in DIMENSIONS for unit in each.units])
def test_every_listed_unit_is_read(dimension: Dimension, unit: str) -> None:
    # Without a space "2.51/s" is 2.51 per second.
    for written in (f"2.5 {unit}", f"  2.5  {unit} ", f"25e-1 {unit}", f"+2.5 {unit}", f"2.5{unit}" if unit != "1/s" else "2.5 1/s"):
        assert parse(written, dimension) == pytest.approx(2.5 * dimension.units[unit])


@pytest.mark.parametrize(
    ("written", "dimension", "si"),
    [
        ("0.8 J", ENERGY, 0.8),
        ("1_000 J", ENERGY, 1000.0),
        (".5 J", ENERGY, 0.5),
        ("5. J", ENERGY, 5.0),
        ("1 kWh", ENERGY, 3.6e6),
        ("3 µJ", ENERGY, 3e-6),
        ("3 μJ", ENERGY, 3e-6),  # the Greek letter beside the micro sign
        ("0.4 Wh/1000 queries", ENERGY, 1.44),
        ("0.4 Wh per 1,000 queries", ENERGY, 1.44),
        ("0.4 Wh / 1 000 queries", ENERGY, 1.44),
        ("2 J/query", ENERGY, 2.0),
        ("4 Wh/1,000,000 queries", ENERGY, 0.0144),
        ("0.4 Wh/1_000 queries", ENERGY, 1.44),
        ("2 J per query", ENERGY, 2.0),
        ("-1 J", ENERGY, -1.0),
        ("40 ms", TIME, 0.04),
        ("1.5 min", TIME, 90.0),
        ("250 W", POWER, 250.0),
        ("120 /s", RATE, 120.0),
        ("120/s", RATE, 120.0),
        ("120 queries/s", RATE, 120.0),
        ("60 /min", RATE, 1.0),
        ("92 %", RATIO, 0.92),
        ("92%", RATIO, 0.92),
        ("0.92", RATIO, 0.92),
        (0.8, ENERGY, 0.8),
        (3, ENERGY, 3.0),
    ],
)
def test_quantities_are_read_as_si(written: Any, dimension: Dimension, si: float) -> None:
    assert parse(written, dimension) == pytest.approx(si)


@pytest.mark.parametrize(
    ("written", "dimension", "says"),
    [
        ("0.8 lb", ENERGY, "unknown unit, 'lb'"),
        ("0.8 kg", ENERGY, "is a mass of CO2e, not an energy"),
        ("1 JJ", ENERGY, "Did you mean 'J'?"),
        ("1 mj", ENERGY, "Did you mean 'mJ'?"),
        ("1 KJ", ENERGY, "Did you mean 'kJ'?"),
        ("1 gb", MEMORY, "Did you mean 'GB'?"),
        ("", ENERGY, "not a quantity"),
        ("   ", ENERGY, "not a quantity"),
        ("J", ENERGY, "not a quantity"),
        ("half a joule", ENERGY, "not a quantity"),
        ("1,5 J", ENERGY, "decimal comma"),
        ("0.8", ENERGY, "has no unit"),
        ("40", TIME, "has no unit"),
        ("40 ms", ENERGY, "is a time, not an energy"),
        ("0.8 J", TIME, "is an energy, not a time"),
        ("0.8 J", RATIO, "is an energy, not a ratio"),
        ("5 %", ENERGY, "is a ratio, not an energy"),
        ("5 /s", POWER, "is a rate, not a power"),
        ("nan", ENERGY, "not a finite number"),
        ("nan J", ENERGY, "not a finite number"),
        ("inf J", ENERGY, "not a finite number"),
        ("-Infinity J", ENERGY, "not a finite number"),
        ("1e999 J", ENERGY, "not a finite number"),
        ("1e308 MJ", ENERGY, "not a finite number"),
        ("0.4 Wh/0 queries", ENERGY, "unknown unit"),
        ("1_ J", ENERGY, "unknown unit, '_ J'"),
        ("1__0 J", ENERGY, "unknown unit"),
        ("_1 J", ENERGY, "not a quantity"),
        ("0.4 W/1000 queries", ENERGY, "unknown unit"),
        ("3 ms/query", TIME, "unknown unit"),
        (math.nan, ENERGY, "not a finite number"),
        (math.inf, TIME, "not a finite number"),
        (10**400, ENERGY, "not a finite number"),
        (True, ENERGY, "not a quantity"),
        (None, ENERGY, "not a quantity"),
        ([1], ENERGY, "not a quantity"),
        (b"1 J", ENERGY, "not a quantity"),
    ],
)
def test_what_is_no_such_quantity_is_refused_with_a_remedy(written: Any, dimension: Dimension, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(written, dimension)
    assert says in caught.value.message
    assert dimension.example in caught.value.remedy


@pytest.mark.parametrize("count", ["1,5", "1.5", "1,0000", "1.000", "10,00", "1,000.5", "1 5", "1,000 000", "1.000,5", ",5", "1000,"])
@pytest.mark.parametrize("dimension", [ENERGY, MASS, MONEY])
def test_a_number_of_queries_that_may_be_read_in_two_ways_is_refused(count: str, dimension: Dimension) -> None:
    unit = next(iter(dimension.units))
    with pytest.raises(SettingsError, match=f"is per '{re.escape(count)}' queries, which is no whole number"):
        parse(f"0.4 {unit}/{count} queries", dimension)


@pytest.mark.parametrize("written", ["1,5 J", "1,000 J", "1.000,5 J", "1,000.5 J"])
def test_a_comma_in_a_number_is_refused(written: str) -> None:
    with pytest.raises(SettingsError, match="decimal comma"):
        parse(written, ENERGY)


@pytest.mark.parametrize(("written", "share"), [(0.05, 0.05), ("5 %", 0.05), ("150%", 1.5), ("0.5", 0.5), (0, 0.0), ("100 %", 1.0)])
def test_shares_are_read_with_or_without_their_sign(written: Any, share: float) -> None:
    assert parse_share(written) == pytest.approx(share)


@pytest.mark.parametrize("written", [1, 1.0, "1", 5, "20", "1e1"])
def test_from_one_on_a_share_needs_its_sign(written: Any) -> None:
    with pytest.raises(SettingsError, match=r"may be .+ % or .+ %"):
        parse_share(written)


@pytest.mark.parametrize("written", ["0 J", "-1 J", 0, -0.5, "-0.0 J"])
def test_a_limit_must_be_greater_than_zero(written: Any) -> None:
    with pytest.raises(SettingsError, match="not greater than zero"):
        parse_positive(written, ENERGY)


@given(st.text(max_size=30) | st.from_regex(r"[0-9.,eE+-]{1,6} ?[A-Za-z/%µ0-9 ]{0,12}", fullmatch=True), any_dimension)
def test_any_text_is_a_finite_number_or_a_settings_error(written: str, dimension: Dimension) -> None:
    with contextlib.suppress(SettingsError):
        assert math.isfinite(parse(written, dimension))


# Printing


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.612, ENERGY, "0.612 J"),
        (0.0312, TIME, "31.2 ms"),
        (0.0996, TIME, "99.6 ms"),
        (12.34, ENERGY, "12.3 J"),
        (1931.0, ENERGY, "1.93 kJ"),
        (3.6e6, ENERGY, "3.60 MJ"),
        (2e-9, ENERGY, "2.00 nJ"),
        (0.0, ENERGY, "0 J"),
        (-0.05, ENERGY, "-50.0 mJ"),
        (0.941, RATIO, "0.941"),
        (1.0, RATIO, "1.00"),
        (4321, RATE, "4320 queries/s"),
    ],
)
def test_quantities_are_printed_with_three_digits_in_a_handy_unit(value: float, dimension: Dimension, text: str) -> None:
    assert show(value, dimension) == text


@given(sizes, any_dimension, st.integers(2, 8), st.sampled_from([1, -1]))
def test_what_is_printed_reads_back_within_rounding(size: float, dimension: Dimension, digits: int, sign: int) -> None:
    again = parse(show(sign * size, dimension, digits), dimension)
    assert again == pytest.approx(sign * size, rel=0.51 * 10 ** (1 - digits))


@given(st.integers(1, 99999), st.integers(-6, 3), any_dimension)
def test_a_limit_is_printed_with_no_more_digits_than_it_needs_and_none_less(number: int, power: int, dimension: Dimension) -> None:
    limit = float(f"{number}e{power}")
    text = show_limit(limit, dimension)
    assert parse(text, dimension) == pytest.approx(limit, rel=1e-5)
    assert not re.search(r"\.\d*0(\s|$)", text)
    assert not re.search(r"\.(\s|$)", text)


@pytest.mark.parametrize(
    ("limit", "dimension", "text"),
    [(0.8, ENERGY, "0.8 J"), (0.04, TIME, "40 ms"), (0.92, RATIO, "0.92"), (100.0, RATE, "100 queries/s"), (20.0, ENERGY, "20 J")],
)
def test_limits_are_printed_as_they_were_written(limit: float, dimension: Dimension, text: str) -> None:
    assert show_limit(limit, dimension) == text


def test_an_interval_is_printed_in_the_unit_of_its_value_with_open_sides_as_dashes() -> None:
    assert show_interval(1.931, 1.920, 1.942, ENERGY) == "1.931 J [1.920, 1.942]"
    assert show_interval(0.0312, 0.0309, None, TIME) == "31.20 ms [30.90, -]"
    assert show_interval(0.9, None, None, RATIO) == "0.9000 [-, -]"
    assert show_interval(0.0, 0.0, 0.162, RATIO, 3) == "0 [0.00, 0.16]"


def test_shares_and_digits() -> None:
    assert [show_share(each) for each in (0.0083, 0.05, 0.0994, 0.0996, 1.5)] == ["0.8 %", "5.0 %", "9.9 %", "10 %", "150 %"]
    assert [significant(each, 3) for each in (0.6123, 31.25, 310.4, 99.96, 123456.0, 0.0)] == ["0.612", "31.2", "310", "100", "123000", "0"]


# Comparing


class Sized(Quantity):
    __slots__ = ("dimension", "value")

    def __init__(self, value: float, dimension: Dimension) -> None:
        self.value = value
        self.dimension = dimension


def test_a_quantity_compares_with_si_numbers_strings_and_its_like() -> None:
    energy = Sized(0.8, ENERGY)
    assert energy < 1
    assert energy < "900 mJ"
    assert energy <= "0.8 J"
    assert energy > Sized(0.7, ENERGY)
    assert energy >= 0.8
    assert energy == "0.8 J"
    assert energy == 0.8
    assert energy != "0.9 J"
    assert energy != Sized(0.9, ENERGY)
    assert energy < "1 Wh/1000 queries"
    assert float(energy) == 0.8
    assert "0.9 J" > energy  # noqa: SIM300  the string may stand first
    assert hash(energy) == hash(Sized(0.8, ENERGY))
    assert (energy == None) is False  # noqa: E711  the operator is what is tested
    assert (energy == [0.8]) is False


@pytest.mark.parametrize("other", ["40 ms", Sized(0.8, TIME), "0.8", "much", True, math.nan])
def test_comparing_with_another_dimension_or_with_nonsense_is_an_error(other: Any) -> None:
    energy = Sized(0.8, ENERGY)
    for compare in (energy.__lt__, energy.__le__, energy.__gt__, energy.__ge__, energy.__eq__):
        with pytest.raises(SettingsError):
            compare(other)


def test_comparing_two_dimensions_names_them_both() -> None:
    with pytest.raises(SettingsError, match="An energy does not compare with a time"):
        _ = Sized(0.8, ENERGY) < Sized(0.8, TIME)


FIGURES = [
    Sized(0.123456, ENERGY),
    Estimate(0.123456, 0.12, 0.13, ENERGY, 9, 0.99),
    Ratio(0.123456, 0.1, 0.2),
    Gain(0.123456, 0.1, 0.2),
    Amount(0.123456, 0.1, 0.2),
]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: type(figure).__name__)
def test_a_figure_is_written_by_a_format_as_its_value_is_and_without_one_as_ever(figure: Any) -> None:
    assert f"{figure:.3f} {figure:>8.1%}|{figure:g}" == "0.123    12.3%|0.123456"
    assert f"{figure}" == str(figure) != "0.123456"
    with pytest.raises(ValueError, match="Unknown format code"):
        format(figure, "d")
