"""What is told: the table, the heading, the remarks, the totals, JUnit's properties. Nothing here judges."""

from __future__ import annotations

import dataclasses
import io
import math
from dataclasses import replace
from typing import Any

import pytest
from making import latencies, run
from telling import CPU, GPU, compared, measured, session, told

from pytest_greencompute.errors import MeterError, NothingThereError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.verdict import unmeasured
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.report.forms import FORMS, Form, loaded
from pytest_greencompute.report.junit import properties
from pytest_greencompute.report.progress import ProgressLine
from pytest_greencompute.report.summary import heading, look_closer, remarks, totals
from pytest_greencompute.report.table import lines
from pytest_greencompute.report.terminal import show_summary, write
from pytest_greencompute.results.document import meter
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.results.session import Facts, Refusal, together
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Machine
from pytest_greencompute.values.run import Watched, Watching

WIDTH = 60


class Reporter:
    """Collects what is written."""

    def __init__(self, encoding: str = "utf-8", width: int = 200) -> None:
        self.lines: list[str] = []
        self.marks: list[dict[str, bool]] = []
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        self._tw = type("Writer", (), {"_file": file, "fullwidth": width})()

    def write_line(self, line: str, **marks: bool) -> None:
        self.lines.append(line)
        self.marks.append(marks)

    def write_sep(self, sep: str, title: str) -> None:
        self.lines.append(f"{sep * 3} {title}")
        self.marks.append({})


# The table


def test_a_passing_run_is_one_row_with_its_figures_and_limits() -> None:
    (head, _), (row, word) = lines([told(measured(), energy_per_query=0.8, latency_p95=0.04, accuracy=0.92)])
    assert head.split() == ["test", "energy/query", "budget", "p95", "budget", "accuracy", "verdict", "limits", "from"]
    for cell in ("test_y", "0.612 J ±", "0.8 J", "31.2 ms", "40 ms", "0.940 ≥ 0.92", "PASS", "marker"):
        assert cell in row
    assert word == "PASS"


def test_the_worst_word_stands_for_the_run_with_what_it_is_about() -> None:
    found = lines([told(measured(), energy_per_query=0.5, latency_p95=0.02, accuracy=0.92)])
    assert found[1][0].rstrip().endswith("FAIL energy, latency  marker")
    assert found[1][1] == "FAIL"
    missing = told(measured(), extra=(unmeasured(METRICS["average_power"], "t", "no limit for this hardware"),), energy_per_query=0.8)
    assert "UNMEASURED power" in lines([missing])[1][0]


def test_the_lines_of_one_file_are_one_place() -> None:
    made = told(measured(), energy_per_query=0.8, latency_p95=0.04, accuracy=0.92, average_power=900.0)
    places = ("pyproject.toml:19", "pyproject.toml:7", "the marker at t.py:3", "budgets.toml:4")
    verdicts = [replace(verdict, where=where) for verdict, where in zip(made.verdicts, places, strict=True)]
    assert lines([replace(made, verdicts=tuple(verdicts))])[1][0].endswith("  pyproject.toml:7-19, marker, budgets.toml:4")


def test_a_share_that_is_only_shown_has_no_column_and_is_in_per_cent_where_it_is_judged() -> None:
    watching = Watching(100, 10, (Watched("it", 10, 40, 0),))
    head, _ = lines([told(measured(watching=watching), energy_per_query=0.8)])
    assert "generative" not in head[0]
    assert "reasoning" not in head[0]
    (head, _), (row, _) = lines([told(measured(watching=watching), generative_share=0.25, reasoning_default=0.0)])
    assert "reasoning by default" in head
    assert "10.0 %" in row
    assert "25 %" in row
    share = estimate(measured(watching=watching), METRICS["generative_share"], Aim())
    assert str(share).startswith("10.0 % [3.")


def test_runs_without_budgets_have_no_column_of_limits() -> None:
    found = lines([told(measured(name="prefill")), told(measured(name="decode"))])
    assert found[0][0].split() == ["test", "energy/query", "p95", "accuracy", "verdict"]
    assert found[1][0].startswith("test_y (prefill)")
    assert found[2][0].rstrip().endswith("no budget")


def test_a_figure_that_is_missing_is_a_dash() -> None:
    found = lines([told(measured(problem="the counter is gone"), energy_per_query=0.8)])
    row = found[1][0].split()
    assert row[1] == "-"
    assert "UNMEASURED" in row


def test_a_metric_gets_a_column_when_it_is_judged() -> None:
    found = lines([told(measured(), throughput=5.0), told(measured())])
    assert "throughput" in found[0][0]
    assert "throughput" not in lines([told(measured())])[0][0]


