"""A task with some levers pulled, and what a row of the table of levers is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_greencompute.advising.levers import Configuration, Lever, Value
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.adapters import adapted
from pytest_greencompute.models.copies import Call
from pytest_greencompute.values.run import ANSWER_DIGITS, Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

_BY_QUERY = ("scores", "tokens", "reasoning")


@dataclass(frozen=True, slots=True)
class Changed:
    """A task, ``order``, the place of each of its queries among the user's, and what is put ``around`` the model, innermost first."""

    task: Task
    order: tuple[int, ...] | None = None
    around: tuple[Callable[[Call], Call], ...] = ()

    def having(self, **fields: Any) -> Changed:
        """The task with other fields."""
        return replace(self, task=replace(self.task, **fields))

    def inside(self, wrap: Callable[[Call], Call]) -> Changed:
        """With one more thing around the model."""
        return replace(self, around=(*self.around, wrap))

    @property
    def call(self) -> Call:
        """The model as a function of a batch, before anything is around it."""
        return adapted(self.task.model, self.task.batch_size).call

    @property
    def first_batch(self) -> Any:
        """What the model is given first."""
        batch: Any = self.task.queries[: self.task.batch_size]  # type: ignore[index]  # listed before anything is changed
        return batch if self.task.collate is None else self.task.collate(batch)

    def ready(self) -> Task:
        """The task to be measured."""
        if not self.around:
            return self.task
        call = self.call
        for wrap in self.around:
            call = wrap(call)
        return replace(self.task, model=call)


@dataclass(frozen=True, slots=True)
class LeverRow:
    """A lever and what it does. ``values`` are worth trying on a task, ``change`` gives the task with one of them.

    Both leave the model, the queries and the process as they are, and raise CannotError with the reason where the lever is of no use here.
    """

    lever: Lever
    values: Callable[[Changed], Sequence[Value]]
    change: Callable[[Changed, Value], Changed]


def changed(task: Task, configuration: Configuration, rows: Sequence[LeverRow]) -> Changed:
    """The task with all settings of a configuration, in the order of the rows. Raises CannotError."""
    values = {each.lever.name: each.value for each in configuration.settings}
    found = Changed(task)
    for row in rows:
        if row.lever.name in values:
            found = row.change(found, values[row.lever.name])
    return found


def run_in_users_order(run: Run, order: Sequence[int] | None) -> Run:
    """A run with what it holds of each query in the order of the user's queries."""
    if order is None:
        return run
    digests = [run.answers[at : at + ANSWER_DIGITS] for at in range(0, len(run.answers), ANSWER_DIGITS)]
    lists: dict[str, Any] = {
        name: None if (held := getattr(run, name)) is None else tuple(in_users_order(held, order)) for name in _BY_QUERY
    }
    return replace(run, answers="".join(in_users_order(digests, order)) if digests else "", **lists)


def in_users_order(values: Sequence[Any], order: Sequence[int] | None) -> list[Any]:
    """A value for each query, in the order of the user's queries."""
    return [*values] if order is None else [values[place] for place in sorted(range(len(order)), key=order.__getitem__)]
