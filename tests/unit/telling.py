"""Results and sessions for the tests of what is told."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

from making import block, latencies, run, source

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.budget import Limit
from pytest_greencompute.judging.by_limit import judge_budget
from pytest_greencompute.judging.verdict import Effect, Verdict, Word
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.results.session import Facts
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.readings import Source
from pytest_greencompute.values.run import Run

GPU = source(device="NVIDIA H100 80GB HBM3", meter="nvml")
CPU = source("cpu", meter="cputime", method="modelled", tick_s=0.0, device="EPYC", note="7 W a core assumed")


def measured(sources: tuple[Source, ...] = (GPU,), **fields: Any) -> Run:
    """A run of 0.612 J a query and source, 31.2 ms, accuracy 0.94."""
    each = {made.domain: 6.12 for made in sources}
    blocks = [block({name: joules * (1 + 0.004 * (k % 3 - 1)) for name, joules in each.items()}, set_index=k) for k in range(9)]
    made: dict[str, Any] = {"sources": sources, "latencies": latencies([0.0312] * 110), "scores": (1.0,) * 94 + (0.0,) * 6, **fields}
    return run(blocks, **made)


def told(
    made: Run, effect: Effect = "green", where: str = "the marker at t.py:3", extra: tuple[Verdict, ...] = (), **limits: float
) -> Result:
    """A run's result as the session keeps it, judged by ``limits``."""
    verdicts = []
    for name, value in limits.items():
        metric = METRICS[name]
        outcome = estimate(made, metric, Aim())
        verdicts.append(judge_budget(metric, outcome, Limit(metric, value, where), "test_y", by_interval=metric.kind != "score"))
    return Result.of(made, Figures(made, Aim()).every(), [ShownVerdict.of(verdict, effect) for verdict in (*verdicts, *extra)])


def with_verdict(result: Result, **fields: Any) -> Result:
    """The result with its first verdict alone, and these fields of it changed."""
    return replace(result, verdicts=(replace(result.verdicts[0], **fields),))


def with_energy(result: Result, **fields: Any) -> Result:
    """The result with these fields of its energy per query changed."""
    return replace(result, metrics={**result.metrics, "energy_per_query": replace(result.metrics["energy_per_query"], **fields)})


def compared(ratio: float, word: Word, ref: str = "main (0123abcd)", metric: str = "energy_per_query") -> Result:
    """A result that was compared with a commit, ``ratio`` times worse give or take 0.02; 5 % are fine."""
    interval = Ratio(ratio, ratio - 0.02, ratio + 0.02)
    base = 0.612 / ratio
    verdict = Verdict(word, metric, "base_ref", f"{ratio:g} times worse.", limit=1.05 * base, where=ref, base=base, ratio=interval)
    return told(measured(), effect="fail" if word == "FAIL" else "green", extra=(verdict,))


def session(*results: Result, **fields: Any) -> Summary:
    """A session on an H100 that used 3.1 kJ in 41 s; ``fields`` are those of Facts and of Summary."""
    about = {each.name: fields.pop(each.name) for each in dataclasses.fields(Facts) if each.name in fields}
    facts = replace(Facts(sources=(GPU,), total_j=3100.0, seconds=41.0), **about)
    return replace(Summary(enabled=True, facts=facts, results=results, metered=len(results)), **fields)