def test_every_line_of_a_modelled_energy_says_so() -> None:
    result = told(measured((CPU,)), energy_per_query=0.8, average_power=100.0, energy_above_idle_per_query=0.8)
    for line, _ in lines([result])[1:]:
        assert line.count("modelled") == 3
    assert any(
        each.startswith("cpu energy is modelled, not measured: 7 W a core assumed") for each in remarks(session(result, sources=(CPU,)))
    )
    assert "total 3.1 kJ modelled in 41 s" in totals(session(result, sources=(CPU,)))
    assert heading(session(result, sources=(CPU,))) == "cputime cpu EPYC, modelled"
    assert ("energy_per_query_method", "cpu modelled") in properties([result])
    for verdict in result.verdicts:
        assert verdict.modelled
        assert "(modelled)" in verdict.reason
    counted = told(measured(), energy_per_query=0.8)
    assert "modelled" not in " ".join(line for line, _ in lines([counted])) + " ".join(remarks(session(counted)))


def test_where_there_is_room_each_run_has_a_bar_and_where_there_is_little_two_lines() -> None:
    runs = [told(measured(), energy_per_query=0.8, accuracy=0.92), compared(1.2, "FAIL"), told(measured())]
    bare = lines(runs)
    room = max(len(line) for line, _ in bare)
    assert lines(runs, width=room) == bare
    (head, _), *rows = lines(runs, width=200)
    bars, verdicts = head.index("of budget or base"), head.index("verdict")
    assert [row[bars:verdicts].strip() for row, _ in rows] == ["██████▏·│···    76 %", "████████│█┊»   120 %", ""]
    assert [word for _, word in rows] == ["PASS", "FAIL", ""]
    narrow = lines(runs, width=room - 1)
    assert [line.split()[0] for line, _ in narrow] == ["test", "energy/query", *["test_y", "0.612"] * 3]
    assert [word for _, word in narrow] == ["", "", "PASS", "PASS", "FAIL", "FAIL", "", ""]
    assert "76 %" in narrow[2][0]
    assert max(len(line) for line, _ in narrow) < room


def test_a_terminal_has_the_width_that_pytest_says_and_signs_that_it_can_show() -> None:
    long = replace(told(measured(), "fail", energy_per_query=0.5, latency_p95=0.01), test="t.py::test_" + "x" * 100)
    for encoding, width in (("utf-8", 80), ("ascii", 80), ("ascii", 140)):
        reporter = Reporter(encoding, width)
        show_summary(reporter, session(long))
        shown = reporter.lines[1:5]
        assert [line.split()[0][:6] for line in shown] == ["test", "energy", "test_x", "0.612"]
        assert max(map(len, shown)) <= width
        assert encoding != "ascii" or all(line.isascii() for line in shown)


# The lines around it


def test_the_heading_names_meter_domain_device_method_and_tick() -> None:
    assert heading(session()) == "nvml gpu:0 NVIDIA H100 80GB HBM3, counter, tick 0.100 s"
    assert heading(session(sources=(GPU, CPU))).endswith("; cputime cpu EPYC, modelled")
    assert heading(session(sources=(), problem="no GPU")) == "no meter"
    assert heading(session(sources=())) == "nothing measured"


def test_the_totals_tell_energy_time_what_could_be_seen_and_what_failed() -> None:
    failed = told(measured(), energy_per_query=0.5, latency_p95=0.02)
    assert totals(session(failed)).startswith("total 3.1 kJ in 41 s · smallest regression visible ")
    assert totals(session(failed)).endswith(" · 2 budgets failed")
    assert totals(session(total_j=None)) == "total not measured · 0 budgets failed"
    over = totals(session(total=ShownVerdict("total", "FAIL", "budget", "over", limit=3000.0)))
    assert over == "total 3.1 kJ of 3 kJ in 41 s · 1 budget failed"


def test_the_remarks_tell_warnings_notes_refusals_and_problems() -> None:
    short = told(measured(notes=("a set was lost",)), "warn", energy_per_query=0.612)
    refused = MeterError("No permission.", remedy="Join the group power.")
    refusals = (Refusal.of("rapl", refused), Refusal.of("nvml", NothingThereError("No GPU.")))
    found = remarks(session(short, refusals=refusals))
    assert found[0].startswith("warning: test_y used 0.6120 J per query")
    assert found[1:] == [
        "note: test_y: a set was lost",
        "not used: nvml, not here (`greencompute doctor` says why)",
        "not used: rapl: No permission. Join the group power.",
    ]


