"""The Markdown of a session: what comes first, what is folded, what is cut, and that failures are cut last."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from githubs import GITHUBS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from telling import compared, measured, session, told, with_verdict

from pytest_greencompute.report.markdown import MOST_CHARACTERS, write
from pytest_greencompute.results.session import Facts
from pytest_greencompute.results.summary import Summary


def test_the_verdict_comes_first_and_a_failure_has_a_folded_section_with_its_sentence() -> None:
    text = write([session(told(measured(), effect="fail", energy_per_query=0.5), told(measured(), energy_per_query=0.8))])
    assert text.startswith("## ❌ Energy budgets: FAIL\n")
    (section,) = re.findall(r"<details><summary>(.*?)</summary>\n\n(.*?)\n\n</details>", text, re.DOTALL)
    assert section[0] == "<b>FAIL</b> test&#95;y: energy"
    assert "used 0.6120 J per query" in section[1].replace("&#95;", "_")
    assert "| test | energy/query | budget |" in text


def test_all_is_well_in_one_line_and_the_table() -> None:
    text = write([session(told(measured(), energy_per_query=0.8))])
    assert text.startswith("## ✅ Energy budgets: PASS\n")
    assert "<details>" not in text


def test_a_limit_that_is_laxer_is_named_before_anything_else() -> None:
    made = session(told(measured(), energy_per_query=0.8), loosened=("test_y: the limit of energy was 0.5 J and is 0.8 J",))
    blocks = write([made]).split("\n\n")
    assert blocks[1] == "**This change makes limits laxer:**"
    assert blocks[2] == "- test&#95;y&#58; the limit of energy was 0.5 J and is 0.8 J"


def test_what_changed_is_a_table_the_worst_first() -> None:
    text = write([session(compared(1.02, "PASS", ref="main (0123abcd)"), compared(1.4, "FAIL", ref="main (0123abcd)"))])
    assert "### What changed" in text
    shown = html.unescape(text[text.index("### What changed") :])
    rows = [line.split(" | ") for line in shown.splitlines() if line.startswith("| test_")]
    assert [row[4] for row in rows] == ["+40 % [+38 %, +42 %]", "+2.0 % [+0.0 %, +4.0 %]"]
    assert all(row[6] == "main (0123abcd) |" for row in rows)


def test_a_session_that_measured_nothing_says_so() -> None:
    text = write([Summary(enabled=True, facts=Facts(problem="no GPU"), results=())])
    assert text.startswith("## ℹ️ Energy budgets: nothing measured\n")
    assert "no meter&#58; no GPU" in text


def test_a_report_that_was_not_written_is_said_and_makes_the_heading_red() -> None:
    made = replace(session(told(measured(), energy_per_query=0.8)), said=(("the JSON report was not written: full", True),))
    text = write([made])
    assert text.startswith("## ❌ Energy budgets: PASS, red\n")
    assert "- **the JSON report was not written&#58; full**" in text


def many(count: int, *, failing: int, name: str = "t.py::test_{}") -> Summary:
    good, bad = told(measured(), energy_per_query=0.8), told(measured(), effect="fail", energy_per_query=0.5)
    return session(*(replace(bad if n < failing else good, test=name.format(n)) for n in range(count)))


def failures_in(text: str) -> set[int]:
    shown = text.replace("&#95;", "_")
    return {int(found) for found in re.findall(r"(?:^- \*\*|</b> |^\| )test_(\d+)", shown, re.MULTILINE)}


@pytest.mark.parametrize(
    ("count", "failing", "most"), [(300, 3, 20_000), (300, 100, 40_000), (2_000, 700, 65_536), (4_000, 3_500, 1 << 20)]
)
def test_what_is_too_long_loses_greens_before_failures(count: int, failing: int, most: int) -> None:
    text = write([many(count, failing=failing)], most)
    assert len(text) <= most
    assert failures_in(text) >= set(range(failing))
    assert "left out" in text or "Only failures" in text


def test_more_failures_than_fit_are_counted() -> None:
    text = write([many(5_000, failing=5_000)])
    assert len(text) <= MOST_CHARACTERS
    shown = len(failures_in(text))
    assert shown > 500
    assert f"{5_000 - shown} more failures are left out" in text


def test_a_thousand_runs_are_a_comment() -> None:
    assert len(write([many(1_000, failing=10)])) <= MOST_CHARACTERS


@settings(max_examples=60)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
@example("", "", " ")
@example("a", "", "     x")
def test_whatever_things_are_called_the_structure_stays(test: str, name: str, reason: str) -> None:
    run = told(measured(), effect="fail", energy_per_query=0.5)
    odd, plain_run = (with_verdict(run, reason=said or "-", where=where or "-") for said, where in ((reason, name), ("x", "x")))
    made = session(replace(odd, test=f"t.py::{test}", name=name, notes=(reason,)))
    plain = session(replace(plain_run, test="t.py::x", name="x", notes=("x",)))
    tags, expected = (re.findall(r"<(/?[a-z0-9]+)", GITHUBS.render(write([each]))) for each in (made, plain))
    assert tags == expected


def test_many_limits_that_are_laxer_never_push_a_failure_out() -> None:
    laxer = tuple(f"test_{n}: the tolerance of energy_per_query was 5.0 % and is 10 %" for n in range(1_000))
    text = write([replace(many(5, failing=5), facts=replace(session().facts, loosened=laxer))])
    assert len(text) <= MOST_CHARACTERS
    assert failures_in(text) >= set(range(5))
    assert "This change makes limits laxer" in text
    assert re.search(r"- and \d+ more", text)


def test_a_test_that_broke_is_named_right_below_the_verdict() -> None:
    made = session(told(measured(), energy_per_query=0.8), broken=(("t.py::test_z", "RuntimeError: CUDA out of memory"),))
    text = html.unescape(write([made]))
    assert text.startswith("## ❌ Energy budgets: PASS, red\n")
    assert "- **test_z failed: RuntimeError: CUDA out of memory**" in text


def test_a_session_that_did_not_measure_says_so() -> None:
    assert "1 test ran unmetered; pytest --energy-budget measures it" in write([session(told(measured()), enabled=False)])
