"""One test at one side, as the comparing process sees it: told when to load, when to run a set, and when it is over."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import Literal, TypeVar

from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.models.workload import is_out_of_memory
from pytest_greencompute.pairing.added import heard
from pytest_greencompute.pairing.channel import Message, known
from pytest_greencompute.pairing.demands import Demands
from pytest_greencompute.pairing.layouts import of_side
from pytest_greencompute.pairing.started import (
    DisturbedError,
    MemoryFullError,
    NotMeasuredError,
    NotServedError,
    Side,
    Started,
    UnmeteredError,
    text,
)
from pytest_greencompute.pairing.told import Explaining, Told
from pytest_greencompute.protocol.layout import Layout
from pytest_greencompute.results.profile_json import profile_from_json
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.readings import beside_others
from pytest_greencompute.values.run import Run

# Where a test has come to; after a run it loads what the next one needs.
At = Literal["importing", "before set-up", "loading", "stopped", "before a run", "measuring", "ended"]
T = TypeVar("T")


class Process:
    """The test of ``side``, in ``started``, which serves others too, or in a process of its own, as ``start`` starts it. Every method
    raises NotMeasuredError where the process has ended or the test failed.

    ``names`` are those of the runs that its test has come to so far, ``demands`` what the side's commit demands of the test, once it has
    told, ``stops`` where it can stop while it loads, ``node`` the test that it has come to: one of several that ``side`` names may do.
    """

    def __init__(self, side: Side, told: Told, started: Started | None = None, start: Callable[[], Started] | None = None) -> None:
        self.side = side
        self.run: Run | None = None
        self.run_name: str | None = None
        self.names: list[str | None] = []
        self.demands: Demands | None = None
        self.stops: tuple[str, ...] = ()
        self.node = side.node_id
        self.takes_turns = self.explains = False
        self._own: Layout | None = None  # the layout that it would choose
        self._told = told
        self._at: At = "importing"
        self._may_go = True  # from where it stops
        self._outcome = ""  # what pytest calls it, once the test has ended
        self._over = self._left = False
        self._start = start or partial(Started, side, told)
        self._started = started or self._start()

    @property
    def measured(self) -> Run:
        """The run so far, once a set has been run."""
        assert self.run is not None
        return self.run

    def wait_until_collected(self) -> None:
        """Wait until it has imported what its test needs, and stands before the test's set-up."""
        if self._at == "importing":
            try:
                message = self._started.stand_before(self.side.node_id)
            except NotServedError:
                # It may not have the test, or not be able to import it: a process for it alone says which.
                self._started = self._start()
                message = self._started.stand_before(self.side.node_id)
            with self._started.understanding(message):
                self.demands = Demands.from_json(message.get("asked", {}))
                self.stops = tuple(message.get("stops", ()))
                self.node = text(message.get("node", self.node))
            self._at = "before set-up"

    @property
    def is_over(self) -> bool:
        """Whether its run has ended, and has no more sets to come."""
        return self._over

    @property
    def is_loading(self) -> bool:
        """Whether it has been told to load."""
        return self._at not in {"importing", "before set-up"}

    @property
    def is_at_work(self) -> bool:
        """Whether it loads, as far as it has said, or runs between two runs."""
        return self._at == "loading"

    def load(self, *, stops: bool = False) -> None:
        """Let it set its test up: load its model. ``stops``: up to its first use of a device, if it can, and to the end of the set-up."""
        if not self.is_loading:
            self.wait_until_collected()
            self._started.send(what="load", settings=self._told.to_json(), **({"stops": True} if stops else {}))
            self._at, self._may_go = "loading", not stops

    def go_on(self) -> None:
        """Let it go on from where it stops, or will stop."""
        self._may_go = True
        if self._at == "stopped":
            self._at = "loading"
            self._started.send(what="go")
        elif self._at == "loading" and self._started.has_spoken():
            self._arrive()

    def wait_still(self, within_s: float | None = None) -> None:
        """Wait until it loads no more: it stands where it must stop, or before its first run."""
        while self._at == "loading":
            self._arrive(within_s)

    def wait_here(self, name: str | None, within_s: float | None = None) -> None:
        """Wait until its test is about to measure the run called ``name``; what it measures before that it runs unmeasured.

        ``within_s``: the longest time for loading (default: half an hour).
        """
        while not self.has_ended(within_s):
            if self.run_name == name:
                return
            self._skip()
            within_s = None
        raise NotMeasuredError(f"its test measures no run {f'named {name!r}' if name else 'without a name'}")

    def has_ended(self, within_s: float | None = None) -> bool:
        """Wait for its next run, then called ``run_name``; True where its test has passed without another."""
        self.load()
        if self._outcome not in {"", "passed"}:
            raise NotMeasuredError("its test has ended")
        self.go_on()
        self.wait_still(within_s)
        return self._at == "ended"

    def _arrive(self, within_s: float | None = None) -> None:
        """Hear where it has come to."""
        message = self._started.receive("here", "device", "loaded", "ended", within_s=within_s)
        if self._has_passed(message):
            return
        if message["what"] == "here":
            with self._started.understanding(message):
                self.run_name = None if message["name"] is None else text(message["name"])
                self.explains = bool(message.get("explains"))
            self.run, self._at, self._over = None, "before a run", False
            self.names.append(self.run_name)
        elif self._may_go:
            self._started.send(what="go")
        else:
            self._at = "stopped"

    def _has_passed(self, message: Message) -> bool:
        """Whether this message says that the test has passed. Raises NotMeasuredError where it says that it ended otherwise."""
        if message["what"] != "ended":
            return False
        with self._started.understanding(message):
            self._at, self._outcome, said = "ended", text(message["outcome"]), text(message["said"])
        if self._outcome != "passed":
            raise _not_measured(self._outcome, said)
        return True

    def _skip(self) -> None:
        self._at = "loading"
        self._started.send(what="skip")

    def run_through(self) -> None:
        """Let its test go on to its end, unmeasured, so that all of its runs are known by name."""
        with contextlib.suppress(NotMeasuredError):
            while not self.has_ended():
                self._skip()

    def prepare(self, learnt: Sequence[Behaviour] = ()) -> Layout:
        """Let it warm up; the layout that it would choose. ``learnt``: what is known of the devices here."""
        self._at = "measuring"
        self._started.send(what="prepare", learnt=[asdict(each) for each in learnt], adds=True)
        message = self._expect("ready", "done")
        if message["what"] == "done":
            self._take(message)
            raise UnmeteredError("no energy meter works there")
        self.takes_turns = bool(message.get("turns"))
        with self._started.understanding(message):
            self._own = Layout(**known(fields(Layout), message["layout"]))
        return self._own

    def share(self, told: Message, learnt: Sequence[Behaviour]) -> None:
        """Let it measure a share of a comparison, which it has come to. ``learnt`` as for ``prepare``."""
        self._at = "measuring"
        self._started.send(what="prepare", learnt=[asdict(each) for each in learnt], share=told)

    def shared(self, within_s: float, understand: Callable[[Message], T]) -> T:
        """What it has measured of its share, within so many seconds, as it is understood."""
        message = self._started.receive("shared", "ended", within_s=within_s)
        if self._has_passed(message):
            raise NotMeasuredError("its test measured nothing of it")
        with self._started.understanding(message):
            return understand(message)

    def explain(self, name: str | None, how: Explaining, within_s: float | None = None) -> Profile:
        """What the model of the run called ``name`` is seen to do, once it is loaded; nothing is measured.

        ``within_s``: the longest time for loading.
        """
        self.wait_here(name, within_s)
        if not self.explains:
            raise NotMeasuredError("its version of pytest-greencompute cannot explain", remedy="Update it there.")
        self._at = "measuring"
        self._started.send(what="explain", **asdict(how))
        message = self._expect("explained")
        with self._started.understanding(message):
            profile = profile_from_json(message["profile"])
        self._at = "loading"
        return profile

    def answers_of(self, name: str | None) -> Run:
        """The run called ``name`` with its scores and answers, and as little measuring as can be."""
        self.wait_here(name)
        try:
            self.lay_out(self.prepare())
        except NotMeasuredError:
            if not self._over:  # there is no run
                raise
        return self.end()

    def lay_out(self, layout: Layout) -> None:
        """Tell it the layout of both sides, of which it has its part."""
        told = asdict(layout if self._own is None else of_side(layout, self._own))
        if told["fewer"] == 1:  # not every version knows the key
            del told["fewer"]
        self._started.send(what="layout", layout=told)

    def run_set(self, index: int) -> Run | None:
        """Let it run a set, or a turn of one; its run so far, that set included once it is complete, unless it was lost, or its time is
        over. None before the end of the first set.
        """
        if self._over:
            return self.run
        self._started.send(what="set", index=index)
        message = self._expect("measured", "done")
        if ("run" not in message or message["run"] is not None) and beside_others(self._take(message).blocks):
            raise DisturbedError("another process used the GPU while it was measured")
        return self.run

    def end(self) -> Run:
        """End its measurement; the whole run."""
        if not self._over:
            with contextlib.suppress(NotMeasuredError):
                self._started.send(what="end")
            self._take(self._expect("done"))
        return self.measured

    def _take(self, message: Message) -> Run:
        with self._started.understanding(message):
            self.run = heard(message, self.run)
        self._over = message["what"] == "done"
        self._at = "loading" if self._over else "measuring"
        return self.run

    def _expect(self, *whats: str) -> Message:
        message = self._started.receive(*whats, "ended")
        if self._has_passed(message):
            raise _not_measured(message["outcome"], message["said"])
        return message

    def close(self) -> None:
        """Leave the process to the tests that follow, or end it: where there are none, or this one is in the midst. May be called twice."""
        if self._left:
            return
        self._left = True
        waits = self._at in {"before set-up", "stopped"} or (self._at == "loading" and not self._may_go)
        if not self._started.serves_others or not (waits or self._at in {"importing", "ended"}):
            self._started.close()
        elif waits:
            with contextlib.suppress(NotMeasuredError):
                self._started.send(what="next")

    def kill(self) -> None:
        """End its process at once: the memory that it holds is wanted."""
        self._started.kill()


def _not_measured(outcome: str, said: str) -> NotMeasuredError:
    if is_out_of_memory(said):
        return MemoryFullError(f"it ran out of memory ({_reason(said)})")
    return NotMeasuredError(f"its test {'was skipped' if outcome == 'skipped' else 'failed'} ({_reason(said)})")


def _reason(said: str) -> str:
    """What the test ended with: the first of the last lines that pytest marks with an E, or the last line where there is none."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    blocks = [list(block) for marked, block in itertools.groupby(lines, lambda line: line.startswith("E ")) if marked]
    return blocks[-1][0].removeprefix("E ").strip() if blocks else lines[-1] if lines else "nothing was said"
