"""A benchmark is run by hand and seldom: what it imports of ours must be there when somebody does."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.truth.benchmarks import BENCHMARKS

OURS = ("pytest_greencompute", "tests")
SCRIPTS = sorted(BENCHMARKS.rglob("*.py"))


def imported(script: Path) -> Iterator[tuple[str, str]]:
    """Each name that it takes from a module of ours."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.partition(".")[0] in OURS:
            yield from ((node.module, each.name) for each in node.names)


@pytest.mark.parametrize("script", SCRIPTS, ids=[f"{each.parent.name}/{each.name}" for each in SCRIPTS])
def test_a_benchmark_imports_what_there_is(script: Path) -> None:
    for module, name in imported(script):
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module} has no {name}"
