"""Every figure of a run by its metric, with its interval, or the reason why there is none: the one table of kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from pytest_greencompute.estimates.answers import errors_of, score_of
from pytest_greencompute.estimates.counted import calls_of, compute_of, tokens_of
from pytest_greencompute.estimates.energy import energy_of
from pytest_greencompute.estimates.estimate import NOT_MEASURED, Aim, Estimate, Missing, Outcome
from pytest_greencompute.estimates.latency import latency_of, streamed_of
from pytest_greencompute.estimates.over_sets import throughput_of
from pytest_greencompute.estimates.stars import stars_of
from pytest_greencompute.values.metrics import Metric
from pytest_greencompute.values.run import Run

_BY_KIND: Mapping[str, Callable[[Run, Metric, Aim], Outcome]] = {
    "energy": energy_of,
    "latency": latency_of,
    "rate": throughput_of,
    "score": score_of,
    "tokens": tokens_of,
    "calls": calls_of,
    "compute": compute_of,
    "rating": lambda run, _, aim: stars_of(run, aim),
    "first token": streamed_of,
    "token gap": streamed_of,
    "errors": errors_of,
    "answers": lambda *_: Missing("there are no other answers to compare with; --energy-base-ref or --energy-baseline brings some"),
}


def estimate(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """The estimate of one metric of a run, or why there is none."""
    if metric.needs_meter and not run.metered:
        return NOT_MEASURED
    return _BY_KIND[metric.kind](run, metric, aim)


def of_set(run: Run, metric: Metric, index: int, aim: Aim) -> float | None:
    """A metric of one complete set, summed over its blocks; None where the set was lost or spoiled."""
    blocks = tuple(block for block in run.blocks if block.set_index == index)
    found = estimate(replace(run, blocks=blocks, looks=1), metric, aim) if blocks else None
    return found.value if isinstance(found, Estimate) else None
