"""The documentation names every option, setting, metric and meter that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_greencompute.machine.ci import VARIABLES
from pytest_greencompute.meters.registry import BUILT_IN
from pytest_greencompute.settings.build import FILE_KEYS
from pytest_greencompute.settings.options import OPTIONS
from pytest_greencompute.settings.parse import ALLOWABLE
from pytest_greencompute.values.metrics import METRICS

ROOT = Path(__file__).parents[2]
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
