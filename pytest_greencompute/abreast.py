"""Several candidates measured abreast, in this process: each has its own protocol, and their sets take turns.

Candidate number k runs set i before or after the others as i is even or odd, so that a steady drift cancels in the ratio of a pair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_greencompute.asks import Agree
from pytest_greencompute.choice import Candidate
from pytest_greencompute.errors import CannotError, MeterError, SettingsError
from pytest_greencompute.instruments import Instruments
from pytest_greencompute.measuring import Effort, Metering, Task, metering, run_once
from pytest_greencompute.schedule import Layout
from pytest_greencompute.sets import planned_looks
from pytest_greencompute.workload import is_out_of_memory

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Enough = Callable[[Sequence[Candidate], int], bool]


@dataclass(frozen=True, slots=True)
class Entrant:
    """A candidate to be measured. ``task`` builds what is run, and may raise: a model that is loaded or converted only then."""

    name: str
    task: Callable[[], Task]
    values: Mapping[str, Any]


class _Lane:
    """One entrant on its way through its protocol, until that ends or the model raises."""

    __slots__ = ("_steps", "candidate", "layout", "outputs")

    def __init__(self, entrant: Entrant) -> None:
        self.candidate = Candidate(entrant.name, values=entrant.values)
        self.outputs: list[Any] = []
        self.layout: Layout | None = None
        self._steps: Metering | None = None

    @property
    def waits(self) -> bool:
        """Whether it is in the middle of its protocol."""
        return self._steps is not None

    def begin(self, entrant: Entrant, instruments: Instruments, effort: Effort, problem: str) -> None:
        """Run all that comes before the sets."""
        with self._trying():
            self._steps = metering(entrant.task(), instruments, effort, problem)
            self.go_on(None)

    def go_on(self, answer: Any) -> None:
        """Answer what it waits for, and let it run until it waits again or has ended."""
        with self._trying():
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

    def run_once(self, entrant: Entrant, clock: Any, keep: int | None) -> None:
        """Each query once, without a meter."""
        with self._trying():
            run, self.outputs = run_once(entrant.task(), clock, keep)
            self.candidate = replace(self.candidate, run=run)

    def _trying(self) -> contextlib.AbstractContextManager[None]:
        return _Giving(self)

    def give_up(self, problem: str, *, impossible: bool) -> None:
        """It has no figure; what it measured so far is none."""
        self._steps = None
        self.candidate = replace(self.candidate, run=None, problem=problem, impossible=impossible)


class _Giving:
    """What a candidate's model raises becomes its row; bad input and lost meters are everybody's."""

    __slots__ = ("_lane",)

    def __init__(self, lane: _Lane) -> None:
        self._lane = lane

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        if error is None or not isinstance(error, Exception) or isinstance(error, MeterError):
            return False
        name = self._lane.candidate.name
        if isinstance(error, SettingsError):
            error.message = error.message if name in error.message else f"{name}: {error.message}"
            return False
        said = f"{type(error).__name__}: {error}"
        if isinstance(error, CannotError):
            self._lane.give_up(str(error), impossible=True)
        elif is_out_of_memory(said):
            self._lane.give_up("out of memory", impossible=True)
            _free_memory()
        else:
            self._lane.give_up(f"it raised {_first_line(said)}", impossible=False)
        return True


def measure_abreast(
    entrants: Sequence[Entrant], instruments: Instruments, effort_of: Callable[[str], Effort], enough: Enough, problem: str = ""
) -> tuple[tuple[Candidate, ...], dict[str, list[Any]], int]:
    """Measure all entrants, their sets by turns: the candidates, their answers, and how many looks were planned at the ratios.

    ``enough`` is asked at each look with the candidates so far, and with the number of looks. ``problem`` as for ``metering``. Raises
    SettingsError for bad input, naming the candidate, and MeterError.
    """
    lanes = [_Lane(entrant) for entrant in entrants]
    for lane, entrant in zip(lanes, entrants, strict=True):
        lane.begin(entrant, instruments, effort_of(entrant.name), problem)
    looks = _lay_out([lane for lane in lanes if lane.waits])
    sets = 0
    while running := [lane for lane in lanes if lane.waits]:
        for lane in running if sets % 2 == 0 else reversed(running):
            lane.go_on(True)
        sets += 1
        over = any(not lane.waits and not lane.candidate.problem for lane in running)
        if over or (sets in looks and enough([lane.candidate for lane in lanes], len(looks))):
            for lane in [lane for lane in lanes if lane.waits]:
                lane.go_on(False)
    return tuple(lane.candidate for lane in lanes), {lane.candidate.name: lane.outputs for lane in lanes}, max(1, len(looks))


def _lay_out(lanes: Sequence[_Lane]) -> tuple[int, ...]:
    """Give all of them as many sets as all have time for; the looks planned at those."""
    layouts = [lane.layout for lane in lanes if lane.layout is not None]
    if not layouts:
        return ()
    sets = min(layout.sets for layout in layouts)
    for lane in lanes:
        if lane.layout is not None:
            lane.go_on(replace(lane.layout, sets=sets))
    return max((planned_looks(replace(layout, sets=sets)) for layout in layouts), key=len)


def run_all_once(entrants: Sequence[Entrant], clock: Any, keep: int | None) -> tuple[tuple[Candidate, ...], dict[str, list[Any]]]:
    """Every candidate without a meter: answers and scores only."""
    lanes = [_Lane(entrant) for entrant in entrants]
    for lane, entrant in zip(lanes, entrants, strict=True):
        lane.run_once(entrant, clock, keep)
    return tuple(lane.candidate for lane in lanes), {lane.candidate.name: lane.outputs for lane in lanes}


def _free_memory() -> None:
    """Give back what the failed attempt took of a GPU's memory, where torch is loaded."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _first_line(said: str) -> str:
    line = said.strip().splitlines()[0] if said.strip() else "an error without words"
    return line if len(line) <= 200 else f"{line[:199]}…"
