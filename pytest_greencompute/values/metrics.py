"""The table of metrics: name, unit, direction, how its baseline is judged, and the words people read.

Budget keys, table columns, units in reports and how a figure is judged come from here; how it is estimated is in ``estimates.by_metric``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_greencompute.values.units import COUNT, ENERGY, MASS, MEMORY, MONEY, OPERATIONS, POWER, RATE, RATIO, SHARE, TIME, Dimension

Better = Literal["lower", "higher"]
Kind = Literal[
    "energy", "latency", "rate", "score", "answers", "tokens", "calls", "compute", "rating", "first token", "token gap", "errors"
]


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that a budget may limit.

    ``kind`` says how it is estimated: ``energy`` from counters (may be modelled), ``latency`` from the latency pass, ``rate``
    from the blocks' times, ``score`` from the answers; ``answers`` exists only beside another run of the same queries; ``tokens`` are
    counted in the answers, ``calls`` by a watched model, ``compute`` by the framework or the operating system, ``rating`` is a star;
    ``first token``, ``token gap`` and ``errors`` are of a server under load.
    ``says`` is the verb phrase of a verdict's sentence, ``short`` the word in the verdict column,
    ``label`` the heading of its column. ``tolerance`` is the default share by which it may be
    worse than a baseline, ``fraction`` the percentile where it is one. ``per`` is what a figure of energy is divided or multiplied by:
    tokens, those of the prompts or all of them, or the carbon and the money of a joule. ``zero``: a limit of zero makes sense.
    ``signed``: a difference of two readings, which noise may leave below zero; all other figures are positive.
    ``floor`` is the default change (SI) below which a worse figure is no regression.
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
    per: Literal["", "token", "input token", "total token", "carbon", "money"] = ""
    zero: bool = False
    signed: bool = False
    floor: float = 0.0

    @property
    def needs_meter(self) -> bool:
        """Whether it exists only in a measured run (``--energy-budget``)."""
        return self.kind not in {"score", "tokens", "calls", "errors"}

    @property
    def exact(self) -> bool:
        """Whether the figure itself is judged: it is counted over fixed queries, and measuring longer would not change it."""
        return self.kind in {"score", "answers", "tokens", "calls", "compute", "rating", "errors"}

    @property
    def whole(self) -> bool:
        """Whether its figures are whole numbers, with nothing behind the point to show."""
        return self.kind == "rating"


_OF_PROMPTS: tuple[tuple[str, Literal["input token", "total token"]], ...] = (("input", "input token"), ("total", "total token"))
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
        signed=True,
    ),
    Metric("energy_per_token", ENERGY, "lower", "energy", "energy/token", "energy per token", "used {} per token", per="token"),
    *(
        Metric(
            f"energy_per_{which}_token",
            ENERGY,
            "lower",
            "energy",
            f"energy/{which} token",
            f"energy per {which} token",
            f"used {{}} per {which} token",
            per=per,
        )
        for which, per in _OF_PROMPTS
    ),
    Metric("carbon_per_query", MASS, "lower", "energy", "CO2e/query", "carbon", "emitted {} of CO2e per query", per="carbon"),
    Metric("cost_per_query", MONEY, "lower", "energy", "cost/query", "cost", "cost {} of electricity per query", per="money"),
    Metric("average_power", POWER, "lower", "energy", "power", "power", "drew {} while busy"),
    Metric("latency_p50", TIME, "lower", "latency", "p50", "latency", "took {} at the median", fraction=0.50),
    Metric("latency_p90", TIME, "lower", "latency", "p90", "latency", "took {} at the 90th percentile", fraction=0.90),
    Metric("latency_p95", TIME, "lower", "latency", "p95", "latency", "took {} at the 95th percentile", fraction=0.95),
    Metric("latency_p99", TIME, "lower", "latency", "p99", "latency", "took {} at the 99th percentile", fraction=0.99),
    *(
        Metric(
            f"time_to_first_token_p{percent}",
            TIME,
            "lower",
            "first token",
            f"first token p{percent}",
            "first token",
            f"took {{}} to the first token at the {where}",
            fraction=percent / 100,
        )
        for percent, where in ((50, "median"), (90, "90th percentile"), (95, "95th percentile"), (99, "99th percentile"))
    ),
    *(
        Metric(
            f"inter_token_latency_p{percent}",
            TIME,
            "lower",
            "token gap",
            f"token gap p{percent}",
            "inter-token latency",
            f"took {{}} from token to token at the {where}",
            fraction=percent / 100,
        )
        for percent, where in ((50, "median"), (90, "90th percentile"), (95, "95th percentile"))
    ),
    Metric("throughput", RATE, "higher", "rate", "throughput", "throughput", "answered {}"),
    Metric("accuracy", RATIO, "higher", "score", "accuracy", "accuracy", "scored {}", tolerance=0.0),
    Metric("answers_changed", RATIO, "lower", "answers", "changed", "answers", "changed {} of its answers", zero=True),
    Metric("tokens_per_query", COUNT, "lower", "tokens", "tokens/query", "tokens", "generated {} tokens per query"),
    Metric(
        "reasoning_tokens_per_query",
        COUNT,
        "lower",
        "tokens",
        "reasoning/query",
        "reasoning",
        "generated {} reasoning tokens per query",
        zero=True,
    ),
    Metric(
        "reasoning_default",
        COUNT,
        "lower",
        "tokens",
        "reasoning by default",
        "reasoning by default",
        "generated {} reasoning tokens per query by default",
        zero=True,
    ),
    Metric(
        "generative_share",
        SHARE,
        "lower",
        "calls",
        "generative",
        "generative share",
        "sent {} of the queries to a watched model",
        zero=True,
    ),
    Metric(
        "model_calls_per_query",
        COUNT,
        "lower",
        "calls",
        "calls/query",
        "model calls",
        "called the watched models {} times per query",
        zero=True,
    ),
    Metric("flops_per_query", OPERATIONS, "lower", "compute", "FLOP/query", "FLOPs", "computed {} per query"),
    Metric("peak_memory", MEMORY, "lower", "compute", "peak memory", "memory", "held {} of memory at most"),
    Metric(
        "page_faults_per_query",
        COUNT,
        "lower",
        "compute",
        "faults/query",
        "page faults",
        "took {} page faults per query",
        zero=True,
        floor=1.0,
    ),
    Metric("padding_share", SHARE, "lower", "compute", "padding", "padding", "spent {} of its tokens on padding", zero=True),
    Metric("error_rate", SHARE, "lower", "errors", "errors", "errors", "failed {} of the requests", zero=True),
    Metric("stars", COUNT, "higher", "rating", "stars", "stars", "has {} of 5 AI Energy Score stars"),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
