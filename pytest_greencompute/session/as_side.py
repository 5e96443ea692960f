"""In a process that another pytest has started to measure one side of a comparison: what it measures, the one that compares tells of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.measuring.driver import arun_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.devices import free_memory
from pytest_greencompute.pairing.told import Explaining
from pytest_greencompute.pairing.worker import Worker
from pytest_greencompute.profiling.passes import profile
from pytest_greencompute.profiling.replay import ReplayMeter
from pytest_greencompute.session.once import Once
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:
    from pytest_greencompute.session.spread import SpreadOut
    from pytest_greencompute.session.under_meters import UnderMeters

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


T = TypeVar("T")


class AsSide(Once):
    """Runs are measured when the other process says so, with ``effort``; what is compared with nothing runs once. The process that compares
    holds the lock of the devices.
    """

    metered = True
    in_pairs = True

    def __init__(self, session: Session, worker: Worker, effort: Effort) -> None:
        super().__init__(lambda: session, session.clock, markers=session.settings.reasoning_markers)
        self._here, self.worker, self._effort = session, worker, effort

    def begin(self, test: MeteredTest) -> None:
        """Open the meters, and wait until the other side has what it needs. Raises NotWantedError where it does not ask for this test."""
        self._here.open()
        free_memory()  # of tests before, which the other side may need now
        told = self.worker.wait_to_load(test.node_id, test.demands)
        if told is not None:
            self._effort = effort_of_side(told.max_seconds, told.count)

    def either(
        self,
        test: MeteredTest,
        metered: Callable[[UnderMeters], T],
        once: Callable[[int | None], T],
        spread: SpreadOut | None = None,
        /,
    ) -> T:
        """Without a meter, or this card's share of candidates, after which nothing more is asked of the test: raises NotWantedError."""
        if spread is not None and spread.key == self.worker.spread and self.worker.wait_to_begin(spread.key):
            spread.share(self._here, self.worker)
        return super().either(test, metered, once)

    async def measure(self, test: MeteredTest, task: Task) -> tuple[Run, list[Any]]:
        """Measure by turns with the other side; once where that does not measure this run."""
        if not self.worker.wait_to_begin(task.name):
            if (how := self.worker.to_explain) is not None:
                self.worker.explained(self._looked_at(test, task, how))
            return await super().measure(test, task)
        session, worker = self._here, self.worker
        assert session.instruments is not None
        session.instruments.expect(worker.learnt)
        effort = replace(self._effort, agree=worker.agree, turn=worker.turn, provenance=session.provenance())
        raw, outputs = await arun_metered(task, session.instruments, effort, session.why_unmeasured)
        worker.done(raw)
        return raw, outputs

    def _looked_at(self, test: MeteredTest, task: Task, how: Explaining) -> Profile:
        """What the model is seen to do."""
        instruments = self._here.instruments
        metering = None if instruments is None else ReplayMeter(instruments, self._here.aim(test))
        if instruments is not None:
            instruments.expect(how.learnt)
        some, counted = how.some or None, how.counted or None
        return profile(task, ticking=how.ticking, limit_s=how.limit_s, some=some, counted=counted, metering=metering, replay=how.replay)


def effort_of_side(max_seconds: float, count: tuple[str, ...]) -> Effort:
    """How a side measures: as long as it is told to, without a verdict of its own."""
    # Latencies are compared by those that are timed after each set.
    return Effort(max_seconds, keep_answers=True, timing="none", in_pairs=True, count=count)
