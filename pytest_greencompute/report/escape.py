"""Text that somebody else chose (test ids, run names, what a model said) made safe for each place it is shown in. Pure.

Laws: nothing is lost but what is cut, which is said; what comes out is on one line, holds no control character and can be encoded;
no character of it is markup where it is shown.
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from typing import Any

LONGEST = 300  # characters of one text in a table that a person reads; a test id is mostly below 120
_CUT = "…"
# What Markdown, GitHub's flavour of it included (tables, mentions, issues, footnotes, maths, emoji, addresses that become links), or HTML
# could take for markup: anywhere; at the start of a line; in "www.", "GH-1" and "1. ". Escaped as entities, which are decoded last of all.
_MARKUP = re.compile(r"""[\\`*_{}\[\]()<>#!|&@~:$^]|^[-+=]|(?<=www)\.|(?<=GH)-|(?<=\d)[.)](?=\s|$)""", re.IGNORECASE)
# What stands for a sign where a terminal cannot show it; any other character is shown as its escape.
_PAIRS = (
    "±|+/- ×|x ≥|>= ≤|<= ≠|!= →|-> …|... ·|- ─|- –|- —|- −|- µ|u μ|u °|deg €|EUR £|GBP ₂|2 ²|2 ★|* ☆|- ✅|ok ❌|x ⚠|! ℹ|i \ufe0f| »|> ┊|:"
)
_EIGHTHS = dict(zip("▏▎▍▌▋▊▉█", "----####", strict=True))  # of a cell of a bar
SIGNS = {"\xa0": " ", "│": "|", **_EIGHTHS, **dict(pair.split("|") for pair in _PAIRS.split())}
READABLE = "greencompute.readable"  # as the errors= of a stream: what its encoding lacks is replaced, and nothing is an error
_BREAKS = "\n\r\t\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def printable(text: str) -> str:
    """``text`` with every character that is no visible one (controls, line breaks, directions, lone surrogates) as its escape: '\\n'."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _visible(char) else char.encode("unicode_escape").decode("ascii") for char in text)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(SIGNS.get(char, char.encode("unicode_escape").decode("ascii")) for char in lost), error.end


codecs.register_error(READABLE, _replaced)


def fitted(text: str, encoding: str | None) -> str:
    """``text`` as a terminal of ``encoding`` can show it, with what it lacks replaced. An unknown encoding is taken for ASCII."""
    if text.isascii():
        return text
    try:
        return text.encode(encoding or "ascii", READABLE).decode(encoding or "ascii")
    except LookupError:
        return fitted(text, None)


def json_text(value: Any, encoding: str | None) -> str:
    """JSON for people, in which ``encoding`` can hold every character: where it cannot, they are JSON's own escapes."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    return text if fitted(text, encoding) == text else json.dumps(value, indent=1, allow_nan=False)


def _visible(char: str) -> bool:
    # Cf holds what turns the direction of a line round; Cs the halves of a character; Co and Cn draw nothing that is agreed on.
    return unicodedata.category(char)[0] != "C" and char not in _BREAKS


def shortened(text: str, longest: int = LONGEST) -> str:
    """``text``, its middle cut out where it is longer than ``longest`` characters: both ends of a test id tell it from others."""
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 3
    return f"{text[: longest - 1 - tail]}{_CUT}{text[len(text) - tail :]}"


def markdown(text: str, longest: int = LONGEST) -> str:
    """``text`` as it is, in a line or a table cell of GitHub's or GitLab's Markdown; the middle of a longer one is cut out.

    Spaces around it would make a list or code of it, or nothing: they are left out, but for one where there is nothing else.
    """
    short = shortened(printable(text), longest).strip(" ")
    return _MARKUP.sub(lambda found: f"&#{ord(found.group())};", short) or "&#160;" * bool(text)


def command_data(text: str) -> str:
    """The message of a workflow command of GitHub's, escaped as its toolkit does (``escapeData``)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str) -> str:
    """A property of a workflow command, such as its title (``escapeProperty`` of the toolkit)."""
    return command_data(text).replace(":", "%3A").replace(",", "%2C")


def plot_text(text: str, longest: int = LONGEST) -> str:
    """``text`` inside a plot: Plotly takes ``<b>``, ``<a href>`` and entities in any of its texts for markup."""
    short = shortened(printable(text), longest)
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def script_json(text: str) -> str:
    """JSON ``text`` inside a ``<script>`` element, which must not hold anything that ends or begins an element."""
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text
