"""A server measured under load: meters beside a closed loop of requests, cut into stretches at their ticks, once the load is steady.

Unlike a model in this process, a server is never idle between blocks: the stretches follow one another without a gap, and every joule from
the first to the last of them is in the bill, whether its request was answered or not. So the energy of a request is all of the energy over
all that was answered, and no phase of a tick needs to be chosen: each border is shared by the two stretches beside it.
"""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.machine.processes import descends, listens_here
from pytest_greencompute.measuring.effort import Effort, tell_nobody
from pytest_greencompute.measuring.window import drive
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.answers import digests
from pytest_greencompute.models.fingerprints import of_queries, of_scoring
from pytest_greencompute.models.scoring import Score, check_references, check_score, scores
from pytest_greencompute.protocol.layout import SETTLE_S, block_seconds
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.protocol.sets import ASLEEP_S, LOST_SETS, between, check_moved, read_idle
from pytest_greencompute.serving.account import Account, Done, failures, levelled, stretch_seconds
from pytest_greencompute.serving.client import Client, Wanted
from pytest_greencompute.serving.request import Asked
from pytest_greencompute.serving.wire import port_of
from pytest_greencompute.stats.looks import looks
from pytest_greencompute.values.provenance import Moments, Provenance, Served
from pytest_greencompute.values.readings import FOREIGN, Block, Idle, Reading, Source, Span
from pytest_greencompute.values.run import Latency, Run, Serving
from pytest_greencompute.values.units import show_share

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

INTERVAL_S = 0.3  # between two looks at whether the load has levelled, at least
WARMUP_S = 10.0
WARMUP_REQUESTS = 8.0  # or as long as so many requests one after the other
ENDING_REQUESTS = 4.0  # so many times what a request takes are waited for at the end
DRAIN_S = 0.02
GRACE_S = 1.0
MUCH_CACHED = 0.1  # of the prompts' tokens
MUCH_SOONER = 2.0  # times, by which a prompt that is asked again is answered sooner
SPREAD = 1.25  # times, by which what is level may differ
LEAST_PROMPTS = 8
SEVERAL = 1.05  # tokens an event


@dataclass(frozen=True, slots=True)
class Level:
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
class _Answers:
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
        if len(self.first_s) < LEAST_PROMPTS or _median([self.first_s[each] for each in early]) > SPREAD * _median(
            [self.first_s[each] for each in late]
        ):
            return 0.0
        return _median([self.first_s[each] / self.last_s[each] for each in late])


def open_client(asked: Asked, model: str | None, clock: Clock) -> tuple[Client, str]:
    """A client that is to be entered, and the model's name; asked of the server where None is given. Raises SettingsError."""
    if model is None:
        with Client(_wanted(asked), clock) as client:
            model = _only(client.models(), asked.base)
    if not isinstance(model, str) or not model:
        raise SettingsError(f"model is {model!r}.", remedy="Write the name that the server knows the model by.")
    return Client(_wanted(asked, asked.bodies(model)), clock), model


def _wanted(asked: Asked, bodies: Sequence[bytes] = ()) -> Wanted:
    return Wanted(asked.base, asked.request, bodies, asked.stream, asked.timeout_s, asked.headers)


def _only(models: Sequence[str], base: str) -> str:
    if len(models) == 1:
        return models[0]
    listed = ", ".join(models[:5]) + (", …" if len(models) > 5 else "")
    raise SettingsError(f"The server at {base} has {len(models)} models ({listed}).", remedy="Name one: model='…'.")


def check_answers(client: Client, asked: Asked) -> Done:
    """One request, before any load: what it says of the server. Raises SettingsError where it is not answered."""
    done = client.ask(0)
    if done.failed:
        said = f" The server says: {done.said}" if done.said else ""
        raise SettingsError(
            f"The first request to {asked.base}{asked.request.path} failed: {done.failed}.{said}",
            remedy="Wait until the server answers before the test measures it, and check url=, model= and request=.",
        )
    return done


