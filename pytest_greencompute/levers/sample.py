"""A sample of the queries, for what is only ranked: drawn once, so that all configurations answer the same ones."""

from __future__ import annotations

import random
from typing import Any

SEED = 19
SECONDS = 1.0  # that today's configuration takes for it, about
LEAST = 32
MOST = 0.5  # of the queries: more of them are asked all


def sample(queries: Any, pass_s: float) -> tuple[int, ...]:
    """The places of a sample, in order; of all queries where they are few, are quickly answered, or cannot be told apart.

    ``pass_s`` is what today's configuration takes for all of them. As many of the sample come again as of all queries.
    """
    every = tuple(range(len(queries)))
    wanted = max(LEAST, round(len(queries) * min(1.0, SECONDS / max(pass_s, 1e-9))))
    if not isinstance(queries, list | tuple) or wanted > MOST * len(queries):
        return every
    by_query: dict[Any, list[int]] = {}
    for place, query in enumerate(queries):
        by_query.setdefault(query if can_be_key(query) else object(), []).append(place)
    luck = random.Random(SEED)
    groups = [*by_query.values()]
    chosen = luck.sample(groups, max(1, round(wanted * len(groups) / len(queries))))
    again = [place for group in chosen for place in group[1:]]
    repeated = luck.sample(again, min(len(again), wanted - len(chosen)))
    return tuple(sorted([*(group[0] for group in chosen), *repeated]))


def can_be_key(query: Any) -> bool:
    """Whether equal queries can be found by it: a tuple says that it can be hashed, and cannot where it holds a list."""
    try:
        hash(query)
    except TypeError:
        return False
    return True
