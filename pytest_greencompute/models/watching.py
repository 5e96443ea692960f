"""Models that are watched: ``energy_meter.watch(model.generate)`` counts calls, prompts, tokens and the time inside.

A watched model behaves like itself. While queries run once (the first pass) its outputs are kept, and their tokens are counted when that
is over; while queries are run again and again to be measured, only the time inside is added up. So a figure is the same with a meter
and without.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.models.calls import answers_of, first_argument, flags_in, prompts_of
from pytest_greencompute.models.tallies import Tally
from pytest_greencompute.models.tokens import Counted, check_ends, counter_of
from pytest_greencompute.models.written import Ids, Keywords, ends_of, ids_of, padded, written_by

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

PENDING = 1000  # outputs of calls outside measured runs that wait to be counted, at most
_NOTHING: Any = object()  # the output of a call that raised
_MayCount = Callable[[Any, str], Counted | None]


class WatchedModel:
    """A callable that is called as ``function`` is, and counts.

    ``calls``, ``prompts``, ``tokens``, ``reasoning_tokens`` and ``seconds`` are of the calls that the test made and of those while
    measured queries ran once; what is run again to be measured is not counted. ``energy`` is the joules of the measured queries, each
    run once, that fall on this model by its share of their time. Any other attribute is that of ``function``.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        clock: Clock,
        *,
        name: str | None = None,
        tokens: object = None,
        reasoning: Sequence[str] | None = None,
        energy: Callable[[WatchedModel], Estimate] | None = None,
    ) -> None:
        if not callable(function) or isinstance(function, type):
            kind = "a class" if isinstance(function, type) else f"a {type(function).__name__}, which cannot be called"
            raise SettingsError(
                f"What is to be watched is {kind}.", remedy="Pass a function or a model: energy_meter.watch(model.generate)."
            )
        # Only the names and the text: what a module keeps in its __dict__ is its own, and is found by __getattr__.
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._clock = clock
        self._lock = threading.Lock()
        self._counter: _MayCount | None = counter_of(tokens, reasoning) or (_ids_if_any if _called(function) == "generate" else None)
        # A function is given what the model returned; all else counts what it wrote.
        self._by_ids = isinstance(tokens, str)
        self._by_function = callable(tokens) and not hasattr(tokens, "encode") and ends_of(tokens, {}) is None
        self._energy = energy
        self._sums = _Sums(known=self._counter is not None)
        self._whole = self._tally = Tally(keeps=True)
        self.watched_name = name or _called(function)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._function, args, kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bound to an instance like the function, where it stands in a class in the place of one."""
        binds = getattr(type(self._function), "__get__", None)
        if instance is None or binds is None:
            return self
        bound = binds(self._function, instance, owner)
        return lambda *args, **kwargs: self._run(bound, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        # Asked only for what this object does not have. Names of the language are not forwarded: copying asks for them before there
        # is anything to forward to, and what a module says of itself (__len__, __enter__) is looked up on the class anyway.
        if name.startswith("__") or name == "_function":
            raise AttributeError(name)
        return getattr(self._function, name)

    def __repr__(self) -> str:
        return f"<watched {self.watched_name}: {self.calls} {'call' if self.calls == 1 else 'calls'}>"

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Keywords) -> Any:
        tally, output, now = self._tally, _NOTHING, self._clock.now_ns
        start = now()
        try:
            output = function(*args, **kwargs)
            return output
        finally:
            self._add(tally, now() - start, args, kwargs, output)

    def _add(self, tally: Tally, nanoseconds: int, args: tuple[Any, ...], kwargs: Keywords, output: Any) -> None:
        tally.later = tally.later or hasattr(output, "__next__") or hasattr(output, "__anext__")
        if not tally.keeps:
            with self._lock:
                tally.nanoseconds += nanoseconds
            return
        given = first_argument(args, kwargs)
        prompts, flags = prompts_of(args, kwargs), flags_in(kwargs)
        keep = self._counter is not None and output is not _NOTHING
        with self._lock:
            tally.calls += 1
            tally.prompts += 1 if prompts.count is None else prompts.count
            tally.nanoseconds += nanoseconds
            if tally.asked is not None:
                tally.asked.append(prompts)
            if flags:
                tally.flags |= flags
            if keep:
                tally.outputs.append((tally.calls, given, output, kwargs))
        if keep and tally is self._whole and len(tally.outputs) >= PENDING:
            self._count(tally)

    # --- what was counted ---

    @property
    def calls(self) -> int:
        """How often it was called, calls that raised among them."""
        return self._whole.calls

    @property
    def prompts(self) -> int:
        """How many prompts these calls had: the size of the batch that each was given, 1 where that cannot be seen."""
        return self._whole.prompts

    @property
    def seconds(self) -> float:
        """Time inside, in seconds; calls at the same time each count. Raises MeterError where what was returned was a stream."""
        if self._whole.later:
            raise MeterError(
                f"What {self.watched_name} returned was a stream, whose work is done outside of the call: the time inside is not its own.",
                remedy="Watch a function that returns what the stream gives.",
            )
        return self._whole.nanoseconds / 1e9

    @property
    def tokens(self) -> int | None:
        """Tokens of the outputs; None where nothing counts them. Raises SettingsError for an output that cannot be counted."""
        self._count(self._whole)
        return self._sums.tokens

    @property
    def reasoning_tokens(self) -> int | None:
        """Those of ``tokens`` that are reasoning; None where there is no text in which markers could be found."""
        self._count(self._whole)
        return self._sums.reasoning

    @property
    def energy(self) -> Estimate:
        """Joules of the test's measured queries, each run once, that fall on this model: shared out by time (``note`` says so).

        Without ``--energy-budget`` the rest of the test is skipped. Raises MeterError where there is no figure.
        """
        if self._energy is None:
            raise MeterError("There is no energy: nothing is metered here.", remedy="Use energy_meter.watch in a test.")
        return self._energy(self)

    # --- used while measuring ---

    @contextlib.contextmanager
    def into(self, tally: Tally) -> Iterator[Tally]:
        """Count into ``tally`` for a while. Calls that have begun go where they began."""
        before, self._tally = self._tally, tally
        try:
            yield tally
        finally:
            self._tally = before

    def take_in(self, tally: Tally, *, outputs: bool = False) -> None:
        """Add what was counted elsewhere to what this object shows: calls, prompts and time, and the ``outputs`` to be counted later."""
        with self._lock:
            self._whole.calls += tally.calls
            self._whole.prompts += tally.prompts
            self._whole.nanoseconds += tally.nanoseconds
            self._whole.later = self._whole.later or tally.later
            if outputs:
                self._whole.outputs += tally.outputs

    def count(self, tally: Tally) -> tuple[int | None, int | None]:
        """Tokens and reasoning tokens of the outputs that ``tally`` has kept, which it then lets go. They are added to ``tokens``."""
        found = self._count(tally)
        return found.tokens, found.reasoning

    def _count(self, tally: Tally) -> _Sums:
        with self._lock:
            outputs, tally.outputs = tally.outputs, []
        counter = self._counter
        found = _Sums(known=counter is not None)
        try:
            if counter is not None:
                for call, given, output, kwargs in outputs:
                    for answer in self._answers(given, kwargs, output):
                        found.add(counter(answer, f"call {call} of {self.watched_name}"))
        except BaseException:
            found.add(None)  # the outputs are gone: what is left is no sum
            raise
        finally:
            with self._lock:
                self._sums.add(found)
        return found

    def _answers(self, given: Any, kwargs: Keywords, output: Any) -> list[Any]:
        """The answers in what a call returned; what padding is among them only a model of transformers tells, or a tokenizer."""
        writes = None if self._by_function else getattr(self._function, "__self__", None)
        answers: list[Any] | None = written_by(writes, given, kwargs, output)
        if answers is None:
            answers = answers_of(output, given)
            if self._counter is _ids_if_any and padded(answers, len(answers)) is not None:
                return [None]  # nothing was asked to count
            if self._by_ids:
                check_ends(answers, len(answers))
        return answers


class _WatchedCoroutine(WatchedModel):
    """A coroutine function that is watched: the time inside is that until the answer is there."""

    async def _run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Keywords) -> Any:
        tally, output, now = self._tally, _NOTHING, self._clock.now_ns
        start = now()
        try:
            output = await function(*args, **kwargs)
            return output
        finally:
            self._add(tally, now() - start, args, kwargs, output)


def watched(function: Callable[..., Any], clock: Clock, **options: Any) -> WatchedModel:
    """``function``, watched; ``options`` are those of WatchedModel. Raises SettingsError for what cannot be called."""
    called = getattr(function, "__call__", None)  # noqa: B004
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)):
        return WatchedModel(function, clock, **options)
    made = _WatchedCoroutine(function, clock, **options)
    mark: Callable[[Any], Any] | None = getattr(inspect, "markcoroutinefunction", None)  # Python 3.12
    if mark is not None:
        mark(made)
    return made


class _Sums:
    """Tokens and reasoning tokens added up; None once something could not be counted."""

    __slots__ = ("reasoning", "tokens")

    def __init__(self, *, known: bool) -> None:
        self.tokens: int | None = 0 if known else None
        self.reasoning: int | None = 0 if known else None

    def add(self, more: Counted | _Sums | None) -> None:
        tokens, reasoning = (None, None) if more is None else (more.tokens, more.reasoning)
        self.tokens = None if self.tokens is None or tokens is None else self.tokens + tokens
        self.reasoning = None if self.reasoning is None or reasoning is None else self.reasoning + reasoning


def _ids_if_any(answer: Any, _where: str) -> Counted | None:
    """What ``generate`` is usually: it returns ids. Where it does not, nothing was asked to count."""
    ids = ids_of(answer) if hasattr(answer, "tolist") or isinstance(answer, Ids) else None
    return None if ids is None else Counted(len(ids))


def _called(function: Callable[..., Any]) -> str:
    """What people call a function or a model."""
    return str(getattr(function, "__name__", type(function).__name__))