def ask_once(client: Client, asked: Asked, level: Level, keep: int | None = None) -> tuple[Run, list[str | None]]:
    """Every prompt (or the first ``keep``) once, without a meter: answers and scores only."""
    _check(asked, level)
    answers = _Answers()
    count = len(asked.prompts) if keep is None else min(keep, len(asked.prompts))
    ended = answers.note(client.once(range(count), level.concurrency))
    outputs = answers.in_order(len(asked.prompts))
    notes = asked.notes
    if count < len(asked.prompts):
        notes += (f"unmetered: the first {count} of {len(asked.prompts)} queries",)
    scored = level.scored(outputs)
    account = Account(0, random.Random(0).randrange)
    account.add(ended)
    notes += (*_failed(answers, account.failed, len(ended)), *_of_answers(account, asked))
    kept = None if scored is None else scored[:count]
    return Run(level.test, level.name, len(outputs), level.concurrency, metered=False, scores=kept, notes=notes), outputs


def _check(asked: Asked, level: Level) -> None:
    check_score(level.score)
    check_references(level.references, len(asked.prompts))


def measure_load(
    client: Client, asked: Asked, level: Level, instruments: Instruments, effort: Effort, problem: str = ""
) -> tuple[Run, list[str | None]]:
    """The server's run at one level, and its answers in the order of the prompts.

    ``problem`` says why there is no meter, if there is none: then all but the energy is measured. Raises SettingsError for bad input,
    MeterError for a meter that fails.
    """
    _check(asked, level)
    load = _Load(client, asked, level, instruments, effort, problem)
    return load.measured()


