"""Answers scored by their references: what both may be is refused before anything is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.models.answers import equal

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Score = str | Callable[[Any, Any], float]


def check_score(score: Score) -> None:
    """Raises SettingsError for a score that is neither "accuracy" nor callable."""
    if not callable(score) and score != "accuracy":
        raise SettingsError(f"score is {score!r}.", remedy="Use 'accuracy' or a function of (answer, reference) that returns a number.")


def scores(outputs: Sequence[Any], references: Sequence[Any], score: Score) -> tuple[float, ...]:
    """One score per answer: 1.0 or 0.0 for "accuracy" (``answers.equal``), or what ``score(answer, reference)`` returns.

    Raises SettingsError for a score that is not a finite number, and for an answer that cannot be compared.
    """
    pairs = enumerate(zip(outputs, references, strict=False))
    if callable(score):
        return tuple(_number(score(answer, reference), index) for index, (answer, reference) in pairs)
    return tuple(float(_equal(index, answer, reference)) for index, (answer, reference) in pairs)


def listed_references(references: Iterable[Any] | None) -> list[Any] | None:
    """The references as a list; None where there are none. Raises SettingsError for what is no list of them."""
    if references is None:
        return None
    alone = isinstance(references, str | bytes | Mapping | set | frozenset) or getattr(references, "shape", None) == ()
    if alone or not (hasattr(references, "__iter__") or hasattr(references, "__getitem__")):
        raise SettingsError(
            f"references is a {type(references).__name__}.", remedy="Pass a list with one entry per query, or leave it out."
        )
    return list(references)


def check_paired(queries: Any, references: Iterable[Any] | None) -> None:
    """Raises SettingsError for queries that have no order, where something is held against each."""
    if references is not None and isinstance(queries, set | frozenset):
        raise SettingsError(
            f"queries is a {type(queries).__name__}, which has no order for references to follow.", remedy="Pass both as lists."
        )


def check_references(references: Iterable[Any] | None, queries: int) -> list[Any] | None:
    """The references as a list, refused before anything is run where their number is wrong."""
    listed = listed_references(references)
    if listed is None:
        return None
    if len(listed) != queries:
        raise SettingsError(f"{len(listed)} references for {queries} queries.", remedy="One reference per query, in the same order.")
    return listed


def _equal(index: int, answer: Any, reference: Any) -> bool:
    try:
        return equal(answer, reference)
    except Exception as error:  # whatever an answer's own == raises
        raise SettingsError(
            f"Answer {index}, a {type(answer).__name__}, cannot be compared with its reference, a {type(reference).__name__}: {error}.",
            remedy="Pass score=, a function of (answer, reference).",
        ) from error


def _number(value: Any, index: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"The score of query {index} is {value!r}, not a number.", remedy="A score must be a number or a bool."
        ) from error
    if not math.isfinite(number):
        raise SettingsError(f"The score of query {index} is {number!r}.", remedy="A score must be a finite number or a bool.")
    return number
