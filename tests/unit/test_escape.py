"""Text that others chose stays text: in Markdown, in GitHub's commands, on one line."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from githubs import GITHUBS
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.report import escape
from pytest_greencompute.report.escape import (
    LONGEST,
    SIGNS,
    command_data,
    command_property,
    fitted,
    json_text,
    markdown,
    printable,
    shortened,
)

HOSTILE = [
    "a|b",
    "`code`",
    "two\nlines",
    "::error::gotcha",
    "%0A::error::gotcha",
    "<script>alert(1)</script>",
    "</details><img src=x onerror=alert(1)>",
    "[link](javascript:alert(1))",
    "![image](http://example.org/x.png)",
    "http://example.org and www.example.org and me@example.org",
    "@everyone #1 GH-1 org/repo#2",
    "**bold** __bold__ ~~gone~~ $x^2$ :smile: [^1]",
    "&lt;b&gt; &amp; &#64;",
    "1. a list",
    "- a list",
    "# a heading",
    "\ud800 half",
    "\u202eturned round\u2066",
    "zero\u200bwidth\u2028line",
    "\x1b[31mred\x07",
    "x" * 10_000,
    "",
]
anything = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60), st.text("|`*_<>[]()#@&:;.-+~$^!\\/ \n0123456789abw", max_size=60))


class Seen(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(source: str) -> Seen:
    """What GitHub's flavour of Markdown makes of it, raw HTML and links from bare addresses included."""
    seen = Seen()
    seen.feed(GITHUBS.render(source))
    return seen


@given(anything)
def test_printable_text_is_on_one_line_and_can_be_encoded(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["plain", "größe µJ ≥ 0.92 → é 日本語 😀", "test_x[a-b] (prefill)"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(anything)
def test_in_a_paragraph_of_markdown_text_is_text(text: str) -> None:
    seen = rendered(f"so {markdown(text, 10**6)} it is")
    assert seen.tags == ["p"]
    assert " ".join(seen.text.split()) == " ".join(f"so {printable(text)} it is".split())


@given(anything, anything)
def test_in_a_table_a_cell_is_one_cell_of_text(one: str, other: str) -> None:
    cells = [markdown(each, 10**6) for each in (one, other)]
    seen = rendered(f"| a | b |\n| --- | --- |\n| {cells[0]} | {cells[1]} |\n")
    assert seen.tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert "".join(seen.text.split()) == "".join(f"ab{printable(one)}{printable(other)}".split())


@given(anything)
def test_in_a_list_text_is_text(text: str) -> None:
    seen = rendered(f"- {markdown(text, 10**6)}\n- next\n")
    assert seen.tags == ["ul", "li", "li"]
    assert "".join(seen.text.split()) == "".join(f"{printable(text)}next".split())


@given(anything)
def test_in_a_folded_heading_text_is_text(text: str) -> None:
    seen = rendered(f"<details><summary>{markdown(text, 10**6)}</summary>\n\nmore\n\n</details>")
    assert seen.tags == ["details", "summary", "p"]
    assert "".join(seen.text.split()) == "".join(f"{printable(text)}more".split())


@given(anything)
def test_nobody_is_mentioned_and_no_issue_is_linked(text: str) -> None:
    """GitHub looks for these in the text before entities are decoded."""
    assert not re.search(r"@\w|#\d|GH-\d|https?://|www\.", markdown(text, 10**6).replace("&#", "").casefold().replace("gh-", "GH-"))


@given(anything, st.integers(10, 400))
def test_what_is_too_long_loses_its_middle(text: str, longest: int) -> None:
    short = shortened(text, longest)
    assert len(short) <= longest
    assert short == text or (
        short.count("…") >= 1 and text.startswith(short[: (longest - 1) // 2]) and text.endswith(short[-(longest // 4) :])
    )


def test_a_long_name_in_markdown_is_cut_to_what_a_person_reads() -> None:
    assert len(html.unescape(markdown("x" * 10_000))) == LONGEST


@given(anything)
def test_a_command_of_github_is_one_line_and_is_decoded_to_what_it_was(text: str) -> None:
    data, value = command_data(text), command_property(text)
    for escaped in (data, value):
        assert "\n" not in escaped
        assert "\r" not in escaped
    assert not re.search("[:,]", value)
    # As the runner decodes them, the percent sign last.
    back = value.replace("%0D", "\r").replace("%0A", "\n").replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
    assert back == text
    assert data.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%") == text


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "1.2 uJ +/-3 x 2 >= 1 -> ... \\xf6 \\u4e2d \\udc80"),
        ("cp1252", "1.2 µJ ±3 × 2 >= 1 -> … ö \\u4e2d \\udc80"),
        ("utf-8", "1.2 µJ ±3 × 2 ≥ 1 → … ö 中 \\udc80"),
        ("no such thing", "1.2 uJ +/-3 x 2 >= 1 -> ... \\xf6 \\u4e2d \\udc80"),
        (None, "1.2 uJ +/-3 x 2 >= 1 -> ... \\xf6 \\u4e2d \\udc80"),
    ],
)
def test_signs_that_an_encoding_lacks_are_replaced_and_nothing_else(encoding: str | None, shown: str) -> None:
    assert fitted("1.2 µJ ±3 × 2 ≥ 1 → … ö 中 \udc80", encoding) == shown


@given(anything, st.sampled_from(["ascii", "cp1252", "latin-1", "utf-8", "koi8-r"]))
def test_what_is_fitted_can_be_encoded_and_is_not_changed_again(text: str, encoding: str) -> None:
    once = fitted(text, encoding)
    assert once.encode(encoding).decode(encoding) == once
    assert fitted(once, encoding) == once


def test_every_sign_that_the_package_writes_has_a_plain_one() -> None:
    """A sign that is new in a message needs its row."""
    package = Path(escape.__file__).parent.parent
    used = set("".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py")))
    assert {char for char in used if not char.isascii()} - set("öβφ") <= set(SIGNS) | {"\u2028"}
    assert all(plain.isascii() for plain in SIGNS.values())


@given(st.dictionaries(anything, anything, max_size=3), st.sampled_from(["ascii", "cp1252", "utf-8"]))
def test_json_for_a_terminal_means_the_same_in_every_encoding(value: dict[str, str], encoding: str) -> None:
    assert json.loads(json_text(value, encoding).encode(encoding).decode(encoding)) == value
