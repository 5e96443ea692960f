"""The documentation names every option, setting, metric and meter that the code has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from pytest_greencompute.machine.ci import VARIABLES
from pytest_greencompute.meters.registry import BUILT_IN
from pytest_greencompute.settings.build import FILE_KEYS
from pytest_greencompute.settings.options import OPTIONS
from pytest_greencompute.settings.parse import ALLOWABLE
from pytest_greencompute.values.metrics import METRICS

ROOT = Path(__file__).parents[2]
PACKAGE = "pytest_greencompute"
REFERENCE = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


@pytest.mark.parametrize("option", [option.name for option in OPTIONS])
def test_every_option_is_in_the_reference(option: str) -> None:
    assert f"--energy-{option}" in REFERENCE


def test_the_reference_names_no_option_that_does_not_exist() -> None:
    assert set(re.findall(r"--energy-([a-z-]+[a-z])", REFERENCE)) == {option.name for option in OPTIONS}


@pytest.mark.parametrize("name", [*METRICS, *FILE_KEYS, *ALLOWABLE, *VARIABLES, *BUILT_IN])
def test_every_budget_key_setting_and_meter_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in REFERENCE or f'`"{name}"`' in REFERENCE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)  # what a command printed is no link
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_test_that_the_page_of_compatibility_names_is_there() -> None:
    page = (ROOT / "docs" / "reference" / "compatibility.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)(?:\.py)?`", page))
    written = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("test_*.py"):
        written |= set(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    assert len(named) > 20
    assert named <= written


def pages_in(nav: Any) -> Iterator[str]:
    """The pages of a site's navigation: texts, in lists and in tables of one title each."""
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_in(each)


def test_the_site_leads_to_every_page_once() -> None:
    """Zensical says nothing of a page that is missing, on either side."""
    settings = tomli.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    docs = ROOT / "docs"
    assert sorted(pages_in(settings["nav"])) == sorted(page.relative_to(docs).as_posix() for page in docs.rglob("*.md"))


def test_the_readme_is_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("name", ["inconclusive", "unmeasured"])
def test_what_the_pages_of_questions_quote_is_said_by_the_code(name: str) -> None:
    """The first column of their tables, up to where a sentence holds a figure or a name."""
    page = (ROOT / "docs" / "questions" / f"{name}.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / PACKAGE).rglob("*.py"))
    quoted = [cell for cell in re.findall(r"^\| ([^|]+?) \|", page, re.MULTILINE) if cell not in ("---", "it says", "the reason")]
    assert len(quoted) > 4
    for cell in quoted:
        words = max(re.split(r"…|`[^`]*`|\d[\d.]* ?%?|[(){}+]|merge-base\S*", cell), key=len).strip(" :.,")
        assert words in code, f"{name}.md quotes {words!r}"
