"""country, carbon_intensity, electricity_price, pue and traffic: carbon and money as budgets, and a year of the traffic."""

from __future__ import annotations

import importlib.util
import json
from importlib.machinery import ModuleSpec

import pytest

import pytest_greencompute.settings.intensity  # noqa: F401  loaded once, as in conftest.py
from pytest_greencompute import cli

from .conftest import Project
from .test_bad_input import refused
from .test_base_ref import Repository, repository

__all__ = ["repository"]

# Half a joule, at 56 g and 0.25 EUR a kWh and a PUE of 1.2: 9.333 µg and 41.67 nEUR a query.
FACTORS = """
    carbon_intensity = "56 g/kWh"
    electricity_price = "0.25 EUR/kWh"
    pue = 1.2
"""
TEST = """
    import os
    import pytest

    @pytest.mark.energy_budget({budget})
    def test_it(energy_meter, world):
        run = energy_meter.measure(world.model(float(os.environ.get("JOULES", "0.5"))), list("abcd"))
        {body}
"""


def write(project: Project, toml: str, budget: str = "", body: str = "pass") -> None:
    project.toml(toml)
    project.write("test_it.py", TEST.format(budget=budget, body=body))


# Budgets


def test_carbon_and_cost_within_their_budgets_are_green_and_stand_in_the_table_with_the_currency(project: Project) -> None:
    write(project, FACTORS, 'carbon_per_query="10 µg", cost_per_query=5e-8')
    result = project.measure("--energy-json=energy.json", "--junit-xml=junit.xml")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["test * CO2e/query * budget * cost/query * budget *", "test_it * 9.33 µg ±* 10 µg * 41.7 nEUR ±* 50 nEUR * PASS *"]
    )
    data = project.report()
    assert data["session"]["footprint"] == {
        "kg_per_j": pytest.approx(0.056 / 3.6e6),
        "carbon_source": "set by you",
        "price_per_j": pytest.approx(0.25 / 3.6e6),
        "currency": "EUR",
        "pue": 1.2,
    }
    (run,) = data["runs"]
    assert run["metrics"]["carbon_per_query"]["value"] == pytest.approx(9.333e-9, rel=1e-3)
    assert run["metrics"]["carbon_per_query"]["unit"] == "kg"
    assert run["metrics"]["cost_per_query"]["value"] == pytest.approx(4.167e-8, rel=1e-3)
    assert "year" not in run
    junit = (project.path / "junit.xml").read_text(encoding="utf-8")
    assert 'name="carbon_per_query_kg" value="9.333' in junit
    assert 'name="cost_per_query" value="4.16' in junit
    assert 'name="cost_per_query_verdict" value="PASS"' in junit


def test_carbon_and_cost_over_their_budgets_are_red_with_a_sentence_each(project: Project) -> None:
    write(project, FACTORS, 'carbon_per_query="5 µg", cost_per_query=2e-8')
    result = project.measure()
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "test_it emitted 9.33? µg of CO2e per query [[]*] on gpu:0, over its budget of 5 µg (1.9 times).*",
            "test_it cost 41.6? nEUR of electricity per query [[]*] on gpu:0, over its budget of 20 nEUR (2.1 times).*",
        ]
    )


def test_a_budget_without_its_factor_is_unmeasured_with_what_to_write(project: Project) -> None:
    write(project, "", 'carbon_per_query="5 µg", cost_per_query=2e-8')
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            'test_it has no carbon_per_query to judge: no carbon intensity is set: write country = "FRA" or carbon_intensity = "56 g/kWh"*',
            'test_it has no cost_per_query to judge: no price is set: write electricity_price = "0.25 EUR/kWh" in the settings.*',
        ]
    )


def test_without_a_word_about_them_neither_table_nor_report_has_carbon_or_money(project: Project) -> None:
    write(project, "")
    result = project.measure("--energy-json=energy.json")
    for word in ("CO2e", "cost", "a year"):
        result.stdout.no_fnmatch_line(f"*{word}*")
    data = project.report()
    assert "footprint" not in data["session"]
    assert not {"carbon_per_query", "cost_per_query"} & set(data["runs"][0]["metrics"])


@pytest.mark.parametrize(("limit", "word"), [("10 µg", "passed"), ("5 µg", "failed")])
def test_a_test_may_assert_on_them(project: Project, limit: str, word: str) -> None:
    write(project, FACTORS, body=f'assert run.carbon_per_query < "{limit}" and run.cost_per_query < "0.0002 EUR"')
    project.measure().assert_outcomes(**{word: 1})


# A country


