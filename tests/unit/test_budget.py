"""Budgets: what a marker or a file wrote, every mistake with its place, and which line holds for a test on this hardware."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.budget import Budget, Line, Names, Terms, lines_for, parse_lines, parse_term, resolve, specificity, wild
from pytest_greencompute.values.metrics import METRICS

ENERGY = METRICS["energy_per_query"]
ACCURACY = METRICS["accuracy"]
H100 = {"gpu": ("NVIDIA H100 80GB HBM3",), "cpu": ("AMD EPYC 9554",), "meter": ("nvml",)}


def where(*keys: str | int) -> str:
    return "file.toml:" + ".".join(map(str, keys))


def lines(**written: Any) -> tuple[Line, ...]:
    return parse_lines(written, where)


def problems(written: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_lines(written, where)
    return str(caught.value).splitlines()


def limit_of(budget: Budget, metric: str = "energy_per_query", run: str | None = None) -> float | None:
    found = budget.limits.get(run, {}).get(metric)
    return None if found is None else found.value


# Reading


def test_limits_are_read_in_si_and_know_where_they_stand() -> None:
    (line,) = lines(energy_per_query="0.8 J", latency_p95="40 ms", accuracy=0.92, throughput="120 /s", average_power="250 W")
    assert {name: limit.value for name, limit in line.limits[None].items()} == {
        "energy_per_query": 0.8,
        "latency_p95": 0.04,
        "accuracy": 0.92,
        "throughput": 120.0,
        "average_power": 250.0,
    }
    assert line.limits[None]["latency_p95"].where == "file.toml:latency_p95"
    assert line.where == "file.toml:"


def test_named_runs_have_limits_of_their_own() -> None:
    (line,) = lines(energy_per_query="1 J", prefill={"energy_per_query": "0.1 J"}, decode={"latency_p95": "1 s"})
    assert {run: {name: limit.value for name, limit in limits.items()} for run, limits in line.limits.items()} == {
        None: {"energy_per_query": 1.0},
        "prefill": {"energy_per_query": 0.1},
        "decode": {"latency_p95": 1.0},
    }
    assert line.limits["prefill"]["energy_per_query"].where == "file.toml:prefill.energy_per_query"


def test_terms_are_read_beside_the_limits() -> None:
    (line,) = lines(tolerance="5 %", floor={"energy_per_query": "1 mJ"}, confidence=0.95, max_seconds="2 min")
    assert line.terms == Terms({"*": 0.05}, {"energy_per_query": 0.001}, 0.95, 120.0)
    (line,) = lines(tolerance={"energy_per_query": "3%", "accuracy": 0.01})
    assert line.terms.tolerance == {"energy_per_query": 0.03, "accuracy": 0.01}


def test_shares_that_can_fail_are_read() -> None:
    (line,) = lines(accuracy=1, error_rate="99 %", answers_changed=0, tolerance="100 %", floor={"error_rate": "1 %"})
    assert {name: limit.value for name, limit in line.limits[None].items()} == {"accuracy": 1, "error_rate": 0.99, "answers_changed": 0}
    assert line.terms == Terms({"*": 1.0}, {"error_rate": 0.01})


def test_on_lines_hold_where_their_hardware_matches() -> None:
    own, first, second = lines(
        energy_per_query="1 J", on=[{"gpu": "NVIDIA H100*", "energy_per_query": "2 J"}, {"cpu": "Intel*", "prefill": {"accuracy": 0.5}}]
    )
    assert own.on == {}
    assert first.on == {"gpu": "NVIDIA H100*"}
    assert first.limits[None]["energy_per_query"].where == "file.toml:on.0.energy_per_query"
    assert second.limits["prefill"]["accuracy"].where == "file.toml:on.1.prefill.accuracy"


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"energy_per_query": "0.8"}, "file.toml:energy_per_query: energy_per_query: '0.8' has no unit."),
        ({"energy_per_query": "40 ms"}, "file.toml:energy_per_query: energy_per_query: '40 ms' is a time, not an energy."),
        ({"energy_per_query": 0}, "energy_per_query: 0 is not greater than zero."),
        ({"energy_per_query": -1.0}, "energy_per_query: -1.0 is not greater than zero."),
        ({"energy_per_query": float("nan")}, "nan is not a finite number."),
        ({"energy_per_query": float("inf")}, "inf is not a finite number."),
        ({"energy_per_query": None}, "None is not a quantity."),
        ({"energy_per_query": True}, "True is not a quantity."),
        ({"energy_per_query": {"max": "1 J"}}, "is not a quantity."),
        ({"accuracy": 92}, "92 is more than 1."),
        ({"accuracy": "0.9 J"}, "is an energy, not a ratio."),
        ({"energy_per_qery": "1 J"}, "file.toml:energy_per_qery: 'energy_per_qery' is not a budget key. Did you mean 'energy_per_query'?"),
        ({"gpu": "NVIDIA H100"}, "file.toml:gpu: 'gpu' is not a budget key."),
        ({"prefill": {"energy": "1 J"}}, "file.toml:prefill.energy: 'energy' is not a budget key of the run 'prefill'."),
        ({"prefill": {"tolerance": "5%"}}, "'tolerance' is not a budget key of the run 'prefill'."),
        ({"prefill": {1: "1 J"}}, "'1' is not a budget key of the run 'prefill'."),
        ({"prefill": {"accuracy": "high"}}, "file.toml:prefill.accuracy: accuracy: 'high' is not a quantity."),
        ({"tolerance": -0.1}, "tolerance: -0.1 is negative."),
        ({"tolerance": "5 J"}, "is an energy, not a ratio."),
        ({"tolerance": 5}, "tolerance: 5 is more than 1."),
        ({"tolerance": 1}, "tolerance: 1 may be 1 % or 100 %."),
        ({"tolerance": "1"}, "tolerance: '1' may be 1 % or 100 %."),
        ({"tolerance": {"latency_p95": 1.0}}, "tolerance: 1.0 may be 1 % or 100 %."),
        ({"tolerance": {"accuracy": "100 %"}}, "tolerance: '100 %' is as much as accuracy can change, so it can never fail."),
        ({"floor": {"error_rate": 1}}, "floor: 1 is as much as error_rate can change, so it can never fail."),
        ({"floor": {"padding_share": "100 %"}}, "floor: '100 %' is as much as padding_share can change, so it can never fail."),
        ({"error_rate": 1}, "error_rate: 1 is all of them, so it can never fail."),
        ({"answers_changed": "100 %"}, "answers_changed: '100 %' is all of them, so it can never fail."),
        ({"small": {"padding_share": 1.0}}, "padding_share: 1.0 is all of them, so it can never fail."),
        ({"generative_share": "1"}, "generative_share: '1' is all of them, so it can never fail."),
        ({"error_rate": 5}, "error_rate: 5 is more than 1."),
        ({"accuracy": 0}, "accuracy: 0 is not greater than zero."),
        ({"energy_per_query": "0.4 Wh/1,5 queries"}, "is per '1,5' queries, which is no whole number."),
        ({"tolerance": {"energy": 0.1}}, "tolerance: 'energy' is not a metric in tolerance."),
        ({"floor": {"stars": 5}}, "floor: stars has no floor: it is not compared with other runs. Remove stars from floor."),
        ({"tolerance": {"stars": "5 %"}}, "tolerance: stars has no tolerance: it is not compared with other runs."),
        ({"floor": "1 mJ"}, "floor: '1 mJ' has no metric."),
        ({"floor": {"energy_per_query": "1 ms"}}, "is a time, not an energy."),
        ({"confidence": 1.0}, "confidence: 1.0 is not between 0.5 and 1."),
        ({"confidence": 99}, "confidence: 99 is not between 0.5 and 1."),
        ({"max_seconds": 0}, "max_seconds: 0 is not greater than zero."),
        ({"max_seconds": "1 J"}, "is an energy, not a time."),
        ({"on": {"gpu": "x"}}, "file.toml:on: 'on' must be a list of tables"),
        ({"on": ["H100"]}, "file.toml:on: 'on' must be a list of tables"),
        ({"on": [{"energy_per_query": "1 J"}]}, "file.toml:on.0: an 'on' line needs one of gpu, cpu, meter"),
        ({"on": [{"gpu": 100, "energy_per_query": "1 J"}]}, "file.toml:on.0.gpu: gpu = 100 must be a name"),
        ({"on": [{"gpu": "x", "energy": "1 J"}]}, "file.toml:on.0.energy: 'energy' is not a budget key."),
    ],
)
def test_every_mistake_is_told_with_its_place(written: dict[str, Any], problem: str) -> None:
    (told,) = problems(written)
    assert problem in told
    assert told.startswith("file.toml:")


def test_all_mistakes_are_told_at_once() -> None:
    told = problems({"energy_per_query": "0.8", "latency_p95": "much", "nonsense": 1, "on": [{"gpu": "x", "accuracy": 2}]})
    assert len(told) == 4


@pytest.mark.parametrize(("key", "value"), [("confidence", 0.5), ("confidence", "99 %"), ("tolerance", 0), ("tolerance", "100 %")])
def test_terms_at_the_edge_of_their_range_are_fine(key: str, value: Any) -> None:
    assert parse_term(key, value) is not None


# Which line holds


def test_key_by_key_the_first_line_that_speaks_wins() -> None:
    marker = lines(energy_per_query="1 J")
    command_line = (Line("options", terms=Terms(confidence=0.9)),)
    exact = lines(energy_per_query="2 J", latency_p95="40 ms", confidence=0.95)
    wild_one = lines(latency_p95="50 ms", accuracy=0.9, max_seconds=5)
    budget = resolve([*marker, *command_line, *exact, *wild_one], H100)
    assert limit_of(budget) == 1.0
    assert limit_of(budget, "latency_p95") == 0.04
    assert limit_of(budget, "accuracy") == 0.9
    assert budget.confidence == 0.9
    assert budget.max_seconds == 5.0


def test_without_a_word_on_them_the_terms_have_defaults() -> None:
    budget = resolve([], H100)
    assert (budget.confidence, budget.max_seconds, budget.tolerance(ENERGY), budget.tolerance(ACCURACY), budget.floor(ENERGY)) == (
        0.99,
        60.0,
        0.05,
        0.0,
        0.0,
    )


def test_a_matching_on_line_comes_before_the_marker_and_another_is_silent() -> None:
    marker = lines(energy_per_query="1 J", latency_p95="1 s")
    file = lines(
        energy_per_query="2 J",
        on=[{"gpu": "*A100*", "energy_per_query": "3 J"}, {"gpu": "NVIDIA H100 80GB HBM3", "energy_per_query": "4 J"}],
    )
    assert limit_of(resolve([*marker, *file], H100)) == 4.0
    assert limit_of(resolve([*marker, *file], {"gpu": ("NVIDIA A100-SXM4-40GB",)})) == 3.0
    assert limit_of(resolve([*marker, *file], {"gpu": ()})) == 1.0
    assert limit_of(resolve([*marker, *file], H100), "latency_p95") == 1.0


def test_an_on_line_with_two_keys_needs_both() -> None:
    file = lines(on=[{"gpu": "*H100*", "meter": "rapl", "energy_per_query": "3 J"}])
    assert limit_of(resolve(file, H100)) is None
    assert limit_of(resolve(file, H100 | {"meter": ("nvml", "rapl")})) == 3.0


def test_a_metric_with_limits_for_other_hardware_only_is_remembered() -> None:
    file = lines(accuracy=0.9, on=[{"gpu": "*A100*", "energy_per_query": "3 J", "accuracy": 0.8, "prefill": {"latency_p95": "1 s"}}])
    budget = resolve(file, H100)
    assert budget.other_hardware == {None: frozenset({"energy_per_query"}), "prefill": frozenset({"latency_p95"})}
    assert limit_of(budget, "accuracy") == 0.9
    assert resolve(file, {"gpu": ("A100",)}).other_hardware == {}


def test_a_tolerance_for_all_leaves_accuracy_alone() -> None:
    budget = resolve(lines(tolerance="10 %"), H100)
    assert budget.tolerance(ENERGY) == pytest.approx(0.1)
    assert budget.tolerance(ACCURACY) == 0.0
    budget = resolve(lines(tolerance={"accuracy": 0.01, "latency_p95": 0.2}), H100)
    assert budget.tolerance(ACCURACY) == 0.01
    assert budget.tolerance(ENERGY) == 0.05
    assert budget.tolerance(METRICS["latency_p95"]) == 0.2


def test_floors_and_tolerances_go_line_by_line() -> None:
    budget = resolve([*lines(tolerance={"latency_p95": 0.2}), *lines(tolerance="1 %", floor={"energy_per_query": "1 mJ"})], H100)
    assert budget.tolerance(METRICS["latency_p95"]) == 0.2
    assert budget.tolerance(ENERGY) == pytest.approx(0.01)
    assert budget.floor(ENERGY) == pytest.approx(0.001)


# Patterns


@pytest.mark.parametrize(
    ("pattern", "node", "matches"),
    [
        ("tests/test_x.py::*", "tests/test_x.py::test_y", True),
        ("tests/test_x.py::*", "tests/test_z.py::test_y", False),
        ("*::test_y", "tests/test_x.py::test_y", True),
        ("tests/test_?.py::test_y", "tests/test_x.py::test_y", True),
        ("tests/test_?.py::test_y", "tests/test_xx.py::test_y", False),
        ("t.py::test_y[*]", "t.py::test_y[a-1]", True),
        ("t.py::test_y[ab]", "t.py::test_y[ab]", True),
        ("t.py::test_y[ab]", "t.py::test_ya", False),
        ("t.py::test_y[ab]", "t.py::test_y", False),
        ("t.py::test_y[*]", "t.py::test_y", False),
        ("t.py::test_y[a.b]", "t.py::test_y[axb]", False),
        ("t.py::test_y", "t.py::test_y[1]", False),
        ("t.py::test[*]", "t.py::test[line\nbreak]", True),
    ],
)
def test_only_the_star_and_the_question_mark_are_wild(pattern: str, node: str, matches: bool) -> None:
    assert bool(wild(pattern).fullmatch(node)) is matches


@given(st.text(max_size=20))
def test_a_name_always_matches_itself(name: str) -> None:
    assert wild(name).fullmatch(name) or "*" in name
    assert wild("*").fullmatch(name)


def test_the_most_specific_pattern_wins_key_by_key_wherever_it_stands() -> None:
    table = {
        "*": lines(energy_per_query="3 J", accuracy=0.7, latency_p95="1 s"),
        "t.py::test_y[1]": lines(energy_per_query="1 J"),
        "t.py::*": lines(accuracy=0.8),
        "u.py::*": lines(accuracy=0.9),
    }
    for order in (table, dict(reversed(table.items()))):
        budget = resolve(lines_for("t.py::test_y[1]", order), H100)
        assert (limit_of(budget), limit_of(budget, "accuracy"), limit_of(budget, "latency_p95")) == (1.0, 0.8, 1.0)
    assert lines_for("v.py::test", {"u.py::*": table["u.py::*"]}) == ()


@given(st.text("ab*?", max_size=3), st.text("ab*?", max_size=3))
def test_a_pattern_that_matches_a_part_of_what_another_does_is_more_specific(one: str, other: str) -> None:
    words = ["".join(word) for length in range(6) for word in itertools.product("abc", repeat=length)]
    mine, theirs = ({word for word in words if wild(pattern).fullmatch(word)} for pattern in (one, other))
    if mine < theirs:
        assert specificity(one) > specificity(other)


@pytest.mark.parametrize(
    ("more", "less"),
    [("t.py::*", "*"), ("t.py::test_*", "t.py::*"), ("t?", "t*"), ("t*", "*t*"), ("tests/t.py::*", "*::test_a"), ("?*", "**")],
)
def test_which_of_two_patterns_is_more_specific(more: str, less: str) -> None:
    assert specificity(more) > specificity(less)


def test_a_looser_pattern_for_this_hardware_does_not_disarm_a_stricter_one_for_the_test() -> None:
    table = {
        "*": lines(energy_per_query="9 J", latency_p95="1 s", on=[{"gpu": "*", "energy_per_query": "20 J", "tolerance": "50 %"}]),
        "t.py::*": lines(energy_per_query="1 J", tolerance={"energy_per_query": "1 %"}),
    }
    budget = resolve(lines_for("t.py::test_y", table), H100)
    assert (limit_of(budget), limit_of(budget, "latency_p95")) == (1.0, 1.0)
    assert budget.tolerance(ENERGY) == pytest.approx(0.01)
    assert budget.tolerance(METRICS["latency_p95"]) == pytest.approx(0.5)
    assert limit_of(resolve(lines_for("u.py::test_y", table), H100)) == 20.0
    marker = lines(energy_per_query="2 J")
    assert limit_of(resolve([*marker, *lines_for("t.py::test_y", table)], H100)) == 2.0
    assert limit_of(resolve([*marker, *lines_for("u.py::test_y", table)], H100)) == 20.0


def test_of_two_on_lines_the_narrower_wins_wherever_it_stands() -> None:
    on = [{"gpu": "*", "energy_per_query": "9 J"}, {"gpu": "NVIDIA H100*", "energy_per_query": "1 J"}]
    for order in (on, on[::-1]):
        assert limit_of(resolve(lines_for("t", {"t": lines(on=order)}), H100)) == 1.0
    both = [*on, {"gpu": "NVIDIA H100*", "meter": "nvml", "energy_per_query": "0.5 J"}]
    assert limit_of(resolve(lines_for("t", {"t": lines(on=both)}), H100 | {"meter": ("nvml",)})) == 0.5


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        ({"energy_per_query": "1 J"}, {"energy_per_query": "9 J"}, "energy_per_query"),
        ({"run": {"latency_p95": "1 s"}}, {"run": {"latency_p95": "9 s"}}, "latency_p95 run"),
        ({"tolerance": "1 %"}, {"tolerance": "9 %"}, "tolerance *"),
        ({"max_seconds": 5}, {"max_seconds": 9}, "max_seconds"),
        ({"on": [{"gpu": "*", "accuracy": 0.5}]}, {"on": [{"gpu": "*", "accuracy": 0.4}]}, "accuracy"),
    ],
)
def test_two_patterns_that_are_as_specific_must_not_differ_in_a_key(one: dict[str, Any], other: dict[str, Any], key: str) -> None:
    table = {"ab*": lines(**one), "*bc": lines(**other)}
    with pytest.raises(SettingsError, match=re.escape(f" set {key} by patterns that are as specific, and differ.")):
        resolve(lines_for("abc", table), H100)
    resolve(lines_for("abc", {"ab*": lines(**one), "*bc": lines(**one)}), H100)
    resolve(lines_for("abc", {"ab*": lines(**one), "*bc": lines(accuracy=0.1)}), H100)
    assert limit_of(resolve([*lines(energy_per_query="3 J"), *lines_for("abd", table)], H100)) == 3.0


@pytest.mark.parametrize(
    ("names", "node_id", "found"),
    [
        (Names(), "tests/t.py::test_a", ("tests/t.py::test_a",)),
        (Names("tests/", ""), "t.py::test_a[a/../b]", ("tests/t.py::test_a[a/../b]", "t.py::test_a[a/../b]")),
        (Names("tests/", ""), "../other/t.py::test_a", ("other/t.py::test_a", "../other/t.py::test_a")),
        (Names("", "services/a/"), "services/a/t.py::test_a", ("t.py::test_a", "services/a/t.py::test_a")),
        (Names("", "services/a/"), "services/b/t.py::test_a", ()),
        (Names("config/", "code/"), "../code/t.py::test_a", ("t.py::test_a", "../code/t.py::test_a")),
    ],
)
def test_a_file_calls_tests_by_their_path_from_its_folder(names: Names, node_id: str, found: tuple[str, ...]) -> None:
    assert names.of(node_id) == found
    assert names.rank("*", node_id) == (specificity("*") if found else None)
