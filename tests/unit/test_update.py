"""Which limits follow from what was measured, and a file in which nothing but those limits changes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import assume, given
from hypothesis import strategies as st
from making import block, figure, run, source
from telling import with_energy

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Aim, with_systematic
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.budget import Budget, Limit, parse_lines, resolve
from pytest_greencompute.judging.judge import Bench, judge_run
from pytest_greencompute.judging.verdict import Word
from pytest_greencompute.results.result import Figure, Result, ShownVerdict
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.settings.toml_edit import NewLimit, first_written, in_their_unit, rewritten, written_at
from pytest_greencompute.settings.toml_file import TomlFile
from pytest_greencompute.settings.update import Changes, Findings, changes
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import ENERGY, RATE, RATIO, TIME, Dimension, parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = ("tool", "greencompute", "budgets")
TEST = "tests/test_x.py::test_y[a-1]"

# Numbers in the user's unit


@pytest.mark.parametrize(
    ("written", "wanted", "dimension", "up", "expected"),
    [
        ("0.8 J", 0.5 * 1.05, ENERGY, True, "0.525 J"),
        ("850 mJ", 0.52501, ENERGY, True, "526 mJ"),
        ("850mJ", 0.6, ENERGY, True, "600mJ"),
        (" 1_000  uJ ", 0.0123456, ENERGY, True, " 12400  uJ "),
        ("0.4 Wh/1000 queries", 1.0, ENERGY, True, "0.278 Wh/1000 queries"),
        ("1e3 J", 1234.5, ENERGY, True, "1240 J"),
        ("40 ms", 0.00001234, TIME, True, "0.0124 ms"),
        (0.8, 0.64, ENERGY, True, 0.64),
        (310, 305.2, ENERGY, True, 306),
        (1, 0.64, ENERGY, True, 0.64),
        (310.0, 305.2, ENERGY, True, 306.0),
        ("120 /s", 99.96, RATE, False, "99.9 /s"),
        ("6000 /min", 99.96, RATE, False, "5990 /min"),
        (0.92, 0.94149, RATIO, False, 0.941),
        ("92 %", 0.94149, RATIO, False, "94.1 %"),
        ("0.5", 1.0, RATIO, False, "1"),
        ("20 %", 0.0, RATIO, True, "0 %"),
        (0.2, 0.0, RATIO, True, 0.0),
        (5, 0.0, RATIO, True, 0),
    ],
)
def test_a_limit_keeps_the_unit_and_is_rounded_outward(written: Any, wanted: float, dimension: Dimension, up: bool, expected: Any) -> None:
    made = in_their_unit(written, wanted, wanted * (0.99 if up else 1.0), dimension, up=up)
    assert made == expected
    assert type(made) is type(expected)


@given(
    st.sampled_from([("0.8 J", ENERGY), ("7 mJ", ENERGY), ("0.4 Wh/1000 queries", ENERGY), (0.8, ENERGY), ("40 µs", TIME), ("9 %", RATIO)]),
    st.floats(1e-9, 1e9),
    st.booleans(),
)
def test_no_rounding_cuts_off_what_was_measured(style: tuple[Any, Dimension], wanted: float, up: bool) -> None:
    written, dimension = style
    read = parse(in_their_unit(written, wanted, wanted, dimension, up=up), dimension)
    assert read >= wanted if up else read <= wanted
    assert read == pytest.approx(wanted, rel=0.011)


def test_a_first_limit_is_in_the_unit_that_reads_best() -> None:
    assert first_written(0.000525, 0.0005, ENERGY, up=True) == "0.525 mJ"
    assert first_written(52.5, 50, ENERGY, up=True) == "52.5 J"


# The text of a file

FILE = """\
# top
[project]
name = 'x'   # n

[tool.greencompute]
meters = [
  "nvml",  # first
]

# a comment for y
[tool.greencompute.budgets."tests/test_x.py::test_y[a-1]"]
energy_per_query = "0.8 J"   # tight
'latency_p95' = '40 ms'
prefill.energy_per_query = "1 J" # dotted
decode = { energy_per_query = "2 J", latency_p50 = 0.1 } # inline

    [tool.greencompute.budgets."tests/test_x.py::test_y[a-1]".named]
    energy_per_query = 3

