"""The one table of metrics: name, unit, direction, how its baseline is judged, and the words people read.

Budget keys, table columns, JSON units and the comparison with a baseline all come from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_greencompute.units import ENERGY, POWER, RATE, RATIO, TIME, Dimension

Better = Literal["lower", "higher"]
Kind = Literal["energy", "latency", "rate", "score", "answers"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that a budget may limit.

    ``kind`` says how it is estimated: ``energy`` from counters (may be modelled), ``latency`` from the latency pass, ``rate``
    from the blocks' times, ``score`` from the answers; ``answers`` exists only beside another run of the same queries. ``says`` is
    the verb phrase of a verdict's sentence, ``short`` the word in the verdict column,
    ``label`` the heading of its column. ``tolerance`` is the default share by which it may be
    worse than a baseline, ``fraction`` the percentile where it is one.
    """

    name: str
    dimension: Dimension
    better: Better
    kind: Kind
    label: str
    short: str
    says: str
    tolerance: float | None = None
    fraction: float | None = None

    @property
    def needs_meter(self) -> bool:
        """Whether it exists only in a measured run (``--energy-budget``)."""
        return self.kind != "score"


_ALL = (
    Metric("energy_per_query", ENERGY, "lower", "energy", "energy/query", "energy", "used {} per query"),
    Metric(
        "energy_above_idle_per_query",
        ENERGY,
        "lower",
        "energy",
        "above idle/query",
        "energy above idle",
        "used {} per query above idle",
    ),
    Metric("average_power", POWER, "lower", "energy", "power", "power", "drew {} while busy"),
    Metric("latency_p50", TIME, "lower", "latency", "p50", "latency", "took {} at the median", fraction=0.50),
    Metric("latency_p95", TIME, "lower", "latency", "p95", "latency", "took {} at the 95th percentile", fraction=0.95),
    Metric("latency_p99", TIME, "lower", "latency", "p99", "latency", "took {} at the 99th percentile", fraction=0.99),
    Metric("throughput", RATE, "higher", "rate", "throughput", "throughput", "answered {}"),
    Metric("accuracy", RATIO, "higher", "score", "accuracy", "accuracy", "scored {}", tolerance=0.0),
    Metric("answers_changed", RATIO, "lower", "answers", "changed", "answers", "changed {} of its answers"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
