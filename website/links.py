"""Links from a page to a file outside of docs/ lead to that file where the project is published: the site does not have it."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

OUTWARD = "../../"  # from a page in a folder of docs/


class _Outward(Treeprocessor):
    def __init__(self, md: Markdown, base: str) -> None:
        super().__init__(md)
        self._base = base

    def run(self, root: Element) -> None:
        for link in root.iter("a"):
            target = link.get("href", "")
            if target.startswith(OUTWARD):
                link.set("href", self._base + target.removeprefix(OUTWARD))


class Links(Extension):
    """``base``: the address of the project's files, with a slash at its end."""

    def __init__(self, **given: Any) -> None:
        self.config = {"base": ["", "the address of the project's files"]}
        super().__init__(**given)

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802  the library's name
        md.treeprocessors.register(_Outward(md, self.getConfig("base")), "outward", 0)


def makeExtension(**given: Any) -> Links:  # noqa: N802  the library's name
    """What Python-Markdown calls."""
    return Links(**given)
