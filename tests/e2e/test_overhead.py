"""What an installed plugin costs the tests that do not use it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from pytest_greencompute.hooks.ledger import Ledger, is_metered
from tests.quiet import in_steps

pytestmark = pytest.mark.alone

STEPS_A_TEST = 1100  # of Python (tests/quiet.py); fifty microseconds where a step takes 45 ns


def test_a_test_without_a_marker_costs_at_most_some_steps_of_python(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.parametrize('n', range(50))\ndef test_many(n):\n    pass\n")
    items, _ = pytester.inline_genitems()
    ledger = Ledger(SimpleNamespace())  # type: ignore[arg-type]
    report = SimpleNamespace(nodeid="test_x.py::test_y", when="call", outcome="passed", passed=True, failed=False, skipped=False)

    def once() -> float:
        start = time.perf_counter()
        for item in items:
            is_metered(item)  # at collection
            for _ in range(3):  # set-up, call, teardown
                ledger.pytest_runtest_logreport(report)  # type: ignore[arg-type]
        return (time.perf_counter() - start) / len(items)

    assert in_steps(once, times=200) <= STEPS_A_TEST
