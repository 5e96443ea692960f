"""Raw samples of one run: frozen, finite, and enough to compute every figure again.

Units are in the names: joules (``_j``), watts (``_w``), seconds (``_s``), nanoseconds of a monotonic clock (``_ns``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.values.provenance import Provenance
from pytest_greencompute.values.readings import Block, Idle, Source, check_finite

ANSWER_DIGITS = 16  # hexadecimal digits that an answer's digest has
Bound = Literal["", "least", "most"]
BOUNDS: tuple[Bound, ...] = ("", "least", "most")


@dataclass(frozen=True, slots=True)
class Latency:
    """One timed batch: how many queries it held and how long it took, device synchronised before and after.

    ``set_index`` is the set after which it was timed; None for the pass before all sets.
    """

    queries: int
    seconds: float
    set_index: int | None = None

    def __post_init__(self) -> None:
        check_finite("A latency", self.seconds)
        if self.queries < 1 or self.seconds < 0:
            raise MeterError(f"A batch of {self.queries} queries cannot take {self.seconds:g} s.")


@dataclass(frozen=True, slots=True)
class Watched:
    """What one watched model did while each query ran once: ``calls`` of it, and ``tokens`` of its output, some of them ``reasoning``.

    Tokens are None where nothing counts them. ``share`` is the part of the blocks' time that was spent inside it, None where there are
    no blocks. Invariant: nothing is negative, and ``share`` at most 1.
    """

    name: str
    calls: int
    tokens: int | None = None
    reasoning: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        counts = [each for each in (self.calls, self.tokens, self.reasoning) if each is not None]
        if min(counts) < 0 or not 0 <= (self.share or 0.0) <= 1:
            raise SettingsError(f"What was watched of {self.name} makes no sense: {self}.")


@dataclass(frozen=True, slots=True)
class Watching:
    """What the watched models did while ``queries`` ran once: ``reached`` of these led to a call of any of them.

    A query counts once, however often a model was asked again for it; in batches, where which query was meant cannot be seen, each prompt
    counts, up to the size of the batch. ``bound`` is "most" where some of these prompts may have been for a query that had counted already.
    Invariant: at least one query and one model, no more reached than queries, and a bound of these.
    """

    queries: int
    reached: int
    models: tuple[Watched, ...]
    bound: Literal["", "most"] = ""

    def __post_init__(self) -> None:
        if self.bound not in {"", "most"}:
            raise SettingsError(f"What was watched makes no sense: {self}.")
        if self.queries < 1 or not self.models or not 0 <= self.reached <= self.queries:
            raise SettingsError(f"What was watched makes no sense: {self}.")


@dataclass(frozen=True, slots=True)
class Count:
    """A figure of computing that needs no energy meter (SI), ``where`` it was counted ("cuda:0", "process"), and what it leaves out.

    ``value`` is None where it could not be counted, and ``note`` says why. ``queries`` is how many queries it was counted over. ``bound``:
    the truth is at "least" or at "most" the figure, since something could not be counted, or more than the queries was. Invariant: finite,
    not negative, and a bound that is known.
    """

    value: float | None
    where: str = ""
    note: str = ""
    queries: int = 0
    bound: Bound = ""

    def __post_init__(self) -> None:
        if self.bound not in BOUNDS or self.queries < 0:
            raise SettingsError(f"What was counted makes no sense: {self}.")
        if self.value is None and not self.note:
            raise SettingsError("A figure that could not be counted says why.")
        if self.value is not None:
            check_finite("A count", self.value)
            if self.value < 0:
                raise SettingsError(f"A count is {self.value!r}, which is negative.")


@dataclass(frozen=True, slots=True)
class Serving:
    """What a server did under load: ``concurrency`` requests at a time; how many were ``answered``, and how many ``failed``, by reason.

    Each block is a stretch of the load, without gaps between them. ``tokens`` holds how many were generated in each (a part of an answer's,
    where a part of its request lies inside), or is None where nothing counted them. ``first_tokens`` and ``token_gaps`` are seconds to the
    first token and from one to the next, a sample of what was streamed. Counted are requests that were sent and ended while the load was
    steady. Of the answers ``by_events`` have at least so many tokens as were counted, and ``cut`` ended at their limit. ``reconnected``
    requests found the connection closed that the server keeps. ``cached_tokens`` of the ``prompt_tokens`` came from a cache of the server,
    None where it does not say. Invariant: at least one request at a time; nothing is negative or infinite.
    """

    concurrency: int
    answered: int
    failed: Mapping[str, int] = field(default_factory=dict)
    tokens: tuple[float, ...] | None = None
    first_tokens: tuple[float, ...] = ()
    token_gaps: tuple[float, ...] = ()
    by_events: int = 0
    cut: int = 0
    reconnected: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None

    def __post_init__(self) -> None:
        check_finite("A time or number of tokens", *self.first_tokens, *self.token_gaps, *(self.tokens or ()))
        counts = (self.answered, self.by_events, self.cut, self.reconnected, self.prompt_tokens, self.cached_tokens or 0)
        numbers = (*counts, *self.failed.values(), *self.first_tokens, *self.token_gaps, *(self.tokens or ()))
        if self.concurrency < 1 or min(numbers) < 0:
            raise SettingsError(f"What was seen of a server makes no sense: {self}.")
        object.__setattr__(self, "failed", MappingProxyType(dict(self.failed)))


@dataclass(frozen=True, slots=True)
class Run:
    """All of one measurement of one test in one session, raw.

    ``metered`` is False for the single pass without ``--energy-budget``: then there are no blocks and no latencies.
    ``scores`` holds one value per query, in query order, or None where no references were given.
    ``looks`` is how many times the stopping rule was planned to look at the sets: intervals share their error among them.
    ``window`` says that this is one stretch of code, not a loop of queries.
    ``answers`` holds a digest of each answer (``ANSWER_DIGITS`` hexadecimal digits, in query order), where answers are to be compared.
    ``tokens`` and ``reasoning`` hold how many tokens each answer has, and how many of them are reasoning, where they were counted.
    ``watching`` says what watched models did; ``counts`` maps a metric's name to what was counted for it without a meter.
    ``serving`` says what a server did under load, where the blocks are stretches of one.
    ``notes`` are sentences for people; ``problem`` (a sentence, or empty) says why there can be no energy figure.
    Invariant: at least one query, batch and look; a window has one block at most; scores are finite, and no more than queries;
    every block was read by every source.
    """

    test: str
    name: str | None
    queries: int
    batch_size: int
    metered: bool
    seconds: float = 0.0
    sources: tuple[Source, ...] = ()
    blocks: tuple[Block, ...] = ()
    warmup: tuple[Block, ...] = ()
    idles: tuple[Idle, ...] = ()
    latencies: tuple[Latency, ...] = ()
    scores: tuple[float, ...] | None = None
    answers: str = ""
    tokens: tuple[int, ...] | None = None
    reasoning: tuple[int, ...] | None = None
    watching: Watching | None = None
    serving: Serving | None = None
    counts: Mapping[str, Count] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problem: str = ""
    window: bool = False
    looks: int = 1
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if not isinstance(self.test, str) or not (self.name is None or isinstance(self.name, str)):
            raise SettingsError(f"A run belongs to a test and may have a name, not {self.test!r} and {self.name!r}.")
        if self.queries < 1 or self.batch_size < 1:
            raise SettingsError(f"A run needs at least one query and a batch size of at least 1, not {self.queries} and {self.batch_size}.")
        if self.looks < 1 or (self.window and len(self.blocks) > 1):
            raise SettingsError("A run has at least one look, and a window one block.")
        for source in self.sources:
            if not all(source.domain in block.spans for block in self.blocks):
                raise MeterError(f"A block of {self.test} was not read by the meter of {source.domain}.")
        self._check_counts()
        if self.scores is not None:
            if len(self.scores) > self.queries:
                raise SettingsError(f"{len(self.scores)} scores for {self.queries} queries.")
            for index, score in enumerate(self.scores):
                if not math.isfinite(score):
                    raise SettingsError(f"The score of query {index} is {score!r}.", remedy="A score must be a finite number or a bool.")

    def _check_counts(self) -> None:
        if self.serving is not None and self.serving.tokens is not None and len(self.serving.tokens) != len(self.blocks):
            raise SettingsError(f"Tokens of {len(self.serving.tokens)} stretches for {len(self.blocks)} blocks.")
        if self.answers and len(self.answers) > self.queries * ANSWER_DIGITS:
            raise SettingsError(f"Digests of {len(self.answers) / ANSWER_DIGITS:g} answers for {self.queries} queries.")
        for counted in (self.tokens, self.reasoning):
            if counted is not None and (len(counted) > self.queries or min(counted, default=0) < 0):
                raise SettingsError(
                    f"Tokens of {len(counted)} answers for {self.queries} queries.", remedy="One count per answer, 0 or more."
                )

    def source(self, domain: str) -> Source:
        """The source that metered ``domain``. Raises KeyError where it was not metered."""
        for source in self.sources:
            if source.domain == domain:
                return source
        raise KeyError(domain)