def test_a_country_brings_its_intensity_with_its_source(project: Project) -> None:
    pytest.importorskip("codecarbon")
    write(project, 'country = "FRA"', 'carbon_per_query="1 mg"')
    project.measure("--energy-json=energy.json").assert_outcomes(passed=1)
    data = project.report()
    assert data["session"]["footprint"]["carbon_source"].startswith("FRA 20")
    assert data["runs"][0]["metrics"]["carbon_per_query"]["value"] == pytest.approx(
        0.5 * data["session"]["footprint"]["kg_per_j"], rel=1e-3
    )


def test_a_country_that_does_not_exist_is_refused_with_file_line_and_the_one_that_was_meant(project: Project) -> None:
    pytest.importorskip("codecarbon")
    write(project, 'country = "GB"')
    refused(project.measure(), "pyproject.toml:3: country: 'GB' is not a country", "Did you mean GBR (United Kingdom)?")


@pytest.fixture
def without_codecarbon(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "codecarbon" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.mark.usefixtures("without_codecarbon")
def test_without_codecarbon_carbon_is_unmeasured_and_energy_is_judged_all_the_same(project: Project) -> None:
    write(project, 'country = "FRA"', 'carbon_per_query="1 mg", energy_per_query="0.4 J"')
    result = project.measure("--energy-unmeasured=fail", "--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    remedy = "CodeCarbon is not installed. pip install 'pytest-greencompute[[]codecarbon]', or write carbon_intensity = \"56 g/kWh\""
    result.stdout.fnmatch_lines(
        [f"test_it has no carbon_per_query to judge: {remedy}*", "test_it used 0.5* J per query*over its budget*", f"no carbon: {remedy}*"]
    )
    assert "CodeCarbon is not installed" in project.report()["session"]["footprint"]["why_no_carbon"]


@pytest.mark.usefixtures("without_codecarbon")
def test_an_unmetered_run_does_not_ask_for_the_country(project: Project) -> None:
    write(project, 'country = "NOWHERE"')
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*arbon*")


# A year


def test_traffic_says_what_a_year_would_use_emit_and_cost(project: Project) -> None:
    write(project, FACTORS + '    traffic = "40M/day"\n')
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["test_it at 40M queries a day: 2.43 MWh ±* %, 136 kg CO2e and 608 EUR a year (PUE 1.2; 56.0 g/kWh, set by you)"]
    )
    data = project.report()
    assert data["session"]["footprint"]["queries_per_s"] == pytest.approx(40e6 / 86400)
    year = data["runs"][0]["year"]
    assert year["queries"] == pytest.approx(14.6e9)
    assert year["energy_kwh"]["value"] == pytest.approx(2433, rel=1e-3)
    assert year["energy_kwh"]["low"] < year["energy_kwh"]["value"] < year["energy_kwh"]["high"]
    assert year["carbon_kg"]["value"] == pytest.approx(136.3, rel=1e-3)
    assert year["money"]["value"] == pytest.approx(608.3, rel=1e-3)
    assert (year["domain"], year["method"]) == ("gpu:0", "counter")


def test_traffic_alone_gives_the_energy_of_a_year_and_a_modelled_one_says_so(project: Project) -> None:
    project.monkeypatch.setenv("WORLD_METHOD", "modelled")
    write(project, 'traffic = "12/s"')
    result = project.measure("--energy-json=energy.json")
    result.stdout.fnmatch_lines(["test_it at 1.04M queries a day: 52.6 kWh ±* % modelled a year (PUE 1)"])
    assert set(project.report()["runs"][0]["year"]) == {"queries", "energy_kwh", "domain", "method"}


def test_a_run_each_has_its_year_and_a_window_has_none(project: Project) -> None:
    project.toml('traffic = "1k/h"')
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"), name="small")
            energy_meter.measure(world.model(1.0), list("abcd"), name="large")
            with energy_meter.window("loading"):
                world.model()(["x"])
        """,
    )
    result = project.measure()
    result.stdout.fnmatch_lines(["test_it (small) at 24k queries a day: 1.22 kWh*", "test_it (large) at 24k queries a day: 2.43 kWh*"])
    result.stdout.no_fnmatch_line("*(loading) at*")


def test_a_pue_that_changes_nothing_is_said(project: Project) -> None:
    write(project, "pue = 1.2")
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["pue changes nothing here: *"])


# Beside other runs


def test_the_footprint_holds_for_baselines_and_for_compare(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, FACTORS, 'carbon_per_query="1 mg", cost_per_query=1')
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.monkeypatch.setenv("JOULES", "0.8")
    result = project.measure("--energy-baseline=main", "--energy-json=now.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_it emitted 14.9? µg of CO2e per query *: +60 % * against baseline 'main' (9.33 µg, 1 run)*",
            "test_it cost 66.6? nEUR of electricity per query *: +60 % * against baseline 'main' (41.7 nEUR, 1 run)*",
        ]
    )
    write(project, FACTORS + '    [tool.greencompute.budgets."test_it.py::test_it"]\n    cost_per_query = 1\n')
    project.monkeypatch.chdir(project.path)
    assert cli.main(["compare", "main", "now.json"]) == 1
    assert "test_it cost 66.6" in capsys.readouterr().out


def test_another_commit_is_judged_by_the_same_footprint_and_may_assert_on_it(repository: Repository) -> None:
    budget = '    [tool.greencompute.budgets."tests/test_app.py::test_it".two]\n    carbon_per_query = "1 mg"\n'
    repository.project.toml(f"max_seconds = 4\n{FACTORS}\n{budget}")
    repository.project.write(
        "tests/test_app.py",
        """
        from app import model

        def test_it(energy_meter):
            run = energy_meter.measure(model, ["a", "b", "c", "d"], name="one")
            assert run.cost_per_query < "0.0002 EUR"  # where this could not be asked, the base would never come to the second run
            energy_meter.measure(model, ["a", "b", "c", "d"], name="two")
        """,
    )
    repository.commit()
    result = repository.measure("main", "--energy-unmeasured=fail")
    result.assert_outcomes(passed=1)
    _, run = repository.project.report()["runs"]
    verdicts = {(verdict["metric"], verdict["kind"]): verdict["verdict"] for verdict in run["verdicts"]}
    assert verdicts["carbon_per_query", "base_ref"] == "PASS"


def test_limits_of_carbon_and_cost_are_updated_in_the_unit_that_they_were_written_in(project: Project) -> None:
    budgets = (
        '    [tool.greencompute.budgets."test_it.py::test_it"]\n    carbon_per_query = "20 mg/1000 queries"\n    cost_per_query = 1e-6\n'
    )
    write(project, FACTORS + budgets)
    result = project.measure("--energy-update=tighten")
    result.assert_outcomes(passed=1)
    text = (project.path / "pyproject.toml").read_text(encoding="utf-8")
    assert 'carbon_per_query = "9.8 mg/1000 queries"' in text
    assert "cost_per_query = 4.38e-08" in text
    assert 'set_on = "GPU-3000"' in text
    project.measure("--energy-strict").assert_outcomes(passed=1)
    project.monkeypatch.setenv("JOULES", "0.6")
    project.measure().assert_outcomes(failed=1)


# What is written wrong


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("carbon_intensity = 56", "carbon_intensity: 56 has no unit. Write it like '56 g/kWh'"),
        ('carbon_intensity = "56 g"', "carbon_intensity: '56 g' is not a carbon intensity. Write it like '56 g/kWh'"),
        ('electricity_price = "0.25/kWh"', "electricity_price: '0.25/kWh' is not a price of electricity. Write it like '0.25 EUR/kWh'"),
        ("electricity_price = 0.25", "electricity_price: 0.25 has no unit."),
        ("pue = 0.8", "pue: pue is 0.8. A data centre draws at least what its computers do: 1.0 or more, such as 1.2."),
        ('pue = "1.2"', "pue: '1.2' is not a number. Write it like 1.2"),
        ("pue = nan", "pue: pue is nan."),
        ('traffic = "40m/day"', "traffic: '40m/day' is not a rate of queries. Write it like '40M/day'"),
        ("traffic = 40_000_000", "traffic: 40000000 has no unit."),
        ("country = 33", "country: 33 is not a country. Write its ISO 3166 code of three letters"),
        ('trafic = "1/s"', "'trafic' is not a setting. Did you mean 'traffic'?"),
    ],
)
def test_a_mistake_is_told_with_its_file_its_line_and_an_example(project: Project, toml: str, says: str) -> None:
    write(project, toml)
    refused(project.measure(), f"pyproject.toml:3: {says}")


def test_a_country_and_an_intensity_are_one_too_many(project: Project) -> None:
    write(project, 'country = "FRA"\ncarbon_intensity = "56 g/kWh"')
    refused(
        project.measure(), "pyproject.toml:4: carbon_intensity and country (pyproject.toml:3) say the same thing twice. Remove one of them."
    )


def test_all_mistakes_are_told_at_once(project: Project) -> None:
    write(project, 'pue = 0\ntraffic = "much"\nelectricity_price = "cheap"')
    refused(project.measure(), "pyproject.toml:3: pue:", "pyproject.toml:4: traffic:", "pyproject.toml:5: electricity_price:")


def test_the_report_of_a_session_with_all_of_it_is_plain_json(project: Project) -> None:
    write(project, FACTORS + '    traffic = "1B/year"\n', 'energy_per_query="0.8 J"')
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    (saved,) = (project.path / ".greencompute").rglob("*.json")
    assert json.loads(saved.read_text(encoding="utf-8"))["runs"][0]["year"]["queries"] == pytest.approx(1e9)
    project.measure("--energy-baseline=main").assert_outcomes(passed=1)  # and such a file is read again
