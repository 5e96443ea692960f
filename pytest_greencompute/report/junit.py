"""JUnit properties of a test: its figures and verdicts, one property each, SI units in the name."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_greencompute.results.result import Result
from pytest_greencompute.values.metrics import METRICS


def properties(results: Sequence[Result]) -> list[tuple[str, str]]:
    """(name, value) pairs such as ('energy_per_query_j', '0.612') and ('energy_per_query_verdict', 'PASS')."""
    found: list[tuple[str, str]] = []
    for run in results:
        prefix = f"{run.name}." if run.name else ""
        for name, figure in run.metrics.items():
            unit, sides = METRICS[name].dimension.called.junit, {"": figure.value, "_low": figure.low, "_high": figure.high}
            found += [(f"{prefix}{name}{side}{unit}", f"{value:.6g}") for side, value in sides.items() if value is not None]
            if figure.method:
                found.append((f"{prefix}{name}_method", f"{figure.domain} {figure.method}"))
        for verdict in run.verdicts:
            kind = "" if verdict.kind == "budget" else f"_{verdict.kind}"
            found.append((f"{prefix}{verdict.metric}{kind}_verdict", verdict.word))
    return found
