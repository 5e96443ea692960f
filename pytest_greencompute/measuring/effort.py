"""How far to measure: the effort that is spent on a task, and what the loop is to tell and to ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_greencompute.protocol.layout import PERCENTILE, Layout, Timing
from pytest_greencompute.protocol.measurement import Protocol, measuring
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.values.provenance import Provenance
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Telling = Callable[[Tell], None]


def tell_nobody(_: Tell) -> None:
    """For whoever wants no progress line."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure, the highest percentile of latencies that must be bounded, the seed of the phases, and what the loop is to tell
    and to ask.

    ``enough`` is asked after each planned look with the run so far: True ends the measurement. ``figure`` says the run so far in words, and
    ``outlook`` what its verdicts will still take, for whom ``tell`` shows its progress to. ``turn`` says before each set whether it may run
    (False ends the measurement). Where another process measures by turns with this one, it waits for that, and ``agree`` gives the layout
    that both share. ``answered`` is called after
    the first pass, and ``alone`` before batches are timed: it waits until nobody is loading, and says for how many seconds.
    ``keep_answers``: their digests, to be compared.
    ``count`` names what a budget needs to be counted (``names.NAMES``). ``timing`` and ``in_pairs`` as for ``messages.Plan``. ``by_turns``:
    others in this process take turns with it. ``rough`` as for ``messages.Plan``.
    ``protocol`` is what is done after the first pass.
    """

    max_seconds: float = 60.0
    percentile: float = PERCENTILE
    seed: int = 0
    tell: Telling = tell_nobody
    enough: Callable[[Run], bool] = lambda _: False
    figure: Callable[[Run], str] = lambda _: ""
    outlook: Callable[[Run], str] = lambda _: ""
    agree: Callable[[Layout], Layout] = lambda layout: layout
    turn: Callable[[int, Run | None], bool] = lambda _index, _run: True
    answered: Callable[[], None] = lambda: None
    alone: Callable[[], float] = lambda: 0.0
    keep_answers: bool = False
    timing: Timing = "whole"
    in_pairs: bool = False
    by_turns: bool = False
    rough: bool = False
    count: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    protocol: Protocol = measuring
