"""Whether two answers to one query are the same answer, for whoever uses it: a lower precision moves every last digit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from pytest_greencompute.models.answers import UntoldError, opened, same_labels, text_of

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

CLOSE = 0.01  # numbers with a fraction that differ by no more than one per cent


def share_alike(answers: Sequence[Any], reference: Sequence[Any]) -> float | None:
    """The share of ``answers`` that are the same as those of ``reference``, pairwise; None where their numbers differ or are zero, and
    where they show nothing of what is in them."""
    if not answers or len(answers) != len(reference):
        return None
    try:
        return sum(map(alike, answers, reference)) / len(answers)
    except UntoldError:
        return None


def alike(one: Any, other: Any) -> bool:
    """Whether two answers are the same one.

    Several numbers with a fraction (scores of classes, logits) say the same where the largest is in the same place; one such number where
    it differs by less than 1 %; lists and dicts where all that is in them does; everything else where it is equal. Arrays have the same
    shape; a number that is none (NaN) is like another, and like nothing else. Raises UntoldError.
    """
    if not same_labels(one, other):
        return False
    a, b = opened(one), opened(other)
    if getattr(a, "shape", ()) != getattr(b, "shape", ()) and hasattr(a, "shape") and hasattr(b, "shape"):
        return False
    return _alike(_plain(a), _plain(b))


def _alike(a: Any, b: Any) -> bool:
    """``alike`` of two without arrays on the outside."""
    if isinstance(a, float) or isinstance(b, float):
        return _number(a) and _number(b) and (math.isclose(a, b, rel_tol=CLOSE) or (math.isnan(a) and math.isnan(b)))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(each, b[key]) for key, each in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and (a.index(max(a)) == b.index(max(b)) if _have_a_largest(a, b) else all(map(alike, a, b)))
    return text_of(a) == text_of(b)


def _have_a_largest(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether these are several numbers each, with a fraction; none is the largest where one is a NaN."""
    every = (*a, *b)
    floats = [each for each in every if isinstance(each, float)]
    return len(a) > 1 and bool(floats) and all(map(_number, every)) and not any(map(math.isnan, floats))


def _plain(answer: Any) -> Any:
    tolist: Callable[[], Any] | None = getattr(answer, "tolist", None)
    return answer if tolist is None else tolist()


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
