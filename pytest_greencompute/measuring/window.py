"""A stretch of code read once: one block, whose interval is what the meter's ticks leave open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, NoReturn

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Aim, scaled
from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.machine.spinning import Spin, spun_on
from pytest_greencompute.measuring.believed import believed
from pytest_greencompute.meters.beside import PowerBeside
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.devices import wait_for_all
from pytest_greencompute.models.tallies import OncePass
from pytest_greencompute.models.watching import WatchedModel
from pytest_greencompute.protocol.messages import Learn, Wait
from pytest_greencompute.protocol.sets import between, read_idle
from pytest_greencompute.protocol.tail import draws, watch_tail
from pytest_greencompute.stats.intervals import FINEST
from pytest_greencompute.values.provenance import Provenance
from pytest_greencompute.values.readings import Block, Idle, Reading, Source, Span
from pytest_greencompute.values.run import Run, Watching
from pytest_greencompute.values.units import whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

READ_COLD = 3.0  # times what a reading right after another costs


def drive(steps: Generator[Any, Any, Any], instruments: Instruments) -> Any:
    """Answer the few asks that a part of the protocol makes without queries: what it returns."""
    answer: Any = None
    while True:
        try:
            ask = steps.send(answer)
        except StopIteration as done:
            return done.value
        answer = None
        if isinstance(ask, Learn):
            instruments.learn(ask)
        elif isinstance(ask, Wait):
            instruments.clock.sleep(ask.seconds)
        else:
            answer = instruments.ticks()


class Window:
    """A stretch of code read once: ``with energy_meter.window("prefill") as w: …``, then ``w.energy``.

    ``queries`` is how many queries the body answers, ``tokens`` how many tokens it generates in all (None: not counted), and ``notes`` are
    sentences for people; all may be set in the body, and figures are per query and per token. ``watched`` are the models that the test
    watches. ``apart`` may be set before: then what idle workers do after the body is not on its bill, as it is not on a measured run's.
    ``besides`` may be set after: the share of the body's time that was not its queries', which is taken off. ``may_begin`` raises where
    the body would be measured at a wrong time.

    Opens at a tick of every counter that ticks, closes at the first one after the work, and reads idle power after that, so that
    the part of the first and the last tick in which nothing ran can be taken off. Without instruments it only runs the body.
    """

    __slots__ = (
        "_a",
        "_aim",
        "_b",
        "_beside",
        "_idles",
        "_instruments",
        "_marks",
        "_may_begin",
        "_once",
        "_provenance",
        "_reading_j",
        "_run",
        "_spun",
        "_test",
        "_times",
        "_unmetered",
        "_watched",
        "_watching",
        "apart",
        "besides",
        "name",
        "notes",
        "queries",
        "running",
        "tokens",
    )

    def __init__(
        self,
        name: str | None,
        instruments: Instruments | None,
        aim: Aim,
        unmetered: Callable[[str], NoReturn],
        *,
        queries: int = 1,
        tokens: int | None = None,
        watched: Sequence[WatchedModel] = (),
        test: str = "",
        provenance: Provenance | None = None,
        may_begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.queries = queries
        self.tokens = tokens
        self.notes: tuple[str, ...] = ()
        self._check()
        self._watched = watched
        self._once: OncePass | None = None
        self._watching: Watching | None = None
        self._instruments = instruments
        self._aim = aim
        self._unmetered = unmetered
        self._test = test
        self._provenance = provenance or Provenance()
        self._may_begin = may_begin
        self._times = (0, 0)
        self.running = False  # metered, and its body has begun and not ended
        self._a: dict[str, Reading] = {}
        self._b: dict[str, Reading] = {}
        self._beside: PowerBeside | None = None
        self._idles: tuple[Idle, ...] = ()
        self._marks: tuple[str, ...] = ()
        self._spun: tuple[str, ...] = ()
        self._reading_j: dict[str, float] = {}
        self.apart = False
        self.besides = 0.0
        self._run: Run | None = None

    def __enter__(self) -> Window:
        if self._times[0]:
            raise SettingsError("A window is read once.", remedy="Open another, with a name of its own.")
        self._may_begin()
        with contextlib.ExitStack() as failing:
            failing.push(self.__exit__)
            self._once = OncePass(self._watched).__enter__()
            if self._instruments is not None:
                self._open(self._instruments)
            failing.pop_all()
        return self

    def _open(self, instruments: Instruments) -> None:
        instruments.rest()
        if instruments.ticking:
            self.notes += instruments.look()
            self._a = dict(instruments.ticks())
        self._marks = instruments.marks()
        wait_for_all()
        self._beside = instruments.beside(self._a)
        self._a.update(instruments.read_continuous())
        self._times, self.running = (instruments.clock.now_ns(), 0), True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.running = False
        with contextlib.ExitStack() as always:
            if self._beside is not None:
                always.callback(self._beside.close)
            always.callback(self._stop_watching, 0.0, failed=True)  # if it is still watching: where it cannot be read at its end
            self._close(failed=kind is not None)

    def _close(self, *, failed: bool) -> None:
        instruments = self._instruments
        if instruments is None or failed:
            self._stop_watching(0.0, failed=failed)
            return
        wait_for_all()
        end_ns = instruments.clock.now_ns()
        self._b = instruments.read_continuous()
        if instruments.own:  # reading it costs what it counts: once, from the moment before to the moment after
            again = instruments.read_continuous()
            self._reading_j = {domain: again[domain].energy_j - reading.energy_j for domain, reading in self._b.items()}
        tail = Spin() if self.apart else instruments.rest()
        self._spun = spun_on(tail, "which is on its bill")
        if tail.ended and tail.waited:  # else it would pay for our looks, or for what works beside it
            self._b = instruments.read_continuous()
        self._marks += instruments.marks()
        if instruments.ticking:
            self._b.update(self._close_at_a_tick(instruments, end_ns))
            instruments.rest()
            self._idles, _ = drive(read_idle(instruments.sources), instruments)
        self._stop_watching((end_ns - self._times[0]) / 1e9)
        self._check()
        self._times = (self._times[0], end_ns)  # last, so that a window whose counters failed has not closed

    def _stop_watching(self, seconds: float, *, failed: bool = False) -> None:
        once, self._once = self._once, None
        if once is None:
            return
        once.__exit__(RuntimeError if failed else None, None, None)
        if not failed:
            self._check()
            once.done(self.queries)
            self._watching = once.found(self.queries, once.share(seconds))

    def _check(self) -> None:
        """Raises SettingsError for numbers of queries or tokens that are none."""
        for what, least in (("queries", 1), ("tokens", 0)):
            given = getattr(self, what)
            count = whole(given, least)
            if count is None and not (what == "tokens" and given is None):
                raise SettingsError(f"{what} of a window is {given!r}.", remedy=f"It must be a whole number of at least {least}.")
            setattr(self, what, count)

    def _close_at_a_tick(self, instruments: Instruments, end_ns: int) -> Mapping[str, Reading]:
        """The readings at the first tick by which all energy of the body has arrived; a lag is looked for until work has shown it."""
        faint = instruments.faint
        if faint or not instruments.lag_unknown:
            instruments.clock.sleep(max(source.lag_s for source in instruments.sources))
            after = instruments.ticks()
            if not any(draws(self._a[domain], after[domain], idle_w) for domain, idle_w in faint.items() if domain in after):
                return after
        sources, seen = drive(watch_tail(instruments.sources, self._a, end_ns), instruments)
        arrived_ns = end_ns + max(source.lag_s for source in sources) * 1e9
        return next((readings for readings in seen if min((each.t_ns for each in readings.values()), default=0) >= arrived_ns), seen[-1])

    @property
    def closed(self) -> bool:
        """Whether the body has ended without an error and was metered."""
        return bool(self._times[1])

    @property
    def seconds(self) -> float:
        """How long the body took; 0 before it has ended or where nothing was metered."""
        return (self._times[1] - self._times[0]) / 1e9 if self.closed else 0.0

    @property
    def energy(self) -> Any:
        """Joules of the whole body as an Estimate. Not metered: the rest of the test is skipped, saying why."""
        return scaled(self.result().energy_per_query, self.queries)

    def raw(self) -> Run:
        """The window as a run of one block. Raises MeterLostError where a counter ran backwards."""
        counted = Run(
            self._test,
            self.name,
            self.queries,
            1,
            metered=False,
            window=True,
            tokens=None if self.tokens is None else (self.tokens,),
            watching=self._watching,
            notes=self.notes + self._spun + (() if self._instruments is None else self._instruments.left_out),
        )
        if self._instruments is None:
            return counted
        if self._run is None:
            spans, sources = self._billed(between(self._a, self._b))
            block = Block(0, 0.0, self.queries, *self._times, spans, tuple(dict.fromkeys(self._marks)))
            self._run = replace(
                counted,
                metered=True,
                seconds=self.seconds,
                sources=sources,
                blocks=(block,),
                idles=self._idles,
                provenance=replace(self._provenance, devices=self._instruments.facts(), batch_size=1),
                problem="" if spans else "no energy meter works here",
            )
            if self._beside is not None:
                self._run = believed(self._run, self._beside, self._instruments.allowed)
        return self._run

    def _billed(self, spans: Mapping[str, Span]) -> tuple[dict[str, Span], tuple[Source, ...]]:
        """The energy of the body alone, and the sources with what that leaves open as their step.

        Taken off is the share that was not its queries', and of a counter that runs on continuously the reading itself, which it counts. As
        much as is taken off is open, twice where it is a reading, since one right after another finds warm caches; and so is what the
        body's ends leave: a window has no other repetition to tell by.
        """
        assert self._instruments is not None
        found, sources = dict(spans), []
        for source in self._instruments.sources:
            open_j = 0.0
            if span := found.get(source.domain):
                reading_j = min(self._reading_j.get(source.domain, 0.0), span.energy_j) if source.domain in self._instruments.own else 0.0
                besides_j = (span.energy_j - reading_j) * self.besides
                found[source.domain] = replace(span, energy_j=span.energy_j - reading_j - besides_j)
                open_j = READ_COLD * reading_j + besides_j + FINEST * span.energy_j
            sources.append(replace(source, step_j=max(source.step_j, open_j)))
        return found, tuple(sources)

    def result(self) -> MeasuredRun:
        """The window as a MeasuredRun."""
        if self._instruments is not None and not self.closed:
            raise SettingsError("The window has not ended yet.", remedy="Ask for its energy after the with block.")
        return MeasuredRun(self.raw(), [], self._aim, self._unmetered)