[[tool.greencompute.budgets."tests/test_x.py::test_y[a-1]".on]]
gpu = "H100"
energy_per_query = "3 J"

[[tool.greencompute.budgets."tests/test_x.py::test_y[a-1]".on]]
gpu = "A100"
energy_per_query = 4.0
# about the next

[tool.greencompute.budgets.terms]
tolerance = "10 %"

# about ruff
[tool.ruff]
line-length = 140
"""


def edited(limit: NewLimit, text: str = FILE) -> list[str]:
    """The lines that the edit took away and put in, and '…' where it failed."""
    new = rewritten(text, limit)
    if new is None:
        return ["…"]
    before, after = text.splitlines(), new.splitlines()
    gone = [f"- {line}" for line in before if line not in after]
    return gone + [f"+ {line}" for line in after if line not in before]


@pytest.mark.parametrize(
    ("keys", "metric", "value", "changes"),
    [
        ((), "energy_per_query", "0.64 J", ['- energy_per_query = "0.8 J"   # tight', '+ energy_per_query = "0.64 J"   # tight']),
        ((), "latency_p95", "30 ms", ["- 'latency_p95' = '40 ms'", "+ 'latency_p95' = '30 ms'"]),
        (
            ("prefill",),
            "energy_per_query",
            "0.9 J",
            ['- prefill.energy_per_query = "1 J" # dotted', '+ prefill.energy_per_query = "0.9 J" # dotted'],
        ),
        (
            ("decode",),
            "latency_p50",
            0.05,
            [
                '- decode = { energy_per_query = "2 J", latency_p50 = 0.1 } # inline',
                '+ decode = { energy_per_query = "2 J", latency_p50 = 0.05 } # inline',
            ],
        ),
        (("named",), "energy_per_query", 2.5, ["-     energy_per_query = 3", "+     energy_per_query = 2.5"]),
        (("on", 0), "energy_per_query", "2.5 J", ['- energy_per_query = "3 J"', '+ energy_per_query = "2.5 J"']),
        (("on", 1), "energy_per_query", 3.5, ["- energy_per_query = 4.0", "+ energy_per_query = 3.5"]),
    ],
)
def test_a_value_is_replaced_where_it_stands(keys: tuple[Any, ...], metric: str, value: Any, changes: list[str]) -> None:
    assert edited(NewLimit((*TABLE, TEST, *keys), metric, value)) == changes


@pytest.mark.parametrize(
    ("keys", "above", "line"),
    [
        ((), 'energy_per_query = "9 J"   # tight', 'set_on = "GPU-1"'),
        (("prefill",), 'prefill.energy_per_query = "9 J" # dotted', 'prefill.set_on = "GPU-1"'),
        (("named",), '    energy_per_query = "9 J"', '    set_on = "GPU-1"'),
        (("on", 0), 'energy_per_query = "9 J"', 'set_on = "GPU-1"'),
        (("on", 1), 'energy_per_query = "9 J"', 'set_on = "GPU-1"'),
    ],
)
def test_the_card_is_noted_right_below_the_limit(keys: tuple[Any, ...], above: str, line: str) -> None:
    new = rewritten(FILE, NewLimit((*TABLE, TEST, *keys), "energy_per_query", "9 J", "GPU-1"))
    assert new is not None
    assert f"\n{above}\n{line}\n" in new
    again = rewritten(new, NewLimit((*TABLE, TEST, *keys), "energy_per_query", "8 J", "GPU-2"))
    assert again == new.replace('"9 J"', '"8 J"').replace("GPU-1", "GPU-2")


def test_the_card_is_noted_inside_an_inline_table_and_in_a_last_line_without_an_end() -> None:
    new = rewritten(FILE, NewLimit((*TABLE, TEST, "decode"), "energy_per_query", "9 J", "GPU-1"))
    assert new is not None
    assert 'decode = { energy_per_query = "9 J", latency_p50 = 0.1, set_on = "GPU-1"} # inline\n' in new
    assert rewritten("[budgets.a]\naccuracy = 1", NewLimit(("budgets", "a"), "accuracy", 0.9, "GPU-1")) == (
        '[budgets.a]\naccuracy = 0.9\nset_on = "GPU-1"'
    )


def test_a_new_table_goes_below_the_last_of_its_kind_and_leaves_comments_to_the_next() -> None:
    new = rewritten(FILE, NewLimit((*TABLE, "tests/test_x.py::test_z"), "energy_per_query", "1 J", "GPU-1"))
    table = '\n[tool.greencompute.budgets."tests/test_x.py::test_z"]\nenergy_per_query = "1 J"\nset_on = "GPU-1"\n'
    assert new == FILE.replace('tolerance = "10 %"\n', f'tolerance = "10 %"\n{table}')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '[budgets."t.py::y"]\naccuracy = 0.9\n'),
        ("a = 1", 'a = 1\n\n[budgets."t.py::y"]\naccuracy = 0.9\n'),
        ("a = 1\r\n", 'a = 1\r\n\r\n[budgets."t.py::y"]\r\naccuracy = 0.9\r\n'),
        ("[budgets]\n# none yet\n", '[budgets]\n\n[budgets."t.py::y"]\naccuracy = 0.9\n# none yet\n'),
        ('[budgets.x]\non = [\n  { gpu = "A" }\n]\n', '[budgets.x]\non = [\n  { gpu = "A" }\n]\n\n[budgets."t.py::y"]\naccuracy = 0.9\n'),
    ],
)
def test_a_new_table_fits_any_file(text: str, expected: str) -> None:
    assert rewritten(text, NewLimit(("budgets", "t.py::y"), "accuracy", 0.9)) == expected


def test_a_limit_joins_a_table_that_had_only_terms() -> None:
    assert edited(NewLimit((*TABLE, "terms"), "energy_per_query", "1 J")) == ['+ energy_per_query = "1 J"']


@pytest.mark.parametrize("keys", [("budgets",), ("budgets", "x"), ("a", 3)])
def test_what_cannot_be_done_without_touching_the_rest_is_not_done(keys: tuple[Any, ...]) -> None:
    text = "budgets = 5\na = [{}]\n"
    assert rewritten(text, NewLimit(keys, "accuracy", 0.9)) is None
    assert rewritten("budgets = {}\n", NewLimit(("budgets", "x"), "accuracy", 0.9)) is None


def test_a_file_that_tomlkit_does_not_give_back_is_left_alone() -> None:
    text = '\n [[budgets.x.on]]\ngpu = "A"\naccuracy = 0.5\n\n[budgets.x.prefill]\naccuracy = 0.5\n'
    assert tomlkit.parse(text).as_string() != text
    assert rewritten(text, NewLimit(("budgets", "x", "on", 0), "accuracy", 0.9)) is None


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
SPACES = st.text(" \t", max_size=3)
COMMENTS = st.one_of(
    st.just(""), st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8).map(lambda text: f" #{text}")
)
METRIC_NAMES = st.sampled_from([name for name, metric in METRICS.items() if metric.kind != "answers"])


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[tuple[tuple[str | int, ...], str, str]]]:
    """A file's text with ``{}`` for each limit, and the place of each, as people write them: comments, blank lines, quotes, line ends."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    lines, places = [draw(COMMENTS), "[project]", f"name ={draw(SPACES)}'x'{draw(COMMENTS)}"], []
    for pattern in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        quoted = '"' + pattern.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for inside in draw(st.lists(st.sampled_from(["", ".prefill", ".on"]), min_size=1, max_size=3, unique=True).map(sorted)):
            heading = f"tool.greencompute.budgets.{quoted}{inside}"
            lines += [draw(COMMENTS), f"{draw(SPACES)}{f'[[{heading}]]' if inside == '.on' else f'[{heading}]'}{draw(COMMENTS)}"]
            lines += ["gpu = 'A'"] if inside == ".on" else []
            keys = (*TABLE, pattern, *{"": (), ".prefill": ("prefill",), ".on": ("on", 0)}[inside])
            for metric in draw(st.lists(METRIC_NAMES, min_size=1, max_size=3, unique=True)):
                lines.append(f"{draw(SPACES)}{metric}{draw(SPACES)}={draw(SPACES)}\0{draw(COMMENTS)}")
                places.append((keys, metric, draw(st.sampled_from(["'{}'", '"{}"', "{}"]))))
    lines += [draw(COMMENTS), "[tool.other]", f"a = 1{draw(COMMENTS)}", *draw(st.lists(COMMENTS, max_size=2))]
    return newline.join(lines), places


