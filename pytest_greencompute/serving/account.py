"""Which part of a load counts, and how much of it was answered: a pure account of requests over stretches of time.

A load is cut at ticks of the meters into *stretches*. A request counts in each by the share of its own time that lies inside, so that one
that a border cuts is neither lost nor counted twice, whatever waves the server answers in. A stretch is *settled* once no request that was
under way in it is still open.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.05  # requests per second that change by less have levelled
LEAST_INTERVALS = 6  # the last three against the three before them
KEPT = 2000  # of each kind of time: enough for a p99 on both sides (528), and a file of some kilobytes
LONG_STRETCH = 2.0  # of the time a request takes: what a stretch cuts off at its ends is then small
LEAST_STRETCHES = 6


@dataclass(frozen=True, slots=True)
class Done:
    """One request that has ended: when it was sent and when it ended (ns), which prompt, and its answer or why it failed.

    ``tokens`` is None where nothing counted them. ``first_s`` and ``gaps_s`` are the times to the first token and from each to the next,
    where the answer was streamed; ``events`` is how many events brought it, and ``by_events`` says that its tokens are no more than their
    number. ``cut``: at its limit of tokens. ``cached`` is how many of the ``prompt_tokens`` the server had in a cache, None where it does
    not say. ``reconnected``: the server had closed the connection that it keeps, and the request went over a new one.
    """

    prompt: int
    sent_ns: int
    ended_ns: int
    text: str = ""
    tokens: int | None = None
    first_s: float | None = None
    gaps_s: tuple[float, ...] = ()
    failed: str = ""
    said: str = ""
    events: int = 0
    by_events: bool = False
    cut: bool = False
    prompt_tokens: int = 0
    cached: int | None = None
    reconnected: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing was generated, as far as anybody can tell."""
        return not self.text and not self.events and self.tokens == 0

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.sent_ns) / 1e9


class Sample:
    """A fair sample of at most ``KEPT`` of all values that were added (Vitter's algorithm R).

    ``below(n)`` draws a whole number from 0 to n - 1.
    """

    __slots__ = ("_below", "_seen", "values")

    def __init__(self, below: Callable[[int], int]) -> None:
        self.values: list[float] = []
        self._seen = 0
        self._below = below

    def add(self, value: float) -> None:
        self._seen += 1
        if len(self.values) < KEPT:
            self.values.append(value)
        elif (place := self._below(self._seen)) < KEPT:
            self.values[place] = value


@dataclass(slots=True)
class Stretch:
    """A part of the load, from one tick to a later one, with the requests and tokens that fall into it."""

    start_ns: int
    end_ns: int
    queries: float = 0.0
    tokens: float = 0.0

    def take(self, done: Done) -> None:
        """The request's share that lies inside."""
        inside = min(done.ended_ns, self.end_ns) - max(done.sent_ns, self.start_ns)
        if inside > 0:
            part = inside / (done.ended_ns - done.sent_ns)
            self.queries += part
            self.tokens += part * (done.tokens or 0)


class Account:
    """The stretches so far and what ended in them. Requests that failed are counted, and answer nothing.

    Of the requests that were sent since ``since_ns``, ``answered``, ``failed`` and ``reconnected`` are counted and the times sampled. Of
    the answers ``uncounted`` have tokens that nobody counted, ``by_events`` as many as events brought them, or more, ``cut`` ended at their
    limit, ``empty`` have none; ``in_events`` is how many tokens came in how many events. ``below`` as for ``Sample``.
    """

    def __init__(self, since_ns: int, below: Callable[[int], int]) -> None:
        self.stretches: list[Stretch] = []
        self.answered = 0
        self.failed: Counter[str] = Counter()
        self.uncounted = self.by_events = self.cut = self.empty = self.reconnected = self.prompt_tokens = 0
        self.cached: int | None = None  # a server that tells may leave it out where it had none
        self.in_events = (0, 0)
        self.seconds, self.first_tokens, self.token_gaps = Sample(below), Sample(below), Sample(below)
        self._since_ns = since_ns
        self._open: list[Done] = []  # answered after the end of the last stretch: the next ones take their share

    def add(self, ended: Iterable[Done]) -> None:
        """Requests that have ended since the last call, in any order."""
        for done in ended:
            whole = done.sent_ns >= self._since_ns
            self.reconnected += whole and done.reconnected
            if done.failed:
                self.failed[done.failed] += whole
                continue
            for stretch in reversed(self.stretches):
                if stretch.end_ns <= done.sent_ns:
                    break
                stretch.take(done)
            if not self.stretches or done.ended_ns > self.stretches[-1].end_ns:
                self._open.append(done)
            if whole:
                self._note(done)

    def _note(self, done: Done) -> None:
        self.answered += 1
        self.uncounted += done.tokens is None
        self.by_events += done.by_events
        self.cut += done.cut
        self.empty += done.empty
        self.prompt_tokens += done.prompt_tokens
        if done.cached is not None:
            self.cached = (self.cached or 0) + done.cached
        self.seconds.add(done.seconds)
        if done.first_s is not None:
            self.first_tokens.add(done.first_s)
        if done.by_events:  # from event to event, each of which may bring several tokens
            return
        if done.events:
            self.in_events = (self.in_events[0] + (done.tokens or 0), self.in_events[1] + done.events)
        for gap in done.gaps_s:
            self.token_gaps.add(gap)

    def close(self, start_ns: int, end_ns: int) -> None:
        """A further stretch, which begins where the last one ended or later."""
        stretch = Stretch(start_ns, end_ns)
        for done in self._open:
            stretch.take(done)
        self._open = [done for done in self._open if done.ended_ns > end_ns]
        self.stretches.append(stretch)

    def settled(self, oldest_ns: int | None) -> int:
        """How many stretches are settled, where the oldest request still open was sent at ``oldest_ns`` (None: none is open)."""
        if oldest_ns is None:
            return len(self.stretches)
        return sum(stretch.end_ns <= oldest_ns for stretch in self.stretches)


def levelled(answers: Sequence[int]) -> bool:
    """Whether requests per interval have stopped trending, from the answers in each so far. One without any is no level: the server stalls.

    Answers that come in waves differ from interval to interval; by how much they do is what the means may differ by.
    """
    last = answers[-LEAST_INTERVALS:]
    if len(last) < LEAST_INTERVALS or not all(last):
        return False
    half = LEAST_INTERVALS // 2
    before, after = last[:half], last[half:]
    noise = (statistics.stdev(before) + statistics.stdev(after)) / 2
    return abs(statistics.fmean(after) - statistics.fmean(before)) <= max(LEVEL * statistics.fmean(last), noise)


def stretch_seconds(least_s: float, request_s: float, max_seconds: float) -> float:
    """How long a stretch should be: ``least_s`` by the meters, long beside a request, and short enough for some to fit."""
    return max(least_s, min(LONG_STRETCH * request_s, max_seconds / LEAST_STRETCHES))


def failures(failed: Mapping[str, int]) -> str:
    """'3 × status 429, 1 × connection dropped', the most frequent first."""
    return ", ".join(f"{count} × {reason}" for reason, count in sorted(failed.items(), key=lambda each: -each[1]) if count)
