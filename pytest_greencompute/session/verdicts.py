"""The verdicts on one test's runs: its budgets, its baseline and other commits, all attempts at it counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_greencompute.session.tests import MeteredTest

if TYPE_CHECKING:
    from pytest_greencompute.judging.verdict import Verdict


def over_attempts(test: MeteredTest) -> tuple[str, ...]:
    """That a plugin ran the test again: a budget that is met at the second try is less sure than its verdict says."""
    after = f", after: {test.why_red}" if test.why_red else ""
    return (f"attempt {test.attempts}{after}",) if test.attempts > 1 else ()


def nothing_measured(node_id: str, name: str | None, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The result of a run that a budget named and the test did not measure."""
    from pytest_greencompute.results.run_json import verdict_to_json

    return {
        "test": node_id,
        "name": name,
        "queries": 0,
        "blocks": 0,
        "seconds": 0.0,
        "metered": False,
        "metrics": {},
        "verdicts": [verdict_to_json(verdict) for verdict in verdicts],
        "notes": [],
        "problem": "",
        "provenance": {},
        "raw": None,
    }
