"""What is to be measured and how far: one model on its queries, and the effort that is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pytest_greencompute.models.adapters import adapted
from pytest_greencompute.models.answers import digests, unlike_shapes, untold
from pytest_greencompute.models.counting import checked_count
from pytest_greencompute.models.fingerprints import of_counter, of_queries, of_scoring
from pytest_greencompute.models.queries import Batches, Queries, collected, plain
from pytest_greencompute.models.repeats import check_repeats
from pytest_greencompute.models.tokens import Heard, check_markers, count_answers, counter_of, hearing
from pytest_greencompute.models.watching import WatchedModel
from pytest_greencompute.models.workload import Score, Workload, check_references, check_score, scores
from pytest_greencompute.protocol.layout import Layout, Timing
from pytest_greencompute.protocol.measurement import Protocol, measuring
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Telling = Callable[[Tell], None]


def tell_nobody(_: Tell) -> None:
    """For whoever wants no progress line."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure, as the user gave it. Nothing is checked before ``prepare``.

    ``tokens`` says how to count the tokens of an answer, ``reasoning`` which markers open and close reasoning (``tokens.counter_of``).
    ``count`` names figures of ``compute.NAMES``. ``watched`` are the models that the test watches. ``awaits``: the model is awaited.
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
    watched: Sequence[WatchedModel] = ()
    awaits: bool = False
    timed: bool = True
    repeats: str = "fresh"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure, whether p99 must be bounded, the seed of the phases, and what the loop is to tell and to ask.

    ``enough`` is asked after each planned look with the run so far: True ends the measurement. ``figure`` says the run so far in words, for
    whom ``tell`` shows its progress to. Where another process measures by turns with this one, ``agree`` gives the layout that both share,
    and ``turn`` waits until a set may run (False ends the measurement). ``keep_answers``: their digests, to be compared.
    ``count`` names what a budget needs to be counted (``compute.NAMES``). ``timing`` and ``in_pairs`` as for ``asks.Plan``. ``by_turns``:
    others in this process take turns with it.
    ``protocol`` is what is done after the first pass.
    """

    max_seconds: float = 60.0
    needs_p99: bool = False
    seed: int = 0
    tell: Telling = tell_nobody
    enough: Callable[[Run], bool] = lambda _: False
    figure: Callable[[Run], str] = lambda _: ""
    agree: Callable[[Layout], Layout] = lambda layout: layout
    turn: Callable[[int, Run], bool] = lambda _index, _run: True
    keep_answers: bool = False
    timing: Timing = "whole"
    in_pairs: bool = False
    by_turns: bool = False
    count: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    protocol: Protocol = measuring


class Prepared:
    """A task whose input has been checked."""

    __slots__ = ("_counter", "count", "hearing", "notes", "references", "task", "workload")

    def __init__(self, task: Task) -> None:
        queries, self.notes = collected(task.queries)
        listed = plain(queries)
        size = listed.size if isinstance(listed, Batches) else task.batch_size
        model = adapted(task.model, size)
        self.notes += model.notes + task.notes
        self.task = task
        self.references = check_references(task.references, len(queries))
        check_score(task.score)
        check_repeats(task.repeats)
        self._counter = counter_of(task.tokens, task.reasoning, heard := Heard())
        self.hearing = partial(hearing, task.tokens, heard)
        self.count = checked_count(task.count)
        self.workload = Workload(model.call, queries, task.batch_size, task.collate, awaits=task.awaits)

    def scores(self, outputs: list[Any]) -> tuple[float, ...] | None:
        if self.references is None:
            return None
        if self.task.score == "accuracy":
            self.notes += unlike_shapes(outputs, self.references)
        return scores(outputs, self.references, self.task.score)

    def asked(self) -> dict[str, Any]:
        """What was asked, for the provenance: runs that were asked other things are not compared (``machine.RULES``)."""
        task, listed = self.task, plain(self.workload.listed)
        found: dict[str, Any] = {"queries": of_queries(listed.batches if isinstance(listed, Batches) else listed)}
        found |= of_scoring(self.references, task.score)
        if task.tokens is not None:
            found |= {"tokens": of_counter(task.tokens), "reasoning": " ".join(check_markers(task.reasoning))}
        if task.repeats == "cached":
            found["repeats"] = task.repeats
        return found

    def told(self, outputs: list[Any]) -> str:
        """The digests of the answers; empty where they cannot be told apart, which a note says."""
        found = digests(outputs)
        if not found and outputs:
            what = f"answers are {untold(outputs)} objects, which show nothing of what is in them"
            self.notes += (f"{what}: whether they change cannot be told without a __repr__",)
        return found

    def counted(self, outputs: list[Any]) -> dict[str, tuple[int, ...] | None]:
        """``tokens`` and ``reasoning`` of a run with these answers."""
        tokens, reasoning = count_answers(self._counter, outputs, self.workload.batch_size)
        return {"tokens": tokens, "reasoning": reasoning}

    def run(self, *, metered: bool, **fields: Any) -> Run:
        task, workload = self.task, self.workload
        notes = self.notes + fields.pop("notes", ())
        return Run(task.test, task.name, workload.queries, workload.batch_size, metered, notes=notes, **fields)
