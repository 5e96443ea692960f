"""Rows that were replayed under the meter: what they stand for in a difference, and that it still adds up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import BERT, level

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.explaining.alignment import align
from pytest_greencompute.explaining.difference import LevelDifference
from pytest_greencompute.explaining.explanation import Explanation, explained
from pytest_greencompute.explaining.profile import Cost, Joules, Level, Profile
from pytest_greencompute.explaining.replayed import by_replay
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.report.explained import cost_rows, lines
from pytest_greencompute.results.profile_json import explained_from_json, explained_to_json, profile_from_json, profile_to_json
from pytest_greencompute.results.result import Explained
from pytest_greencompute.results.run_json import schema

WHOLE_J = 2.0  # of a pass, per query
GUILTY = "Bert.encoder.layer.2.attention"
ATTENTION = [name for name in BERT if name.endswith("attention")]


def replayed(rows: Mapping[str, float], shares: Mapping[str, float], *, error: float = 0.001, seed: int = 0) -> Level:
    """A level whose rows were replayed: each by its share of the joules of a pass."""
    made = level(rows, seed=seed)
    costs = (
        replace(each, replayed=Joules(shares[each.name] * WHOLE_J, error * shares[each.name] * WHOLE_J)) if each.name in shares else each
        for each in made.costs
    )
    return replace(made, costs=tuple(costs), metered=Joules(WHOLE_J, 0.001 * WHOLE_J))


def shares_of(rows: Mapping[str, float], *names: str, times: float = 1.0) -> dict[str, float]:
    return {name: times * rows[name] / sum(rows.values()) for name in names}


def against(base: Level, head: Level, rise: float = 0.3) -> Explanation:
    risen = Risen(1.0, 1.0 + rise, rise - 0.01, rise + 0.01, base_sd=0.003)
    return explained(Profile(levels=(base,), queries=8), Profile(levels=(head,), queries=8), risen)


def whole(found: LevelDifference) -> float:
    return math.fsum(each.difference_j for each in found.places) + found.unattributed_j


def hidden() -> Explanation:
    """An attention that takes 1.7 s where it took one; what has more calls is said to be the layer's own, by the marks."""
    layers = {name: 1.0 for name in BERT if name.rpartition(".")[2].isdigit()}
    before, now = BERT | layers, BERT | layers | {"Bert.encoder.layer.2": 1.7}
    sides = [
        replayed(rows, shares_of(rows, *ATTENTION) | shares_of(rows, GUILTY, times=times), seed=seed)
        for seed, (rows, times) in enumerate(((before, 1.0), (now, 1.7)))
    ]
    return against(*sides, sum(now.values()) / sum(before.values()) - 1)


def test_a_module_that_no_clock_can_tell_is_the_place_by_replay() -> None:
    made = hidden()
    (found,) = made.levels
    assert [(each.name, each.how) for each in found.places] == [(GUILTY, "replay")]
    assert whole(found) == pytest.approx(made.risen.difference_j)
    assert "replayed" in "\n".join(lines(Explained("main", made)))
    sides = [replace(each.levels[0], metered=None) for each in (made.base, made.head)]
    assert GUILTY not in [each.name for each in against(*sides, made.risen.difference_j).levels[0].places]


@pytest.mark.parametrize("where", ["base", "head", "one alike is missing"])
def test_a_row_is_told_by_replay_on_both_sides_or_by_time_on_both(where: str) -> None:
    shares = shares_of(BERT, *ATTENTION, times=0.5)
    some = {} if where in {"base", "head"} else shares_of(BERT, *ATTENTION[1:], times=0.5)
    base, head = replayed(BERT, some if where != "head" else shares), replayed(BERT, some if where == "head" else shares, seed=1)
    rows = by_replay(align(base, head), base, head)
    assert {row.how for row in rows} == {"time"}
    assert [row.head for row in rows] == list(head.costs)


def test_a_new_row_needs_a_replay_on_its_own_side_alone() -> None:
    more = BERT | {"Bert.norm": 1.0}
    base, head = level(BERT), replayed(more, shares_of(more, "Bert.norm"), seed=1)
    places = against(base, head, rise=1 / sum(BERT.values())).levels[0].places
    assert [(each.name, each.state, each.how) for each in places] == [("Bert.norm", "new", "replay")]


