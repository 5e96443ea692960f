"""Several candidates measured abreast, in this process: each has its own protocol, and their sets take turns.

Candidate number k runs set i before or after the others as i is even or odd, so that a steady drift cancels in the ratio of a pair.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from pytest_greencompute.errors import CannotError, MeterError, SettingsError, first_line
from pytest_greencompute.judging.choice import Candidate, reference_of
from pytest_greencompute.machine.alarm import at_most
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.measuring.driver import Metering, metering
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.alike import share_alike
from pytest_greencompute.models.devices import free_memory
from pytest_greencompute.models.precision import share_of
from pytest_greencompute.models.workload import is_out_of_memory
from pytest_greencompute.protocol.layout import Layout
from pytest_greencompute.protocol.messages import Agree
from pytest_greencompute.protocol.sets import LEAST_SINGLES, planned_looks

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Decided = Callable[[Sequence[Candidate], int], Collection[str]]


@dataclass(frozen=True, slots=True)
class Entrant:
    """A candidate to be measured. ``task`` builds what is run, and may raise: a model that is loaded or converted only then.

    ``odd``: nobody wrote it down as it is, so what is wrong with it is its row, and no error of the test's. ``ready_s``: how long it may
    take until its sets begin; None: as long as it takes.
    """

    name: str
    task: Callable[[], Task]
    values: Mapping[str, Any]
    odd: bool = False
    ready_s: float | None = None


class _Lane:
    """One entrant on its way through its protocol, until that ends or the model raises."""

    __slots__ = ("_odd", "_steps", "candidate", "error", "layout", "outputs")

    def __init__(self, entrant: Entrant) -> None:
        self.candidate = Candidate(entrant.name, values=entrant.values)
        self.outputs: list[Any] = []
        self.layout: Layout | None = None
        self.error: Exception | None = None
        self._steps: Metering | None = None
        self._odd = entrant.odd

    @property
    def waits(self) -> bool:
        """Whether it is in the middle of its protocol."""
        return self._steps is not None

    def begin(self, entrant: Entrant, instruments: Instruments, effort: Effort, problem: str) -> None:
        """Run all that comes before the sets."""

        def first_steps() -> None:
            with _in_time(entrant):
                self._steps = metering(self._task_of(entrant), instruments, effort, problem)
                self._send(None)

        self._attempt(first_steps)

    def go_on(self, answer: Any) -> None:
        """Answer what it waits for, and let it run until it waits again or has ended."""
        self._attempt(lambda: self._send(answer))

    def run_once(self, entrant: Entrant, clock: Clock, keep: int | None) -> None:
        """Each query once, without a meter."""

        def once() -> None:
            with _in_time(entrant):
                run, self.outputs = run_once(self._task_of(entrant), clock, keep)
            self.candidate = replace(self.candidate, run=run)

        self._attempt(once)

    def _task_of(self, entrant: Entrant) -> Task:
        task = entrant.task()
        self.candidate = replace(self.candidate, weights=share_of(task.model))
        return task

    def _send(self, answer: Any) -> None:
        assert self._steps is not None
        try:
            ask, run = self._steps.send(answer)
        except StopIteration as done:
            run, self.outputs = done.value
            self._steps = None
        else:
            self.layout = ask.layout if isinstance(ask, Agree) else self.layout
        if run is not None:
            self.candidate = replace(self.candidate, run=run)

    def _attempt(self, step: Callable[[], None]) -> None:
        """What a candidate's model raises becomes its row; bad input and lost meters are everybody's."""
        out_of_memory = False
        try:
            step()
        except MeterError:
            raise
        except SettingsError as error:
            if self._odd:
                self._give_up(error.message.rstrip("."), error, impossible=False)
                return
            error.message = f"{self.candidate.name}: {error.message}"
            raise
        except CannotError as error:
            self._give_up(str(error), error, impossible=True)
        except Exception as error:  # noqa: BLE001  whatever a model raises is news about that model alone
            said = f"{type(error).__name__}: {error}"
            out_of_memory = is_out_of_memory(said)
            self._give_up("out of memory" if out_of_memory else f"it raised {first_line(said)}", error, impossible=out_of_memory)
        if out_of_memory:
            self.error = None  # its traceback holds on to the tensors of the failed attempt
            free_memory()

    def _give_up(self, problem: str, error: Exception, *, impossible: bool) -> None:
        """It has no figure; what it measured so far is none."""
        self._steps, self.error = None, error
        self.candidate = replace(self.candidate, run=None, problem=problem, impossible=impossible)


def _in_time(entrant: Entrant) -> AbstractContextManager[None]:
    return at_most(entrant.ready_s, CannotError(f"it was not ready within {entrant.ready_s or 0:.0f} s"))


def measure_abreast(
    entrants: Sequence[Entrant],
    instruments: Instruments,
    effort_of: Callable[[str], Effort],
    enough: Decided,
    problem: str = "",
    *,
    some: bool = True,
) -> tuple[tuple[Candidate, ...], dict[str, list[Any]], int]:
    """Measure all entrants, their sets by turns: the candidates, their answers, and how many looks were planned at the ratios.

    The time limit of their efforts is that of the whole comparison: they share it. ``enough`` is asked at each look with the candidates
    so far, and with the number of looks, for the names of those that need no more sets. ``problem`` as for ``metering``. Raises
    SettingsError for bad input, naming the candidate, and where no candidate could be measured, unless ``some`` need not be; MeterError.
    """
    lanes = [_Lane(entrant) for entrant in entrants]
    for lane, entrant in zip(lanes, entrants, strict=True):
        effort = effort_of(entrant.name)
        lane.begin(entrant, instruments, replace(effort, max_seconds=effort.max_seconds / len(entrants), by_turns=True), problem)
    looks = _lay_out([lane for lane in lanes if lane.waits])
    if any(lane.candidate.run is not None or lane.waits for lane in lanes):
        for lane in lanes:
            lane.error = None  # its traceback holds on to what the model had in memory; the row says what it was
    sets = 0
    while running := [lane for lane in lanes if lane.waits]:
        for lane in running if sets % 2 == 0 else reversed(running):
            lane.go_on(True)
        sets += 1
        over = any(not lane.waits and not lane.candidate.problem for lane in running)
        named = enough([lane.candidate for lane in lanes], len(looks)) if sets in looks and not over else ()
        for lane in [lane for lane in lanes if lane.waits and (over or lane.candidate.name in named)]:
            lane.go_on(False)
    return *_ended(lanes, some=some), max(1, len(looks))


def _lay_out(lanes: Sequence[_Lane]) -> tuple[int, ...]:
    """Give all of them the same number of sets, as many as fit into the time of all together; the looks planned at those.

    Each has laid out as many sets as fit into its own share of the time, so one of its sets takes that share divided by their number: the
    harmonic mean of the numbers fills all shares together.
    """
    layouts = [lane.layout for lane in lanes if lane.layout is not None]
    if not layouts:
        return ()
    least = max(LEAST_SINGLES if layout.size == 1 else 1 for layout in layouts)
    sets = max(least, int(statistics.harmonic_mean([layout.sets for layout in layouts]) + 1e-9))
    for lane in lanes:
        if lane.layout is not None:
            lane.go_on(replace(lane.layout, sets=sets))
    return max((planned_looks(replace(layout, sets=sets)) for layout in layouts), key=len)


def run_all_once(
    entrants: Sequence[Entrant], clock: Clock, keep: int | None, *, some: bool = True
) -> tuple[tuple[Candidate, ...], dict[str, list[Any]]]:
    """Every candidate without a meter: answers and scores only. Raises SettingsError as ``measure_abreast``."""
    lanes = [_Lane(entrant) for entrant in entrants]
    for lane, entrant in zip(lanes, entrants, strict=True):
        lane.run_once(entrant, clock, keep)
    return _ended(lanes, some=some)


def check_some(found: Sequence[Candidate], cause: Exception | None = None) -> None:
    """Raises SettingsError where none of the candidates has a run."""
    if all(each.run is None for each in found):
        problems = "; ".join(f"{each.name}: {each.problem}" for each in found)
        raise SettingsError(f"No candidate could be measured. {problems}.", remedy="One at least must run.") from cause


def _ended(lanes: Sequence[_Lane], *, some: bool = True) -> tuple[tuple[Candidate, ...], dict[str, list[Any]]]:
    """The candidates, each with the share of its answers that are the reference's, and all answers by name."""
    found = tuple(lane.candidate for lane in lanes)
    if some:
        check_some(found, next((lane.error for lane in lanes if lane.error is not None), None))
    outputs = {lane.candidate.name: lane.outputs for lane in lanes}
    theirs = outputs[reference_of(found).name]
    return tuple(replace(each, alike=share_alike(outputs[each.name], theirs)) for each in found), outputs
