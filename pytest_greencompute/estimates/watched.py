"""Energy of one watched model, shared out by the time that was spent in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Missing, Outcome
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

SHARED_OUT = "the energy of the measured queries, shared out by the time inside the watched model"


def energy_of(runs: Sequence[Run], index: int, aim: Aim) -> Outcome:
    """Joules of the queries of ``runs``, each run once, that fall on watched model number ``index`` by its share of their time.

    A device that works on after the call has returned (a GPU that is not waited for) gives the model too small a share.
    """
    seen = [run for run in runs if run.watching is not None and index < len(run.watching.models)]
    parts = []
    for run in seen:
        energy = estimate(run, METRICS["energy_per_query"], aim)
        part = run.watching.models[index].share if run.watching is not None else None
        if isinstance(energy, Missing):
            return energy
        if part is None:
            return Missing(
                "no time inside the watched model is known: it was not seen, or what it returned was a stream, to be worked on later"
            )
        parts.append((energy, part * run.queries))
    if not parts:
        return Missing("nothing was measured since the model is watched")

    def summed(ends: Sequence[float | None]) -> float | None:
        known = [end * factor for end, (_, factor) in zip(ends, parts, strict=True) if end is not None]
        return sum(known) if len(known) == len(parts) else None

    value = sum(energy.value * factor for energy, factor in parts)
    low, high = summed([energy.low for energy, _ in parts]), summed([energy.high for energy, _ in parts])
    return replace(parts[0][0], value=value, low=low, high=high, n=min(energy.n for energy, _ in parts), note=SHARED_OUT)