def filled(text: str, values: list[str]) -> str:
    parts = text.split("\0")
    return "".join(part + value for part, value in zip(parts, [*values, ""], strict=True))


@given(files(), st.data())
def test_everything_but_the_limits_is_byte_for_byte_unchanged_and_the_new_limits_are_read(
    made: tuple[str, list[tuple[tuple[str | int, ...], str, str]]], data: st.DataObject
) -> None:
    text, places = made
    old = [quotes.format("1" if quotes == "{}" else "1 J") for *_, quotes in places]
    before = after = filled(text, old)
    assume(tomlkit.parse(before).as_string() == before)  # some indented headings it moves: such a file is left alone, below
    expected = tomllib.loads(before)
    new = list(old)
    for index in data.draw(st.lists(st.sampled_from(range(len(places))), min_size=1, unique=True)):
        keys, metric, quotes = places[index]
        number = data.draw(st.integers(2, 999)) / 8
        value: Any = number if quotes == "{}" else f"{number} J"
        new[index] = quotes.format(value)
        written_at(expected, keys)[metric] = value
        rewrote = rewritten(after, NewLimit(keys, metric, value))
        assert rewrote is not None
        after = rewrote
    assert after == filled(text, new)
    assert tomllib.loads(after) == expected


# Which limits follow


