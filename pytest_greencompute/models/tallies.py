"""What is counted of watched models over a stretch of time: while queries run once, and while they run again to be measured."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, Protocol

from pytest_greencompute.values.readings import SET_BY_APPLICATION, Block
from pytest_greencompute.values.run import Watched, Watching

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a call asked: ``count`` prompts, None where that cannot be seen, and what tells them apart, None where nothing does."""

    count: int | None
    keys: tuple[Hashable, ...] | None = None


class Tally:
    """What was counted of one watched model over a stretch of time. ``keeps`` outputs and flags, or only adds up.

    ``outputs`` are those not counted yet, each with the call's number and first argument. ``asked`` is what each call of the batch that is
    running asked, where somebody takes that (``OncePass.done``). ``later``: it returned a stream, whose work is done outside of the call.
    """

    __slots__ = ("asked", "calls", "flags", "keeps", "later", "nanoseconds", "outputs", "prompts")

    def __init__(self, *, keeps: bool, by_batch: bool = False) -> None:
        self.asked: list[Prompts] | None = [] if by_batch else None
        self.calls = 0
        self.prompts = 0
        self.nanoseconds = 0
        self.keeps = keeps
        self.later = False
        self.flags: dict[str, str] = {}
        self.outputs: list[tuple[int, Any, Any, Mapping[str, Any]]] = []

    @property
    def inside_ns(self) -> int | None:
        """The time inside; None where it is not that of the work."""
        return None if self.later else self.nanoseconds


class Watchable(Protocol):
    """A model that counts into the tally that it is given (``watching.WatchedModel``)."""

    watched_name: str

    def into(self, tally: Tally) -> contextlib.AbstractContextManager[Tally]:
        """Count into ``tally`` for a while."""
        ...

    def take_in(self, tally: Tally, *, outputs: bool = False) -> None:
        """Add what was counted elsewhere to what this object shows."""
        ...

    def count(self, tally: Tally) -> tuple[int | None, int | None]:
        """Tokens and reasoning tokens of the outputs that ``tally`` has kept, which it then lets go."""
        ...


@contextlib.contextmanager
def set_aside(models: Sequence[Watchable]) -> Iterator[list[Tally]]:
    """While queries run again and again: that is not counted as what the test did. Gives the tallies that the time inside goes to."""
    with contextlib.ExitStack() as held:
        yield [held.enter_context(model.into(Tally(keeps=False))) for model in models]


class OncePass:
    """What the watched models do while queries run once. Between ``with`` and ``found`` the models count into tallies of their own."""

    __slots__ = ("_bound", "_held", "_models", "_reached", "_tallies")

    def __init__(self, models: Sequence[Watchable]) -> None:
        self._models = tuple(models)
        self._tallies = [Tally(keeps=True, by_batch=True) for _ in self._models]
        self._held = contextlib.ExitStack()
        self._reached = 0
        self._bound: Literal["", "most"] = ""

    def __enter__(self) -> OncePass:
        for model, tally in zip(self._models, self._tallies, strict=True):
            self._held.enter_context(model.into(tally))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._held.close()
        for model, tally in zip(self._models, self._tallies, strict=True):
            model.take_in(tally, outputs=kind is not None)  # after an error nobody asks for what was found

    def done(self, size: int) -> None:
        """A batch of ``size`` queries is done. At most all of them reached a model; of one, it does not matter how often it asked."""
        asked: list[Prompts] = []
        for tally in self._tallies:
            asked += tally.asked or ()
            tally.asked = []
        least, most = reached_by(asked, size)
        self._reached += most
        if least < most:
            self._bound = "most"

    def found(self, queries: int, share: Sequence[float | None] = ()) -> Watching | None:
        """What was seen while ``queries`` ran once, tokens counted now; None where no model is watched. Raises SettingsError."""
        if not self._models:
            return None
        made = []
        for index, (model, tally) in enumerate(zip(self._models, self._tallies, strict=True)):
            tokens, reasoning = model.count(tally)
            made.append(Watched(model.watched_name, tally.calls, tokens, reasoning, share[index] if share else None))
        return Watching(queries, min(self._reached, queries), tuple(made), self._bound)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the application itself switched on: reasoning by a flag is no default of the model's."""
        flags = {name: value for tally in self._tallies for name, value in tally.flags.items()}
        return (f"{SET_BY_APPLICATION}{', '.join(f'{name}={value}' for name, value in flags.items())}",) if flags else ()

    def share(self, seconds: float) -> tuple[float | None, ...]:
        """The part of ``seconds`` that was spent inside each model."""
        return tuple(_part([tally.inside_ns], seconds * 1e9) for tally in self._tallies)


def reached_by(asked: Sequence[Prompts], size: int) -> tuple[int, int]:
    """How many of a batch's ``size`` queries reached a model, at least and at most, by what the calls asked while it ran.

    Prompts that differ are those of different queries. The same one again may be a query that is asked again, or another query like it; so
    may a prompt that nothing tells apart, unless it came in the same call. A call whose prompts cannot be counted may be for all queries.
    """
    counts = [each.count for each in asked if each.count != 0]
    known = [each for each in counts if each is not None]
    most = size if len(known) < len(counts) else min(size, sum(known))
    in_one_call = max((each or 1 for each in counts), default=0)
    apart = {key for each in asked for key in each.keys or ()}
    return min(most, max(in_one_call, len(apart))), most


class Inside:
    """The time that each block spends inside each watched model."""

    __slots__ = ("_by_start",)

    def __init__(self) -> None:
        self._by_start: dict[int, tuple[int | None, ...]] = {}

    def note(self, start_ns: int, tallies: Sequence[Tally]) -> None:
        """The work that began at ``start_ns`` counted into ``tallies``, one a model."""
        if tallies:
            self._by_start[start_ns] = tuple(tally.inside_ns for tally in tallies)

    def shared(self, watching: Watching | None, blocks: Sequence[Block]) -> Watching | None:
        """``watching`` with the part of the blocks' time that was spent inside each model."""
        seen = [(self._by_start[block.start_ns], block) for block in blocks if block.start_ns in self._by_start]
        if watching is None or not seen:
            return watching
        busy = sum(block.end_ns - block.start_ns for _, block in seen)
        shares = [_part([inside[index] for inside, _ in seen], busy) for index in range(len(watching.models))]
        return replace(watching, models=tuple(replace(each, share=part) for each, part in zip(watching.models, shares, strict=True)))


def _part(inside: Sequence[int | None], whole: float) -> float | None:
    """A share of time, None where a part of it is not known; calls at the same time may add up to more than there is."""
    known = [each for each in inside if each is not None]
    return min(1.0, sum(known) / whole) if whole > 0 and len(known) == len(inside) else None
