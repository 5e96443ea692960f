"""Whether two answers to one query are the same answer, for whoever uses it: a lower precision moves every last digit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from pytest_greencompute.workload import digests

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

CLOSE = 0.01  # numbers with a fraction that differ by no more than one per cent


def share_alike(answers: Sequence[Any], reference: Sequence[Any]) -> float | None:
    """The share of ``answers`` that are the same as those of ``reference``, pairwise; None where their numbers differ or are zero."""
    if not answers or len(answers) != len(reference):
        return None
    return sum(map(alike, answers, reference)) / len(answers)


def alike(one: Any, other: Any) -> bool:
    """Whether two answers are the same one.

    Several numbers with a fraction (scores of classes, logits) say the same where the largest is in the same place; one such number where
    it differs by less than 1 %; lists and dicts where all that is in them does; everything else where it is equal.
    """
    a, b = _plain(one), _plain(other)
    if isinstance(a, float) or isinstance(b, float):
        return _number(a) and _number(b) and (math.isclose(a, b, rel_tol=CLOSE) or (math.isnan(a) and math.isnan(b)))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(each, b[key]) for key, each in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return False
        if len(a) > 1 and all(map(_number, (*a, *b))) and any(isinstance(each, float) for each in (*a, *b)):
            return a.index(max(a)) == b.index(max(b))
        return all(map(alike, a, b))
    return digests([a]) == digests([b])


def _plain(answer: Any) -> Any:
    tolist: Callable[[], Any] | None = getattr(answer, "tolist", None)
    return answer if tolist is None else tolist()


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