class _Load:
    """One level while it is measured."""

    def __init__(self, client: Client, asked: Asked, level: Level, instruments: Instruments, effort: Effort, problem: str) -> None:
        self._client, self._asked, self._level = client, asked, level
        self._instruments, self._effort = instruments, effort
        self._clock = instruments.clock
        references, score = of_scoring(level.references, level.score)
        self._provenance = replace(effort.provenance, queries=of_queries(asked.prompts), references=references, score=score)
        self._start_ns = self._clock.now_ns()
        self._problem = problem
        self._answers = _Answers()
        self._notes: list[str] = []
        self._idles: tuple[Idle, ...] = ()
        self._spans: list[tuple[Mapping[str, Span], tuple[str, ...]]] = []
        self._account = Account(0, random.Random(0).randrange)
        self._looks = 1
        self._settled = self._lost = 0
        self._at_start: Mapping[str, Any] = {}
        self._before: frozenset[int] = frozenset()
        self._unseeing = frozenset[str]() if not instruments.own or listens_here(port_of(asked.base)) else instruments.own
        if self._unseeing:
            self._say_unseeing()

    @property
    def _sources(self) -> tuple[Source, ...]:
        """The sources that can see the server, as far as they are known by now."""
        return tuple(source for source in self._instruments.sources if source.domain not in self._unseeing)

    def _say_unseeing(self) -> None:
        """A meter of this process and its children sees no server that it has not started."""
        meters = dict.fromkeys(source.meter for source in self._instruments.sources if source.domain in self._unseeing)
        note = f"{', '.join(meters)} does not see the server, which this process did not start"
        if not self._sources and not self._problem:
            self._problem = f"{note}: start it in the test, or use a meter of the machine (rapl, nvml)"
        else:
            self._notes.append(note)

    def measured(self) -> tuple[Run, list[str | None]]:
        instruments, effort = self._instruments, self._effort
        if instruments.ticking:
            effort.tell(Tell("finding the meter's tick"))
            self._clock.sleep(SETTLE_S)
            instruments.probe()
        # Now, with the model loaded and nothing asked of it: what a GPU draws that the server does not use is then known.
        self._idles, _ = drive(read_idle(instruments.sources), instruments)
        self._before = _processes(instruments)
        self._at_start = instruments.conditions()
        cpu_s, since_ns = self._client.cpu_s, self._clock.now_ns()
        # What the process holds by now is left out of garbage collections, which may take a tenth of a second with torch loaded.
        gc.freeze()
        try:
            self._client.begin(self._level.concurrency)
            request_s = self._warm_up()
            self._measure(request_s)
            self._drain()
            self._client.end(within_s=min(ENDING_REQUESTS * request_s, self._asked.timeout_s))
        finally:
            self._client.end()
            gc.unfreeze()
        took_s = (self._clock.now_ns() - since_ns) / 1e9
        self._notes += self._said(max(self._client.cpu_s - cpu_s, 0.0) / took_s)
        return self._run(final=True), self._answers.in_order(len(self._asked.prompts))

    def _take(self) -> Sequence[Done]:
        return self._answers.note(self._client.taken())

    def _warm_up(self) -> float:
        """Until the answers per second have levelled, every slot has had its turn, and each prompt was tried that will be scored.

        Seconds that a request takes.
        """
        begun_ns = self._clock.now_ns()
        took: list[float] = []
        counts: list[int] = []
        interval_s = INTERVAL_S
        while True:
            passed_s = (self._clock.now_ns() - begun_ns) / 1e9
            # Until a request has ended nobody knows how long they take, only how long they may.
            limit_s = max(WARMUP_S, WARMUP_REQUESTS * _median(took) if self._answers.tried else self._asked.timeout_s + GRACE_S)
            self._effort.tell(Tell(f"loading, {self._level.concurrency} at a time", 0.0, max(limit_s - passed_s, 0.0)))
            self._clock.sleep(interval_s)
            ended = [done for done in self._take() if not done.failed]
            took = [*took, *(done.seconds for done in ended)][-1000:]
            counts.append(len(ended))
            if _median(took) > interval_s:  # an interval must be long enough to have answers in it
                interval_s, counts = _median(took), []
            unscored = self._level.references is not None and len(self._answers.tried) < len(self._asked.prompts)
            if levelled(counts) and len(took) >= self._level.concurrency and not unscored:
                return _median(took)
            passed_s += interval_s
            if passed_s > limit_s and not (unscored and ended):
                self._notes.append(f"requests per second were still changing when the warm-up ended after {passed_s:.0f} s")
                return _median(took) or self._asked.timeout_s

    def _measure(self, request_s: float) -> None:
        """Stretch after stretch, until the verdicts are certain at a planned look, or the time is up."""
        effort = self._effort
        tick_s = max((source.tick_s for source in self._sources), default=0.0)
        lag_s = max((source.lag_s for source in self._sources), default=0.0)
        stretch_s = stretch_seconds(block_seconds(tick_s, lag_s), request_s, effort.max_seconds)
        planned = looks(max(1, int(effort.max_seconds / stretch_s)))
        self._looks = len(planned)
        edge, marks = self._edge(), self._marks()
        self._account = Account(edge.t_ns, random.Random(0).randrange)
        self._take()
        looked = 0
        until_ns = edge.t_ns + int(effort.max_seconds * 1e9)
        while edge.t_ns < until_ns and FOREIGN not in marks:  # one stretch with a stranger on the GPU spoils the run
            self._tell((until_ns - edge.t_ns) / 1e9)
            self._clock.sleep(max(stretch_s - tick_s, 0.0))
            after = self._after(edge)
            if after is None:
                edge = self._edge()
                continue
            marks, before = self._marks(), marks
            self._close(edge, after, (*before, *marks))
            edge = after
            self._settle()
            if looked < len(planned) and self._settled >= planned[looked]:
                looked = sum(look <= self._settled for look in planned)
                if effort.enough(self._run()):
                    break

    def _after(self, edge: _Edge) -> _Edge | None:
        """The next edge; None where the stretch was lost, which is said. Raises MeterError for too many of them."""
        try:
            return self._edge(edge)
        except MeterLostError as error:
            self._lost += 1
            if self._lost >= LOST_SETS:
                raise MeterError(f"{self._lost} stretches were lost: {error.message}", remedy=error.remedy) from error
            self._notes.append(f"a stretch was lost: {error.message}")
            return None

    def _tell(self, left_s: float) -> None:
        if self._effort.tell is not tell_nobody:  # a figure costs time, in which no request is sent
            figure = self._effort.figure(self._run()) if self._settled > 1 else ""
            self._effort.tell(Tell(f"{self._level.concurrency} at a time", 0.0, left_s, figure=figure))

    def _settle(self) -> None:
        """Take what has ended, and see how many stretches are settled by it."""
        oldest_ns = self._client.oldest_ns()
        self._account.add(self._take())
        self._settled = self._account.settled(oldest_ns)

    def _drain(self) -> None:
        """Wait for the requests that were under way in the last stretch; the load goes on, so that they end as the others did."""
        until_ns = self._clock.now_ns() + int((self._asked.timeout_s + GRACE_S) * 1e9)
        self._settle()
        while self._settled < len(self._account.stretches) and self._clock.now_ns() < until_ns:
            self._clock.sleep(DRAIN_S)
            self._settle()
        self._settled = len(self._account.stretches)  # whatever is open still has answered nothing

    def _marks(self) -> tuple[str, ...]:
        """What would spoil a stretch. The server is another process on the GPU, and so is each that was there before the load."""
        marks = tuple(mark for mark in self._instruments.marks() if mark != FOREIGN)
        strangers = [pid for pid in _processes(self._instruments) - self._before if not any(descends(pid, each) for each in self._before)]
        return (*marks, FOREIGN) if strangers and FOREIGN not in self._instruments.allowed else marks

    def _edge(self, before: _Edge | None = None) -> _Edge:
        """The counters at the next tick. Raises MeterLostError where one moved as none can since ``before``, or the machine slept."""
        asleep_ns = self._clock.asleep_ns()
        readings = {**self._instruments.ticks(), **self._instruments.read_continuous()}
        now_ns = max((reading.t_ns for reading in readings.values()), default=self._clock.now_ns())
        edge = _Edge(now_ns, asleep_ns, readings)
        if before is None:
            return edge
        if asleep_ns - before.asleep_ns > ASLEEP_S * 1e9:
            raise MeterLostError("the machine was suspended under load.", remedy="Measure again.")
        uncounted = self._instruments.uncounted
        check_moved(between(before.readings, readings), [idle for idle in self._idles if idle.domain not in uncounted])
        return edge

    def _close(self, a: _Edge, b: _Edge, marks: Sequence[str]) -> None:
        """The stretch between two edges. Each domain's energy is that of its own two ticks, brought to the edges at the power between."""
        spans = {source.domain: a.energy_to(b, source.domain) for source in self._sources}
        self._spans.append((spans, tuple(dict.fromkeys(marks))))
        self._account.close(a.t_ns, b.t_ns)

    def _blocks(self) -> tuple[tuple[Block, ...], tuple[float, ...]]:
        """The settled stretches, and the tokens of each. One in which nothing was answered joins the next, or the last."""
        stretches = self._account.stretches
        groups: list[list[int]] = [[]]
        for index in range(self._settled):
            groups[-1].append(index)
            if stretches[index].queries > 0:
                groups.append([])
        rest = groups.pop()
        if groups:
            groups[-1] += rest
        blocks = tuple(self._block(number, group) for number, group in enumerate(groups))
        return blocks, tuple(sum(stretches[index].tokens for index in group) for group in groups)

    def _block(self, number: int, group: Sequence[int]) -> Block:
        stretches = [self._account.stretches[index] for index in group]
        start_ns, end_ns = stretches[0].start_ns, stretches[-1].end_ns
        seen = [self._spans[index] for index in group]
        spans = {source.domain: Span(sum(spans[source.domain].energy_j for spans, _ in seen), start_ns, end_ns) for source in self._sources}
        marks = tuple(dict.fromkeys(mark for _, several in seen for mark in several))
        return Block(number, 0.0, sum(each.queries for each in stretches), start_ns, end_ns, spans, marks)

    def _run(self, *, final: bool = False) -> Run:
        account, asked, level = self._account, self._asked, self._level
        blocks, tokens = self._blocks()
        serving = Serving(
            level.concurrency,
            account.answered,
            {reason: count for reason, count in account.failed.items() if count},
            None if account.uncounted or not account.answered else tokens,
            tuple(account.first_tokens.values),
            tuple(account.token_gaps.values),
            account.by_events,
            account.cut,
            account.reconnected,
            account.prompt_tokens,
            account.cached,
        )
        outputs = self._answers.in_order(len(asked.prompts))
        whole = final and None not in outputs
        problem = self._problem or (
            "" if blocks or not final else f"the server answered nothing: {failures(account.failed) or 'no request ended'}"
        )
        return Run(
            level.test,
            level.name,
            len(asked.prompts),
            level.concurrency,
            metered=True,
            seconds=(self._clock.now_ns() - self._start_ns) / 1e9,
            sources=self._sources if blocks else (),
            blocks=blocks,
            idles=self._idles,
            latencies=tuple(Latency(1, seconds) for seconds in account.seconds.values),
            scores=level.scored(outputs) if final else None,
            answers=digests(outputs) if whole and self._effort.keep_answers else "",
            notes=asked.notes + tuple(self._notes) + self._instruments.left_out,
            problem=problem,
            looks=self._looks,
            serving=serving,
            provenance=self._whole_provenance(),
        )

    def _whole_provenance(self) -> Provenance:
        asked, instruments = self._asked, self._instruments
        return replace(
            self._provenance,
            batch_size=self._level.concurrency,
            devices=instruments.facts(),
            served=Served(asked.base, self._level.model, asked.request.path, asked.stream, asked.max_tokens, dict(asked.options)),
            conditions=Moments(self._at_start, instruments.conditions()),
        )

    def _said(self, cpu_share: float) -> list[str]:
        """What a reader should know of this load."""
        account, prompts = self._account, len(self._asked.prompts)
        failed = _failed(self._answers, account.failed, sum(account.failed.values()) + account.answered)
        said = [f"{each}; what they used is in the bill" for each in failed]
        missing = prompts - len(self._answers.first)
        if missing:
            said.append(f"{missing} of {prompts} prompts were not answered in the time")
        if account.uncounted:
            said.append(f"{account.uncounted} answers did not say how many tokens they have")
        said += _of_answers(account, self._asked)
        if (times := self._answers.sooner()) > MUCH_SOONER:
            said.append(
                f"a prompt that is asked again is answered {times:.2g} times sooner than at first: the server keeps prompts or answers"
            )
        if any(not source.domain.startswith("gpu") for source in self._sources):
            said.append(f"sending the requests took {cpu_share * 100:.0f} % of a core, which the energy of the CPU holds")
        if len(self._before) > 1:
            said.append(
                f"processes that were on the GPU before the load count as the server's: {', '.join(map(str, sorted(self._before)))}"
            )
        return said


