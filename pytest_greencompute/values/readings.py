"""What is read from a meter: sources, readings, spans between two of them, blocks and idle power. Frozen and finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pytest_greencompute.errors import MeterError, SettingsError

Method = Literal["counter", "integrated", "modelled"]
WHOLES = ("soc", "board")  # domains that hold all others: a system on a chip, and the board that it is on
FOREIGN = "another process"  # the mark that makes a run UNMEASURED wherever it stands
DOMAINS = ("gpu", "cpu", "dram", *WHOLES)  # the kinds that our meters have; one of several devices is gpu:0
METHODS: tuple[Method, ...] = ("counter", "integrated", "modelled")
STILL_S = 2.0  # a counter that has not changed for so long stands still
SET_BY_APPLICATION = "the application set "  # how the note begins that names the flags by which it switched reasoning on


def check_finite(what: str, *values: float) -> None:
    for value in values:
        if not math.isfinite(value):
            raise MeterError(
                f"{what} is {value!r}, which is not a finite number.", remedy="Run `greencompute doctor` to see which meter gives it."
            )


@dataclass(frozen=True, slots=True)
class Source:
    """One domain of one meter: what its numbers are and how it behaves.

    ``tick_s`` is the period at which the counter changes (0: it changes continuously), ``jitter_s`` its spread,
    ``step_j`` the smallest change it can show, ``lag_s`` how long energy goes on arriving after the work has stopped,
    ``systematic`` the relative share of error that no repetition removes (0.05: 5 % between cards).
    Invariant: all numbers are finite and not negative, ``method`` is one of METHODS.
    """

    meter: str
    domain: str
    method: Method
    device: str = ""
    uuid: str = ""
    tick_s: float = 0.0
    jitter_s: float = 0.0
    step_j: float = 0.0
    lag_s: float = 0.0
    systematic: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingsError(f"Meter {self.meter!r} calls its method {self.method!r}.", remedy=f"Use one of {', '.join(METHODS)}.")
        if not self.meter or not self.domain:
            raise SettingsError("A source of energy readings needs a meter and a domain, such as 'nvml' and 'gpu:0'.")
        for name in ("tick_s", "jitter_s", "step_j", "lag_s", "systematic"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise SettingsError(f"Meter {self.meter!r} says {name} = {value!r}.", remedy="It must be finite and not negative.")


@dataclass(frozen=True, slots=True)
class Reading:
    """Energy since an arbitrary origin, in joules, and the monotonic time at which it was read. Always finite."""

    energy_j: float
    t_ns: int

    def __post_init__(self) -> None:
        check_finite("An energy reading", self.energy_j)


@dataclass(frozen=True, slots=True)
class Span:
    """Energy of one domain between two ticks: ``energy_j`` over ``a_ns`` to ``b_ns``. Finite; ``a_ns <= b_ns``; energy not negative."""

    energy_j: float
    a_ns: int
    b_ns: int

    def __post_init__(self) -> None:
        check_finite("The energy of a block", self.energy_j)
        if self.b_ns < self.a_ns:
            raise MeterError("A block ended before it began.", remedy="The machine's monotonic clock ran backwards; measure again.")
        if self.energy_j < 0:
            raise MeterError(
                f"An energy counter ran backwards by {-self.energy_j:g} J.", remedy="A driver reload resets it; measure again."
            )

    @property
    def seconds(self) -> float:
        return (self.b_ns - self.a_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Block:
    """Queries run back to back and read as one sample.

    ``spans`` maps each domain to its energy from the tick before the work to the tick after it, gaps included.
    ``marks`` names what spoiled the block (empty: nothing did). ``phase`` in [0, 1) is how far into a tick the work began.
    ``queries`` is a whole number, but for a stretch of a server's load: there a request counts by the part of it that lies inside.
    Invariant: some query, ``start_ns <= end_ns``, a phase in its range, and the work lies inside every span.
    """

    set_index: int
    phase: float
    queries: float
    start_ns: int
    end_ns: int
    spans: Mapping[str, Span]
    marks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_finite("The number of queries of a block", self.queries)
        if self.queries <= 0:
            raise SettingsError("A block without queries measures nothing.")
        if not 0 <= self.phase < 1:
            raise SettingsError(f"A block's phase is {self.phase!r}.", remedy="It must be at least 0 and less than 1.")
        if not self.start_ns <= self.end_ns:
            raise MeterError("A block ended before it began.", remedy="The machine's monotonic clock ran backwards; measure again.")
        for domain, span in self.spans.items():
            if span.a_ns > self.start_ns or span.b_ns < self.end_ns:
                raise MeterError(f"The energy of {domain} was not read around the whole block.")
        object.__setattr__(self, "spans", MappingProxyType(dict(self.spans)))

    @property
    def busy_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Idle:
    """One reading of what a domain draws between blocks: energy over seconds, tick to tick. ``seconds`` is positive."""

    domain: str
    energy_j: float
    seconds: float

    def __post_init__(self) -> None:
        check_finite("An idle reading", self.energy_j, self.seconds)
        if self.seconds <= 0 or self.energy_j < 0:
            raise MeterError(f"The idle power of {self.domain} was read over {self.seconds:g} s as {self.energy_j:g} J.")

    @property
    def watts(self) -> float:
        return self.energy_j / self.seconds


def names_of(domain: str) -> tuple[str, ...]:
    """What a setting may call a domain: its kind (``gpu``), itself (``gpu:node-1/0``), or all of its kind on its host (``gpu:node-1``)."""
    return (domain.partition(":")[0], domain, *filter(None, [domain.rpartition("/")[0]]))


def counts(domain: str, judged: Sequence[str], here: Iterable[str]) -> bool:
    """Whether energy of ``domain`` may be in a figure for which ``judged`` are asked for, where the domains ``here`` are metered."""
    kind = domain.partition(":")[0]
    if "auto" in judged:
        return kind == "gpu" or not any(each.startswith("gpu") for each in here)
    return "all" in judged or any(name in judged for name in names_of(domain))


def spared(domain: str, judged: Sequence[str], here: Iterable[str]) -> bool:
    """Whether the figure can do without ``domain``, of which no energy can be read, where the other domains ``here`` can be.

    It can where that energy is not asked for; where it is that of one GPU of several, none of which is asked for by its number (one in
    which nothing runs is not judged); and of the memory beside a processor, unless it is asked for by name.
    """
    others = [each for each in here if each != domain]
    if not counts(domain, judged, (*others, domain)):
        return True
    if domain in judged or "all" in judged:
        return False
    kind = domain.partition(":")[0]
    beside = {"gpu": "gpu", "dram": "cpu"}.get(kind)
    return beside is not None and kind not in set(judged) - {"gpu"} and any(each.partition(":")[0] == beside for each in others)


def beside_others(blocks: Sequence[Block]) -> int:
    """How many of the blocks ran while another process used the device; one is enough to spoil a run."""
    return sum(FOREIGN in block.marks for block in blocks)


def sets_of(blocks: Sequence[Block]) -> tuple[tuple[Block, ...], ...]:
    """The blocks grouped by set, in order of measuring."""
    groups: dict[int, list[Block]] = {}
    for block in blocks:
        groups.setdefault(block.set_index, []).append(block)
    return tuple(tuple(groups[index]) for index in sorted(groups))
