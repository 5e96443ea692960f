"""A model and its queries as something that can be run part by part.

Bad input is refused here, before anything is measured: an empty list, references of another length, a model that
returns too few answers.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import io
import itertools
import math
import sys
import time
import types
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.models.answers import DEEP, Keeper, held_in
from pytest_greencompute.models.awaiting import finished, settled
from pytest_greencompute.models.devices import may_queue, synchronizer, wait_for
from pytest_greencompute.models.queries import Batches, Made, plain
from pytest_greencompute.protocol.parts import Part, Worked
from pytest_greencompute.values.run import Latency
from pytest_greencompute.values.units import whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

resource: Any = None


with contextlib.suppress(ImportError):  # Windows has none
    resource = importlib.import_module("resource")


OUT_OF_MEMORY = ("outofmemoryerror", "out of memory", "resource_exhausted", "failed to allocate memory", "alloc_failed", "memoryerror")
ALONE_IN_IT = 0.9  # of the processor's time: the calling thread does the work
LAZY = 3  # batches in which a model may still be loading what its device is found by
LISTED_S = 0.001  # longer than this takes to list answers that are there
ALONE = 64  # batches of a part that are asked one by one, to be held against the first pass


def is_out_of_memory(said: str) -> bool:
    """Whether an error's type and text say that a model did not fit into the memory, in the words of the usual frameworks."""
    return any(mark in said.lower() for mark in OUT_OF_MEMORY)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a batch took: seconds, and those of the processor (None where the clock cannot tell). ``compiled``: torch compiled meanwhile.

    ``jostled``: threads worked on it together and other processes took the processor from some, for which the others may have spun.
    """

    seconds: float
    processor_s: float | None = None
    compiled: bool = False
    jostled: bool = False


class Stamps:
    """The stamps of the first pass, batch by batch, in a few bytes each."""

    __slots__ = ("_compiled", "_jostled", "_processor_s", "_seconds")

    def __init__(self) -> None:
        self._seconds, self._processor_s = array("d"), array("d")
        self._compiled: set[int] = set()
        self._jostled: set[int] = set()

    def __len__(self) -> int:
        return len(self._seconds)

    def append(self, stamp: Stamp) -> None:
        if stamp.compiled:
            self._compiled.add(len(self))
        if stamp.jostled:
            self._jostled.add(len(self))
        self._seconds.append(stamp.seconds)
        self._processor_s.append(math.nan if stamp.processor_s is None else stamp.processor_s)

    def __getitem__(self, index: int) -> Stamp:
        processor_s = self._processor_s[index]
        known_s = None if math.isnan(processor_s) else processor_s
        return Stamp(self._seconds[index], known_s, index in self._compiled, index in self._jostled)


class _Stamping:
    """Stamps around one batch."""

    __slots__ = ("_clock", "_compiled", "_interrupted", "_own_s", "_processor", "_processor_ns", "_start_ns")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._processor: Callable[[], int] | None = getattr(clock, "processor_ns", None)  # a simulated clock has none

    def begin(self) -> None:
        self._compiled, self._interrupted, self._own_s = _compilations(), _interruptions(), time.thread_time()
        self._processor_ns = 0 if self._processor is None else self._processor()
        self._start_ns = self._clock.now_ns()

    def end(self) -> Stamp:
        seconds = (self._clock.now_ns() - self._start_ns) / 1e9
        processor_s = None if self._processor is None else (self._processor() - self._processor_ns) / 1e9
        own_s = time.thread_time() - self._own_s
        together = processor_s is not None and own_s < ALONE_IN_IT * processor_s
        return Stamp(seconds, processor_s, _compilations() != self._compiled, together and _interruptions() != self._interrupted)


def _interruptions() -> int:
    """How often other processes have taken a processor from this one so far; 0 where the system does not tell."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _compilations() -> int:
    """How many frames torch has compiled so far."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    frames: Mapping[str, int] = {} if dynamo is None else dynamo.counters.get("frames", {})
    return frames.get("total", 0)


class Workload:
    """Runs batches of ``queries`` through ``model``; ``batch_size`` queries at a time, the last batch may be smaller. Queries that come in
    batches (``Batches``) keep theirs.

    ``collate`` turns a slice of the queries into what the model takes; it is part of the query's work and is measured. ``awaits``: what
    the model returns is awaited, where it can be; then only the methods with an ``a`` before their names run it.
    """

    __slots__ = ("_awaits", "_collate", "_model", "_queries", "_sync", "_waits", "batch_size", "batches", "queries", "stamps")

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
        size = whole(batch_size)
        if size is None:
            raise SettingsError(f"batch_size is {batch_size!r}.", remedy="It must be a whole number of at least 1.")
        listed = plain(queries)
        if isinstance(listed, Batches):
            if size not in {1, listed.size}:
                raise SettingsError(
                    f"batch_size is {size}, and the DataLoader's batches hold {listed.size} queries.",
                    remedy="Leave batch_size out, or pass the dataset with collate=loader.collate_fn.",
                )
            size = listed.size
        self._model = model
        self._queries = queries
        self._collate = collate
        self._awaits = awaits
        self._sync, self._waits = synchronizer(), False  # waits: answers of the first pass were still to be computed when they came
        self.queries = len(queries)
        self.batch_size = size
        self.batches = math.ceil(self.queries / size)
        self.stamps = Stamps()

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
        (queries,) = self._passes(1)
        self.stamps, stamping = Stamps(), _Stamping(clock)
        start_ns = clock.now_ns()
        end = self.queries if keep is None else min(keep, self.queries)
        if isinstance(plain(queries), Batches):  # no batch of theirs is cut
            end = min(-(-end // self.batch_size) * self.batch_size, self.queries)
        for first in range(0, end, self.batch_size):
            tell(first)
            batch = queries[first : min(first + self.batch_size, end)]
            held = min(first + self.batch_size, end) - first
            stamping.begin()
            answer = await self._call(batch)
            if len(self.stamps) < LAZY:
                self._sync = synchronizer()
            self._waits |= may_queue() and wait_for(answer)
            self._sync()
            self.stamps.append(stamp := stamping.end())
            answer = _worked(answer, held, stamp, clock)
            outputs.extend(_answers(answer, held, first, keeper.rows, awaits=self._awaits))
            del answer
            done(held)
        self._sync = synchronizer()
        self._sync()
        self._let_go((queries,))
        return outputs, Worked(start_ns, clock.now_ns(), end)

    def _passes(self, batches: int) -> list[Sequence[Any]]:
        """The queries of each pass that so many batches begin: the same ones, or those that are made for it."""
        passes = -(-batches // self.batches)
        queries = self._queries
        return [queries.again() for _ in range(passes)] if isinstance(queries, Made) else [queries] * passes

    def _let_go(self, passes: Sequence[Sequence[Any]]) -> None:
        if isinstance(self._queries, Made):
            for listed in passes:
                self._queries.let_go(listed)

    def batch(self, index: int) -> Any:
        """Number ``index`` of the batches, before ``collate``."""
        return self._queries[index * self.batch_size : (index + 1) * self.batch_size]

    async def _call(self, batch: Any) -> Any:
        answer = self._model(batch if self._collate is None else self._collate(batch))
        answer = await settled(answer) if self._awaits else answer
        if self._waits:
            wait_for(answer)
        return answer

    def run(self, part: Part, clock: Clock) -> Worked:
        """As ``arun``, for a model that is not awaited."""
        return finished(self.arun(part, clock))

    async def arun(self, part: Part, clock: Clock) -> Worked:
        """Run a part back to back, the device synchronised at both ends. Answers are thrown away."""
        model, size, collate = self._model, self.batch_size, self._collate
        passes, walk = self._passes(len(part)), iter(part)
        self._sync()
        start_ns = clock.now_ns()
        for queries in passes:
            for index in itertools.islice(walk, self.batches):
                batch = queries[index * size : (index + 1) * size]
                if self._awaits or self._waits:
                    await self._call(batch)
                else:
                    model(batch if collate is None else collate(batch))  # kept in no variable: it would live through the next call
        self._sync()
        end_ns = clock.now_ns()
        self._let_go(passes)
        return Worked(start_ns, end_ns, self._queries_in(part))

    async def arun_timed(self, part: Part, clock: Clock, seconds: float | None) -> Worked:
        """Run a part with the device synchronised around every batch, until done or ``seconds`` are over (one batch at least)."""
        latencies: list[Latency] = []
        passes = self._passes(len(part))
        self._sync()
        start_ns = before_ns = clock.now_ns()
        for place, index in enumerate(part):
            batch = passes[place // self.batches][index * self.batch_size : (index + 1) * self.batch_size]
            before_ns = clock.now_ns()
            await self._call(batch)
            self._sync()
            after_ns = clock.now_ns()
            latencies.append(Latency(min(self.batch_size, self.queries - index * self.batch_size), (after_ns - before_ns) / 1e9))
            if seconds is not None and (after_ns - start_ns) / 1e9 >= seconds:
                break
        end_ns = clock.now_ns()
        self._let_go(passes)
        return Worked(start_ns, end_ns, sum(each.queries for each in latencies), tuple(latencies))

    async def arun_again(self, part: Part, clock: Clock, tell: Callable[[int, Stamp, list[Any] | SettingsError], None]) -> Worked:
        """As ``arun``, the first batches one by one, with their latencies: ``tell`` is told what each took and its answers, in no measured
        time.

        The error is told instead where there are not as many answers as queries.
        """
        alone = min(len(part), self.batches, ALONE)
        first = replace(part, count=alone)
        (queries,) = self._passes(alone)
        latencies: list[Latency] = []
        stamping, start_ns, told_ns = _Stamping(clock), clock.now_ns(), 0
        for index in first:
            batch = queries[index * self.batch_size : (index + 1) * self.batch_size]
            held = min(self.batch_size, self.queries - index * self.batch_size)
            self._sync()
            stamping.begin()
            try:
                answer = await self._call(batch)
            except Exception as error:
                _explained(error)
                raise
            self._sync()
            stamp, before_ns = stamping.end(), clock.now_ns()
            latencies.append(Latency(held, stamp.seconds))
            tell(index, stamp, _answers_or_error(answer, held, index * self.batch_size, awaits=self._awaits))
            del answer
            told_ns += clock.now_ns() - before_ns
        self._let_go((queries,))
        rest = await self.arun(replace(part, start=part.start + alone, count=part.count - alone), clock) if len(part) > alone else None
        end_ns = clock.now_ns() if rest is None else rest.end_ns
        first_s = tuple(self.stamps[index].seconds for index in first)
        return Worked(start_ns + told_ns, end_ns, self._queries_in(part), tuple(latencies), first_s)

    def _queries_in(self, part: Part) -> int:
        missing_in_last = self.batches * self.batch_size - self.queries
        return part.count * self.batch_size - part.times(self.batches - 1) * missing_in_last


METHODS = ("predict", "encode", "run", "generate", "transform")  # what models that cannot be called answer by


def _instead_of(model: object) -> str:
    methods = () if isinstance(model, str | bytes) else METHODS  # a text has an encode of its own
    method = next((name for name in methods if callable(getattr(model, name, None))), None)
    return "Pass a function of a batch." if method is None else f"Pass what answers a batch, such as its method {method!r}."


def _explained(error: Exception) -> None:
    """Say beside an error of the model's own when it came (Python 3.11)."""
    if hasattr(error, "add_note"):
        error.add_note("The model raised this when its queries were asked again: the first pass went well. If it uses them up, pass a "
                       "function that makes them: measure(model, lambda: [open(path) for path in paths]).")  # fmt: skip