@dataclass(frozen=True, slots=True)
class _Edge:
    """The counters at a border of two stretches, each at its own tick; ``t_ns`` is that of the last."""

    t_ns: int
    asleep_ns: int
    readings: Mapping[str, Reading]

    def energy_to(self, other: _Edge, domain: str) -> Span:
        """The domain's energy from this edge to ``other``. A counter that ticked earlier went on at the power between its two ticks."""
        a, b = self.readings[domain], other.readings[domain]
        watts = (b.energy_j - a.energy_j) / max(b.t_ns - a.t_ns, 1)  # per nanosecond
        return Span(watts * (other.t_ns - self.t_ns), self.t_ns, other.t_ns)


def _processes(instruments: Instruments) -> frozenset[int]:
    """The processes that the driver lists on the metered GPUs, as it numbers them."""
    listed = [facts.get("processes") for facts in instruments.conditions().values()]
    return frozenset(int(pid) for pids in listed if isinstance(pids, str) for pid in pids.split())


def _failed(answers: _Answers, failed: Mapping[str, int], ended: int) -> tuple[str, ...]:
    """A note where requests failed, with the words of the server that came first."""
    count = sum(failed.values())
    if not count:
        return ()
    said = f" (the server said: {answers.words})" if answers.words else ""
    return (f"{count} of {ended} requests failed: {failures(failed)}{said}",)


def _of_answers(account: Account, asked: Asked) -> list[str]:
    """What a reader should know of the answers that came."""
    said = []
    answered, ended = account.answered, account.answered + sum(account.failed.values())
    if account.cut:
        said.append(f"{account.cut} of {answered} answers were cut at max_tokens ({asked.max_tokens})")
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


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
