"""A server measured under load: meters beside a closed loop of requests, cut into stretches at their ticks, once the load is steady.

Unlike a model in this process, a server is never idle between blocks: the stretches follow one another without a gap, and every joule from
the first to the last of them is in the bill, whether its request was answered or not. So the energy of a request is all of the energy over
all that was answered, and no phase of a tick needs to be chosen: each border is shared by the two stretches beside it.
"""

from __future__ import annotations

import contextlib
import gc
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.machine.processes import descends, listens_here
from pytest_greencompute.measuring.believed import believed
from pytest_greencompute.measuring.effort import Effort, tell_nobody
from pytest_greencompute.measuring.window import drive
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.fingerprints import of_queries, of_scoring
from pytest_greencompute.models.scoring import check_references, check_score
from pytest_greencompute.protocol.layout import SETTLE_S, block_seconds
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.protocol.sets import ASLEEP_S, LOST_SETS, between, check_moved, read_idle
from pytest_greencompute.serving.account import LEAST_STRETCHES, Account, Done, levelled, stretch_seconds
from pytest_greencompute.serving.as_run import Answers, Load, LoadSoFar, answer_notes, counted, failed_notes, median
from pytest_greencompute.serving.client import Client, Wanted
from pytest_greencompute.serving.request import Request
from pytest_greencompute.serving.wire import port_of
from pytest_greencompute.stats.looks import looks
from pytest_greencompute.values.provenance import ByDomain, Moments, Provenance, Served
from pytest_greencompute.values.readings import FOREIGN, Reading, Source, Span
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

INTERVAL_S = 0.3  # between two looks at whether the load has levelled, at least
WARMUP_S = 10.0
WARMUP_REQUESTS = 8.0  # or as long as so many requests one after the other
ENDING_REQUESTS = 4.0  # so many times what a request takes are waited for at the end
DRAIN_S = 0.02
GRACE_S = 1.0


def open_client(request: Request, model: str | None, clock: Clock) -> tuple[Client, str]:
    """A client that is to be entered, and the model's name; asked of the server where None is given. Raises SettingsError."""
    if model is None:
        with Client(_wanted(request), clock) as client:
            model = _only(client.models(), request.base)
    if not isinstance(model, str) or not model:
        raise SettingsError(f"model is {model!r}.", remedy="Write the name that the server knows the model by.")
    return Client(_wanted(request, request.bodies(model)), clock), model


def _wanted(request: Request, bodies: Sequence[bytes] = ()) -> Wanted:
    return Wanted(request.base, request.endpoint, bodies, request.stream, request.timeout_s, request.headers)


def _only(models: Sequence[str], base: str) -> str:
    if len(models) == 1:
        return models[0]
    listed = ", ".join(models[:5]) + (", …" if len(models) > 5 else "")
    raise SettingsError(f"The server at {base} has {len(models)} models ({listed}).", remedy="Name one: model='…'.")


def check_answers(client: Client, request: Request) -> Done:
    """One request, before any load: what it says of the server. Raises SettingsError where it is not answered."""
    done = client.ask(0)
    if done.failed:
        said = f" The server says: {done.said.rstrip().removesuffix('.')}." if done.said else ""
        raise SettingsError(
            f"The first request to {request.base}{request.endpoint.path} failed: {done.failed}.{said}",
            remedy="Wait until the server answers before the test measures it, and check url=, model= and request=.",
        )
    return done


def ask_once(client: Client, request: Request, load: Load, keep: int | None = None) -> tuple[Run, list[str | None]]:
    """Every prompt (or the first ``keep``) once, without a meter: answers, their scores, and how many requests failed."""
    _check(request, load)
    answers = Answers()
    count = len(request.prompts) if keep is None else min(keep, len(request.prompts))
    ended = answers.note(client.once(range(count), load.concurrency))
    outputs = answers.in_order(len(request.prompts))
    notes = request.notes
    if count < len(request.prompts):
        notes += (f"unmetered: the first {count} of {len(request.prompts)} queries",)
    scored = load.scored(outputs)
    account = Account(0, random.Random(0).randrange)
    account.add(ended)
    notes += (*failed_notes(answers, account.failed, len(ended)), *answer_notes(account, request))
    kept = None if scored is None else scored[:count]
    serving = counted(account, load)
    return Run(load.test, load.name, len(outputs), load.concurrency, metered=False, scores=kept, notes=notes, serving=serving), outputs


