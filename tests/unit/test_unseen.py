"""Both sides were launched again and looked at, and what makes the difference was not there: then nothing is blamed, and that is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from profiles import BERT, level
from telling import measured, session, told

from pytest_greencompute.explaining.blaming import blamed, where
from pytest_greencompute.explaining.explanation import Explanation, explained
from pytest_greencompute.explaining.factors import SECONDS
from pytest_greencompute.explaining.profile import Factor, Joules, Level, Profile, Ticking
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.report import html, markdown
from pytest_greencompute.report.explained import lines
from pytest_greencompute.results.profile_json import explained_from_json, explained_to_json
from pytest_greencompute.results.result import Explained
from pytest_greencompute.store.history import History

TWICE = Risen(1.0, 2.0, 0.8, 1.2, base_sd=0.02)


def looked(times: float, *, clock: Ticking = "cpu", seed: int = 0, calls: float = 1.0, metered: float | None = None) -> Profile:
    """A side whose modules take so many times as long as those of another."""
    made: Level = replace(level({name: times * seconds for name, seconds in BERT.items()}, seed=seed), clock=clock)
    if metered is not None:
        made = replace(made, metered=Joules(metered, 0.01 * metered))
    factors = (Factor("calls per query", calls), Factor(SECONDS, 0.01 * times, "s"))
    return Profile(factors, (made,), queries=8)


def of(base: Profile, head: Profile, risen: Risen = TWICE) -> Explanation:
    return explained(base, head, risen)


def test_sides_that_cost_the_same_explain_no_doubling() -> None:
    """An environment variable made the head wasteful, and the base was launched with it, too."""
    found = of(looked(1.0), looked(1.02, seed=1))
    assert blamed(found) == ()
    said = "both sides, launched again and looked at, differ by 1.02 times, not by 1.80 times or more"
    assert where(found) == f"Where: {said}: what makes the difference was not there."
    assert all(not each.places and each.unattributed_j == pytest.approx(1.0) for each in found.levels)
    assert not any("Bert" in line for line in lines(Explained("demo", found)))


@pytest.mark.parametrize("times", [2.0, 1.5, 1.4])
def test_sides_of_which_one_shows_it_or_a_good_part_of_it_are_explained(times: float) -> None:
    found = of(looked(1.0), looked(times, seed=1))
    assert not found.unseen
    assert blamed(found)


def test_what_saves_is_seen_or_not_likewise() -> None:
    half = Risen(1.0, 0.5, -0.55, -0.45, base_sd=0.02)
    assert "not by 0.55 times or less" in of(looked(1.0), looked(0.99, seed=1), half).unseen
    assert not of(looked(1.0), looked(0.5, seed=1), half).unseen


@pytest.mark.parametrize("risen", [Risen(1.0, 1.05, 0.04, 0.06), Risen(1.0, 1.5, -0.1, 1.1)], ids=["little", "uncertain"])
def test_a_difference_that_launches_hide_is_not_missed(risen: Risen) -> None:
    assert not of(looked(1.0), looked(1.0, seed=1), risen).unseen


def test_a_device_may_draw_more_power_for_the_same_time_but_not_for_the_same_work() -> None:
    base = looked(1.0, clock="device")
    assert of(base, looked(1.0, clock="device", seed=1)).unseen
    assert not of(base, looked(1.0, clock="device", seed=1, calls=2.0)).unseen  # other work: what it costs, no clock tells
    assert not of(looked(1.0, clock="device", metered=1.0), looked(1.0, clock="device", metered=1.95)).unseen  # by the meter itself
    assert of(looked(1.0, clock="device", metered=1.0), looked(1.0, clock="device", metered=1.02, calls=2.0)).unseen


def test_without_a_level_on_both_sides_nothing_tells() -> None:
    assert not of(looked(1.0), Profile()).unseen
    assert not of(looked(1.0), looked(1.0, clock="wall")).unseen


def test_a_report_says_it_again() -> None:
    made = Explained("demo", of(looked(1.0), looked(1.02, seed=1)))
    assert explained_from_json(explained_to_json(made)).explanation.unseen == made.explanation.unseen


def test_markdown_and_the_page_say_it() -> None:
    summary = session(replace(told(measured()), explained=(Explained("demo", of(looked(1.0), looked(1.02, seed=1))),)))
    assert "what makes the difference was not there" in markdown.write([summary])
    pytest.importorskip("plotly")
    assert "what makes the difference was not there" in html.page([summary], History((), ()))
