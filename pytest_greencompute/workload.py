"""A model and its queries as something that can be run part by part.

Bad input is refused here, before anything is measured: an empty list, references of another length, a model that
returns too few answers.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pytest_greencompute.answers import Keeper, equal
from pytest_greencompute.asks import Worked
from pytest_greencompute.awaiting import finished, settled
from pytest_greencompute.clock import Clock
from pytest_greencompute.device_sync import synchronizer
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.queries import Batches
from pytest_greencompute.samples import Latency
from pytest_greencompute.schedule import Part

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

OUT_OF_MEMORY = ("outofmemoryerror", "out of memory", "resource_exhausted", "failed to allocate memory", "alloc_failed", "memoryerror")

Score = str | Callable[[Any, Any], float]


def is_out_of_memory(said: str) -> bool:
    """Whether an error's type and text say that a model did not fit into the memory, in the words of the usual frameworks."""
    return any(mark in said.lower() for mark in OUT_OF_MEMORY)


class Workload:
    """Runs batches of ``queries`` through ``model``; ``batch_size`` queries at a time, the last batch may be smaller. Queries that come in
    batches (``Batches``) keep theirs.

    ``collate`` turns a slice of the queries into what the model takes; it is part of the query's work and is measured. ``awaits``: what
    the model returns is awaited, where it can be; then only the methods with an ``a`` before their names run it.
    """

    __slots__ = ("_awaits", "_collate", "_model", "_queries", "_sync", "batch_size", "batches", "queries")

    def __init__(
        self,
        model: Callable[[Any], Any],
        queries: Sequence[Any],
        batch_size: int,
        collate: Callable[[Any], Any] | None,
        *,
        awaits: bool = False,
    ) -> None:
        if not callable(model):
            raise SettingsError(f"The model is a {type(model).__name__}, which cannot be called.", remedy=_instead_of(model))
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise SettingsError(f"batch_size is {batch_size!r}.", remedy="It must be a whole number of at least 1.")
        if isinstance(queries, Batches):
            if batch_size not in {1, queries.size}:
                raise SettingsError(
                    f"batch_size is {batch_size}, and the DataLoader's batches hold {queries.size} queries.",
                    remedy="Leave batch_size out, or pass the dataset with collate=loader.collate_fn.",
                )
            batch_size = queries.size
        self._model = model
        self._queries = queries
        self._collate = collate
        self._awaits = awaits
        self._sync = synchronizer()
        self.queries = len(queries)
        self.batch_size = batch_size
        self.batches = math.ceil(self.queries / batch_size)

    @property
    def model(self) -> Callable[[Any], Any]:
        """What is called with a batch."""
        return self._model

    @property
    def listed(self) -> Sequence[Any]:
        """The queries."""
        return self._queries

    def first_pass(self, clock: Clock, keep: int | None = None) -> tuple[list[Any], Worked]:
        """As ``afirst_pass``, for a model that is not awaited."""
        return finished(self.afirst_pass(clock, keep))

    async def afirst_pass(
        self,
        clock: Clock,
        keep: int | None = None,
        tell: Callable[[int], None] = lambda _: None,
        done: Callable[[int], None] = lambda _: None,
    ) -> tuple[list[Any], Worked]:
        """Run every query once (or the first ``keep``), and collect the answers in query order. ``tell`` is told how many are done.

        ``done`` is told of each batch, when it has been answered, how many queries it had.

        Raises SettingsError where the model returns another number of answers than it got queries; what the model itself raises
        goes through untouched.
        """
        outputs: list[Any] = []
        keeper = Keeper()
        start_ns = clock.now_ns()
        end = self.queries if keep is None else min(keep, self.queries)
        if isinstance(self._queries, Batches):  # no batch of theirs is cut
            end = min(-(-end // self.batch_size) * self.batch_size, self.queries)
        for first in range(0, end, self.batch_size):
            tell(first)
            batch = self._queries[first : min(first + self.batch_size, end)]
            held = min(first + self.batch_size, end) - first
            outputs.extend(_answers(await self._call(batch), held, first, keeper.rows))
            done(held)
        self._sync = synchronizer()
        self._sync()
        return outputs, Worked(start_ns, clock.now_ns(), end)

    async def _call(self, batch: Any) -> Any:
        answer = self._model(batch if self._collate is None else self._collate(batch))
        return await settled(answer) if self._awaits else answer

    def run(self, part: Part, clock: Clock) -> Worked:
        """As ``arun``, for a model that is not awaited."""
        return finished(self.arun(part, clock))

    async def arun(self, part: Part, clock: Clock) -> Worked:
        """Run a part back to back, the device synchronised at both ends. Answers are thrown away."""
        model, queries, size, collate, awaits = self._model, self._queries, self.batch_size, self._collate, self._awaits
        self._sync()
        start_ns = clock.now_ns()
        for index in part:
            batch = queries[index * size : (index + 1) * size]
            if awaits:
                await settled(model(batch if collate is None else collate(batch)))
            else:
                model(batch if collate is None else collate(batch))  # kept in no variable: it would live through the next call
        self._sync()
        return Worked(start_ns, clock.now_ns(), self._queries_in(part))

    async def arun_timed(self, part: Part, clock: Clock, seconds: float | None) -> Worked:
        """Run a part with the device synchronised around every batch, until done or ``seconds`` are over (one batch at least)."""
        latencies: list[Latency] = []
        self._sync()
        start_ns = before_ns = clock.now_ns()
        for index in part:
            batch = self._queries[index * self.batch_size : (index + 1) * self.batch_size]
            before_ns = clock.now_ns()
            await self._call(batch)
            self._sync()
            after_ns = clock.now_ns()
            latencies.append(Latency(min(self.batch_size, self.queries - index * self.batch_size), (after_ns - before_ns) / 1e9))
            if seconds is not None and (after_ns - start_ns) / 1e9 >= seconds:
                break
        return Worked(start_ns, clock.now_ns(), sum(each.queries for each in latencies), tuple(latencies))

    def _queries_in(self, part: Part) -> int:
        missing_in_last = self.batches * self.batch_size - self.queries
        return part.count * self.batch_size - part.times(self.batches - 1) * missing_in_last


METHODS = ("predict", "encode", "run", "generate", "transform")  # what models that cannot be called answer by


def _instead_of(model: object) -> str:
    methods = () if isinstance(model, str | bytes) else METHODS  # a text has an encode of its own
    method = next((name for name in methods if callable(getattr(model, name, None))), None)
    return "Pass a function of a batch." if method is None else f"Pass what answers a batch, such as its method {method!r}."


def _answers(answer: Any, asked: int, first: int, rows: Callable[[Any], list[Any]] = list) -> list[Any]:
    """The answers of one batch as a list, by ``rows``. Raises SettingsError if there are not as many as queries."""
    where = f"queries {first} to {first + asked - 1}" if asked > 1 else f"query {first}"
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()  # so that Python does not warn beside our error
        raise SettingsError(
            f"The model returned a {type(answer).__name__} for {where}, which is to be awaited.",
            remedy="Measure an async model with: run = await energy_meter.ameasure(model, queries).",
        )
    if answer is None or isinstance(answer, str | bytes) or hasattr(answer, "keys") or not hasattr(answer, "__len__"):
        raise SettingsError(
            f"The model returned a {type(answer).__name__} for {where}.",
            remedy="It is called with a batch and must return one answer per query, in order, as a list, a tuple, an array or a tensor.",
        )
    found = answer.shape[0] if hasattr(answer, "toarray") else len(answer)  # a sparse matrix has no length
    if found != asked:
        raise SettingsError(
            f"The model returned {found} answer{'' if found == 1 else 's'} for {asked} queries ({where}).",
            remedy="One answer per query, in order.",
        )
    return rows(answer)


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
    alone = isinstance(references, str | bytes | Mapping) or getattr(references, "shape", None) == ()
    if alone or not (hasattr(references, "__iter__") or hasattr(references, "__getitem__")):
        raise SettingsError(
            f"references is a {type(references).__name__}.", remedy="Pass a list with one entry per query, or leave it out."
        )
    return list(references)


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