def judged(verdict: Word = "PASS", metric: str = "energy_per_query", kind: str = "budget") -> ShownVerdict:
    return ShownVerdict(metric, verdict, kind, "as judged", limit=1.0)


def result(*verdicts: ShownVerdict, test: str = "t.py::a", name: str | None = None, **metrics: tuple[float, Any, Any]) -> Result:
    """A result with each metric as (value, low, high); energy is of gpu:0, card GPU-1."""
    shown = {}
    for metric, figures in metrics.items():
        where = {"domain": "gpu:0", "method": "counter"} if METRICS[metric].kind == "energy" else {}
        shown[metric] = Figure(*figures, METRICS[metric].dimension.si, n=1, confidence=0.99, **where)
    raw = run([], test=test, name=name, sources=(source(uuid="GPU-1"), source("gpu:1", uuid="GPU-9")))
    return Result(test, name, metered=True, metrics=shown, verdicts=verdicts or (judged(),), run=raw)


def planned(way: str, toml: str, *runs: Result, tmp_path: Path, **fields: Any) -> Changes:
    """The changes for runs of tests that have only what a pyproject.toml with these budgets says."""
    path = tmp_path / "pyproject.toml"
    path.write_text(f"[tool.greencompute]\n{fields.pop('settings', '')}\n{toml}", encoding="utf-8")
    file = TomlFile(path, "pyproject.toml")
    settings = build({}, (file,), {}, tmp_path)
    tests = dict.fromkeys(each.test for each in runs)
    budgets = {test: budget_of(test, settings) for test in tests}
    findings = Findings(runs, budgets, collected=frozenset(tests) | fields.pop("also", frozenset()), **fields)
    return changes(way, findings, settings, file.data, TABLE)


def budget_of(test: str, settings: Settings) -> Budget:
    from pytest_greencompute.judging.budget import Line, lines_for

    hardware = {"gpu": ("H100",), "meter": ("nvml",)}
    return resolve((*lines_for(test, settings.budgets), Line("the file", terms=settings.file_terms)), hardware)


def one(metric: str, value: Any) -> str:
    return f'[tool.greencompute.budgets."t.py::a"]\n{metric} = {value}\n'


