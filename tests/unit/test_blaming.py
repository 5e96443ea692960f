"""What a difference is blamed on first: the most specific thing that is true of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from pytest_greencompute.explaining.blaming import blamed
from pytest_greencompute.explaining.explanation import explained
from pytest_greencompute.explaining.profile import MODULES, OUTSIDE, Cost, Factor, Level, Profile
from pytest_greencompute.explaining.risen import Risen

PASSES = 6
Rows = Mapping[str, float]
MODEL = {"Model": 0.0, "Model.embed": 0.1, "Model.layer.0": 0.0, "Model.layer.0.mlp": 0.3, "Model.layer.1": 0.0, "Model.layer.1.mlp": 0.3}
APART = {"chat.py:tokenize": 0.2, "chat.py:mean": 0.1}
IN_MODEL = "torch modules from chat.py:encode"


def profile(model: Rows, functions: Rows, **factors: float | str) -> Profile:
    """One side: own milliseconds per query of its modules, and of its functions: those with a blank before their name lie in modules."""
    inner = {name.strip(): ms for name, ms in functions.items() if name.startswith(" ")}
    outer = {name: ms for name, ms in functions.items() if not name.startswith(" ")}
    rows = [cost(name, ms, name.rpartition(".")[0].removesuffix(".layer")) for name, ms in model.items()]
    rows += [cost(OUTSIDE, sum(outer.values()))] if model else []
    told = [cost(name, ms) for name, ms in outer.items()] + [cost(name, ms, MODULES) for name, ms in inner.items()]
    if model:
        told += [cost(MODULES, 0.0), cost(IN_MODEL, sum(model.values()) - sum(inner.values()), MODULES)]
    whole = sum(model.values()) + sum(outer.values())
    levels = [
        Level(kind, "cpu", (whole / 1e3 * 1.003,) * PASSES, tuple(costs))
        for kind, costs in (("modules", rows), ("functions", told))
        if costs
    ]
    return Profile(tuple(Factor(name.replace("_", " "), value) for name, value in factors.items()), tuple(levels), queries=8)


def cost(name: str, ms: float, inside: str = "") -> Cost:
    return Cost(name, tuple(ms / 1e3 * (1 + 0.002 * (number % 3 - 1)) for number in range(PASSES)), 1.0, inside=inside)


def times(rows: Rows, factor: float, *names: str) -> dict[str, float]:
    """The rows, those of these names (all) so many times as long."""
    return {name: ms * factor if name in names or not names else ms for name, ms in rows.items()}


def first(base: Profile, head: Profile, unsure: float = 0.001) -> str:
    """What is named first of a difference that is known to within a share of it."""
    ends = [max(each.levels[0].seconds) * 10 for each in (base, head)]
    rise = ends[1] - ends[0]
    found = blamed(explained(base, head, Risen(*ends, rise * (1 - unsure), rise * (1 + unsure))))
    return found[0].called if found else "nothing"


HOOK = {**APART, " chat.py:hook": 0.3}
CASES = {
    "a module that grew": (MODEL, times(MODEL, 2, "Model.embed"), APART, APART, {}, {}, "modules: Model.embed"),
    "a module that came": (
        MODEL,
        {**MODEL, "Model.layer.2": 0.0, "Model.layer.2.mlp": 0.3},
        *(APART, APART, {"tokens_per_query": 64.0, "flops_per_query": 6.0}, {"tokens_per_query": 64.0, "flops_per_query": 9.0}),
        "modules: Model.layer.2",
    ),
    "a function outside": (MODEL, MODEL, APART, times(APART, 3, "chat.py:tokenize"), {}, {}, "functions: chat.py:tokenize"),
    "a hook in a module": (
        MODEL,
        times(MODEL, 1.5, "Model.layer.0.mlp", "Model.layer.1.mlp"),
        APART,
        HOOK,
        {},
        {},
        "functions: chat.py:hook",
    ),
    "a module of the project": (
        *(MODEL, times(MODEL, 2, "Model.layer.0.mlp"), {**APART, " nets.py:Mlp.forward": 0.6}, {**APART, " nets.py:Mlp.forward": 0.9}),
        *({}, {}, "modules: Model.layer.0.mlp"),
    ),
    "more tokens": (
        *(MODEL, times(MODEL, 2), APART, APART),
        *({"tokens_per_query": 30.0, "padding": 0.1}, {"tokens_per_query": 60.0, "padding": 0.1}, "factor: tokens per query"),
    ),
    "more padding": (
        *(MODEL, times(MODEL, 2), APART, APART),
        *({"tokens_per_query": 30.0, "padding": 0.1}, {"tokens_per_query": 60.0, "padding": 0.55}, "factor: padding"),
    ),
    "the model called twice": (
        *(MODEL, times(MODEL, 2), APART, times(APART, 2)),
        *(
            {"tokens_per_query": 30.0, "calls_per_query": 0.1},
            {"tokens_per_query": 60.0, "calls_per_query": 0.2},
            "factor: calls per query",
        ),
    ),
    "calls beside the usual ones": (
        *(MODEL, times(MODEL, 1.4), APART, APART),
        {"tokens_per_query": 26.0, "calls_per_query": 1 / 16, "items_per_call": 16.0},
        {"tokens_per_query": 36.0, "calls_per_query": 0.4, "items_per_call": 3.4},
        "factor: calls per query",
    ),
    "more runs of a session": (
        *({}, {}, {"chat.py:answer": 1.0}, {"chat.py:answer": 1.4}),
        {"sessions'_tokens_per_query": 26.0, "sessions'_calls_per_query": 1 / 16, "items_per_session's_call": 16.0},
        {"sessions'_tokens_per_query": 36.0, "sessions'_calls_per_query": 0.4, "items_per_session's_call": 3.4},
        "factor: sessions' calls per query",
    ),
    "longer runs of a session": (
        *({}, {}, {"chat.py:answer": 1.0}, {"chat.py:answer": 1.4}),
        {"sessions'_tokens_per_query": 26.0, "sessions'_calls_per_query": 1 / 16},
        {"sessions'_tokens_per_query": 36.0, "sessions'_calls_per_query": 1 / 16},
        "factor: sessions' tokens per query",
    ),
    "smaller batches": (
        *(MODEL, times(MODEL, 3), APART, APART),
        *({"batch_size": 16.0, "calls_per_query": 1 / 16}, {"batch_size": 2.0, "calls_per_query": 0.5}, "factor: batch size"),
    ),
    "a smaller batch that costs nothing": (
        *(MODEL, times(MODEL, 2, "Model.embed"), APART, APART),
        *({"batch_size": 16.0, "calls_per_query": 1 / 16}, {"batch_size": 8.0, "calls_per_query": 1 / 8}, "modules: Model.embed"),
    ),
    "another type": (MODEL, times(MODEL, 2), APART, APART, {"dtype": "bfloat16"}, {"dtype": "float32"}, "factor: dtype"),
    "threads that wait for each other in one module": (
        *(MODEL, times(MODEL, 2, "Model.embed"), APART, APART),
        *({"threads": 1.0}, {"threads": 8.0}, "factor: threads"),
    ),
    "gradients of which the caller has most": (
        *(MODEL, times(MODEL, 1.1), APART, times(APART, 2.5, "chat.py:mean")),
        *({"gradients": "off"}, {"gradients": "on"}, "factor: gradients"),
    ),
    "a new function beside gradients": (
        *(MODEL, times(MODEL, 1.1), APART, {**APART, "chat.py:show": 0.4}),
        *({"gradients": "off"}, {"gradients": "on"}, "functions: chat.py:show"),
    ),
    "one layer in another type": (
        *(MODEL, times(MODEL, 3, "Model.layer.1.mlp"), APART, APART),
        *({"dtype": "bfloat16"}, {"dtype": "bfloat16, float32"}, "modules: Model.layer.1.mlp"),
    ),
    "no modules": ({}, {}, APART, times(APART, 3, "chat.py:mean"), {}, {}, "functions: chat.py:mean"),
    "everything, and nobody knows why": (MODEL, times(MODEL, 2), APART, APART, {}, {}, "modules: Model"),
}


@pytest.mark.parametrize(("before", "now", "called", "calls", "base", "head", "guilty"), CASES.values(), ids=CASES)
def test_the_most_specific_thing_is_named_first(
    before: Rows, now: Rows, called: Rows, calls: Rows, base: Mapping[str, float], head: Mapping[str, float], guilty: str
) -> None:
    assert first(profile(before, called, **base), profile(now, calls, **head)) == guilty


def test_nothing_is_blamed_for_no_difference() -> None:
    base = profile(MODEL, APART, dtype="float32")
    assert blamed(explained(base, profile(MODEL, APART, dtype="bfloat16"), Risen(1.0, 1.01, -0.01, 0.03))) == ()


def test_a_module_with_other_work_is_named_where_no_clock_can_tell_it() -> None:
    head = profile({**times(MODEL, 1.05), "Model.layer.2": 0.0, "Model.layer.2.mlp": 0.3}, APART)
    assert first(profile(MODEL, APART), head, unsure=0.95) == "modules: Model.layer.2"


@pytest.mark.parametrize(
    ("sampled", "guilty"), [(1.0, "functions: chat.py:hook"), (0.45, "functions: chat.py:hook"), (0.15, "modules: Model.layer.0")]
)
def test_a_new_hook_is_named_though_the_module_has_more_operators_with_it_and_a_sampler_sees_a_part(sampled: float, guilty: str) -> None:
    """``sampled``: so much of what the module costs more."""
    hook = {" chat.py:hook": sampled * MODEL["Model.layer.0.mlp"]}
    base, head = profile(MODEL, APART), profile(times(MODEL, 2, "Model.layer.0.mlp"), {**APART, **hook})
    rows = [
        tuple(replace(each, operators=9.0 if "0.mlp" in each.name and more else 5.0) for each in side.levels[0].costs)
        for side, more in ((base, False), (head, True))
    ]
    sides = [
        replace(side, levels=(replace(side.levels[0], costs=costs), side.levels[1])) for side, costs in zip((base, head), rows, strict=True)
    ]
    assert first(*sides) == guilty


def test_a_setting_is_named_where_no_place_has_most_of_it() -> None:
    base, head = profile(MODEL, APART, gradients="off"), profile(times(MODEL, 1.1, "Model.layer.0.mlp"), APART, gradients="on")
    assert first(base, head, unsure=0.95) == "factor: gradients"
    assert first(base, profile(times(MODEL, 1.1, "Model.layer.0.mlp"), APART, gradients="off"), unsure=0.95) == "nothing"


def test_what_disturbed_a_whole_side_does_not_hide_a_module_with_other_work() -> None:
    head = profile(times({**MODEL, "Model.embed": 0.2}, 1.1), times(APART, 1.1), calls_per_query=2.0)
    level = head.levels[0]
    rows = tuple(replace(each, operators=9.0 if each.name == "Model.embed" else 5.0) for each in level.costs)
    base = profile(MODEL, APART, calls_per_query=2.0)
    before = replace(base.levels[0], costs=tuple(replace(each, operators=5.0) for each in base.levels[0].costs))
    sides = (replace(base, levels=(before, base.levels[1])), replace(head, levels=(replace(level, costs=rows), head.levels[1])))
    assert first(*sides, unsure=0.95) == "modules: Model.embed"


def test_a_level_that_one_side_could_not_be_seen_at_blames_nobody() -> None:
    seen = profile(MODEL, APART)
    base = replace(seen, levels=tuple(each for each in seen.levels if each.kind != "functions"))
    assert first(base, profile(times(MODEL, 2, "Model.embed"), APART)) == "modules: Model.embed"


def test_the_sentence_has_the_joules_and_what_is_another_now() -> None:
    base, head = profile(MODEL, APART), profile(times(MODEL, 2, "Model.embed"), APART)
    (blame, *_) = blamed(explained(base, head, Risen(1.0, 1.1, 0.099, 0.101)))
    assert blame.text.startswith("embed: +99.7 mJ of +0.100 J [")
