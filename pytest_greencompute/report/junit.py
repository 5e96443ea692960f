"""JUnit properties of a test: its figures and verdicts, one property each, SI units in the name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_UNIT = {"J": "_j", "s": "_s", "W": "_w", "1/s": "_per_s", "1": "", "FLOP": "_flop", "B": "_bytes", "kg": "_kg", "currency": ""}


def properties(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(name, value) pairs such as ('energy_per_query_j', '0.612') and ('energy_per_query_verdict', 'PASS')."""
    found: list[tuple[str, str]] = []
    for run in results:
        prefix = f"{run['name']}." if run["name"] else ""
        for name, figure in run["metrics"].items():
            unit = _UNIT[figure["unit"]]
            found.append((f"{prefix}{name}{unit}", f"{figure['value']:.6g}"))
            found += [(f"{prefix}{name}_{side}{unit}", f"{figure[side]:.6g}") for side in ("low", "high") if figure[side] is not None]
            if figure.get("method"):
                found.append((f"{prefix}{name}_method", f"{figure['domain']} {figure['method']}"))
        for verdict in run["verdicts"]:
            kind = "" if verdict["kind"] == "budget" else f"_{verdict['kind']}"
            found.append((f"{prefix}{verdict['metric']}{kind}_verdict", verdict["verdict"]))
    return found
