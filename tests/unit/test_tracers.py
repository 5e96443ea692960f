"""What traces this thread is found by asking the interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_greencompute.machine.tracers import tracers


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    trace, profile = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    yield
    sys.settrace(trace)
    sys.setprofile(profile)


def nothing(*_: Any) -> None:
    """A trace function that asks for no more."""


def test_nothing_traces_by_default() -> None:
    assert tracers() == ()


@pytest.mark.parametrize("hook", [sys.settrace, sys.setprofile])
def test_a_trace_function_is_called_by_its_package(hook: Any) -> None:
    hook(nothing)
    found = tracers()
    hook(None)
    assert found == (__name__.partition(".")[0],)


def test_coverage_is_called_by_its_name() -> None:
    coverage = pytest.importorskip("coverage")
    watching = coverage.Coverage(data_file=None)
    watching.start()
    found = tracers()
    watching.stop()
    assert found == ("coverage",)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
def test_a_tool_of_the_interpreter_counts_once_it_waits_for_events() -> None:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
    monitoring.use_tool_id(monitoring.PROFILER_ID, "some.tool")
    try:
        assert "some" not in tracers()
        monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.PY_START)
        assert "some" in tracers()
    finally:
        monitoring.set_events(monitoring.PROFILER_ID, 0)
        monitoring.free_tool_id(monitoring.PROFILER_ID)