@pytest.mark.parametrize(
    ("metric", "old", "measured", "settings", "expected"),
    [
        ("energy_per_query", '"0.8 J"', (0.6, 0.59, 0.61), "", "0.63 J"),  # the tolerance
        ("energy_per_query", '"0.8 J"', (0.6, 0.56, 0.64), "", "0.68 J"),  # a half-width behind the interval
        ("energy_per_query", '"0.8 J"', (0.6, 0.59, 0.61), 'tolerance = "10 %"', "0.66 J"),
        ("energy_per_query", '"0.8 J"', (0.6, 0.59, 0.61), 'floor = { energy_per_query = "0.1 J" }', "0.7 J"),
        ("latency_p95", '"40 ms"', (0.030, 0.0299, 0.0302), "", "31.5 ms"),
        ("latency_p95", '"40 ms"', (0.030, None, 0.031), "", "32 ms"),
        ("throughput", '"10 /s"', (105.0, 104.9, 105.1), "", "100 /s"),
        ("throughput", '"10 /s"', (105.0, 95.0, 115.0), "", "85 /s"),
        ("accuracy", "0.5", (0.9417, 0.9, 0.97), "", 0.941),
        ("accuracy", "0.5", (0.9417, 0.9, 0.97), "tolerance = { accuracy = 0.01 }", 0.931),
        ("accuracy", "0.5", (1.0, 0.99, 1.0), "", 1.0),
        ("flops_per_query", '"50 MFLOP"', (40e6, None, None), "", "42 MFLOP"),  # counted: the figure itself is judged
        ("peak_memory", '"2 GB"', (1e9, None, None), 'tolerance = "10 %"', "1.1 GB"),
        ("page_faults_per_query", "50", (0.0, None, None), "", 1),  # the floor
        ("page_faults_per_query", "50", (40.0, None, None), "", 42),
        ("tokens_per_query", "50", (20.0, 12.0, 28.0), "", 21),  # its interval is about other queries
        ("generative_share", "0.99", (0.95, 0.9, 0.99), "tolerance = 0.03", 0.979),
        ("generative_share", '"20 %"', (0.0, 0.0, 0.1), "", "0 %"),
        ("reasoning_tokens_per_query", "50", (0.0, 0.0, 0.0), "", 0),
    ],
)
def test_the_new_limit_is_the_figure_with_its_headroom(
    tmp_path: Path, metric: str, old: str, measured: tuple[float, Any, Any], settings: str, expected: Any
) -> None:
    made = planned("tighten", one(metric, old), result(judged("PASS", metric), **{metric: measured}), settings=settings, tmp_path=tmp_path)
    (limit,) = made.limits
    assert limit.value == expected
    assert limit.set_on == ("GPU-1" if metric == "energy_per_query" else "")


@pytest.mark.parametrize("figure", [0.98, 1.0])
def test_no_limit_is_written_that_could_never_fail(tmp_path: Path, figure: float) -> None:
    told = result(judged("FAIL", "error_rate"), error_rate=(figure, figure, figure))
    made = planned("loosen", one("error_rate", "0.5"), told, tmp_path=tmp_path)
    assert made.limits == []
    assert "a limit of all of them could never fail" in " ".join(made.left)


@pytest.mark.parametrize("way", ["tighten", "loosen"])
@pytest.mark.parametrize(("metric", "figures"), [("energy_per_query", (0.5, 0.5, 0.5)), ("throughput", (100.0, 100.0, 100.0))])
@pytest.mark.parametrize("limit", [1e-3, 0.4, 0.5, 0.525, 0.6, 90, 95.2, 99, 1e6])
def test_each_way_moves_a_limit_in_its_direction_only(tmp_path: Path, way: str, metric: str, figures: Any, limit: float) -> None:
    better = METRICS[metric].better
    made = planned(way, one(metric, limit), result(judged(metric=metric), **{metric: figures}), tmp_path=tmp_path)
    for new in made.limits:
        assert (float(new.value) < limit) == ((way == "tighten") == (better == "lower"))