def _answers_or_error(answer: Any, asked: int, first: int, *, awaits: bool) -> list[Any] | SettingsError:
    try:
        return _answers(answer, asked, first, awaits=awaits)
    except SettingsError as error:
        return error


def _answers(answer: Any, asked: int, first: int, rows: Callable[[Any], list[Any]] = list, *, awaits: bool = False) -> list[Any]:
    """The answers of one batch as a list, by ``rows``. Raises SettingsError if there are not as many as queries, or none computed yet."""
    where = f"queries {first} to {first + asked - 1}" if asked > 1 else f"query {first}"
    if inspect.isawaitable(answer):
        _close([answer])
        raise SettingsError(
            f"The model returned a {type(answer).__name__} for {where}, which is to be awaited.",
            remedy="Measure an async model with: run = await energy_meter.ameasure(model, queries).",
        )
    keyed = hasattr(answer, "keys") and getattr(answer, "ndim", None) != 1  # a column of pandas has keys, and holds a value a row
    if answer is None or isinstance(answer, str | bytes | set | frozenset) or keyed or not hasattr(answer, "__len__"):
        raise SettingsError(
            f"The model returned a {type(answer).__name__} for {where}.",
            remedy="It is called with a batch and must return one answer per query, in order, as a list, a tuple, an array or a tensor.",
        )
    if getattr(answer, "shape", None) == ():
        raise SettingsError(
            f"The model returned a {type(answer).__name__} of shape () for {where}.",
            remedy="One row per query, in order: where squeeze() takes away that of a single query, write squeeze(-1).",
        )
    found = answer.shape[0] if hasattr(answer, "toarray") else len(answer)  # a sparse matrix has no length
    if found != asked:
        raise SettingsError(
            f"The model returned {found} answer{'' if found == 1 else 's'} for {asked} queries ({where}).",
            remedy="One answer per query, in order.",
        )
    listed = answer if isinstance(answer, list | tuple) or hasattr(answer, "dtype") else [*answer]
    if (open_ := uncomputed(listed)) is not None:
        said = f"The model returned a {type(open_).__name__} as an answer ({where}), which has not been computed."
        remedy = _remedy(open_, awaits=awaits)
        _close(listed)
        raise SettingsError(said, remedy=remedy)
    return rows(answer)


