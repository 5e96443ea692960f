"""What was seen of a load, as a run: its stretches as blocks, its answers scored, and what a reader should know of it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_greencompute.models.answers import digests
from pytest_greencompute.models.scoring import Score, scores
from pytest_greencompute.serving.account import Account, Done, failures
from pytest_greencompute.serving.request import Request
from pytest_greencompute.values.provenance import Provenance
from pytest_greencompute.values.readings import Block, Idle, Source, Span
from pytest_greencompute.values.run import Latency, Run, Serving
from pytest_greencompute.values.units import show_share

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

MUCH_CACHED = 0.1  # of the prompts' tokens
MUCH_SOONER = 2.0  # times, by which a prompt that is asked again is answered sooner
SPREAD = 1.25  # times, by which what is level may differ
LEAST_PROMPTS = 8
SEVERAL = 1.05  # tokens an event


@dataclass(frozen=True, slots=True)
class Load:
    """One load to measure: requests at a time, the name of its run, the model that answers, and what the answers are held against.

    Raises SettingsError for references that do not fit.
    """

    concurrency: int
    name: str | None
    model: str = ""
    test: str = ""
    references: Sequence[Any] | None = None
    score: Score = "accuracy"

    def scored(self, answers: Sequence[str | None]) -> tuple[float, ...] | None:
        """One score for each prompt; one that was not answered is wrong."""
        if self.references is None:
            return None
        given = [(answer, reference) for answer, reference in zip(answers, self.references, strict=True) if answer is not None]
        found = iter(scores([answer for answer, _ in given], [reference for _, reference in given], self.score))
        return tuple(0.0 if answer is None else next(found) for answer in answers)


@dataclass(slots=True)
class Answers:
    """The first answer to each prompt, how long it took and how long the last one did, and which prompts were tried."""

    first: dict[int, str] = field(default_factory=dict)
    first_s: dict[int, float] = field(default_factory=dict)
    last_s: dict[int, float] = field(default_factory=dict)
    tried: set[int] = field(default_factory=set)
    words: str = ""  # the first that the server said of a failure

    def note(self, ended: Sequence[Done]) -> Sequence[Done]:
        for done in ended:
            self.tried.add(done.prompt)
            if not done.failed:
                self.first.setdefault(done.prompt, done.text)
                self.first_s.setdefault(done.prompt, done.seconds)
                self.last_s[done.prompt] = done.seconds
            else:
                self.words = self.words or done.said
        return ended

    def in_order(self, prompts: int) -> list[str | None]:
        return [self.first.get(index) for index in range(prompts)]

    def sooner(self) -> float:
        """How many times sooner a prompt is answered that is asked again; 0 where it cannot be told from a server that warms up.

        Of the prompts that came later in the first round, since what warms up gets faster within it already.
        """
        early, late = _halves(list(self.first_s))
        if len(self.first_s) < LEAST_PROMPTS or median([self.first_s[each] for each in early]) > SPREAD * median(
            [self.first_s[each] for each in late]
        ):
            return 0.0
        return median([self.first_s[each] / self.last_s[each] for each in late])


@dataclass(slots=True)
class LoadSoFar:
    """What has been seen of a load so far. The first ``settled`` of the account's stretches are settled; ``spans``: their energy and marks.

    ``idles`` are of the server at rest, ``before`` the processes that were on the metered GPUs then. ``problem`` says why there is no
    meter, if there is none.
    """

    load: Load
    request: Request
    account: Account
    problem: str = ""
    answers: Answers = field(default_factory=Answers)
    idles: tuple[Idle, ...] = ()
    before: frozenset[int] = frozenset()
    spans: list[tuple[Mapping[str, Span], tuple[str, ...]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looks: int = 1
    settled: int = 0

    def _blocks(self, sources: Sequence[Source]) -> tuple[tuple[Block, ...], tuple[float, ...]]:
        """The settled stretches, and the tokens of each. One in which nothing was answered joins the next, or the last."""
        stretches = self.account.stretches
        groups: list[list[int]] = [[]]
        for index in range(self.settled):
            groups[-1].append(index)
            if stretches[index].queries > 0:
                groups.append([])
        rest = groups.pop()
        if groups:
            groups[-1] += rest
        blocks = tuple(self._block(number, group, sources) for number, group in enumerate(groups))
        return blocks, tuple(sum(stretches[index].tokens for index in group) for group in groups)

    def _block(self, number: int, group: Sequence[int], sources: Sequence[Source]) -> Block:
        stretches = [self.account.stretches[index] for index in group]
        start_ns, end_ns = stretches[0].start_ns, stretches[-1].end_ns
        seen = [self.spans[index] for index in group]
        spans = {source.domain: Span(sum(spans[source.domain].energy_j for spans, _ in seen), start_ns, end_ns) for source in sources}
        marks = tuple(dict.fromkeys(mark for _, several in seen for mark in several))
        return Block(number, 0.0, sum(each.queries for each in stretches), start_ns, end_ns, spans, marks)

    def run(
        self,
        sources: Sequence[Source],
        seconds: float,
        provenance: Provenance,
        *,
        left_out: tuple[str, ...] = (),
        final: bool = False,
        keep_answers: bool = False,
    ) -> Run:
        """The run of the settled stretches, whose energy is that of ``sources``. ``final``: the load is over; its answers are scored."""
        account, request, load = self.account, self.request, self.load
        blocks, tokens = self._blocks(sources)
        serving = replace(
            counted(account, load),
            tokens=None if account.uncounted or not account.answered else tokens,
            first_tokens=tuple(account.first_tokens.values),
            token_gaps=tuple(account.token_gaps.values),
        )
        outputs = self.answers.in_order(len(request.prompts))
        whole = final and None not in outputs
        problem = self.problem or (
            "" if blocks or not final else f"the server answered nothing: {failures(account.failed) or 'no request ended'}"
        )
        return Run(
            load.test,
            load.name,
            len(request.prompts),
            load.concurrency,
            metered=True,
            seconds=seconds,
            sources=tuple(sources) if blocks else (),
            blocks=blocks,
            idles=self.idles,
            latencies=tuple(Latency(1, seconds) for seconds in account.seconds.values),
            scores=load.scored(outputs) if final else None,
            answers=digests(outputs) if whole and keep_answers else "",
            notes=request.notes + tuple(self.notes) + left_out,
            problem=problem,
            looks=self.looks,
            serving=serving,
            provenance=provenance,
        )

    def said(self, cpu_share: float, *, on_cpu: bool) -> list[str]:
        """What a reader should know of this load. Sending it took ``cpu_share`` of a core; ``on_cpu``: not only GPUs are read."""
        account, prompts = self.account, len(self.request.prompts)
        failed = failed_notes(self.answers, account.failed, sum(account.failed.values()) + account.answered)
        said = [f"{each}; what they used is in the bill" for each in failed]
        missing = prompts - len(self.answers.first)
        if missing:
            said.append(f"{missing} of {prompts} prompts were not answered in the time")
        if account.uncounted:
            said.append(f"{account.uncounted} answers did not say how many tokens they have")
        said += answer_notes(account, self.request)
        if (times := self.answers.sooner()) > MUCH_SOONER:
            said.append(
                f"a prompt that is asked again is answered {times:.2g} times sooner than at first: the server keeps prompts or answers"
            )
        if on_cpu:
            said.append(f"sending the requests took {cpu_share * 100:.0f} % of a core, which the energy of the CPU holds")
        if len(self.before) > 1:
            said.append(f"processes that were on the GPU before the load count as the server's: {', '.join(map(str, sorted(self.before)))}")
        return said


def counted(account: Account, load: Load) -> Serving:
    """How many requests were answered, and how: all that needs no meter."""
    failed = {reason: count for reason, count in account.failed.items() if count}
    others = {name: getattr(account, name) for name in ("by_events", "cut", "reconnected", "prompt_tokens")}
    return Serving(load.concurrency, account.answered, failed, **others, cached_tokens=account.cached)


def failed_notes(answers: Answers, failed: Mapping[str, int], ended: int) -> tuple[str, ...]:
    """A note where requests failed, with the words of the server that came first."""
    count = sum(failed.values())
    if not count:
        return ()
    said = f" (the server said: {answers.words})" if answers.words else ""
    return (f"{count} of {ended} requests failed: {failures(failed)}{said}",)


def answer_notes(account: Account, request: Request) -> list[str]:
    """What a reader should know of the answers that came."""
    said = []
    answered, ended = account.answered, account.answered + sum(account.failed.values())
    if account.cut:
        said.append(f"{account.cut} of {answered} answers were cut at max_tokens ({request.max_tokens})")
    if account.empty:
        said.append(f"{account.empty} of {answered} answers were empty")
    if account.by_events:
        said.append(
            f"{account.by_events} of {answered} answers have at least as many tokens as events brought them, "
            "since the server did not say how many they are (usage)"
        )
    tokens, events = account.in_events
    if tokens > SEVERAL * events > 0:
        said.append(f"an event brings {tokens / events:.2g} tokens: the time from one to the next is divided by how many an answer's bring")
    if account.reconnected:
        said.append(f"{account.reconnected} of {ended} requests found closed the connection that the server keeps, and went over a new one")
    if account.cached is not None and account.cached > MUCH_CACHED * account.prompt_tokens:
        share = show_share(account.cached / account.prompt_tokens)
        said.append(f"the server had {share} of the prompts' tokens in its cache: with prompts that differ, or without it, they cost more")
    return said


def _halves(values: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    return values[: len(values) // 2], values[len(values) // 2 :]


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
