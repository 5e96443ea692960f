"""The page as text: what it says and in which order, and that no name becomes a part of it."""

from __future__ import annotations

import builtins
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paging import HOSTILE, candidates, history, many_runs, measured_blocks
from telling import compared, session, told, with_verdict

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.report import html
from pytest_greencompute.report.escape import printable, script_json
from pytest_greencompute.report.html import page
from pytest_greencompute.results.result import Pairs, Result, ShownVerdict
from pytest_greencompute.store.history import History
from pytest_greencompute.values.provenance import Machine


class Page(HTMLParser):
    """The elements of a page with the names of their attributes, and its text without scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, ...]] = []
        self.text = ""
        self._silent = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *sorted(name for name, _ in attrs if name != "class")))
        self._silent = tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data


@pytest.fixture(autouse=True)
def _without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five megabytes that no test here looks at."""
    monkeypatch.setattr(html, "_plotly", lambda: "/* plotly.js */")


def order(text: str, *words: str) -> bool:
    places = [text.index(word) for word in words]
    return places == sorted(places)


def test_the_verdict_comes_first_then_laxer_limits_failures_runs_and_what_changed() -> None:
    red = compared(1.2, "FAIL")
    text = Page(page([session(red, *candidates(), loosened=("test_x: the limit was 1 J and is 2 J",))], history())).text
    assert order(
        text,
        "Energy budgets: FAIL",
        "This change makes limits laxer",
        "test_x: the limit was 1 J and is 2 J",
        "1 failure",
        "1.2 times worse.",
        "Runs",
        "What changed",
        "worse by",
        "Candidates",
        "Run by run",
        "History",
    )


def test_a_picture_of_all_runs_comes_before_all_else_but_the_verdict() -> None:
    red = replace(compared(1.2, "FAIL"), test="t.py::test_red")
    text = Page(page([session(measured_blocks(), red, told(measured_run()), loosened=("test_x: the limit was 1 J",))], History())).text
    assert order(
        text,
        "Energy budgets: FAIL",
        "100 %",
        "120 %",
        "energy/query +20 % [+18 %, +22 %] against main (0123abcd)",
        "77 %",
        " J of 0.8 J",
        "worst first: how much of its budget it takes or how many times the other run it is",
        "1 run has no budget: in the table alone.",
        "This change makes limits laxer",
        "1 failure",
        "Runs",
    )


def test_a_bar_has_its_word_and_its_marks_are_where_the_figures_are() -> None:
    text = page([session(measured_blocks(budget=0.8))], History())
    (drawn,) = re.findall(r'<svg class="bar.*?</svg>', text, re.DOTALL)
    svg = ElementTree.fromstring(drawn)
    assert (svg.get("class"), svg.get("aria-hidden")) == ("bar PASS", "true")
    (fill,) = (float(each.get("width", "").rstrip("%")) for each in svg.iter("rect"))
    limit, *interval = (float(each.get("x1", "").rstrip("%")) for each in svg.iter("line"))
    assert fill / limit == pytest.approx(0.612 / 0.8, rel=0.01)
    assert (len(interval), interval[0]) == (3, interval[1])
    assert interval[1] < fill < interval[2]


def test_many_runs_are_folded_after_the_worst_and_those_without_a_figure_say_why() -> None:
    missing = ShownVerdict("energy_per_query", "UNMEASURED", "budget", "the counter is gone.", limit=1.0, effect="warn")
    text = page([session(*many_runs(120), Result("t.py::test_gone", verdicts=(missing,)))], History())
    seen, folded = text.partition("… and 97 more")[::2]
    assert seen.count("<li>\n<b") == 24
    assert folded.count("<li>\n<b") == 97
    assert seen.count('<svg class="bar FAIL"') == 7
    assert '<span class="why" title="the counter is gone.">' in seen


def test_the_tolerance_is_a_line_of_the_picture_beside_another_run_alone() -> None:
    assert page([session(compared(1.02, "PASS"), told(measured_run(), energy_per_query=0.8))], History()).count('class="limit fine"') == 1


def test_a_page_of_runs_without_a_budget_has_no_picture() -> None:
    assert '<figure class="bars">' not in page([session(told(measured_run()))], History())


def test_failed_runs_are_open_and_the_others_are_folded() -> None:
    text = page([session(*many_runs(2), measured_blocks(budget=0.5))], History())
    assert text.count('<details class="run">') == 2
    assert text.count('<details class="run" open>') == 1


def test_a_run_that_was_not_measured_is_on_the_page_with_its_verdict() -> None:
    missing = ShownVerdict("energy_per_query", "UNMEASURED", "budget", "the test measured nothing.", limit=1.0, effect="warn")
    text = Page(page([session(Result("t.py::test_nothing", verdicts=(missing,)))], History())).text
    assert order(text, "Energy budgets: UNMEASURED", "test_nothing", "the test measured nothing.")


def test_several_sessions_have_a_part_each() -> None:
    first, second = session(told(measured_run()), created="2026-11-01T10:00:00Z"), session(measured_blocks(budget=0.5))
    text = Page(page([first, second], History())).text
    assert "Energy budgets: 2 sessions" in text
    assert order(text, "2026-11-01 10:00:00 UTC", "FAIL")


def measured_run() -> Any:
    from telling import measured

    return measured()


def test_the_policy_names_the_hashes_of_the_scripts_and_nothing_else() -> None:
    text = page([session(measured_blocks())], History())
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.replace("&#39;", "'").startswith("default-src 'none'; script-src 'sha256-")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        assert html._hash(script) in policy
    assert "unsafe-eval" not in policy
    assert not re.search(r"https?://", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))


def test_a_page_without_a_plot_does_without_the_library() -> None:
    assert "plotly.js" not in page([session()], History())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_wherever_it_stands(name: str) -> None:
    hostile, tame = (_with_names(each) for each in (name, "x"))
    assert hostile.elements == tame.elements
    assert hostile.text.count(printable(name)[:100]) >= 3


@settings(max_examples=30)
@given(st.text(min_size=1, max_size=30))
def test_whatever_things_are_called_the_page_has_the_same_parts(name: str) -> None:
    hostile = _with_names(name)
    assert hostile.elements == _with_names("x" * min(len(printable(name)), 40)).elements


def _with_names(name: str) -> Page:
    run = with_verdict(measured_blocks(budget=0.5), reason=name, where=name, effect="fail")
    run = replace(run, test=f"t.py::{name}", name=name, notes=(name,), against=(Pairs(name, "energy_per_query", ((0.5, 0.6),)),))
    made = session(run, *candidates(name), machine=Machine(commit="0123abcd"), loosened=(name,), said=((name, True),))
    text = page([made], history(name))
    text.encode()
    return Page(text)


@given(st.text())
def test_json_in_a_script_cannot_end_it(text: str) -> None:
    import json

    escaped = script_json(json.dumps(text))
    assert "<" not in escaped
    assert ">" not in escaped
    assert json.loads(escaped) == text


@pytest.mark.parametrize("missing", ["jinja2", "plotly.offline"])
def test_a_package_that_is_missing_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.undo()
    html._environment.cache_clear()
    html._plotly.cache_clear()
    imports = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(name)
        return imports(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingsError, match=rf"needs {missing.partition('.')[0]}.*\[report\]"):
        page([session()], History())
