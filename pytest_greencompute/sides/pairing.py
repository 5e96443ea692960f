"""One run of the session against the same test at other commits, set by set in turn, until the comparison is certain.

Pair number i is set i of each side: this side first where i is even, last where it is odd, so that a steady drift cancels. A FAIL is
seen again in fresh launches of both sides before it is one (``pairs.PairedTest``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pytest_greencompute.estimate import Aim, Estimate, estimate
from pytest_greencompute.metrics import METRICS
from pytest_greencompute.pairs import LAUNCHES_FOR_FAIL, UNANIMOUS, PairedTest, Rule
from pytest_greencompute.samples import Run
from pytest_greencompute.schedule import Layout
from pytest_greencompute.sides.opponent import NoSuchTestError, NotMeasuredError, Opponent, Side

ENERGY = METRICS["energy_per_query"]
Starting = Callable[[Side], Opponent]


@dataclass
class Rival:
    """One other commit, for one test: its process, or why it cannot be measured. ``missing``: it does not have the test."""

    ref: str
    side: Side | None
    opponent: Opponent | None = None
    problem: str = ""
    missing: bool = False

    def start(self, start: Starting) -> None:
        """Start its process, which loads what it needs and then waits."""
        if self.side is not None and not self.problem:
            try:
                self.opponent = start(self.side)
            except OSError as error:
                self.problem = f"its process could not be started ({error.strerror})"

    @contextlib.contextmanager
    def trying(self) -> Iterator[Opponent]:
        """Its process, to ask something of; where it cannot be measured any more it is given up, with the reason."""
        assert self.opponent is not None
        try:
            yield self.opponent
        except NotMeasuredError as error:
            self.problem, self.missing = error.message.rstrip("."), isinstance(error, NoSuchTestError)
            self.close()

    def close(self) -> None:
        """End its process. May be called twice."""
        if self.opponent is not None:
            self.opponent.close()
            self.opponent = None


@dataclass
class Match:
    """One run against one rival. ``launches`` are the runs of base and head, for each launch of both; this session's is the first."""

    rival: Rival
    rule: Rule
    test: PairedTest | None = None
    base: Run | None = None
    answers: Sequence[str] = ()
    launches: list[tuple[Run, Run]] = field(default_factory=list)

    @property
    def asks(self) -> str:
        return "nothing" if self.test is None or self.rival.problem else self.test.asks

    def tell(self, index: int, head: Run, aim: Aim) -> None:
        """Pair ``index``, where both sides have that set."""
        told = None if self.base is None else pair_of(self.base, head, index, aim)
        if told is not None and self.test is not None:
            self.test.tell(*told)


