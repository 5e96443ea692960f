"""What a meter is: the contract that the built-in meters and those of others keep.

A *meter* finds *counters*, one for each domain it covers. A counter gives energy since an arbitrary origin. The loop
takes differences between two of its ticks, so the origin does not matter and nothing needs to be reset.

Rules for whoever writes one:

* A reading is a value or a MeterError with a remedy: never zero in place of a failure, never a guess.
* Joules and nanoseconds, nothing else.
* ``find`` opens what it needs and may raise MeterError; importing the module opens nothing and imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from pytest_greencompute.errors import GreencomputeError, MeterError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.values.readings import STILL_S, Method, Reading, Source

DeviceFacts = Mapping[str, str | float | int | bool | None]  # by name, plain JSON values
Sees = Literal["gpus", "process", "machine", "hosts", ""]


@dataclass(frozen=True, slots=True)
class Traits:
    """What is true of a meter wherever it is used. It says so as ``traits``; nothing here is taken to be true of one that does not.

    ``reads_gpus``: it is there for GPUs, so that joules are missing where it refuses one that is here. ``per_worker``: where each of
    several workers sees a GPU of its own (``CUDA_VISIBLE_DEVICES``), it reads that GPU and nothing else. ``sees``: whose energy it reads:
    that of the GPUs, of this process and its children, of the machine, whoever uses it, or of hosts that the user names; a counter may say
    so for itself, as ``sees``.
    ``models``: whether it models rather than reads (None: the ``method`` of its sources says).
    """

    reads_gpus: bool = False
    per_worker: bool = False
    sees: Sees = ""
    models: bool | None = None


def traits_of(meter: object) -> Traits:
    """What a meter says of itself, whoever made it."""
    said = getattr(meter, "traits", None)
    return said if isinstance(said, Traits) else Traits()


@dataclass(frozen=True, slots=True)
class MeterOptions:
    """What a meter may need to know: the environment it is to believe, the clock, and the watts per core of the model.

    ``cpu_watts_per_core``: None where the user set none. ``family``: the process that is no stranger on a device, nor are its
    descendants; None: this one. ``domains``: those whose energy is judged, as in the settings.
    """

    clock: Clock
    environ: Mapping[str, str]
    cpu_watts_per_core: float | None = None
    family: int | None = None
    domains: tuple[str, ...] = ("auto",)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a counter sees of its device right now.

    ``marks`` name what would spoil a block that is running: ``thermal slowdown``, ``power brake``, ``another process``.
    ``facts`` are for the provenance: temperature in degrees Celsius, clocks in MHz, as plain JSON values.
    """

    marks: tuple[str, ...] = ()
    facts: DeviceFacts | None = None


@runtime_checkable
class Counter(Protocol):
    """One domain's energy counter.

    That of a GPU may have a method ``in_use() -> bool``: whether something of ours runs on it. One that cannot tell is never left out of a
    figure when it fails. One that somebody else samples may have ``recent() -> Sequence[Reading]``, the readings at its last ticks: then
    nobody watches for them. One of a host that the user names may have ``host``, that one's name. One whose device
    shows its power, too, may have ``power_fields`` (``beside.ShowsPower``), which it is held against.
    """

    @property
    def source(self) -> Source:
        """What the numbers are. ``tick_s`` 0 means that the counter changes continuously and needs no tick to wait for."""
        ...

    def read(self) -> Reading:
        """Energy so far in joules, stamped with the clock. Raises MeterError (MeterLostError if it worked before)."""
        ...

    def condition(self) -> Condition:
        """Marks and facts of this moment. Cheap enough to call at both ends of a block; empty where nothing is known."""
        ...

    def facts(self) -> DeviceFacts:
        """What belongs into the provenance once per run: driver, limits, modes. Plain JSON values."""
        ...

    def close(self) -> None:
        """Give back what ``find`` opened. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Dead:
    """Stands among the counters that ``find`` returns for a domain that is here, cannot be read and can be spared (``readings.spared``)."""

    source: Source
    error: MeterError

    def read(self) -> Reading:
        raise self.error

    def condition(self) -> Condition:
        return Condition()

    def facts(self) -> DeviceFacts:
        return {}

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class Ability:
    """One line of ``greencompute doctor``: a domain that a meter can or cannot read here, and the remedy if it cannot.

    ``method``: as in its source; empty where nobody said.
    """

    domain: str
    works: bool
    says: str
    remedy: str = ""
    method: Method | Literal[""] = ""


def abilities_of(meter: Meter, options: MeterOptions, domain: str, says: Callable[[Source], str]) -> tuple[Ability, ...]:
    """What ``meter`` finds, one line a domain in the words of ``says``; or one line for ``domain`` that says why it finds nothing."""
    try:
        counters = meter.find(options)
    except MeterError as error:
        return (Ability(domain, works=False, says=error.message, remedy=error.remedy),)
    try:
        return tuple(_ability(counter, options.clock, says) for counter in counters)
    finally:
        for counter in counters:
            counter.close()


def _ability(counter: Counter, clock: Clock, says: Callable[[Source], str]) -> Ability:
    source = counter.source
    try:
        check_ticks(counter, clock)
    except MeterError as error:
        return Ability(source.domain, works=False, says=error.message, remedy=error.remedy, method=source.method)
    return Ability(source.domain, works=True, says=says(source), method=source.method)


def check_ticks(counter: Counter, clock: Clock) -> None:
    """Raises MeterError for a counter that cannot be read, or that should tick and stands still."""
    first, until_ns = counter.read(), clock.now_ns() + STILL_S * 1e9
    while counter.source.tick_s > 0 and counter.read().energy_j == first.energy_j:
        if clock.now_ns() > until_ns:
            raise MeterError(
                f"The energy counter of {counter.source.domain} did not change for {STILL_S:g} s.",
                remedy="It is left out where other energy is judged; a virtual GPU, an old driver or a processor may have none that works.",
            )
        clock.sleep(0.001)


@contextmanager
def trouble(who: str, what: str, *, remedy: str, kind: type[MeterError] = MeterError) -> Iterator[None]:
    """What breaks inside another package is the machine's matter, not the test's: a MeterError, '<who> could not <what>'."""
    try:
        yield
    except GreencomputeError:
        raise
    except Exception as error:
        raise kind(f"{who} could not {what} ({type(error).__name__}: {error}).", remedy=remedy) from error


class Meter(Protocol):
    """A way of reading energy, by name. It may have ``traits`` (``Traits``)."""

    name: str

    def find(self, options: MeterOptions) -> Sequence[Counter]:
        """Open a counter for each domain that can be read here; at least one. Raises MeterError with a remedy if there is none."""
        ...

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        """What works here and what does not, for people. Never raises MeterError."""
        ...
