"""Profiles of a model of six blocks, for tests of what is made of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_greencompute.explaining.explanation import Explanation, explained
from pytest_greencompute.explaining.profile import OUTSIDE, Cost, Level, Profile
from pytest_greencompute.explaining.risen import Risen

PASSES = 4
BERT = {OUTSIDE: 1.0, "Bert": 0.2, "Bert.encoder": 0.1} | {
    f"Bert.encoder.layer.{number}{part}": seconds
    for number in range(6)
    for part, seconds in (("", 0.1), (".attention", 1.0), (".intermediate", 2.0), (".output", 2.0))
}


def level(rows: Mapping[str, float], *, noise: float = 0.005, seed: int = 0, dtypes: Mapping[str, str] | None = None) -> Level:
    """Rows by their own seconds, nested by their names, with some noise from pass to pass."""
    rng = random.Random(seed)
    seconds = {name: tuple(each * rng.gauss(1, noise) for _ in range(PASSES)) for name, each in rows.items()}
    whole = tuple(math.fsum(each[index] for each in seconds.values()) for index in range(PASSES))
    costs = [Cost(name, each, 1.0, inside=holder(name, rows), dtype=(dtypes or {}).get(name, "bfloat16")) for name, each in seconds.items()]
    return Level("modules", "cpu", whole, tuple(costs))


def holder(name: str, names: Iterable[str]) -> str:
    while "." in name:
        name = name.rpartition(".")[0]
        if name in names:
            return name
    return ""


def compared(base: Mapping[str, float], head: Mapping[str, float], **of_head: Any) -> Explanation:
    """Both sides, whose joules are as their seconds, certain to 1 %."""
    base_j, head_j = sum(base.values()), sum(head.values())
    risen = Risen(base_j, head_j, head_j - base_j - 0.01 * base_j, head_j - base_j + 0.01 * base_j, base_sd=0.003 * base_j)
    return explained(Profile(levels=(level(base),), queries=8), Profile(levels=(level(head, seed=1, **of_head),), queries=8), risen)


def with_times(rows: Mapping[str, float], *words: str, times: float) -> dict[str, float]:
    return {name: seconds * (times if all(word in name for word in words) else 1) for name, seconds in rows.items()}
