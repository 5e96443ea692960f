"""What reports say of an explanation: lines, Markdown, the page with its icicle, and the end of a bisect."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from profiles import BERT, compared, level, with_times
from telling import measured, session, told

from pytest_greencompute.explaining.explanation import Explanation
from pytest_greencompute.explaining.profile import Factor, Profile
from pytest_greencompute.report import explained, html, markdown
from pytest_greencompute.results.document import document, summary_of
from pytest_greencompute.results.result import Explained, Result
from pytest_greencompute.store.history import History

MADE = Explained("main (0123abcd)", compared(BERT, with_times(BERT, "intermediate", times=1.5)))


def result() -> Result:
    return replace(told(measured()), explained=(MADE,), profile=Profile((Factor("dtype", "bfloat16"),), (level(BERT),), ("a note",), 8))


def test_the_sentence_names_the_place() -> None:
    assert MADE.where.startswith("Where: encoder.layer.*.intermediate (6 alike): +5.99 J of +6.00 J [")


def test_a_terminal_has_the_product_the_places_and_what_is_left() -> None:
    said = "\n".join(explained.session_lines([result()]))
    for part in ("a query against main (0123abcd)", "modules, by processor time:", "not attributed", "a note", "dtype"):
        assert part in said, part


@pytest.mark.parametrize(
    "made", [compared(BERT, BERT), compared(BERT, {name: seconds / 2 for name, seconds in BERT.items()})], ids=["same", "half"]
)
def test_what_did_not_grow_can_be_told_too(made: Explanation) -> None:
    assert explained.lines(Explained("main", made))


def test_markdown_and_the_page_have_it() -> None:
    summary = session(result())
    written = markdown.write([summary])
    assert "<details><summary><b>Why</b>" in written
    assert "not attributed" in written
    pytest.importorskip("plotly")
    page = html.page([summary], History((), ()))
    assert "icicle" in page
    assert "not attributed" in page


def test_an_icicle_is_one_that_plotly_knows_and_no_part_exceeds_its_whole() -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    (plot,) = explained.icicles(MADE)
    figure: Any = plot.figure
    graph_objects.Figure(figure)
    for trace in figure["data"]:
        sizes = dict(zip(trace["ids"], trace["values"], strict=True))
        for part, inside in zip(trace["ids"], trace["parents"], strict=True):
            others = [sizes[each] for each, its in zip(trace["ids"], trace["parents"], strict=True) if its == part]
            assert math.fsum(others) <= sizes[part] * (1 + 1e-6)
            assert inside in {"", *trace["ids"]}
    assert [row[0] for row in plot.rows][-1] == "not attributed"


def test_a_report_tells_it_again() -> None:
    summary = session(result())
    again = summary_of(document(summary))
    assert again.results[0].explained == (MADE,)
    assert again.results[0].profile == result().profile


def test_a_report_that_somebody_edited_is_shown_without_it() -> None:
    written: Any = document(session(result()))
    written["runs"][0]["explained"][0]["energy"]["base_j"] = -1
    (shown,) = summary_of(written).results
    assert shown.explained == ()
    assert any("explanation cannot be read" in note for note in shown.notes)