@dataclass
class Pairing:
    """The comparison of one run. ``start`` starts a side's process; ``head`` is this side as one, for fresh launches."""

    matches: Sequence[Match]
    head: Side
    start: Starting
    aim: Aim
    suspicious: Callable[[Match], bool] = lambda _: False
    launches: int = 1
    name: str | None = None
    certain: bool = field(default=False, init=False)
    _done: int = field(default=0, init=False)

    def may_end(self, *, certain: bool) -> bool:
        """Whether this side may stop measuring: its own budgets are ``certain`` and no comparison asks for another pair."""
        self.certain = certain
        return certain and not any(match.asks == "pair" for match in self._running())

    def begin(self) -> None:
        """Wait until every base has loaded and is about to measure; they then wait for their turn."""
        for match in self._running():
            with match.rival.trying() as opponent:
                opponent.wait_here(self.name)

    def agree(self, layout: Layout) -> Layout:
        """Let each base warm up, this side waiting, and find the layout that suits all."""
        for match in self._running():
            with match.rival.trying() as opponent:
                theirs = opponent.prepare()
                if theirs.batches != layout.batches:
                    raise NotMeasuredError(f"it measures {theirs.batches} batches and this side {layout.batches}: other queries")
                layout = common(layout, theirs)
        again = UNANIMOUS * (LAUNCHES_FOR_FAIL - 1)
        for match in self._running():
            match.test = PairedTest(match.rule, layout.sets + again, self.launches)
            with match.rival.trying() as opponent:
                opponent.lay_out(layout)
        return layout

    def turn(self, index: int, run: Run) -> bool:
        """Finish the pairs before set ``index`` of this side, and say whether that set is to run."""
        self._finish(index, run)
        if self.may_end(certain=self.certain):
            return False
        if index % 2 == 1:
            self._others_run(index)
        return True

    def _finish(self, sets: int, run: Run) -> None:
        if sets > self._done and (sets - 1) % 2 == 0:
            self._others_run(sets - 1)
        for index in range(self._done, sets):
            for match in self._running():
                match.tell(index, run, self.aim)
        self._done = sets

    def _others_run(self, index: int) -> None:
        for match in self._running():
            with match.rival.trying() as opponent:
                match.base = opponent.run_set(index)

    def end(self, run: Run) -> None:
        """This side's run is over: the last pair, the bases' own ends, and the fresh launches that a FAIL needs."""
        self._finish(1 + max((block.set_index for block in run.blocks), default=-1), run)
        for match in self._running():
            with match.rival.trying() as opponent:
                match.base, match.answers = opponent.end(), opponent.answers
                match.launches.append((match.base, run))
            if match.test is not None and match.test.asks == "pair":
                match.test.stop()
        for match in self.matches:
            while match.asks == "relaunch" or (match.launches and not match.rival.problem and self.suspicious(match)):
                with match.rival.trying():
                    self._relaunch(match)

    def _relaunch(self, match: Match) -> None:
        """Fresh launches of one base and of this side, in pairs until the test asks for something else."""
        assert match.rival.side is not None
        assert match.test is not None
        with contextlib.ExitStack() as launched:
            base, head = (self.start(side) for side in (match.rival.side, self.head))
            launched.callback(base.close)
            launched.callback(head.close)
            for each in (base, head):
                each.wait_here(self.name)
            layout = common(base.prepare(), head.prepare())
            base.lay_out(layout)
            head.lay_out(layout)
            if match.test.asks == "relaunch":
                match.test.relaunched()
            for index in range(layout.sets if match.test.asks == "pair" else 0):
                first, second = (head, base) if index % 2 == 0 else (base, head)
                first.run_set(index)
                second.run_set(index)
                told = None if base.run is None or head.run is None else pair_of(base.run, head.run, index, self.aim)
                if told is not None and match.test.tell(*told) != "pair":
                    break
            else:
                match.test.stop()
            match.launches.append((base.end(), head.end()))

    def _running(self) -> list[Match]:
        return [match for match in self.matches if match.rival.opponent is not None and not match.rival.problem]


def common(one: Layout, other: Layout) -> Layout:
    """A layout for both: blocks long enough for the faster side, and as many sets as both have time for."""
    return replace(
        one,
        batch_s=min(one.batch_s, other.batch_s),
        target_s=max(one.target_s, other.target_s),
        size=max(one.size, other.size),
        sets=min(one.sets, other.sets),
    )


def pair_of(base: Run, head: Run, index: int, aim: Aim) -> tuple[float, float] | None:
    """Joules per query of set ``index`` on both sides, each summed before any ratio is taken; None where one has lost that set."""
    of_base, of_head = of_set(base, index, aim), of_set(head, index, aim)
    return None if of_base is None or of_head is None else (of_base, of_head)


def of_set(run: Run, index: int, aim: Aim) -> float | None:
    """Joules per query of one complete set; None where it was lost or spoiled."""
    blocks = tuple(block for block in run.blocks if block.set_index == index)
    found = estimate(replace(run, blocks=blocks, looks=1), ENERGY, aim) if blocks else None
    return found.value if isinstance(found, Estimate) else None
