"""A country's carbon intensity, from the real CodeCarbon."""

from __future__ import annotations

import importlib.util
import json
import logging
import socket
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.settings.intensity import of_country

A_KWH = 3.6e6


def test_without_codecarbon_it_is_the_machine_that_lacks_something_and_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MeterError) as caught:
        of_country("FRA")
    assert str(caught.value) == (
        "CodeCarbon is not installed. pip install 'pytest-greencompute[codecarbon]', or write carbon_intensity = \"56 g/kWh\" in place of"
        " country."
    )


@pytest.mark.parametrize("written", [33, None, True, "", "  ", ["FRA"]])
def test_what_is_no_text_is_no_country(written: Any) -> None:
    with pytest.raises(SettingsError, match='Write its ISO 3166 code of three letters, such as "FRA"'):
        of_country(written)


@pytest.fixture
def version() -> str:
    pytest.importorskip("codecarbon")
    return metadata.version("codecarbon")


@pytest.mark.parametrize(("code", "low", "high"), [("FRA", 20, 110), ("USA", 250, 500), ("fra", 20, 110), (" NOR ", 10, 60)])
def test_a_country_has_a_plausible_intensity_with_its_year_and_table(version: str, code: str, low: float, high: float) -> None:
    mix = of_country(code)
    assert low < mix.kg_per_j * A_KWH * 1e3 < high  # g/kWh
    name, year, *table = mix.source.split()
    assert name == f"{code.strip().upper()}"
    assert 2015 <= int(year.rstrip(",")) <= 2100
    assert " ".join(table) == f"energy mix of CodeCarbon {version}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("FR", "FRA (France)"),
        ("US", "USA (United States)"),
        ("GB", "GBR (United Kingdom)"),
        ("Germny", "DEU (Germany)"),
        ("france", "FRA (France)"),
    ],
)
def test_another_way_to_name_a_country_is_refused_with_its_code(version: str, written: str, meant: str) -> None:
    with pytest.raises(SettingsError) as caught:
        of_country(written)
    assert f"{written!r} is not a country of CodeCarbon's table. Did you mean {meant}" in str(caught.value)


def test_a_code_that_nothing_is_like_has_the_remedy_alone(version: str) -> None:
    with pytest.raises(SettingsError) as caught:
        of_country("XXX")
    assert str(caught.value) == (
        "'XXX' is not a country of CodeCarbon's table. Write an ISO 3166 code of three letters, or carbon_intensity = \"56 g/kWh\"."
    )


def table_of(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    """Put another table in the place of CodeCarbon's."""
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr("codecarbon.input.DataSource.global_energy_mix_data_path", path)


@pytest.mark.parametrize("grams", [0.0, -1, None, "56", True])
def test_a_figure_that_cannot_be_is_refused_and_not_taken_for_clean(
    version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, grams: Any
) -> None:
    table_of(monkeypatch, tmp_path / "t.json", json.dumps({"CAF": {"carbon_intensity": grams, "year": 2022}}))
    with pytest.raises(SettingsError, match=r"has no carbon intensity for CAF \(it says .*\)\. Write carbon_intensity"):
        of_country("CAF")


@pytest.mark.parametrize("text", ["{", "[1]", '{"FRA": 3}'])
def test_a_table_of_another_form_is_a_fault_of_the_machine_with_a_way_out(
    version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    table_of(monkeypatch, tmp_path / "t.json", text)
    with pytest.raises(
        MeterError, match=r"CodeCarbon's table could not be read \(.*\)\. Write carbon_intensity = \"56 g/kWh\" in place of"
    ):
        of_country("FRA")


def test_nothing_is_printed_logged_or_asked_of_the_network(
    version: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with caplog.at_level(logging.DEBUG):
        of_country("FRA")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