def test_where_no_meter_works_the_whole_reason_is_told_once() -> None:
    refusals = (Refusal.of("rapl", MeterError("No permission.")),)
    assert remarks(session(refusals=refusals, problem="rapl: No permission.")) == ["no meter: rapl: No permission."]


def test_a_session_is_told_in_order_and_colours_follow_the_words() -> None:
    reporter = Reporter()
    made = session(
        told(measured(), energy_per_query=0.8),
        told(measured(), "fail", energy_per_query=0.5),
        not_measured=(("t.py::test_z", "skipped"),),
        said=(("the report could not be written", True),),
    )
    write(reporter, made)
    assert reporter.lines[0].startswith("─── energy: nvml gpu:0")
    assert [mark for mark in reporter.marks if mark] == [{"green": True}, {"red": True}, {"red": True}]
    assert "not measured: t.py::test_z (skipped)" in reporter.lines
    assert reporter.lines[-1].startswith("total 3.1 kJ")


def test_the_first_red_energy_says_what_shows_where_it_goes() -> None:
    red = told(measured(test="t.py::test_y[a b]"), "fail", energy_per_query=0.5)
    first = "where its energy goes: greencompute explain 't.py::test_y[a b]'"
    machine = Machine(commit="0123abcd", dirty=True)
    named = told(measured(test="t.py::test_y", name="prefill"), "fail", energy_per_query=0.5)
    assert look_closer(session(red, red)) == [first]
    assert look_closer(session(red, machine=machine)) == [f"{first} (--base-ref HEAD: what is new in it since the last commit)"]
    assert look_closer(session(named)) == ["where its energy goes: greencompute explain t.py::test_y --run prefill"]
    reporter = Reporter()
    show_summary(reporter, session(red))
    assert first in reporter.lines


def test_what_is_green_slow_or_explained_already_says_nothing_of_explaining() -> None:
    for result in (
        told(measured(), energy_per_query=0.8),
        told(measured(), "warn", energy_per_query=0.5),
        told(measured(), "fail", accuracy=0.99),
        told(replace(measured(), blocks=measured().blocks[:1], window=True), "fail", energy_per_query=0.5),
        compared(1.5, "FAIL"),
    ):
        assert look_closer(session(result)) == []


def test_a_terminal_that_cannot_show_the_dash_gets_a_plain_one() -> None:
    reporter = Reporter("ascii")
    show_summary(reporter, session())
    assert reporter.lines[0].startswith("--- energy")


@pytest.mark.parametrize(
    ("results", "line"),
    [
        ([], []),
        ([told(run([], metered=False, sources=(), scores=(1.0,)))], ["energy: 1 test ran unmetered; pytest --energy-budget measures it"]),
        (
            [told(run([], metered=False, sources=(), test=test)) for test in ("a", "b", "b")],
            ["energy: 2 tests ran unmetered; pytest --energy-budget measures them"],
        ),
    ],
)
def test_without_measuring_one_quiet_line_says_so(results: list[Result], line: list[str]) -> None:
    reporter = Reporter()
    write(reporter, session(*results, enabled=False))
    assert reporter.lines == line


# JUnit, JSON, progress


def test_junit_gets_each_figure_with_its_unit_in_the_name() -> None:
    found = dict(properties([told(measured(name="prefill"), energy_per_query=0.8, accuracy=0.99)]))
    assert float(found["prefill.energy_per_query_j"]) == pytest.approx(0.612)
    assert float(found["prefill.energy_per_query_low_j"]) < 0.612 < float(found["prefill.energy_per_query_high_j"])
    assert float(found["prefill.latency_p95_s"]) == pytest.approx(0.0312)
    assert float(found["prefill.average_power_w"]) == pytest.approx(6.12)
    assert float(found["prefill.throughput_per_s"]) == pytest.approx(10)
    assert float(found["prefill.accuracy"]) == pytest.approx(0.94)
    assert found["prefill.energy_per_query_method"] == "gpu:0 counter"
    assert found["prefill.energy_per_query_verdict"] == "PASS"
    assert found["prefill.accuracy_verdict"] == "FAIL"
    assert all(isinstance(value, str) for value in found.values())


def test_an_open_side_has_no_property_and_a_baseline_one_of_its_own() -> None:
    made = measured(latencies=latencies([0.01] * 20))
    verdict = unmeasured(METRICS["energy_per_query"], "t", "no run", kind="baseline")
    found = dict(properties([told(made, extra=(verdict,))]))
    assert "latency_p95_high_s" not in found
    assert found["energy_per_query_baseline_verdict"] == "UNMEASURED"