def _check(request: Request, load: Load) -> None:
    check_score(load.score)
    check_references(load.references, len(request.prompts))


def measure_load(
    client: Client, request: Request, load: Load, instruments: Instruments, effort: Effort, problem: str = ""
) -> tuple[Run, list[str | None]]:
    """The server's run at one load, and its answers in the order of the prompts.

    ``problem`` says why there is no meter, if there is none: then all but the energy is measured. Raises SettingsError for bad input,
    MeterError for a meter that fails.
    """
    _check(request, load)
    return _Loading(client, request, load, instruments, effort, problem).measured()


class _Loading:
    """One load while it is measured."""

    def __init__(self, client: Client, request: Request, load: Load, instruments: Instruments, effort: Effort, problem: str) -> None:
        self._client, self._request, self._load = client, request, load
        self._instruments, self._effort = instruments, effort
        self._clock = instruments.clock
        references, score = of_scoring(load.references, load.score)
        self._provenance = replace(effort.provenance, queries=of_queries(request.prompts), references=references, score=score)
        self._start_ns = self._clock.now_ns()
        self._seen = LoadSoFar(load, request, Account(0, random.Random(0).randrange), problem)
        self._lost = 0
        self._at_start: ByDomain = {}
        self._unseeing = self._blind()
        if self._unseeing:
            self._say_unseeing()

    @property
    def _sources(self) -> tuple[Source, ...]:
        """The sources that can see the server, as far as they are known by now."""
        return tuple(source for source in self._instruments.sources if source.domain not in self._unseeing)

    def _blind(self) -> frozenset[str]:
        """The domains whose counters do not see the server: on another machine those of this one, here those of this process and its
        children, unless it has started it.
        """
        instruments = self._instruments
        if self._request.elsewhere:
            return frozenset(source.domain for source in instruments.sources) - instruments.elsewhere
        return frozenset() if not instruments.own or listens_here(port_of(self._request.base)) else instruments.own

    def _say_unseeing(self) -> None:
        meters = dict.fromkeys(source.meter for source in self._instruments.sources if source.domain in self._unseeing)
        why, remedy = "which this process did not start", "start it in the test, or use a meter of the machine (rapl, nvml)"
        if self._request.elsewhere:
            why, remedy = "which is on another machine", "use a meter of that host (prometheus, dcgm)"
        note = f"{', '.join(meters)} does not see the server, {why}"
        if not self._sources and not self._seen.problem:
            self._seen.problem = f"{note}: {remedy}"
        else:
            self._seen.notes.append(note)

    def measured(self) -> tuple[Run, list[str | None]]:
        instruments, effort = self._instruments, self._effort
        if instruments.ticking:
            effort.tell(Tell("finding the meter's tick"))
            self._clock.sleep(SETTLE_S)
            self._seen.notes += instruments.look()
        with contextlib.closing(instruments.beside()) as beside:
            self._load_and_measure()
        return believed(self._run(final=True), beside, instruments.allowed), self._seen.answers.in_order(len(self._request.prompts))

    def _load_and_measure(self) -> None:
        instruments = self._instruments
        # Now, with the model loaded and nothing asked of it: what a GPU draws that the server does not use is then known.
        self._seen.idles, _ = drive(read_idle(instruments.sources), instruments)
        self._seen.before = _processes(instruments)
        self._at_start = instruments.conditions()
        cpu_s, since_ns = self._client.cpu_s, self._clock.now_ns()
        # What the process holds by now is left out of garbage collections, which may take a tenth of a second with torch loaded.
        gc.freeze()
        try:
            self._client.begin(self._load.concurrency)
            request_s = self._warm_up()
            self._measure(request_s)
            self._drain()
            self._client.end(within_s=min(ENDING_REQUESTS * request_s, self._request.timeout_s))
        finally:
            self._client.end()
            gc.unfreeze()
        took_s = (self._clock.now_ns() - since_ns) / 1e9
        on_cpu = any(not source.domain.startswith("gpu") for source in self._sources)
        self._seen.notes += self._seen.said(max(self._client.cpu_s - cpu_s, 0.0) / took_s, on_cpu=on_cpu)

    def _take(self) -> Sequence[Done]:
        return self._seen.answers.note(self._client.taken())

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
            limit_s = max(WARMUP_S, WARMUP_REQUESTS * median(took) if self._seen.answers.tried else self._request.timeout_s + GRACE_S)
            self._effort.tell(Tell(f"loading, {self._load.concurrency} at a time", 0.0, max(limit_s - passed_s, 0.0)))
            self._clock.sleep(interval_s)
            ended = [done for done in self._take() if not done.failed]
            took = [*took, *(done.seconds for done in ended)][-1000:]
            counts.append(len(ended))
            if median(took) > interval_s:  # an interval must be long enough to have answers in it
                interval_s, counts = median(took), []
            unscored = self._load.references is not None and len(self._seen.answers.tried) < len(self._request.prompts)
            if levelled(counts) and len(took) >= self._load.concurrency and not unscored:
                return median(took)
            passed_s += interval_s
            if passed_s > limit_s and not (unscored and ended):
                self._seen.notes.append(f"requests per second were still changing when the warm-up ended after {passed_s:.0f} s")
                return median(took) or self._request.timeout_s

    def _measure(self, request_s: float) -> None:
        """Stretch after stretch, until the verdicts are certain at a planned look, or the time is up."""
        effort = self._effort
        tick_s = max((source.tick_s for source in self._sources), default=0.0)
        lag_s = max((source.lag_s for source in self._sources), default=0.0)
        least_s = block_seconds(tick_s, lag_s)
        span_s = max(effort.max_seconds - (self._clock.now_ns() - self._start_ns) / 1e9, LEAST_STRETCHES * least_s)
        stretch_s = stretch_seconds(least_s, request_s, span_s)
        planned = looks(max(1, int(span_s / stretch_s)))
        self._seen.looks = len(planned)
        edge, marks = self._first_edge(), self._marks()
        self._seen.account = Account(edge.t_ns, random.Random(0).randrange)
        self._take()
        looked = 0
        until_ns = edge.t_ns + int(span_s * 1e9)
        while edge.t_ns < until_ns and FOREIGN not in marks:  # one stretch with a stranger on the GPU spoils the run
            self._tell((until_ns - edge.t_ns) / 1e9)
            self._clock.sleep(max(stretch_s - tick_s, 0.0))
            after = self._after(edge)
            if after is None:
                edge = self._first_edge()
                continue
            marks, before = self._marks(), marks
            self._close(edge, after, (*before, *marks))
            edge = after
            self._settle()
            if looked < len(planned) and self._seen.settled >= planned[looked]:
                looked = sum(look <= self._seen.settled for look in planned)
                if effort.enough(self._run()):
                    break

    def _after(self, edge: _Edge) -> _Edge | None:
        """The next edge; None where the stretch was lost, which is said. Raises MeterError for too many of them."""
        try:
            return self._edge(edge)
        except MeterLostError as error:
            self._lose(error)
            return None

    def _first_edge(self) -> _Edge:
        """Where stretches begin, or begin again after one was lost. Raises as ``_after`` does."""
        while True:
            try:
                return self._edge()
            except MeterLostError as error:
                if not self._instruments.elsewhere:
                    raise
                self._lose(error)
                self._clock.sleep(max((source.tick_s for source in self._sources), default=0.0))

    def _lose(self, error: MeterLostError) -> None:
        """A stretch was lost. After too many there is no energy; the load goes on without where its meter is somewhere in the network."""
        self._lost += 1
        if self._lost < LOST_SETS:
            self._seen.notes.append(f"a stretch was lost: {error.message}")
            return
        lost = MeterError(f"{self._lost} stretches were lost: {error.message}", remedy=error.remedy)
        if not self._instruments.elsewhere:
            raise lost from error
        self._seen.problem = str(lost)
        self._unseeing = frozenset(source.domain for source in self._instruments.sources)

    def _tell(self, left_s: float) -> None:
        if self._effort.tell is not tell_nobody:  # a figure costs time, in which no request is sent
            step, effort = Tell(f"{self._load.concurrency} at a time", 0.0, left_s), self._effort
            if self._seen.settled > 1:
                run = self._run()
                step = replace(step, figure=effort.figure(run), outlook=effort.outlook(run))
            effort.tell(step)

    def _settle(self) -> None:
        """Take what has ended, and see how many stretches are settled by it."""
        oldest_ns = self._client.oldest_ns()
        self._seen.account.add(self._take())
        self._seen.settled = self._seen.account.settled(oldest_ns)

    def _drain(self) -> None:
        """Wait for the requests that were under way in the last stretch; the load goes on, so that they end as the others did."""
        until_ns = self._clock.now_ns() + int((self._request.timeout_s + GRACE_S) * 1e9)
        self._settle()
        while self._seen.settled < len(self._seen.account.stretches) and self._clock.now_ns() < until_ns:
            self._clock.sleep(DRAIN_S)
            self._settle()
        self._seen.settled = len(self._seen.account.stretches)  # whatever is open still has answered nothing

    def _marks(self) -> tuple[str, ...]:
        """What would spoil a stretch. The server is another process on the GPU, and so is each that was there before the load."""
        marks = tuple(mark for mark in self._instruments.marks() if mark != FOREIGN)
        strangers = [
            pid for pid in _processes(self._instruments) - self._seen.before if not any(descends(pid, each) for each in self._seen.before)
        ]
        return (*marks, FOREIGN) if strangers and FOREIGN not in self._instruments.allowed else marks

    def _edge(self, before: _Edge | None = None) -> _Edge:
        """The counters at the next tick. Raises MeterLostError where one moved as none can since ``before``, or the machine slept."""
        asleep_ns = self._clock.asleep_ns()
        readings = {**self._instruments.ticks(), **self._instruments.read_continuous()} if self._sources else {}
        now_ns = max((reading.t_ns for reading in readings.values()), default=self._clock.now_ns())
        edge = _Edge(now_ns, asleep_ns, readings)
        if before is None:
            return edge
        if asleep_ns - before.asleep_ns > ASLEEP_S * 1e9:
            raise MeterLostError("the machine was suspended under load.", remedy="Measure again.")
        uncounted = self._instruments.uncounted
        check_moved(between(before.readings, readings), [idle for idle in self._seen.idles if idle.domain not in uncounted])
        return edge

    def _close(self, a: _Edge, b: _Edge, marks: Sequence[str]) -> None:
        """The stretch between two edges. Each domain's energy is that of its own two ticks, brought to the edges at the power between."""
        spans = {source.domain: a.energy_to(b, source.domain) for source in self._sources}
        self._seen.spans.append((spans, tuple(dict.fromkeys(marks))))
        self._seen.account.close(a.t_ns, b.t_ns)

    def _run(self, *, final: bool = False) -> Run:
        seconds = (self._clock.now_ns() - self._start_ns) / 1e9
        left_out, keep = self._instruments.left_out, self._effort.keep_answers
        return self._seen.run(self._sources, seconds, self._whole_provenance(), left_out=left_out, final=final, keep_answers=keep)

    def _whole_provenance(self) -> Provenance:
        request, instruments = self._request, self._instruments
        return replace(
            self._provenance,
            batch_size=self._load.concurrency,
            devices=instruments.facts(),
            served=Served(request.base, self._load.model, request.endpoint.path, request.stream, request.max_tokens, dict(request.options)),
            conditions=Moments(self._at_start, instruments.conditions()),
        )


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
