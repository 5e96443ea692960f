"""Explaining in values alone: what is which on both sides, where the difference went, how sure that is, and what is left over."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import BERT, compared, level, with_times

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.explaining.alignment import align
from pytest_greencompute.explaining.blaming import where as blaming_where
from pytest_greencompute.explaining.difference import LevelDifference, Place
from pytest_greencompute.explaining.explanation import Explanation, explain, explained
from pytest_greencompute.explaining.factors import TOKENS
from pytest_greencompute.explaining.profile import OUTSIDE, Cost, Factor, Level, Profile
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.explaining.served import served
from pytest_greencompute.results.profile_json import explained_from_json, explained_to_json, profile_from_json, profile_to_json
from pytest_greencompute.results.result import Explained
from pytest_greencompute.results.run_json import schema
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.readings import Block, Source, Span
from pytest_greencompute.values.run import Run, Serving
from pytest_greencompute.values.units import ENERGY


def places(found: Explanation) -> list[Place]:
    return list(found.levels[0].places)


# Where the difference went


def test_a_part_that_grew_in_every_block_is_one_place() -> None:
    (place,) = places(compared(BERT, with_times(BERT, "intermediate", times=1.5)))
    assert (place.name, place.alike) == ("Bert.encoder.layer.*.intermediate", 6)
    assert place.difference_j == pytest.approx(6.0, rel=0.1)
    assert place.low < 6.0 < place.high


def test_one_block_that_grew_stands_apart_from_those_alike() -> None:
    (place,) = places(compared(BERT, with_times(BERT, "layer.3", times=2.0)))
    assert (place.name, place.alike) == ("Bert.encoder.layer.3", 1)


def test_a_block_more_is_a_new_place_with_all_that_is_in_it() -> None:
    more = BERT | {name.replace("layer.0", "layer.6"): seconds for name, seconds in BERT.items() if "layer.0" in name}
    (place,) = places(compared(BERT, more))
    assert (place.name, place.state, place.base_j) == ("Bert.encoder.layer.6", "new", 0.0)
    assert place.head_j == pytest.approx(5.1, rel=0.05)


def test_a_block_that_is_gone_is_a_place_that_saves() -> None:
    less = {name: seconds for name, seconds in BERT.items() if "layer.5" not in name}
    (place,) = places(compared(BERT, less))
    assert (place.name, place.state) == ("Bert.encoder.layer.5", "gone")
    assert place.high < 0


def test_where_all_that_is_inside_grew_alike_the_whole_is_the_place() -> None:
    (place,) = places(compared(BERT, with_times(BERT, "Bert", times=2.0)))
    assert place.name in {"Bert", "Bert.encoder", "Bert.encoder.layer.*"}
    assert place.difference_j == pytest.approx(30.9, rel=0.05)


def test_what_is_outside_of_modules_is_a_place_of_its_own() -> None:
    (place,) = places(compared(BERT, with_times(BERT, OUTSIDE, times=6.0)))
    assert place.name == OUTSIDE


def test_another_type_keeps_a_block_apart_and_is_said() -> None:
    head = with_times(BERT, "layer.2.output", times=1.2)
    found = compared(BERT, head, dtypes={"Bert.encoder.layer.2.output": "float32"})
    (place,) = places(found)
    assert (place.name, place.dtype) == ("Bert.encoder.layer.2.output", ("bfloat16", "float32"))


def test_two_places_are_told_the_larger_first_and_share_nothing() -> None:
    head = with_times(with_times(BERT, "attention", times=3.0), OUTSIDE, times=5.0)
    assert [each.name for each in places(compared(BERT, head))] == ["Bert.encoder.layer.*.attention", OUTSIDE]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_told_of_two_launches_of_the_same_code(seed: int) -> None:
    sides = [Profile(levels=(level(BERT, noise=0.03, seed=2 * seed + side),)) for side in range(2)]
    found = explained(sides[0], sides[1], Risen(32.0, 32.2, -0.4, 0.8, base_sd=0.1))
    assert places(found) == []
    assert found.levels[0].unattributed_j == pytest.approx(0.2)


@given(
    st.lists(st.floats(0.2, 5.0), min_size=len(BERT), max_size=len(BERT)),
    st.floats(0.5, 2.0),
)
def test_places_and_what_is_not_attributed_are_the_whole_difference(times: list[float], joules: float) -> None:
    head = {name: seconds * each for (name, seconds), each in zip(BERT.items(), times, strict=True)}
    risen = Risen(joules, 1.3 * joules, 0.29 * joules, 0.31 * joules)
    (found,) = explained(Profile(levels=(level(BERT),)), Profile(levels=(level(head, seed=1),)), risen).levels
    assert math.fsum(each.difference_j for each in found.places) + found.unattributed_j == pytest.approx(0.3 * joules)
    assert in_full(found) == pytest.approx(0.3 * joules, abs=1e-6)
    names = [row for each in found.places for row in rows_below(each)]
    assert len(names) == len(set(names))  # they share nothing


def in_full(found: LevelDifference) -> float:
    return math.fsum(each.difference_j for each in found.tree)


def rows_below(place: Place) -> set[str]:
    return {f"{place.name} itself"} if place.own else {f"{each.name} {'itself' if each.own else ''}" for each in place.walk()}


def test_a_level_that_one_side_lacks_names_no_place() -> None:
    found = explained(Profile(), Profile(levels=(level(BERT),)), Risen(1.0, 2.0, 0.9, 1.1))
    assert places(found) == []
    assert found.levels[0].unattributed_j == 1.0


def test_rows_that_lie_in_each_other_are_told_all_the_same() -> None:
    rows = (Cost("a", (1.0,), inside="b"), Cost("b", (1.0,), inside="a"), Cost("c", (1.0,)))
    profile = Profile(levels=(Level("functions", "cpu", (3.0,), rows),))
    (found,) = explained(profile, profile, Risen(1.0, 2.0, 0.9, 1.1)).levels
    assert in_full(found) == pytest.approx(1.0)


# What is which


def test_a_part_with_another_name_is_known_by_what_it_holds() -> None:
    renamed = {name.replace("Bert.encoder", "Bert.body"): seconds for name, seconds in BERT.items()}
    rows = {each.name: each for each in align(level(BERT), level(renamed))}
    assert all(row.base is not None and row.head is not None for row in rows.values())
    assert rows["Bert.body.layer.3.output"].renamed == "Bert.encoder.layer.3.output"


def test_a_model_that_was_wrapped_is_known_inside_of_its_wrapper() -> None:
    wrapped = {OUTSIDE: 1.0, "Classifier": 0.1, "Classifier.head": 0.1}
    wrapped |= {name.replace("Bert", "Classifier.bert"): seconds for name, seconds in BERT.items() if name != OUTSIDE}
    for base, head in ((BERT, wrapped), (wrapped, BERT)):
        rows = align(level(base), level(head))
        alone = {row.name for row in rows if row.base is None or row.head is None}
        assert alone == {"Classifier", "Classifier.head"}


def test_parts_that_hold_other_things_are_no_renaming() -> None:
    one = {"Net": 1.0, "Net.a": 1.0, "Net.a.x": 1.0, "Net.a.y": 1.0}
    other = {"Net": 1.0, "Net.b": 1.0, "Net.b.p": 1.0, "Net.b.q": 1.0}
    rows = align(level(one), level(other))
    assert {row.name for row in rows if row.base is None} == {"Net.b", "Net.b.p", "Net.b.q"}
    assert {row.name for row in rows if row.head is None} == {"Net.a", "Net.a.x", "Net.a.y"}


# The product


def profile(**factors: float | str) -> Profile:
    return Profile(tuple(Factor(name.replace("_", " "), value) for name, value in factors.items()))


def test_the_product_multiplies_out_on_both_sides() -> None:
    base, head = profile(tokens_per_query=10.0, flops_per_query=1e9), profile(tokens_per_query=15.0, flops_per_query=1.5e9)
    found = explained(base, head, Risen(1.0, 1.8, 0.7, 0.9))
    assert math.prod(each.base for each in found.terms) == pytest.approx(1.0)
    assert math.prod(each.head for each in found.terms) == pytest.approx(1.8)
    assert math.fsum(each.part or 0.0 for each in found.terms) == pytest.approx(1.0)
    assert [each.name for each in found.terms] == [TOKENS, "FLOPs per token", "joules per FLOP"]


def test_without_tokens_the_product_is_shorter() -> None:
    found = explained(profile(flops_per_query=1e9), profile(tokens_per_query=3.0, flops_per_query=2e9), Risen(1.0, 2.0, 0.9, 1.1))
    assert [each.unit for each in found.terms] == ["FLOPs per query", "J per FLOP"]


def test_factors_that_differ_are_told_and_others_not() -> None:
    found = explained(profile(dtype="bfloat16", threads=4.0, x=1.0), profile(dtype="float32", threads=4.0), Risen(1.0, 2.0, 0.9, 1.1))
    assert [(each.name, each.base, each.head) for each in found.changed] == [("dtype", "bfloat16", "float32")]


# How sure the difference is


def joules(value: float, low: float | None, high: float | None) -> Estimate:
    return Estimate(value, low, high, ENERGY, 10, 0.99)


def test_pairs_are_surer_of_the_difference_than_two_figures() -> None:
    base, head = joules(1.0, 0.9, 1.1), joules(1.5, 1.4, 1.6)
    apart, paired = Risen.of(base, head), Risen.of(base, head, Ratio(1.5, 1.49, 1.51))
    assert paired.high - paired.low < (apart.high - apart.low) / 4
    assert (paired.base_j, paired.head_j) == (pytest.approx(1.0), 1.5)


@pytest.mark.parametrize("ratio", [Ratio(1.5, 0.0, math.inf), Ratio(1.5, 1.4, math.inf), Ratio(1.5, 0.0, 1.6)])
def test_open_sides_leave_a_difference_all_the_same(ratio: Ratio) -> None:
    found = Risen.of(joules(1.0, None, None), joules(1.5, 1.4, 1.6), ratio)
    assert found.low < found.difference_j < found.high


def test_pairs_alone_say_how_much_it_rose() -> None:
    found = Risen.of_pairs([(1.0, 1.5), (1.02, 1.53), (0.98, 1.48)], 0.99)
    assert found.difference_j == pytest.approx(0.5, rel=0.03)
    assert found.certain


def test_a_lone_pair_whose_noise_nobody_knows_is_certain_of_no_small_difference() -> None:
    found = Risen.of_pairs([(1.0, 1.02)], 0.99)
    assert found.low < 0 < found.difference_j < found.high
    assert not found.certain


@pytest.mark.parametrize("pairs", [[], [(0.0, 1.0)], [(1.0, -1.0)]])
def test_no_pairs_are_no_difference(pairs: list[tuple[float, float]]) -> None:
    with pytest.raises(SettingsError):
        Risen.of_pairs(pairs, 0.99)


# Refused, and kept


@pytest.mark.parametrize(
    "make",
    [
        lambda: Factor("x", math.nan),
        lambda: Factor("", 1.0),
        lambda: Factor("x", -1.0),
        lambda: Cost("a", (math.inf,)),
        lambda: Cost("a", (1.0,), inside="a"),
        lambda: Level("modules", "cpu", ()),
        lambda: Level("modules", "cpu", (0.0,)),
        lambda: Level("things", "cpu", (1.0,)),  # type: ignore[arg-type]
        lambda: Level("modules", "cpu", (1.0,), (Cost("a", (1.0,)), Cost("a", (0.0,)))),
        lambda: Level("modules", "cpu", (1.0,), (Cost("a", (1.1,)),)),
        lambda: Level("modules", "cpu", (1.0, 1.0), (Cost("a", (1.0,)),)),
        lambda: Profile(levels=(level(BERT), level(BERT))),
        lambda: Profile((Factor("x", 1.0), Factor("x", 2.0))),
        lambda: Risen(0.0, 1.0, 0.0, 1.0),
        lambda: Risen(1.0, 2.0, 1.5, 3.0),
    ],
)
def test_what_nobody_can_have_seen_is_refused(make: Any) -> None:
    with pytest.raises(SettingsError):
        make()


def test_an_explanation_outlives_its_json() -> None:
    energies = joules(32.0, 31.9, 32.1), joules(38.0, 37.9, 38.1)
    sides = [
        Profile((Factor("dtype", "bfloat16"), Factor(TOKENS, 8.0)), (level(rows, seed=seed),), ("a note",), 8, 32)
        for seed, rows in enumerate((BERT, with_times(BERT, "output", times=1.5)))
    ]
    made = Explained("main", explain(*sides, *energies))
    assert made.explanation.levels[0].places
    jsonschema.validate(explained_to_json(made), {"$ref": "#/$defs/explained", "$defs": schema()["$defs"]})
    assert profile_from_json(profile_to_json(sides[0])) == sides[0]
    assert explained_from_json(explained_to_json(made)) == made


def test_factors_of_other_queries_are_said_to_be() -> None:
    risen = Risen(1.0, 2.0, 0.9, 1.1)
    assert explained(Profile(counted=32), Profile(counted=32), risen).notes == ()
    (note,) = explained(Profile(counted=32), Profile(counted=8), risen).notes
    assert "32 queries of the base and 8 of this tree" in note


# Servers


def load(new: float = 10.0, prompt: int = 100, cached: int | None = 0, by_events: int = 0) -> Run:
    tokens = tuple([new * 20.0] * 5)
    seen = Serving(
        8, 100, tokens=tokens, by_events=by_events, prompt_tokens=100 * prompt, cached_tokens=None if cached is None else 100 * cached
    )
    ends = [(index * 10**9, (index + 1) * 10**9) for index in range(5)]
    blocks = tuple(Block(index, 0.0, 20.0, *each, {"gpu:0": Span(100.0, *each)}) for index, each in enumerate(ends))
    return Run("test_it", "concurrency=8", 4, 8, metered=True, sources=(GPU,), blocks=blocks, serving=seen)


GPU = Source("nvml", "gpu:0", "counter", "a GPU", "GPU-1", tick_s=0.1)


@pytest.mark.parametrize(
    ("more", "joules", "where"),
    [
        ({"new": 20.0}, 1.9, "Where: new tokens: 20, was 10: +0.900 J of +0.900 J."),
        ({"prompt": 300}, 2.5, "Where: prompt tokens: 300, was 100: +1.50 J of +1.50 J."),
        ({"cached": 0}, 1.5, "Where: cached share of the prompt: 0, was 0.8: +0.500 J of +0.500 J."),
        ({"cached": 75}, 1.5, ""),
        ({}, 1.5, ""),
    ],
)
def test_what_was_asked_of_a_server_explains_what_it_uses(more: dict[str, Any], joules: float, where: str) -> None:
    base, head = served(load(cached=80)), served(load(**{"cached": 80} | more))
    made = explained(base, head, Risen(1.0, joules, joules - 1.05, joules - 0.95))
    assert blaming_where(made) == where
    assert math.prod(each.head for each in made.terms) == pytest.approx(joules)


def test_what_a_server_does_not_say_is_no_factor() -> None:
    seen = served(load(prompt=0, cached=None, by_events=3))
    assert [each.name for each in seen.factors] == ["requests at a time"]
    assert seen.notes
    with pytest.raises(SettingsError, match="no load of a server"):
        served(replace(load(), serving=None))
