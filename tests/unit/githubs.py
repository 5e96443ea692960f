"""GitHub's flavour of Markdown, as near as a library comes to it."""

from __future__ import annotations

from markdown_it import MarkdownIt

GITHUBS = MarkdownIt("gfm-like", {"html": True, "linkify": True})
# It would make a link of "t.py", since .py is a country's; GitHub wants http or www in front.
GITHUBS.linkify.set({"fuzzy_link": False})  # type: ignore[union-attr]
