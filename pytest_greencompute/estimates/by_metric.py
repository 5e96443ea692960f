"""Every figure of a run by its metric, with its interval, or the reason why there is none: the one table of kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from pytest_greencompute.estimates.answers import _errors, _score
from pytest_greencompute.estimates.counted import _calls, _compute, _tokens
from pytest_greencompute.estimates.energy import _energy
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome
from pytest_greencompute.estimates.latency import _latency, _streamed
from pytest_greencompute.estimates.over_sets import _throughput
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.run import Run


def _rating(run: Run, _metric: Metric, aim: Aim) -> Outcome:
    from pytest_greencompute.estimates.stars import stars_of

    return stars_of(run, aim)


_BY_KIND: Mapping[str, Callable[[Run, Metric, Aim], Outcome]] = {
    "energy": _energy,
    "latency": _latency,
    "rate": _throughput,
    "score": _score,
    "tokens": _tokens,
    "calls": _calls,
    "compute": _compute,
    "rating": _rating,
    "first token": _streamed,
    "token gap": _streamed,
    "errors": _errors,
    "answers": lambda *_: Missing("there are no other answers to compare with; --energy-base-ref or --energy-baseline brings some"),
}


def estimate(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """The estimate of one metric of a run, or why there is none."""
    if metric.needs_meter and not run.metered:
        return Missing("not measured: run pytest with --energy-budget")
    return _BY_KIND[metric.kind](run, metric, aim)


def estimates(run: Run, aim: Aim) -> dict[str, Outcome]:
    """Every metric of the run by name."""
    return {name: estimate(run, metric, aim) for name, metric in METRICS.items()}


def of_set(run: Run, metric: Metric, index: int, aim: Aim) -> float | None:
    """A metric of one complete set, summed over its blocks; None where the set was lost or spoiled."""
    blocks = tuple(block for block in run.blocks if block.set_index == index)
    found = estimate(replace(run, blocks=blocks, looks=1), metric, aim) if blocks else None
    return found.value if isinstance(found, Estimate) else None
