"""What an installed plugin costs the tests that do not use it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from pytest_greencompute.ledger import Ledger
from pytest_greencompute.plugin import _is_metered

pytestmark = pytest.mark.alone

AT_MOST_S = 50e-6
TIMES = 200


def test_a_test_without_a_marker_costs_at_most_fifty_microseconds(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.parametrize('n', range(50))\ndef test_many(n):\n    pass\n")
    items, _ = pytester.inline_genitems()
    ledger = Ledger(SimpleNamespace())  # type: ignore[arg-type]
    report = SimpleNamespace(nodeid="test_x.py::test_y", when="call", outcome="passed", passed=True, failed=False, skipped=False)

    def once() -> float:
        start = time.perf_counter()
        for item in items:
            _is_metered(item)  # at collection
            for _ in range(3):  # set-up, call, teardown
                ledger.pytest_runtest_logreport(report)  # type: ignore[arg-type]
        return (time.perf_counter() - start) / len(items)

    assert min(once() for _ in range(TIMES)) <= AT_MOST_S
