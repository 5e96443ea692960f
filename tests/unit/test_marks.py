"""Where marks stand: on the function, on its class, in the module, in a parameter, and where the source does not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.hooks.marks import Written, line_of

SOURCE = """
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.energy_budget(max_seconds=9),
]
LIMIT = "7 J"
strict = pytest.mark.energy_budget(accuracy=0.9)


@pytest.mark.energy_budget(energy_per_query="1 J")
class TestOne:
    pytestmark = pytest.mark.energy_budget(latency_p95="1 s")

    @pytest.mark.parametrize("x", [
        1,
        pytest.param(2, marks=pytest.mark.energy_budget(energy_per_query="2 J")),
    ])
    @pytest.mark.skipif(False, reason="")
    @pytest.mark.energy_budget(
        energy_per_query=LIMIT,
        tolerance={"energy_per_query": "5 %"},
    )
    @strict
    def test_it(self, energy_meter, x):
        pytest.mark.energy_budget(confidence=0.95)

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_other(self, energy_meter):
        pass


@pytest.mark.energy_budget(energy_per_query="2 J")
@pytest.mark.energy_budget(**{"latency_p50": "1 s"})
@pytest.mark.energy_budget
async def test_alone(energy_meter):
    pass
"""
IT, OTHER, ALONE = 16, 29, 34  # the lines of their first decorators


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "test_it.py"
    found.write_text(SOURCE, encoding="utf-8")
    return found


@pytest.mark.parametrize(
    ("kwargs", "first", "line"),
    [
        ({"energy_per_query": "7 J", "tolerance": {"energy_per_query": "5 %"}}, IT, 21),
        ({"energy_per_query": "7 J", "tolerance": {"energy_per_query": "6 %"}}, IT, None),
        ({"energy_per_query": "2 J"}, IT, 18),
        ({"energy_per_query": "1 J"}, IT, 12),
        ({"energy_per_query": "1 J"}, OTHER, 29),
        ({"latency_p95": "1 s"}, IT, 14),
        ({"max_seconds": 9}, IT, 6),
        ({"accuracy": 0.9}, IT, 9),
        ({"confidence": 0.95}, IT, None),
        ({"energy_per_query": "2 J"}, ALONE, 34),
        ({"latency_p50": "1 s"}, ALONE, 35),
        ({}, ALONE, 36),
        ({"energy_per_query": "3 J"}, OTHER, None),
        ({"max_seconds": 9}, ALONE, 6),  # not the one that could be any
    ],
)
def test_the_line_is_that_of_the_mark_itself(path: Path, kwargs: dict[str, Any], first: int, line: int | None) -> None:
    classes = () if first == ALONE else ("TestOne", "object")
    assert line_of(Written("energy_budget", (), kwargs, first, classes), path) == line


def test_a_mark_of_another_class_is_not_taken(path: Path) -> None:
    assert line_of(Written("energy_budget", (), {"latency_p95": "1 s"}, 1, ("TestTwo",)), path) is None


@pytest.mark.parametrize("text", ["", "def broken(:\n    pytest.mark.energy_budget()", "\0 energy_budget"])
def test_a_source_that_does_not_tell_has_no_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(text, encoding="utf-8")
    assert line_of(Written("energy_budget", (), {}, 1), path) is None
    assert line_of(Written("energy_budget", (), {}, 1), tmp_path / "none.py") is None