def _worked(answer: Any, asked: int, stamp: Stamp, clock: Clock) -> Any:
    """A sequence of a class of its own as a list. Raises SettingsError for one that does its work only when it is asked for its items."""
    known = any(hasattr(answer, name) for name in ("dtype", "shape", "keys"))
    if known or isinstance(answer, list | tuple | str | bytes | set | frozenset) or not hasattr(answer, "__len__") or len(answer) != asked:
        return answer
    start_ns = clock.now_ns()
    listed = [*answer]
    if (clock.now_ns() - start_ns) / 1e9 > max(LISTED_S, stamp.seconds):
        raise SettingsError(
            f"The model returned a {type(answer).__name__}, which computes its answers only when it is asked for them.",
            remedy="Return what it gives: list(…).",
        )
    return listed


_PROMISES = (types.FunctionType, types.MethodType, functools.partial)  # to be called, before anything is computed
_COMPUTED = (str, bytes, int, float, type(None))
_PLAIN = frozenset({*_COMPUTED, bool})


def uncomputed(answer: Any, deep: int = DEEP) -> Any:
    """What in an answer is a promise of one, whose work is still to be done: to be awaited, waited for, iterated; None where nothing is."""
    if isinstance(answer, _COMPUTED) or (isinstance(answer, list | tuple) and _PLAIN.issuperset(map(type, answer))):  # or a million ids
        return None
    if hasattr(answer, "dtype") and not hasattr(answer, "__dask_graph__"):
        return uncomputed(answer.tolist(), deep) if str(answer.dtype) == "object" and hasattr(answer, "tolist") else None
    if inspect.isawaitable(answer) or isinstance(answer, (Future, *_PROMISES)) or inspect.isasyncgen(answer) or _is_result_to_come(answer):
        return answer
    if isinstance(answer, Iterator) and not isinstance(answer, io.IOBase):
        return answer
    graph = getattr(answer, "__dask_graph__", None)
    if callable(graph) and not isinstance(answer, type):
        return answer if graph() is not None else None
    return next((found for each in held_in(answer) if (found := uncomputed(each, deep - 1)) is not None), None) if deep else None