@pytest.mark.parametrize(
    ("way", "verdicts", "why"),
    [
        ("tighten", [judged("INCONCLUSIVE")], "INCONCLUSIVE"),
        ("loosen", [judged("INCONCLUSIVE")], "INCONCLUSIVE"),
        ("tighten", [judged("UNMEASURED")], "UNMEASURED"),
        ("loosen", [judged("ACCEPTED")], "ACCEPTED"),
        ("tighten", [judged("PASS"), judged("FAIL", "accuracy", "baseline")], "FAIL accuracy"),
        ("loosen", [judged("FAIL"), judged("FAIL", "accuracy", "baseline")], "FAIL accuracy, which has no limit to loosen"),
    ],
)
def test_a_figure_that_must_not_be_used_is_said(tmp_path: Path, way: str, verdicts: list[ShownVerdict], why: str) -> None:
    limit = 1.0 if way == "tighten" else 0.1
    made = planned(way, one("energy_per_query", limit), result(*verdicts, energy_per_query=(0.5, 0.5, 0.5)), tmp_path=tmp_path)
    assert made.limits == []
    assert made.left == [f"t.py::a energy_per_query ({why})"]


def test_a_failure_against_a_baseline_is_loosened_with_the_limit_of_the_same_metric(tmp_path: Path) -> None:
    verdicts = judged("FAIL"), judged("FAIL", kind="baseline")
    made = planned("loosen", one("energy_per_query", 0.1), result(*verdicts, energy_per_query=(0.5, 0.5, 0.5)), tmp_path=tmp_path)
    assert [each.value for each in made.limits] == [0.525]


def test_an_open_interval_gives_no_limit(tmp_path: Path) -> None:
    made = planned(
        "loosen", one("latency_p95", 0.1), result(judged("FAIL", "latency_p95"), latency_p95=(0.5, 0.4, None)), tmp_path=tmp_path
    )
    assert made.left == ["t.py::a latency_p95 (its interval is open: more queries or --energy-max-seconds bound it)"]


def test_a_figure_that_is_only_a_bound_gives_no_limit(tmp_path: Path) -> None:
    made = planned(
        "loosen",
        one("flops_per_query", 1.0),
        result(judged("FAIL", "flops_per_query"), flops_per_query=(5.0, 5.0, None)),
        tmp_path=tmp_path,
    )
    assert made.left == ["t.py::a flops_per_query (only a bound of it is known)"]


def test_energy_above_idle_of_nothing_gives_no_limit(tmp_path: Path) -> None:
    run_ = result(judged(metric="energy_above_idle_per_query"), energy_above_idle_per_query=(-0.5, -0.6, -0.4))
    made = planned("tighten", one("energy_above_idle_per_query", 0.1), run_, tmp_path=tmp_path)
    assert made.left == ["t.py::a energy_above_idle_per_query (no limit above zero follows)"]


WILD = '[tool.greencompute.budgets."t.py::*"]\nenergy_per_query = "1 J"\n'


def test_a_shared_limit_suits_the_worst_and_needs_every_test_it_holds_for(tmp_path: Path) -> None:
    runs = [result(test=f"t.py::{name}", energy_per_query=(joules,) * 3) for name, joules in (("a", 0.2), ("b", 0.4))]
    assert [each.value for each in planned("tighten", WILD, *runs, tmp_path=tmp_path).limits] == ["0.42 J"]
    absent = planned("tighten", WILD, *runs, also=frozenset({"t.py::c"}), tmp_path=tmp_path)
    assert (absent.limits, absent.left) == ([], ["t.py::* energy_per_query (t.py::c was not measured)"])
    other = WILD + '[tool.greencompute.budgets."t.py::c"]\nenergy_per_query = "9 J"\n'
    assert planned("tighten", other, *runs, also=frozenset({"t.py::c"}), tmp_path=tmp_path).limits
    broken = planned("tighten", WILD, *runs, broken=frozenset({"t.py::a"}), tmp_path=tmp_path)
    assert broken.left == ["t.py::* energy_per_query (t.py::a: the test failed or was skipped for another reason)"]
    part = planned("tighten", WILD, *runs, whole=lambda _: False, tmp_path=tmp_path)
    assert part.left == ["t.py::* energy_per_query (it may hold for tests that were not collected)"]


