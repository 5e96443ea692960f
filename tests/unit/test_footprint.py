"""Carbon and money: what people write is read exactly or refused with an example, and a year of traffic is worked out on paper."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import block, run, source

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome
from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.judging.budget import Limit
from pytest_greencompute.judging.by_limit import judge_budget
from pytest_greencompute.measuring.script import measure
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.results.document import footprint_to_json, result_to_json
from pytest_greencompute.results.result import Result
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.footprint import Amount, Footprint, yearly
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import (
    INTENSITY,
    MASS,
    MONEY,
    money,
    parse,
    parse_intensity,
    parse_price,
    parse_traffic,
    show,
    show_limit,
    show_traffic,
)

A_KWH = 3.6e6
DAY = 86_400
FULL = Footprint(0.056 / A_KWH, "set by you", 0.25 / A_KWH, "EUR", 1.2, 40e6 / DAY)


# What people write


@pytest.mark.parametrize(
    "written",
    ["56 g/kWh", "0.056 kg/kWh", "56 kg/MWh", "0.056 t/MWh", "56gCO2/kWh", "56 g CO2e / kWh", "56 gCO₂eq per kWh", "15.5555556 g/MJ"],
)
def test_an_intensity_is_read_in_every_usual_unit(written: str) -> None:
    assert parse_intensity(written) == pytest.approx(0.056 / A_KWH)


@pytest.mark.parametrize(
    ("written", "currency"),
    [
        ("0.25 EUR/kWh", "EUR"),
        ("0.25 eur per kWh", "EUR"),
        ("250 EUR/MWh", "EUR"),
        ("€0.25/kWh", "€"),
        ("0.25 €/kWh", "€"),
        ("EUR 0.25/kWh", "EUR"),
        ("$ 0.25 / kWh", "$"),
        ("0.25e3 JPY/MWh", "JPY"),
    ],
)
def test_a_price_is_read_with_its_currency_before_or_behind_the_number(written: str, currency: str) -> None:
    assert parse_price(written) == (pytest.approx(0.25 / A_KWH), currency)


@pytest.mark.parametrize(
    ("written", "a_day"),
    [
        ("40M/day", 40e6),
        ("40 M queries/day", 40e6),
        ("40M a day", 40e6),
        ("1.5k per hour", 36e3),
        ("12/s", 12 * DAY),
        ("12 queries/second", 12 * DAY),
        ("60/min", DAY),
        ("7 requests a week", 1),
        ("365/year", 1),
        ("2B/month", 24e9 / 365),
    ],
)
def test_traffic_is_read_with_its_thousands_and_its_period(written: str, a_day: float) -> None:
    assert parse_traffic(written) * DAY == pytest.approx(a_day)


@pytest.mark.parametrize(
    ("parser", "written", "says"),
    [
        (parse_intensity, 56, "56 has no unit"),
        (parse_intensity, "56", "'56' has no unit"),
        (parse_intensity, "56 g", "'56 g' is not a carbon intensity"),
        (parse_intensity, "56 lb/kWh", "is not a carbon intensity"),
        (parse_intensity, "56 g/km", "is not a carbon intensity"),
        (parse_intensity, "5,6 g/kWh", "has a decimal comma"),
        (parse_intensity, "0 g/kWh", "is not greater than zero"),
        (parse_intensity, "-5 g/kWh", "is not greater than zero"),
        (parse_intensity, "nan g/kWh", "is not a finite number"),
        (parse_intensity, "little", "is not a carbon intensity"),
        (parse_intensity, True, "is not a quantity"),
        (parse_intensity, None, "is not a quantity"),
        (parse_price, 0.25, "0.25 has no unit"),
        (parse_price, "0.25/kWh", "is not a price of electricity"),
        (parse_price, "25 ct/kWh", "is not a price of electricity"),
        (parse_price, "0.25 EUR", "is not a price of electricity"),
        (parse_price, "0.25 kWh/J", "is not a price of electricity"),  # three letters, and no currency
        (parse_price, "0.25 %/kWh", "is not a price of electricity"),
        (parse_price, "0,25 EUR/kWh", "has a decimal comma"),
        (parse_price, "-0.25 EUR/kWh", "is not greater than zero"),
        (parse_price, ["0.25 EUR/kWh"], "is not a quantity"),
        (parse_traffic, 40, "40 has no unit"),
        (parse_traffic, "40M", "is not a rate of queries"),
        (parse_traffic, "40m/day", "is not a rate of queries"),  # a thousandth of a query, or a million?
        (parse_traffic, "40M/fortnight", "is not a rate of queries"),
        (parse_traffic, "0/day", "is not greater than zero"),
        (parse_traffic, "1e999/day", "is not a finite number"),
    ],
)
def test_what_is_none_is_refused_with_an_example(parser: Callable[[object], Any], written: Any, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parser(written)
    assert says in caught.value.message
    example = {parse_intensity: "'56 g/kWh'", parse_price: "'0.25 EUR/kWh'", parse_traffic: "'40M/day'"}[parser]
    assert caught.value.remedy.startswith(f"Write it like {example}, ")
    assert str(written) in caught.value.message


written_texts = st.text(max_size=24) | st.from_regex(
    r"[€$]?[0-9.,e+-]{1,6} ?[a-zA-Z€%0-9 ]{0,10}(/| per | a )[A-Za-z]{1,6}", fullmatch=True
)


@given(written_texts, st.sampled_from([parse_intensity, parse_traffic, lambda text: parse_price(text)[0]]))
def test_any_text_is_a_finite_number_above_zero_or_a_settings_error(written: str, parser: Callable[[str], float]) -> None:
    with contextlib.suppress(SettingsError):
        value = parser(written)
        assert math.isfinite(value)
        assert value > 0


@given(st.floats(1e-3, 1e4))
def test_an_intensity_that_is_shown_reads_back(grams: float) -> None:
    assert parse_intensity(show(grams / 1e3 / A_KWH, INTENSITY)) == pytest.approx(grams / 1e3 / A_KWH, rel=0.01)


@given(st.floats(1e-2, 1e13))
def test_traffic_that_is_shown_reads_back(a_day: float) -> None:
    assert parse_traffic(show_traffic(a_day / DAY)) * DAY == pytest.approx(a_day, rel=0.01)


def test_money_is_shown_with_its_currency_and_compared_in_no_other() -> None:
    assert (show(607.45, money("EUR")), show(4.161e-8, money("EUR")), show(0.25, money("€"))) == ("607 EUR", "41.6 nEUR", "0.250 €")
    assert show_limit(3e-8, money("EUR")) == "30 nEUR"
    assert (parse("0.0002 EUR", money("EUR")), parse(0.0002, money("EUR")), parse("41.6 nEUR", money("EUR"))) == (2e-4, 2e-4, 4.16e-8)
    assert money("") is MONEY
    with pytest.raises(SettingsError, match="unknown unit, 'USD'"):
        parse("0.0002 USD", money("EUR"))


def test_limits_of_carbon_and_money_may_be_for_many_queries() -> None:
    assert parse("2 g/1000 queries", MASS) == pytest.approx(2e-6)
    assert parse("0.03/1000000 queries", MONEY) == pytest.approx(3e-8)
    assert parse("0.03 per 1,000,000 queries", MONEY) == pytest.approx(3e-8)


def test_a_limit_of_money_with_a_currency_is_told_to_be_a_plain_number() -> None:
    with pytest.raises(SettingsError) as caught:
        parse("0.0002 EUR", MONEY)
    assert str(caught.value) == "'0.0002 EUR' has an unknown unit, 'EUR'. Write it like '0.0002', in the currency of electricity_price."


# The factors


@pytest.mark.parametrize(
    "fields", [{"kg_per_j": -1.0}, {"price_per_j": math.nan}, {"queries_per_s": math.inf}, {"pue": 0.9}, {"pue": math.nan}]
)
def test_factors_that_cannot_be_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(fields))):
        Footprint(**fields)  # type: ignore[arg-type]


def test_carbon_and_money_of_a_joule_are_those_of_the_whole_data_centre() -> None:
    assert FULL.carbon == pytest.approx(0.0672 / A_KWH)
    assert FULL.money == pytest.approx(0.30 / A_KWH)
    assert (Footprint(pue=1.2).carbon, Footprint(pue=1.2).money, Footprint(pue=1.2).applies) == (None, None, False)
    assert Footprint(queries_per_s=1.0).applies
    assert Footprint(why_no_carbon="no table").applies


# A year


def test_a_year_is_365_days_of_the_traffic_times_the_energy_of_a_query_and_pue() -> None:
    year = yearly(FULL, 0.5, 0.4, None)
    assert year is not None
    assert year.queries == pytest.approx(14.6e9)
    kwh = 14.6e9 * 0.5 * 1.2 / A_KWH  # 2433
    assert year.kwh == Amount(pytest.approx(kwh), pytest.approx(0.8 * kwh), None)
    assert year.kg == Amount(pytest.approx(kwh * 0.056), pytest.approx(0.8 * kwh * 0.056), None)
    assert year.money == Amount(pytest.approx(kwh * 0.25), pytest.approx(0.8 * kwh * 0.25), None)


def test_a_year_has_only_what_was_asked_for_and_there_is_none_without_traffic() -> None:
    year = yearly(Footprint(queries_per_s=1.0), 1.0, None, None)
    assert year is not None
    assert (year.kwh.value, year.kg, year.money) == (pytest.approx(8.76), None, None)
    assert yearly(Footprint(kg_per_j=1.0, price_per_j=1.0), 1.0, None, None) is None


# Estimates and verdicts


RUN = run([block(5.0 + 0.02 * (k % 3 - 1), set_index=k) for k in range(9)])  # about half a joule a query
AIM = Aim(footprint=FULL)


def test_carbon_and_cost_are_the_energy_with_its_interval_times_the_factor() -> None:
    energy = estimate(RUN, METRICS["energy_per_query"], AIM)
    assert isinstance(energy, Estimate)
    for name, factor in (("carbon_per_query", 0.0672 / A_KWH), ("cost_per_query", 0.30 / A_KWH)):
        found = estimate(RUN, METRICS[name], AIM)
        assert isinstance(found, Estimate)
        assert (found.value, found.low, found.high) == tuple(
            pytest.approx(each * factor) for each in (energy.value, energy.low, energy.high) if each is not None
        )
        assert (found.domain, found.method, found.relative) == (energy.domain, energy.method, pytest.approx(energy.relative))


@pytest.mark.parametrize(
    ("footprint", "metric", "reason"),
    [
        (
            Footprint(),
            "carbon_per_query",
            'no carbon intensity is set: write country = "FRA" or carbon_intensity = "56 g/kWh" in the settings',
        ),
        (Footprint(why_no_carbon="CodeCarbon is not installed."), "carbon_per_query", "CodeCarbon is not installed"),
        (
            Footprint(why_no_carbon="CodeCarbon is not installed."),
            "cost_per_query",
            'no price is set: write electricity_price = "0.25 EUR/kWh"',
        ),
    ],
)
def test_without_its_factor_there_is_no_figure_but_a_reason(footprint: Footprint, metric: str, reason: str) -> None:
    found = estimate(RUN, METRICS[metric], Aim(footprint=footprint))
    assert isinstance(found, Missing)
    assert found.reason.startswith(reason)
    verdict = judge_budget(METRICS[metric], found, Limit(METRICS[metric], 1.0, "t.py:1"), "test_y")
    assert verdict.word == "UNMEASURED"


def test_a_verdict_on_cost_names_the_currency() -> None:
    metric = METRICS["cost_per_query"]
    verdict = judge_budget(metric, estimate(RUN, metric, AIM), Limit(metric, 1e-8, "t.py:1"), "test_y")
    assert verdict.word == "FAIL"
    assert verdict.reason.startswith("test_y cost 41.")
    assert " nEUR of electricity per query [" in verdict.reason
    assert verdict.reason.endswith("over its budget of 10 nEUR (4.2 times).")


def test_a_measured_run_compares_its_carbon_and_its_cost_with_texts() -> None:
    def unmetered(metric: str) -> Any:
        raise AssertionError(metric)

    measured = MeasuredRun(RUN, [], AIM, unmetered)
    assert measured.carbon_per_query < "0.1 g"
    assert measured.carbon_per_query > "1 µg"
    assert measured.cost_per_query < "0.0002 EUR"
    assert measured.cost_per_query > "30 nEUR"
    with pytest.raises(SettingsError):
        assert measured.cost_per_query < "0.0002 USD"


def test_measuring_in_a_script_takes_a_footprint_and_has_none_without() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock)

    def model(batch: list[int]) -> list[int]:
        gpu.work(0.05, 300.0)
        return batch

    instruments = Instruments([gpu.energy_counter()], clock)
    measured = measure(model, range(20), instruments=instruments, footprint=FULL)
    assert measured.carbon_per_query.value == pytest.approx(measured.energy_per_query.value * 0.0672 / A_KWH)
    assert isinstance(measure(model, range(20), instruments=instruments).outcome("carbon_per_query"), Missing)


# JSON


def shown(made: Run, outcomes: Mapping[str, Outcome], footprint: Footprint | None = None) -> dict[str, Any]:
    return result_to_json(Result.of(made, outcomes, footprint=footprint))


def test_a_run_has_a_year_only_where_there_is_traffic_and_a_window_has_none() -> None:
    outcomes = {"energy_per_query": estimate(RUN, METRICS["energy_per_query"], AIM)}
    year = shown(RUN, outcomes, FULL)["year"]
    assert set(year) == {"queries", "energy_kwh", "carbon_kg", "money", "domain", "method"}
    assert set(year["money"]) == {"value", "low", "high"}
    assert "year" not in shown(RUN, outcomes, Footprint(kg_per_j=1.0))
    assert "year" not in shown(RUN, outcomes)
    assert "year" not in shown(RUN, {}, FULL)
    window = run([block(5.0, queries=1)], window=True, sources=(source(tick_s=0.01),))
    assert "year" not in shown(window, {"energy_per_query": estimate(window, METRICS["energy_per_query"], AIM)}, FULL)


def test_the_factors_in_json_leave_out_what_was_not_set() -> None:
    assert footprint_to_json(FULL) == {name: value for name, value in asdict(FULL).items() if name != "why_no_carbon"}
    assert footprint_to_json(Footprint(pue=1.1)) == {"pue": 1.1}
    assert footprint_to_json(Footprint(why_no_carbon="no table")) == {"why_no_carbon": "no table", "pue": 1.0}


@pytest.mark.parametrize(
    ("address", "name"),
    [("footprint", "Footprint"), ("units", "parse_intensity"), ("generation", "Generator"), ("store.leaderboard", "read_leaderboard")],
)
def test_what_scripts_were_told_to_import_is_where_they_were_told(address: str, name: str) -> None:
    assert callable(getattr(importlib.import_module(f"pytest_greencompute.{address}"), name))