def _is_result_to_come(answer: Any) -> bool:
    """Whether it is what a pool of processes or threads gives at once (``apply_async``), or torch (``torch.jit.fork``)."""
    kinds = (("get", "ready", "wait", "successful"), ("wait", "value", "then"))
    return any(all(callable(getattr(type(answer), name, None)) for name in kind) for kind in kinds)


def _remedy(uncomputed: Any, *, awaits: bool) -> str:
    if inspect.isawaitable(uncomputed):
        gather = "return await asyncio.gather(*…) in an async model"
        return f"{gather[0].upper()}{gather[1:]}." if awaits else f"{gather[0].upper()}{gather[1:]}, and measure it with ameasure."
    if isinstance(uncomputed, _PROMISES):
        return "Return what it returns: call it in the model."
    if isinstance(uncomputed, Iterator) or inspect.isasyncgen(uncomputed):
        return "Return what it gives: list(…)."
    if hasattr(uncomputed, "__dask_graph__"):
        return "Return what it computes: .compute()."
    return "Return what it holds once it is done: .result(), .get() or .wait()."


def _close(answers: Iterable[Any]) -> None:
    """Close coroutines that nobody will await, so that Python does not warn beside our error."""
    for answer in answers:
        if inspect.iscoroutine(answer):
            answer.close()
        elif isinstance(answer, list | tuple | dict):
            _close(answer.values() if isinstance(answer, dict) else answer)
