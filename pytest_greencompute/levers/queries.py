"""Levers that need nothing but a callable and its queries: how many together, in which order, how much of each, and none twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.advising.levers import LEVERS, Value
from pytest_greencompute.errors import CannotError
from pytest_greencompute.levers.changed import Changed, LeverRow
from pytest_greencompute.levers.sample import can_be_key
from pytest_greencompute.models.copies import Call
from pytest_greencompute.models.queries import Batches, Made
from pytest_greencompute.models.scoring import listed_references

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

SIZES = (8, 32, 128)
KEPT = (0.9, 0.5)  # the share of texts that are not cut
LEAST_REPEATED = 0.01  # of the queries; for fewer nobody keeps answers
LEAST_UNEVEN = 1.1  # times as long as the mean are the longest queries, at least, where their order matters


def _sizes(changed: Changed) -> Sequence[Value]:
    task = changed.task
    if isinstance(task.queries, Batches):
        raise CannotError("the queries come in batches")
    return [size for size in SIZES if size != task.batch_size and size <= len(task.queries)]  # type: ignore[arg-type]


def listed(changed: Changed) -> Sequence[Any]:
    """The queries where each can be told from the others. Raises CannotError."""
    queries: Any = changed.task.queries
    if isinstance(queries, Made):
        raise CannotError("the queries are made by a function, and are no list")
    if isinstance(queries, Batches) or not isinstance(queries, Sequence):
        raise CannotError(f"the queries are a {type(queries).__name__}, not a list")
    return queries


def _texts(changed: Changed) -> Sequence[str]:
    queries = listed(changed)
    if not all(isinstance(query, str) for query in queries):
        raise CannotError("the queries are no texts")
    return queries


def _lengths(changed: Changed) -> list[int]:
    queries = listed(changed)
    if not all(isinstance(query, str | bytes | list | tuple) for query in queries):
        raise CannotError("the queries have no length")
    return [len(query) for query in queries]


def _uneven(changed: Changed) -> Sequence[Value]:
    lengths = _lengths(changed)
    if max(lengths) < LEAST_UNEVEN * sum(lengths) / len(lengths):
        raise CannotError("all queries are about as long as each other")
    if lengths == sorted(lengths) or lengths == sorted(lengths, reverse=True):
        raise CannotError("the queries are in order of length already")
    return [True]


def _by_length(changed: Changed, _: Value) -> Changed:
    lengths, queries, task = _lengths(changed), listed(changed), changed.task
    order = sorted(range(len(queries)), key=lengths.__getitem__)
    references = listed_references(task.references)
    before = changed.order or range(len(queries))
    found = changed.having(
        queries=[queries[place] for place in order],
        references=None if references is None else [references[place] for place in order],
    )
    return Changed(found.task, tuple(before[place] for place in order), found.around)


def _lengths_to_keep(changed: Changed) -> Sequence[Value]:
    lengths = sorted(map(len, _texts(changed)))
    kept = {lengths[int(share * (len(lengths) - 1))] for share in KEPT}
    found = sorted(each for each in kept if 0 < each < lengths[-1])
    if not found:
        raise CannotError("all queries are about as long as each other")
    return found


def _truncated(changed: Changed, value: Value) -> Changed:
    return changed.having(queries=[query[: int(value)] for query in _texts(changed)])


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query, and whether it is the first of its kind in the list: the others are answered as that one was."""

    query: Any
    first: bool


def _repeated(changed: Changed) -> Sequence[Value]:
    queries = listed(changed)
    if not all(isinstance(query, str | bytes | int | tuple) and can_be_key(query) for query in queries):
        raise CannotError("the queries cannot be keys of a table")
    share = 1 - len(set(queries)) / len(queries)
    if share < LEAST_REPEATED:
        raise CannotError(f"{share:.2g} of the queries come again" if share else "no query comes again")
    return [True]


def _answer_once(changed: Changed, _: Value) -> Changed:
    seen: set[Any] = set()
    asked = []
    for query in listed(changed):
        asked.append(_Asked(query, query not in seen))
        seen.add(query)
    collate = changed.task.collate
    answers: dict[Any, Any] = {}

    def around(model: Call) -> Call:
        def call(batch: Sequence[_Asked]) -> list[Any]:
            fresh = [each.query for each in batch if each.first]
            if fresh:
                answers.update(zip(fresh, model(fresh if collate is None else collate(fresh)), strict=True))
            return [answers[each.query] for each in batch]

        return call

    return changed.having(queries=asked, collate=None, repeats="cached").inside(around)


ROWS = (
    LeverRow(LEVERS["batch_size"], _sizes, lambda changed, value: changed.having(batch_size=int(value))),
    LeverRow(LEVERS["truncate"], _lengths_to_keep, _truncated),
    LeverRow(LEVERS["by_length"], _uneven, _by_length),
)
AROUND = (LeverRow(LEVERS["answer_once"], _repeated, _answer_once),)  # whatever else is around the model
