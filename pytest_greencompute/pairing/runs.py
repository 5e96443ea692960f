"""One run of the session against the same test at other commits, set by set in turn, until the comparison is certain.

Pair number i is set i of each side: this side first where i is even, last where it is odd, so that a steady drift cancels. A FAIL is
seen again in fresh launches of both sides before it is one (``pairs.PairedTest``): after the test's body, when the process that
measured the base has ended and its memory is free.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.pairs import LAUNCHES_FOR_FAIL, Asks, PairedTest
from pytest_greencompute.judging.prospect import comparison
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.pairing import STOPS
from pytest_greencompute.pairing.demands import Demands
from pytest_greencompute.pairing.feed import Feed
from pytest_greencompute.pairing.layouts import blocking, common, in_turns, metered_otherwise, most_pairs, of_side, with_timing
from pytest_greencompute.pairing.outlook import Outlook
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.room import Room, Watch
from pytest_greencompute.pairing.started import END_S, MemoryFullError, NotMeasuredError, Side
from pytest_greencompute.protocol.layout import SET_BLOCKS, Layout, blocks_per_set
from pytest_greencompute.protocol.sets import follows_phase
from pytest_greencompute.stats.looks import MIN_SAMPLES
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

IN_PAIRS = ("energy", "rate", "latency")  # kinds of metrics; scores and answers are compared query by query
TURNS = "fresh launches of both did not fit into memory together: one was measured after the other"
Starting = Callable[[Side], Process]
Saying = Callable[[str], None]


@dataclass
class BaseOfTest:
    """A base, for one test: its process, or why it cannot be measured. ``missing``: it does not have the test.

    ``demands`` are those of that commit on the test, once its process has told; ``names`` are those of its runs.
    """

    label: str
    side: Side | None
    process: Process | None = None
    problem: str = ""
    missing: bool = False
    demands: Demands | None = None
    names: Sequence[str | None] = ()
    _start: Starting | None = None
    _watch: Watch | None = None

    def start(self, start: Starting, room: Room | None = None) -> None:
        """Start its process, which imports what it needs and then waits; where there is ``room``, it loads its model beside this side."""
        self._start = start
        if self.side is not None and not self.problem:
            try:
                self.process = start(self.side)
            except NotMeasuredError as error:
                self.problem = error.message
        if self.process is not None and room is not None:
            self._watch = Watch(room, partial(_load, self.process, of_devices=room.of_devices), self.process.kill)

    def wait_imported(self) -> None:
        """Wait until it has imported what it needs, so that it can be spoken with."""
        if self._watch is not None:
            self._watch.wait_begun()

    def has_room(self) -> tuple[str, ...]:
        """This side has loaded: where the base had to end for that, it begins again, which is said."""
        watch, self._watch = self._watch, None
        if watch is None:
            return ()
        watch.stop()
        if not watch.why or self._start is None:
            return ()
        self.close()
        self.start(self._start)
        return (f"{self.label} was loaded after this side: {watch.why}",)

    def close(self) -> None:
        """End its process. May be called twice."""
        watch, self._watch = self._watch, None
        if watch is not None and self.process is not None:
            if not watch.wait_begun(END_S):
                self.process.kill()
            watch.stop()
        if self.process is not None:
            self.demands = self.process.demands or self.demands
            self.names = tuple(self.process.names)
            self.process.close()
            self.process = None


def _load(process: Process, *, of_devices: bool) -> bool:
    """Let a base load, if it can stop before what would disturb this side; whether it does."""
    try:
        process.wait_until_collected()
        loads = STOPS[of_devices] in process.stops
        if loads:
            process.load(stops=True)
    except NotMeasuredError:  # who wants to measure it will hear why
        return False
    return loads


@dataclass
class Match:
    """One run against one base: a paired test for each metric of ``rules``, once both have agreed on a layout.

    ``run`` is the base's; ``problem`` says why it has none, ``missing`` that it does not have the test; ``remark`` is what a
    reader of an inconclusive verdict should know, ``needs`` what each metric would have taken that was not decided in time. ``launched``
    are the launches of base and head where launches took turns. ``again``: why the first launch was worthless, if it was: it is to be done
    again by fresh processes.
    """

    base: BaseOfTest
    rules: Mapping[str, Rule]
    aim: Aim
    tests: dict[str, PairedTest] = field(default_factory=dict)
    layout: Layout | None = None
    run: Run | None = None
    problem: str = ""
    missing: bool = False
    remark: str = ""
    launched: tuple[Sequence[Run], Sequence[Run]] | None = None
    again: str = ""
    notes: tuple[str, ...] = ()
    needs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.launched is None and self.base.process is None:
            self.problem, self.missing = self.base.problem or "its process has ended", self.base.missing

    @property
    def asks(self) -> Asks:
        if self.again and not self.problem:
            return "relaunch"
        wanted = {test.asks for test in self.tests.values()}
        return "nothing" if self.problem else "pair" if "pair" in wanted else "relaunch" if "relaunch" in wanted else "nothing"

    @contextlib.contextmanager
    def trying(self) -> Iterator[Process]:
        """The base's process, to ask something of; where it cannot be measured any more it is given up, with the reason."""
        assert self.base.process is not None
        try:
            yield self.base.process
        except NotMeasuredError as error:
            self.problem, self.missing = error.message.rstrip("."), error.means_missing
            if isinstance(error, MemoryFullError):
                self.problem += "; --energy-base-turns launches measures the sides one after the other"
            self.base.problem, self.base.missing = self.problem, self.missing
            self.base.close()

    def begin_tests(self, layout: Layout, launches: int) -> None:
        """The tests of a comparison that has ``layout`` at most for its first launch."""
        self.layout = layout
        for name, rule in self.rules.items():
            self.tests[name] = comparison(rule, most_pairs(METRICS[name], layout), launches)

    def begin_again(self, launches: int, why: str) -> None:
        """Single blocks will not do, since ``why``: forget their pairs, and let fresh processes measure sets of nine phases."""
        assert self.layout is not None
        fewer = max(MIN_SAMPLES, self.layout.sets // SET_BLOCKS)
        self.again, self.notes = why, (*self.notes, f"{why}: measured again in fresh launches of both, in sets of nine phases")
        self.begin_tests(replace(self.layout, size=SET_BLOCKS, sets=fewer), launches)

    def no_more_pairs(self) -> None:
        """This launch is over: each test must do with the pairs that it has."""
        for test in () if self.again else self.tests.values():
            test.stop()


@dataclass
class Pairing:
    """The comparison of one run called ``name``. ``start`` starts a side's process; ``head`` is this side as one, for fresh launches;
    ``learnt`` is what this process knows of the devices by now, ``doubt`` makes it take the phase of their ticks for one that matters;
    ``room`` tells whether others may load beside this side (None: they never do), and ``loading_s`` how long loading may take.
    """

    matches: Sequence[Match]
    head: Side
    start: Starting
    aim: Aim
    launches: int = 1
    name: str | None = None
    say: Saying = lambda _: None
    learnt: Callable[[], Sequence[Behaviour]] = tuple
    doubt: Callable[[], None] = lambda: None
    room: Room | None = None
    loading_s: float | None = None
    outlook: Outlook = field(default_factory=Outlook)
    certain: bool = field(default=False, init=False)
    _theirs: int = field(default=0, init=False)
    _turns: int = field(default=1, init=False)
    _feeds: list[Feed] = field(default_factory=list, init=False)
    _ahead: tuple[Process, ...] = field(default=(), init=False)  # base and head of the next launch

    def may_end(self, *, certain: bool) -> bool:
        """Whether this side may stop measuring: its own budgets are ``certain`` and no comparison asks for another pair."""
        self.certain = certain
        return certain and not any(match.asks == "pair" for match in self._running())

    def begin(self) -> None:
        """Wait until no base is importing any more. They load their models beside this side where there is room, or when it is warm."""
        for match in self._running():
            match.base.wait_imported()
            with match.trying() as process:
                process.wait_until_collected()

    def answered(self) -> None:
        """This side has answered its queries once, and has all the memory that it needs: what runs on no device may go on to its own."""
        for match in self._running():
            match.notes += match.base.has_room()
            with match.trying() as process:
                if self.room is not None and not self.room.of_devices and process.is_loading:
                    process.go_on()

    def alone(self) -> float:
        """Wait until no base is loading, since what is timed now must not be disturbed; how many seconds that took."""
        start = time.monotonic()
        for match in self._running():
            with self.outlook.limit.apart(), match.trying() as process:
                if process.is_at_work:
                    self.say(f"loading {match.base.label}")
                    process.wait_still(self.loading_s)
        return time.monotonic() - start

    def agree(self, layout: Layout) -> Layout:
        """Let each base load and warm up, this side waiting, and find the layout that suits all."""
        own = layout
        for match in self._running():
            self.say(f"loading {match.base.label}")
            with self.outlook.limit.apart(), match.trying() as process:
                process.wait_here(self.name, self.loading_s)
                with self.outlook.getting_ready():
                    theirs = process.prepare(self.learnt())
                if theirs.batches != layout.batches:
                    raise NotMeasuredError(f"it measures {theirs.batches} batches and this side {layout.batches}: other queries")
                layout = common(layout, theirs)
        if layout.short and all(match.base.process is not None and match.base.process.takes_turns for match in self._running()):
            layout = in_turns(layout)
        layout = with_timing(layout, [METRICS[name] for match in self._running() for name in match.rules])
        for match in self._running():
            match.begin_tests(layout, self.launches)
            with match.trying() as process:
                process.lay_out(layout)
        self._turns = layout.turns
        self._feeds = [Feed(match.tests, self.aim) for match in self.matches]
        return of_side(layout, own)

    def turn(self, index: int, run: Run | None) -> bool:
        """Finish the pairs before turn ``index`` of this side, and say whether that turn is to run."""
        if run is not None:
            self._finish(index // self._turns, run)
            if self.may_end(certain=self.certain) or self.outlook.is_over(self._running(), run, alone=self.certain):
                return False
        self._others_run(until=index + index % 2)
        return True

    def _finish(self, sets: int, run: Run) -> None:
        self._others_run(until=sets * self._turns)
        for match, feed in zip(self.matches, self._feeds, strict=False):
            if match.run is not None and not match.problem and not match.again:
                feed.tell(match.run, run, sets)
                self._look_at_phases(match, run)
                if match.base.process is not None and match.base.process.is_over:
                    match.no_more_pairs()

    def _look_at_phases(self, match: Match, run: Run) -> None:
        """Where single blocks were chosen although there is a tick: whether the energy of a side follows its phase after all."""
        if match.layout is None or match.run is None:  # whole launches take turns
            return
        tick_s, lag_s = (max((getattr(each, what) for each in run.sources), default=0.0) for what in ("tick_s", "lag_s"))
        if match.layout.size == 1 and blocks_per_set(tick_s, match.layout.target_s, lag_s) > 1:
            sides = [side for side, each in ((match.base.label, match.run), ("this side", run)) if follows_phase(each.blocks, each.idles)]
            if sides:
                self.doubt()
                match.begin_again(self.launches, f"the energy of {' and '.join(sides)} followed the phase of the meter's tick")

    def _others_run(self, *, until: int) -> None:
        """Let the bases run their turns before number ``until``, as far as they have not."""
        for index in range(self._theirs, until):
            for match in self._running():
                with match.trying() as process:
                    match.run = process.run_set(index)
        self._theirs = max(self._theirs, until)

    def end(self, run: Run) -> None:
        """This side's run is over: the last pair, and the bases' own ends."""
        self._finish(1 + max((block.set_index for block in run.blocks), default=-1), run)
        for match in self._running():
            with match.trying() as process:
                # Without a meter on this side there was nothing to lay out, but scores and answers can be compared all the same.
                match.run = process.end() if match.layout else process.answers_of(self.name)
            self.outlook.tell_late(match)
            match.no_more_pairs()
            if not match.problem and match.run is not None:
                match.problem = metered_otherwise(blocking(run, match.run, self.aim))

    def confirm(self) -> None:
        """The fresh launches that a FAIL needs, or that were asked for. The processes of ``end`` must have ended."""
        for match in self.matches:
            try:
                self._confirm(match)
            finally:
                self._end_ahead()

    def _confirm(self, match: Match) -> None:
        launch = 1
        while match.asks == "relaunch":
            match.remark = self.outlook.lacks(match, launch)
            if match.remark:
                break
            launch += 1
            likely = self.outlook.words([match])
            self.say(f"against {match.base.label} again, launch {launch} of both{', ' if likely else ''}{likely}")
            try:
                self._relaunch(match, launch)
            except NotMeasuredError as error:
                match.remark = f"launch {launch} was not measured: {error}".rstrip(".")
                break

    def _end_ahead(self) -> None:
        for each in self._ahead:
            each.close()
        self._ahead = ()

    def _relaunch(self, match: Match, launch: int) -> None:
        """Fresh launches of one base and of this side, in pairs until the tests ask for something else."""
        for test in match.tests.values():
            if test.asks == "relaunch" and not match.again:
                test.relaunched()
        match.again = ""
        try:
            self._side_by_side(match, launch)
        except MemoryFullError:
            self._end_ahead()
            if TURNS not in match.notes:
                match.notes += (TURNS,)
            self._one_after_the_other(match, launch)
        match.no_more_pairs()

    def _launched(self, match: Match, launch: int) -> tuple[Process, ...]:
        """Fresh processes of base and head. Those of the launch that may follow import beside them; all load at once where there is room,
        and stand still when this ends.
        """
        assert match.base.side is not None
        sides = match.base.side, self.head
        now, self._ahead = self._ahead or tuple(map(self.start, sides)), ()
        if self.room is None:
            return now
        if launch < max(self.launches, LAUNCHES_FOR_FAIL):
            self._ahead = tuple(map(self.start, sides))
        loading = 0
        for processes in (now, self._ahead):
            waiting = [each for each in processes if not each.is_loading]
            loading += len(waiting)
            if not self.room.short(loading):
                for each in waiting:
                    each.load()
        for each in (*now, *self._ahead):
            each.wait_until_collected()
            each.wait_still(self.loading_s)
        return now

    def _side_by_side(self, match: Match, launch: int) -> None:
        assert match.layout is not None
        with contextlib.ExitStack() as launched:
            with self.outlook.limit.apart():
                base, head = map(launched.enter_context, map(contextlib.closing, self._launched(match, launch)))
            layout = match.layout
            for each in (head, base):
                with self.outlook.limit.apart():
                    each.wait_here(self.name, self.loading_s)
                with self.outlook.getting_ready():
                    layout = replace(common(layout, each.prepare(self.learnt())), timed=match.layout.timed)
            for each in (head, base):
                each.lay_out(layout)
            feed = Feed(match.tests, self.aim)
            for sets in by_turns(head, base, layout):
                feed.tell(base.measured, head.measured, sets)
                if match.asks != "pair" or head.is_over or base.is_over or self.outlook.limit.is_up(head.measured):
                    break

    def _one_after_the_other(self, match: Match, launch: int) -> None:
        """Where both do not fit into the memory beside this process: pairs of sets that were measured at different times."""
        assert match.layout is not None
        assert match.base.side is not None
        sides = {"base": match.base.side, "head": self.head}
        runs: dict[str, Run] = {}
        for which in ("base", "head") if launch % 2 == 0 else ("head", "base"):
            with contextlib.closing(self.start(sides[which])) as process:
                with self.outlook.limit.apart():
                    process.wait_here(self.name, self.loading_s)
                runs[which] = whole_run(process, self.name, match.layout, self.learnt())
        Feed(match.tests, self.aim).tell(runs["base"], runs["head"], match.layout.sets)

    def _running(self) -> list[Match]:
        return [match for match in self.matches if match.base.process is not None and not match.problem]


class RunsSets(Protocol):
    """A side, as far as turns go."""

    def run_set(self, index: int) -> Run | None:
        """Run a set, or a turn of one."""


def by_turns(one: RunsSets, other: RunsSets, layout: Layout) -> Iterator[int]:
    """Let two sides run all sets of ``layout``, first the one first, then the other; yields how many sets both have run."""
    for turn in range(layout.sets * layout.turns):
        for each in (one, other) if turn % 2 == 0 else (other, one):
            each.run_set(turn)
        if (turn + 1) % layout.turns == 0:
            yield (turn + 1) // layout.turns


def whole_run(process: Process, name: str | None, layout: Layout | None, learnt: Sequence[Behaviour] = ()) -> Run:
    """All sets of ``layout`` (None: its own) measured by one process, which ends then. Raises NotMeasuredError."""
    with contextlib.closing(process):
        process.wait_here(name)
        theirs = process.prepare(learnt)
        layout = layout or theirs
        if theirs.batches != layout.batches:
            raise NotMeasuredError(f"it measures {theirs.batches} batches, and another launch {layout.batches}")
        process.lay_out(layout)
        for turn in range(layout.sets * layout.turns):
            process.run_set(turn)
        return process.end()