def test_the_report_describes_a_meter_in_plain_values() -> None:
    assert meter(GPU) == {
        "name": "nvml",
        "domain": "gpu:0",
        "method": "counter",
        "tick_s": 0.1,
        "device": "NVIDIA H100 80GB HBM3",
        "uuid": "",
        "note": "",
    }


def test_the_progress_line_rewrites_itself_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    line = ProgressLine(written.append, WIDTH)
    line(Tell("set 2 of at most 5", 10.2, 50.0, figure="0.61 J"))
    line(Tell("set 3 of at most 5", 20.0, 40.0))
    now[0] += 0.4
    line(Tell("x" * 500))
    assert written[0] == "\r\x1b[2Kmeasuring set 2 of at most 5 (0.61 J), 10 to 50 s left\r"
    assert len(written) == 2
    assert len(written[1]) <= WIDTH + 10
    line.clear()
    line.clear()
    assert written[2:] == ["\r\x1b[2K"]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, "measuring test_chat: set 2 of at most 5 (0.61 J ±1 %), PASS likely in 8 s"),
        (60, "measuring test_chat: set 2 of at most 5, PASS likely in 8 s"),
        (50, "test_chat: set 2 of at most 5, PASS likely in 8 s"),
        (40, "test_chat: set 2 of, PASS likely in 8 s"),
        (12, "PASS likely "),
    ],
)
def test_what_a_verdict_still_takes_stays_on_a_narrow_terminal(width: int, shown: str) -> None:
    written: list[str] = []
    step = Tell("test_chat: set 2 of at most 5", 10.2, 50.0, figure="0.61 J ±1 %", outlook="PASS likely in 8 s")
    ProgressLine(written.append, width)(step)
    assert written == [f"\r\x1b[2K{shown}\r"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_signs_that_take_more_room_do_not_push_the_price_off_the_line(encoding: str) -> None:
    written: list[str] = []
    step = Tell("test_ä: set 2 of at most 5", 10.2, 50.0, figure="3 µJ ±1 %", outlook="FAIL likely in 20 s, three more launches to confirm")
    ProgressLine(written.append, 70, encoding)(step)
    (line,) = written
    assert line.endswith(", FAIL likely in 20 s, three more launches to confirm\r")
    assert len(line.strip("\r").removeprefix("\x1b[2K")) <= 70


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"device_s": 28.8, "mean_w": 76.0}, " · 14.4 s of device time a metered test, 76.0 J a second · "),
        (
            {"device_s": 28.8, "apart_s": 12.2, "mean_w": 76.0},
            " · 14.4 s of device time a metered test, 6.10 s more for loading and for getting the other side ready, 76.0 J a second · ",
        ),
        ({"device_s": 28.8, "total_j": None}, " · 14.4 s of device time a metered test · "),
        ({"device_s": 28.8, "total_j": None, "sources": ()}, " · 14.4 s a metered test · "),
    ],
)
def test_the_totals_say_what_the_gate_took(facts: dict[str, Any], said: str) -> None:
    two = [told(measured(), energy_per_query=0.5), replace(told(measured()), test="tests/test_chat.py::test_other")]
    assert said in totals(session(*two, **facts))
    assert "a metered test" not in totals(session(*two, **{**facts, "device_s": 0.0}))


def test_the_totals_of_workers_that_measure_at_the_same_time_add_up() -> None:
    one = Facts(sources=(GPU,), seconds=40.0, total_j=4000.0, device_s=30.0, apart_s=5.0, mean_w=100.0)
    other = Facts(sources=(replace(GPU, domain="gpu:1"),), seconds=60.0, total_j=16000.0, device_s=50.0, apart_s=7.0)
    whole = together([one, other])
    assert (whole.seconds, whole.device_s, whole.apart_s, whole.mean_w) == (60.0, 80.0, 12.0, 200.0)
    assert together([one, replace(one, total_j=None, why_no_total="reset", mean_w=None)]).mean_w is None
    assert Facts.from_json(whole.to_json()) == whole


def test_no_figure_of_a_result_is_anything_but_finite() -> None:
    for figure in told(measured()).metrics.values():
        assert all(end is None or math.isfinite(end) for end in (figure.value, figure.low, figure.high))


@pytest.mark.parametrize("form", FORMS, ids=lambda each: each.setting)
def test_each_form_of_report_is_asked_for_by_a_setting_and_can_be_made(form: Form) -> None:
    assert form.setting in {field.name for field in dataclasses.fields(Settings)}
    module = loaded(form.module)
    assert callable(module.text if form.ending else module.make)
    assert bool(form.extra) == bool(form.packages)
