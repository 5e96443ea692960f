"""The search over levers: what it asks for, what it drops, and what it finds where savings do not add up."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from pytest_greencompute.advising.advice import Suggestion, in_vain
from pytest_greencompute.advising.levers import LEVERS, Configuration, Lever, Setting, chosen
from pytest_greencompute.advising.search import Heat, Searched, Trial, search
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.choice import Gain
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.footprint import Footprint, yearly
from tests.unit.landscapes import Landscape, Surface, lever

ONE, TWO, OTHER = Setting(lever("one"), 1), Setting(lever("one"), 2), Setting(lever("other"))


def trial(*settings: Setting, ratio: float, width: float = 1.001, missed: str = "", problem: str = "") -> Trial:
    return Trial(Configuration(settings), Ratio(ratio, ratio / width, ratio * width), missed, problem)


def driven(
    settings: list[Setting],
    energies: Mapping[str, float],
    missed: Mapping[str, str] | None = None,
    worse: Collection[str] | None = None,
) -> tuple[Searched, list[Heat]]:
    """What is found where each configuration truly uses so much, and the heats that were asked for. With ``worse``, those that
    answer some of a sample worse than today, what is ``missed`` shows on all queries alone.
    """
    sampled = worse is not None
    steps, heats, told = search(settings, sampled=sampled), list[Heat](), None
    while True:
        try:
            heat = steps.send(told) if told is not None else next(steps)
        except StopIteration as done:
            return done.value, heats
        heats.append(heat)
        base, others = energies[heat.configurations[0].name], heat.configurations[1:]
        whole = {} if sampled and heat.on_sample else missed or {}
        told = [
            replace(
                trial(*each.settings, ratio=energies[each.name] / base, missed=whole.get(each.name, "")),
                as_good=each.name not in (worse or ()),
            )
            for each in others
        ]
        if heat.purpose == "judge":
            told = [replace(each, ratio=None) for each in told]


# What is asked for


def test_what_pays_alone_and_hurts_together_is_not_combined() -> None:
    energies = {"as it is": 1.0, "one=1": 0.8, "one=2": 0.7, "other": 0.9, "one=2 + other": 0.75, "other + one=1": 0.6}
    found, heats = driven([ONE, TWO, OTHER], energies)
    assert found.best is not None
    assert found.best.configuration.name == "one=2"
    assert [heat.purpose for heat in heats] == ["screen", "combine", "confirm"]


def test_a_value_that_is_worse_alone_takes_the_place_of_the_better_one_where_it_is_leaner_together() -> None:
    energies = {"as it is": 1.0, "one=1": 0.8, "one=2": 0.75, "other": 0.9, "one=2 + other": 0.7, "other + one=1": 0.5}
    found, _ = driven([ONE, TWO, OTHER], energies | {"one=1 + other": 0.5, "other + one=2": 0.7})
    assert found.best is not None
    assert {each.name for each in found.best.configuration.settings} == {"one=1", "other"}


def test_what_misses_the_floor_is_never_chosen_however_lean() -> None:
    energies = {"as it is": 1.0, "one=1": 0.2, "other": 0.9}
    found, heats = driven([ONE, OTHER], energies, {"one=1": "scores 0.6, under the floor of 0.7"})
    assert [each.configuration.name for each in found.confirmed] == ["other"]
    assert all("one=1" not in each.name for heat in heats[1:] for each in heat.configurations)
    assert str(in_vain(found, {})[0]) == "one=1: scores 0.6, under the floor of 0.7"


def test_nothing_is_advised_that_fresh_turns_do_not_confirm() -> None:
    steps = search([ONE])
    next(steps)
    heat = steps.send([trial(ONE, ratio=0.9)])
    assert heat.purpose == "confirm"
    with pytest.raises(StopIteration) as ended:
        steps.send([trial(ONE, ratio=0.97, width=1.05)])
    assert ended.value.value.best is None


def test_nothing_is_combined_or_confirmed_where_nothing_pays() -> None:
    found, heats = driven([ONE, OTHER], {"as it is": 1.0, "one=1": 1.3, "other": 0.99})
    assert (found.best, [heat.purpose for heat in heats]) == (None, ["screen"])
    assert "it uses 1.30 times the energy" in str(in_vain(found, {"threads": "no torch"})[0])
    assert str(in_vain(found, {"threads": "no torch"})[-1]) == "threads: not here: no torch"


def test_without_a_lever_nothing_is_asked_for() -> None:
    found, heats = driven([], {})
    assert (found.confirmed, heats) == ((), [])


# What a sample does not tell


def purposes(heats: list[Heat]) -> list[str]:
    return [heat.purpose for heat in heats]


def test_what_answers_some_of_a_sample_worse_is_judged_on_all_queries_before_anything_is_built_on_it() -> None:
    energies = {"as it is": 1.0, "one=1": 0.5, "one=2": 0.6, "other": 0.9, "one=2 + other": 0.5, "other + one=1": 0.4}
    found, heats = driven([ONE, TWO, OTHER], energies, {"one=1": "it loses 3 points"}, ["one=1"])
    assert purposes(heats) == ["screen", "judge", "combine", "judge", "confirm"]
    assert [each.name for each in heats[1].configurations] == ["as it is", "one=1"]
    assert all("one=1" not in each.name for heat in heats[2:] for each in heat.configurations)
    assert found.best is not None
    assert found.best.configuration.name == "one=2 + other"
    assert str(in_vain(found, {})[0]) == "one=1: it loses 3 points"


def test_what_answers_all_of_a_sample_as_well_is_judged_once_in_the_end() -> None:
    energies = {"as it is": 1.0, "one=1": 0.5, "other": 0.9, "one=1 + other": 0.4}
    found, heats = driven([ONE, OTHER], energies, worse=[])
    assert purposes(heats) == ["screen", "combine", "judge", "confirm"]
    assert [each.name for each in heats[2].configurations] == ["as it is", "one=1 + other"]
    assert found.best is not None


def test_where_the_best_misses_the_floor_on_all_queries_its_parts_are_judged_and_the_rest_is_built_on() -> None:
    energies = {"as it is": 1.0, "one=1": 0.5, "other": 0.6, "one=1 + other": 0.3}
    missed = dict.fromkeys(("one=1", "one=1 + other"), "it loses 3 points")
    found, heats = driven([ONE, OTHER], energies, missed, [])
    assert [[each.name for each in heat.configurations[1:]] for heat in heats if heat.purpose == "judge"] == [
        ["one=1 + other"],
        ["one=1", "other"],
    ]
    assert [each.configuration.name for each in found.confirmed] == ["other"]


def test_of_a_combination_that_misses_what_its_parts_do_not_the_leanest_part_is_left() -> None:
    energies = {"as it is": 1.0, "one=1": 0.5, "other": 0.6, "one=1 + other": 0.3}
    found, heats = driven([ONE, OTHER], energies, {"one=1 + other": "it loses 3 points"}, [])
    assert [each.configuration.name for each in found.confirmed] == ["one=1"]
    assert purposes(heats)[-1] == "confirm"


def test_where_nothing_pays_on_a_sample_today_is_measured_on_all_queries_beside_what_was_nearest() -> None:
    found, heats = driven([ONE, OTHER], {"as it is": 1.0, "one=1": 1.3, "other": 1.1}, worse=[])
    assert purposes(heats) == ["screen", "confirm"]
    assert [each.name for each in heats[1].configurations] == ["as it is", "other"]
    assert found.best is None


def test_how_many_queries_are_asked_together_comes_first_and_all_else_is_tried_beside_the_best_of_it() -> None:
    eight, many = (Setting(lever("size", "batching"), value) for value in (8, 32))
    energies = {"as it is": 1.0, "size=8": 0.5, "size=32": 0.3, "size=32 + one=1": 0.15, "size=32 + other": 0.297, "one=1": 0.9}
    energies |= {"size=32 + one=1 + other": 0.149, "one=1 + size=8": 0.4}
    found, heats = driven([ONE, eight, OTHER, many], energies)
    assert purposes(heats)[:2] == ["screen", "screen"]
    assert [each.name for each in heats[0].configurations] == ["as it is", "size=8", "size=32"]
    assert [each.name for each in heats[1].configurations] == ["size=32", "size=32 + one=1", "size=32 + other"]
    assert [each.name for each in heats[-1].configurations] == ["as it is", "size=32 + one=1", "size=32", "one=1"]
    assert [str(each) for each in in_vain(found, {})] == [
        "size=8: it saves 50 % alone, and nothing more together with what is advised",
        "other: it uses 0.990 times the energy of size=32 [0.989, 0.991]",
    ]


def test_where_no_number_of_queries_together_pays_all_else_is_tried_beside_today() -> None:
    eight = Setting(lever("size", "batching"), 8)
    _, heats = driven([eight, ONE], {"as it is": 1.0, "size=8": 1.3, "one=1": 0.8})
    assert [[each.name for each in heat.configurations] for heat in heats[:2]] == [["as it is", "size=8"], ["as it is", "one=1"]]


# What is dropped


def heat_of(purpose: str, *settings: Setting) -> Heat:
    return Heat(purpose, (Configuration(), *(Configuration((each,)) for each in settings)))  # type: ignore[arg-type]


def test_what_cannot_pay_any_more_needs_no_more_turns_and_what_may_does() -> None:
    heat = heat_of("screen", ONE, OTHER)
    seen = {"one=1": trial(ONE, ratio=1.6, width=1.2), "other": trial(OTHER, ratio=0.9, width=1.2)}
    assert heat.over(seen) == {"one=1"}
    assert heat.over({**seen, "other": trial(OTHER, ratio=0.9)}) == {"one=1", "other", "as it is"}


def test_a_value_that_another_of_its_lever_beats_is_dropped_and_another_lever_is_not() -> None:
    seen = {"one=1": trial(ONE, ratio=0.9, width=1.1), "one=2": trial(TWO, ratio=0.6), "other": trial(OTHER, ratio=0.9, width=1.1)}
    assert heat_of("screen", ONE, TWO, OTHER).over(seen) == {"one=1", "one=2"}
    assert heat_of("combine", ONE, TWO, OTHER).over(seen) == {"one=1", "one=2", "other", "as it is"}


def test_what_broke_or_misses_a_demand_is_dropped_at_once() -> None:
    seen = {"one=1": Trial(Configuration((ONE,)), problem="out of memory"), "other": trial(OTHER, ratio=0.9, width=1.1, missed="too slow")}
    assert {"one=1", "other"} <= set(heat_of("screen", ONE, OTHER).over(seen))


def test_what_is_confirmed_is_measured_until_it_is_known_whoever_is_leaner() -> None:
    seen = {"one=1": trial(ONE, ratio=0.9, width=1.1), "one=2": trial(TWO, ratio=0.6)}
    assert heat_of("confirm", ONE, TWO).over(seen) == {"one=2"}


# What is found


@pytest.mark.parametrize("surface", ["pairs", "stages"])
@pytest.mark.parametrize("noise", [0.01, 0.02])
def test_most_of_the_best_saving_is_found_in_a_quarter_of_the_time_and_none_of_the_advice_is_wrong(noise: float, surface: Surface) -> None:
    """24 models with 540 configurations each, whose savings do not add up: 6 % from each pair, or stages that stay when others are gone."""
    shares, wrong, outside = [], 0, 0
    for seed in range(24):
        model = Landscape(seed, noise, surface=surface)
        found = model.searched()
        spent = model.seconds
        saved = 0.0 if found.best is None else model.saving(found.best.configuration)
        if (best := model.best_saving()) >= 0.05:  # of one that can save less, less is found
            shares.append(saved / best)
        for each in found.confirmed:
            assert each.ratio is not None
            assert model.missed(each.configuration) == ""
            wrong += model.saving(each.configuration) <= 0
            outside += not each.ratio.low <= 1 - model.saving(each.configuration) <= each.ratio.high
        if seed < 2:
            assert spent <= 0.25 * model.grid_seconds()
    assert min(shares) >= 0.9
    assert math.fsum(shares) / len(shares) >= 0.97
    assert wrong == 0
    assert outside <= 2


def test_a_sample_saves_time_where_a_pass_takes_long() -> None:
    spent = {}
    for sampled in (True, False):
        models = [Landscape(seed, 0.01, sampled=sampled) for seed in range(6)]
        for model in models:
            model.searched()
        spent[sampled] = math.fsum(model.seconds for model in models)
    assert spent[True] <= 0.75 * spent[False]


# Levers


def test_a_setting_has_a_name_and_the_lines_that_do_it() -> None:
    assert (Setting(LEVERS["batch_size"], 32).name, Setting(LEVERS["batch_size"], 32).code) == ("batch_size=32", "batch_size=32")
    assert "quantize_dynamic" in Setting(LEVERS["precision"], "int8").code
    assert Setting(LEVERS["inference_mode"]).name == "inference_mode"
    assert Setting(LEVERS["cascade"], "small@0.9").code.endswith("small.with_confidence(queries)  # and ask the model where sure < 0.9")


def test_levers_are_chosen_by_name_and_slow_ones_only_so() -> None:
    every = LEVERS.values()
    assert [each.name for each in chosen(["compile", "compile"], every)] == ["compile"]
    assert "compile" not in {each.name for each in chosen(None, every)}
    with pytest.raises(SettingsError, match="no lever 'batch'"):
        chosen(["batch"], every)
    with pytest.raises(SettingsError, match="list"):
        chosen("threads", every)


def test_what_makes_no_lever_or_configuration_is_refused() -> None:
    with pytest.raises(SettingsError, match="two words"):
        Lever("two words", "runtime", "nothing", "x")
    with pytest.raises(SettingsError, match="no code"):
        Lever("one", "runtime", "nothing", " ")
    with pytest.raises(SettingsError, match="twice"):
        Configuration((ONE, TWO))
    assert Configuration((ONE,)).having(TWO) == Configuration((TWO,))
    small, before = Setting(LEVERS["model"], "small"), Setting(LEVERS["cascade"], "small@0.9")
    assert Configuration((small, ONE)).having(before) == Configuration((ONE, before))


def test_a_suggestion_says_what_it_saves_and_costs_and_the_lines_to_write() -> None:
    said = str(Suggestion(Configuration((ONE, OTHER)), Ratio(0.3, 0.29, 0.32), Gain(-0.002, -0.01, 0.006), Ratio(3.0, 2.9, 3.1)))
    assert said == (
        "one=1 + other saves 70.0 % [68.0, 71.0] of the energy per query; accuracy -0.2 points [-1.0, +0.6]; "
        "a batch takes 3.00 times as long: one(1); other(True)"
    )


def test_with_traffic_a_suggestion_says_what_a_year_uses_less() -> None:
    footprint = Footprint(kg_per_j=1e-7, price_per_j=5e-8, currency="EUR", queries_per_s=100.0)
    change = Suggestion(
        Configuration((ONE,)), Ratio(0.5, 0.48, 0.52), year=yearly(footprint, 1.0, 0.9, 1.1), footprint=footprint, modelled=True
    )
    assert str(change) == (
        "one=1 saves 50.0 % [48.0, 52.0] of the energy per query; "
        "at 8.64M queries a day 876 kWh ±10 % modelled, 315 kg CO2e and 158 EUR less a year: one(1)"
    )