def test_what_a_replay_with_warm_caches_saves_is_in_no_other_row() -> None:
    side = replayed(BERT, shares_of(BERT, *ATTENTION, times=0.6))
    rows = {row.name: row.head for row in by_replay(align(side, side), side, side)}
    for cost in side.costs:
        told = rows[cost.name]
        assert told is not None
        assert told.mean_s == pytest.approx(cost.mean_s * (0.6 if cost.name in ATTENTION else 1), rel=0.01)
        assert cost.name in ATTENTION or told == cost
    said = {name: else_ for name, *_, else_ in cost_rows(side)}
    assert {name for name, each in said.items() if each.startswith("replayed: ")} == set(ATTENTION)


def test_what_a_replay_has_more_is_taken_back_from_the_row_around() -> None:
    """Half of what a mark costs was taken for the row around it."""
    around = "Bert.encoder.layer.2"
    for times, told_so in ((1.05, True), (1.5, False)):  # the row around has a tenth of what it would take
        side = replayed(BERT, shares_of(BERT, f"{around}.attention", times=times))
        before = {each.name: each for each in side.costs}
        assert {row.how for row in by_replay(align(None, side), None, side)} == {"time"}  # its likes were not replayed
        alone = replace(side, costs=tuple(each for each in side.costs if "layer.2" in each.name or not each.inside))
        now = {row.name: row.head for row in by_replay(align(None, alone), None, alone) if row.head is not None}
        more = now[f"{around}.attention"].mean_s - before[f"{around}.attention"].mean_s
        assert (more > 0) == told_so
        assert before[around].mean_s - now[around].mean_s == pytest.approx(more if told_so else 0.0, abs=1e-3)


def test_a_replay_that_is_less_sure_has_a_wider_interval() -> None:
    sides = [(replayed(BERT, shares_of(BERT, *ATTENTION), error=error), level(BERT, seed=1)) for error in (0.0, 0.3)]
    widths = []
    for base, head in sides:
        same = replace(head, costs=tuple(replace(each, replayed=of.replayed) for each, of in zip(head.costs, base.costs, strict=True)))
        tree = against(base, replace(same, metered=base.metered)).levels[0].tree
        (place,) = (each for part in tree for each in part.walk() if each.name == "Bert.encoder.layer.*.attention")
        assert place.how == "replay"
        widths.append(place.high - place.low)
    assert widths[1] > 3 * widths[0]


@given(st.integers(2, 9), st.floats(0.01, 10.0), st.floats(0.0, 0.2))
def test_the_passes_of_a_replayed_row_have_its_mean_and_its_error(passes: int, joules: float, error: float) -> None:
    cost = Cost("a", (0.1,) * passes, 1.0, replayed=Joules(joules, joules * error))
    side = Level("modules", "cpu", (1.0,) * passes, (cost, Cost("outside of modules", (0.9,) * passes)), metered=Joules(20.0, 0.0))
    (row,) = (each for each in by_replay(align(None, side), None, side) if each.name == "a")
    assert row.head is not None
    assert row.how == "replay"
    assert row.head.mean_s == pytest.approx(joules / 20)
    assert statistics.stdev(row.head.seconds) / math.sqrt(passes) == pytest.approx(joules / 20 * error, rel=1e-6, abs=1e-12)


@given(st.lists(st.floats(0.3, 1.2), min_size=2 * len(ATTENTION), max_size=2 * len(ATTENTION)), st.floats(-0.4, 0.8))
def test_places_by_replay_and_what_is_not_attributed_are_the_whole_difference(times: list[float], rise: float) -> None:
    shares = [
        {name: each * BERT[name] / sum(BERT.values()) for name, each in zip(ATTENTION, some, strict=True)}
        for some in (times[:6], times[6:])
    ]
    made = against(replayed(BERT, shares[0]), replayed(BERT, shares[1], seed=1), rise)
    (found,) = made.levels
    assert whole(found) == pytest.approx(rise)
    for part in found.tree:
        for each in part.walk():
            assert math.fsum(inner.base_j for inner in each.parts) <= each.base_j * (1 + 1e-9)
            assert math.fsum(inner.head_j for inner in each.parts) <= each.head_j * (1 + 1e-9)
    assert math.fsum(each.head_j for each in found.tree) <= made.risen.head_j * (1 + 1e-9)


def test_a_replay_outlives_its_json() -> None:
    made = Explained("main", hidden())
    written = explained_to_json(made)
    jsonschema.validate(written, {"$ref": "#/$defs/explained", "$defs": schema()["$defs"]})
    assert explained_from_json(written) == made
    assert profile_from_json(profile_to_json(made.explanation.head)) == made.explanation.head


@pytest.mark.parametrize(("mean", "error"), [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (math.inf, 0.0), (1.0, -1.0), (1.0, math.nan)])
def test_no_meter_reads_that(mean: float, error: float) -> None:
    with pytest.raises(SettingsError):
        Joules(mean, error)