def test_a_shared_limit_is_loosened_by_those_that_were_measured(tmp_path: Path) -> None:
    runs = [result(judged("FAIL"), test="t.py::a", energy_per_query=(2.0,) * 3), result(test="t.py::b", energy_per_query=(0.4,) * 3)]
    made = planned("loosen", WILD, *runs, also=frozenset({"t.py::c"}), broken=frozenset({"t.py::b"}), tmp_path=tmp_path)
    assert [each.value for each in made.limits] == ["2.1 J"]


def test_a_limit_that_was_set_on_a_card_is_not_rewritten_from_another_kind_of_device(tmp_path: Path) -> None:
    run_ = with_energy(result(energy_per_query=(0.5, 0.5, 0.5)), domain="cpu")
    made = planned("tighten", one("energy_per_query", 1) + 'set_on = "GPU-7"\n', run_, tmp_path=tmp_path)
    assert made.left == ["t.py::a energy_per_query (it was set on GPU-7, and no card was counted here)"]


def test_a_card_stays_noted_while_a_limit_in_its_table_comes_from_it(tmp_path: Path) -> None:
    toml = one("energy_per_query", 1) + 'average_power = "1 W"\nset_on = "GPU-7"\n'
    both = judged(), judged(metric="average_power")
    kept = planned("tighten", toml, result(*both, energy_per_query=(0.5,) * 3, average_power=(0.99,) * 3), tmp_path=tmp_path)
    assert [(each.metric, each.set_on) for each in kept.limits] == [("energy_per_query", "GPU-1, GPU-7")]
    renewed = planned("tighten", toml, result(*both, energy_per_query=(0.5,) * 3, average_power=(0.5,) * 3), tmp_path=tmp_path)
    assert {each.set_on for each in renewed.limits} == {"GPU-1"}


def test_a_modelled_figure_needs_a_line_or_settings_that_name_its_meter(tmp_path: Path) -> None:
    run_ = with_energy(result(energy_per_query=(0.5, 0.5, 0.5)), method="modelled")
    two = 'meters = ["nvml", "cputime"]'
    assert planned("tighten", one("energy_per_query", 1), run_, settings=two, tmp_path=tmp_path).left == [
        "t.py::a energy_per_query (modelled)"
    ]
    on = '[[tool.greencompute.budgets."t.py::a".on]]\nmeter = "nvml"\nenergy_per_query = 1\n'
    (limit,) = planned("tighten", on, run_, settings=two, tmp_path=tmp_path).limits
    assert limit.table == (*TABLE, "t.py::a", "on", 0)
    assert planned("tighten", "", run_, settings=two, tmp_path=tmp_path).left == ["t.py::a energy_per_query (modelled)"]
    assert planned("tighten", one("energy_per_query", 1), run_, settings='meters = ["cputime"]', tmp_path=tmp_path).limits


def test_a_test_without_any_limit_gets_a_first_one_when_tightening(tmp_path: Path) -> None:
    run_ = replace(result(energy_per_query=(0.5, 0.5, 0.5)), verdicts=())
    (limit,) = planned("tighten", "", run_, tmp_path=tmp_path).limits
    assert limit == NewLimit((*TABLE, "t.py::a"), "energy_per_query", "0.525 J", "GPU-1")
    assert planned("loosen", "", run_, tmp_path=tmp_path) == Changes([], [], [], [])
    for elsewhere in (one("accuracy", 0.5), '[[tool.greencompute.budgets."t.py::a".on]]\ngpu = "A100"\nenergy_per_query = 1\n'):
        assert planned("tighten", elsewhere, run_, tmp_path=tmp_path).limits == []
    named = [replace(run_, name=name) for name in ("prefill", "decode")]
    assert [each.table[-1] for each in planned("tighten", "", *named, tmp_path=tmp_path).limits] == ["prefill", "decode"]
    assert [each.table[-1] for each in planned("tighten", "", named[0], tmp_path=tmp_path).limits] == ["t.py::a"]
    failed = planned("tighten", "", run_, broken=frozenset({"t.py::a"}), tmp_path=tmp_path)
    assert failed.left == ["t.py::a energy_per_query (the test failed or was skipped for another reason)"]


