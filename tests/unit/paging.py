"""What the tests of the page show on it."""

from __future__ import annotations

import random
from dataclasses import replace

from making import block, latencies, run
from telling import GPU, measured, told

from pytest_greencompute.results.result import CandidateRow, Figure, Result
from pytest_greencompute.store.history import History, Point

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "<b>bold</b><a href='javascript:alert(1)'>link</a><br>",
    "%{x} %{customdata} {{ 7 * 7 }} {% raw %}",
    "two\nlines | `code` ::error::",
    "\u202eturned\u2066 \ud800 \x1b[31m",
    "x" * 10_000,
]


def measured_blocks(blocks: int = 18, budget: float = 0.8, seed: int = 1) -> Result:
    """A result with as many blocks, 1.2 s apart, one of them spoiled, judged by an energy budget."""
    luck = random.Random(seed)
    made = [
        block(
            6.12 * (1 + luck.gauss(0, 0.02)),
            set_index=k // 9,
            phase=(k % 9) / 9,
            at_s=1.2 * k,
            marks=("thermal slowdown",) if k == 5 else (),
        )
        for k in range(blocks)
    ]
    whole = run(made, sources=(GPU,), latencies=latencies([0.0312] * 110), scores=(1.0,) * 94 + (0.0,) * 6)
    return told(whole, effect="fail" if budget < 0.6 else "green", energy_per_query=budget)


def many_runs(count: int, blocks: int = 18) -> list[Result]:
    """Results of tests of their own; every 17th is over its budget, but for the first ones."""
    return [
        replace(
            measured_blocks(blocks, 0.5 if n % 17 == 16 and count > 100 else 0.8, seed=n), test=f"tests/test_models.py::test_model[{n}]"
        )
        for n in range(count)
    ]


def candidates(name: str = "minilm") -> list[Result]:
    """A comparison of three, of which the second is right-sized."""
    rows = []
    for called, joules, accuracy, front in ((f"{name}-l6", 0.1, 0.75, True), (f"{name}-l3", 0.05, 0.73, True), ("large", 9.0, 0.6, False)):
        figures = {"energy_per_query": joules, "accuracy": accuracy, "latency_p95": 0.03, "throughput": 30.0, "tokens_per_query": None}
        right = called.endswith("-l3")
        row = CandidateRow(None, called, "", figures=figures, domain="gpu:0", front=front, right_sized=right, floor=0.72)
        rows.append(replace(told(measured()), test="tests/test_models.py::test_size", name=called, candidate=row))
    return rows


def history(name: str = "main") -> History:
    """Twenty sessions of one test."""
    return History(
        tuple(
            Point(
                name,
                f"2026-11-{day:02d}T10:00:00Z",
                f"{day:08d}abcd",
                day % 5 == 0,
                "tests/test_models.py::test_model[0]",
                None,
                {
                    "energy_per_query": Figure(
                        0.6 + 0.004 * day,
                        0.59 + 0.004 * day,
                        None if day == 3 else 0.61 + 0.004 * day,
                        "J",
                        n=3,
                        confidence=0.99,
                        domain="gpu:0",
                        method="counter",
                    )
                },
                ("NVIDIA H100",),
            )
            for day in range(1, 21)
        )
    )
