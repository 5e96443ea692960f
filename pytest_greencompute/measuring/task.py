"""What is to be measured: one model on its queries, checked before anything is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.models.adapters import adapted
from pytest_greencompute.models.answers import unlike_shapes
from pytest_greencompute.models.queries import Batches, Queries, collected, plain
from pytest_greencompute.models.scoring import Score, check_paired, check_references, check_score, scores
from pytest_greencompute.models.tallies import Watchable
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

REPEATS = ("fresh", "cached")
Tokens = tuple[tuple[int, ...] | None, tuple[int, ...] | None]  # of each answer, and those of them that are reasoning


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure, as the user gave it. Nothing is checked before ``prepare``.

    ``tokens`` says how to count the tokens of an answer, ``reasoning`` which markers open and close reasoning (``tokens.counter_of``).
    ``count`` names figures of ``names.NAMES``. ``watched`` are the models that the test watches. ``awaits``: the model is awaited.
    ``timed``: the latency of a batch means something to somebody. ``repeats``: "cached" where memory is part of the product.
    ``notes`` are what is known of it beforehand.
    """

    model: Callable[[Any], Any]
    queries: Queries
    batch_size: int = 1
    references: Iterable[Any] | None = None
    score: Score = "accuracy"
    collate: Callable[[Any], Any] | None = None
    name: str | None = None
    test: str = ""
    tokens: object = None
    reasoning: Sequence[str] | None = None
    count: Iterable[str] = ()
    watched: Sequence[Watchable] = ()
    awaits: bool = False
    timed: bool = True
    repeats: str = "fresh"
    notes: tuple[str, ...] = ()


class Prepared:
    """A task whose input has been checked."""

    __slots__ = ("_count_tokens", "count", "hearing", "notes", "references", "task", "workload")

    def __init__(self, task: Task) -> None:
        check_paired(task.queries, task.references)
        queries, self.notes = collected(task.queries)
        listed = plain(queries)
        size = listed.size if isinstance(listed, Batches) else task.batch_size
        model = adapted(task.model, size)
        self.notes += model.notes + task.notes
        self.task = task
        self.references = check_references(task.references, len(queries))
        check_score(task.score)
        _check_repeats(task.repeats)
        self._count_tokens, self.hearing = _token_counting(task)
        self.count = _checked_count(task.count)
        self.workload = Workload(model.call, queries, task.batch_size, task.collate, awaits=task.awaits)

    def scores(self, outputs: list[Any]) -> tuple[float, ...] | None:
        if self.references is None:
            return None
        if self.task.score == "accuracy":
            self.notes += unlike_shapes(outputs, self.references)
        return scores(outputs, self.references, self.task.score)

    def counted(self, outputs: list[Any]) -> dict[str, tuple[int, ...] | None]:
        """``tokens`` and ``reasoning`` of a run with these answers."""
        tokens, reasoning = self._count_tokens(outputs, self.workload.batch_size)
        return {"tokens": tokens, "reasoning": reasoning}

    def run(self, *, metered: bool, **fields: Any) -> Run:
        task, workload = self.task, self.workload
        notes = self.notes + fields.pop("notes", ())
        return Run(task.test, task.name, workload.queries, workload.batch_size, metered, notes=notes, **fields)


# These two are imported only for a task that asks for them: a session that measures nothing loads as little as it can.


def _token_counting(task: Task) -> tuple[Callable[[list[Any], int], Tokens], Callable[[], AbstractContextManager[None]]]:
    """What counts the tokens of answers, so many of which came together, and what listens to the model meanwhile. Raises SettingsError."""
    if task.tokens is None and task.reasoning is None:
        return lambda _outputs, _together: (None, None), nullcontext
    from pytest_greencompute.models.tokens import count_answers, counter_of
    from pytest_greencompute.models.written import Heard, hearing

    counter = counter_of(task.tokens, task.reasoning, heard := Heard())
    return partial(count_answers, counter), partial(hearing, task.tokens, heard)


def _checked_count(count: Iterable[str]) -> tuple[str, ...]:
    """The names of the figures that are to be counted. Raises SettingsError for one that is unknown."""
    if isinstance(count, tuple) and not count:
        return ()
    from pytest_greencompute.values.names import checked_count

    return checked_count(count)


def _check_repeats(repeats: str) -> None:
    """Raises SettingsError for a word that is none of REPEATS."""
    if repeats not in REPEATS:
        raise SettingsError(
            f"repeats is {repeats!r}.", remedy='Leave it out, or write "cached" where answering from memory is part of the product.'
        )