def test_the_limit_of_a_named_run_is_written_in_its_table(tmp_path: Path) -> None:
    toml = one("energy_per_query", 1) + "prefill.energy_per_query = 1\n"
    run_ = result(name="prefill", energy_per_query=(0.5, 0.5, 0.5))
    (limit,) = planned("tighten", toml, run_, tmp_path=tmp_path).limits
    assert limit.table == (*TABLE, "t.py::a", "prefill")


# The card that a limit was set on


def lines(written: Mapping[str, Any]) -> Budget:
    return resolve(parse_lines(written, lambda *keys: ".".join(map(str, keys))), {})


def limit_of(written: Mapping[str, Any], name: str | None = None) -> Limit:
    return lines(written).limits[name]["energy_per_query"]


def test_the_cards_belong_to_the_energy_limits_of_their_table() -> None:
    written = {"energy_per_query": "1 J", "latency_p50": 1, "set_on": "GPU-1, GPU-2", "prefill": {"energy_per_query": "1 J"}}
    assert limit_of(written).cards == ("GPU-1", "GPU-2")
    assert limit_of(written, "prefill").cards == ()
    assert lines(written).limits[None]["latency_p50"].cards == ()
    assert limit_of({"prefill": {"energy_per_query": "1 J", "set_on": "GPU-3"}}, "prefill").cards == ("GPU-3",)


@pytest.mark.parametrize("wrong", [5, "", "GPU-1,,GPU-2", ["GPU-1"]])
def test_a_card_that_is_none_is_refused(wrong: Any) -> None:
    for written in ({"energy_per_query": "1 J", "set_on": wrong}, {"prefill": {"set_on": wrong}}):
        with pytest.raises(SettingsError, match="must be the UUID of a card"):
            lines(written)


def test_the_systematic_share_widens_an_interval_in_quadrature_and_leaves_open_sides_open() -> None:
    wide = with_systematic(figure(10.0, 9.6, 10.3, systematic=0.04))
    assert (wide.value, wide.low, wide.high) == (10.0, pytest.approx(10 - 0.32**0.5), pytest.approx(10.5))
    assert with_systematic(figure(10.0, None, 10.3, systematic=0.04)).low is None


@pytest.mark.parametrize(
    ("set_on", "systematic", "limit", "word"),
    [
        ("GPU-2", 0.05, "10.2 J", "INCONCLUSIVE"),
        ("GPU-2", 0.05, "11 J", "PASS"),
        ("GPU-2", 0.05, "9 J", "FAIL"),
        ("GPU-2", 0.0, "10.2 J", "PASS"),
        ("GPU-1", 0.05, "10.2 J", "PASS"),
        ("GPU-1, GPU-2", 0.05, "10.2 J", "INCONCLUSIVE"),
        (None, 0.05, "10.2 J", "PASS"),
        ("GPU-2", 0.05, "9.8 J", "INCONCLUSIVE"),
        (None, 0.05, "9.8 J", "FAIL"),
    ],
)
@pytest.mark.parametrize("alarms", [1, 9])
def test_a_limit_of_another_card_is_judged_with_what_cards_differ_by(
    set_on: str | None, systematic: float, limit: str, word: str, alarms: int
) -> None:
    blocks = [block(100 * (1 + 0.002 * (k % 3 - 1)), set_index=k) for k in range(9)]
    made = run(blocks, sources=(source(uuid="GPU-1", systematic=systematic),))
    written = {"energy_per_query": limit} | ({} if set_on is None else {"set_on": set_on})
    (verdict,) = judge_run(Figures(made, Aim()), None, lines(written), Bench(Aim(), alarms=alarms), "t")
    assert verdict.word == word
    widened = set_on is not None and "GPU-2" in set_on and systematic > 0
    assert ("The limit was set on another card (GPU-2), so the interval holds the 5.0 %" in verdict.reason) == widened


def test_latency_knows_no_cards() -> None:
    made = replace(run([block(1, set_index=k) for k in range(9)]), sources=(source(uuid="GPU-1", systematic=0.05),))
    (verdict,) = judge_run(Figures(made, Aim()), None, lines({"throughput": "1 /s", "set_on": "GPU-2"}), Bench(Aim()), "t")
    assert "another card" not in verdict.reason
