"""Where the figures of a run come from: machine, devices, what was asked of what. Frozen, and validated once.

Two runs are compared by these: ``judging.comparable`` has a row for each field. None: nobody said, or a file of another version does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType, NoneType
from typing import TypeAlias

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.values.footprint import Factors

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

# The distributions whose version can change what a run costs.
PACKAGES = ("torch", "transformers", "numpy", "onnxruntime", "pytest-greencompute")
TRACED = "traced"  # the key in a run's provenance
Json: TypeAlias = "str | int | float | bool | Mapping[str, Json] | Sequence[Json] | None"
_KINDS: Mapping[object, tuple[type, ...]] = {  # what may stand in a field, by its annotation
    "str": (str,),
    "str | None": (str, NoneType),
    "int | None": (int, NoneType),
    "bool | None": (bool, NoneType),
    "float | None": (float, int, NoneType),
}


def plain(value: object) -> Json:
    """Any value as JSON has it: None for a number that is not finite, its text for what is of no kind of JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool) or value is None else str(value)


def fits(value: object, annotation: object) -> bool:
    """Whether a value may stand in a field of that annotation: a text, a number that is finite, a bool where one is meant, or None."""
    kinds = _KINDS.get(annotation, (object,))
    if isinstance(value, bool) and bool not in kinds and object not in kinds:
        return False
    return isinstance(value, kinds) and not (isinstance(value, float) and not math.isfinite(value))


def _check(made: Machine | Device | Digests | Served | Followed | Provenance) -> None:
    for each in fields(made):
        value = getattr(made, each.name)
        if not fits(value, each.type):
            raise SettingsError(f"{each.name} of the {type(made).__name__.lower()} is {value!r}, which is no {each.type}.")


@dataclass(frozen=True, slots=True)
class Machine:
    """The computer and its software. ``Machine()``: nobody has looked."""

    cpu: str | None = None  # the processor's model
    cores: int | None = None  # that the operating system counts
    virtual_machine: bool | None = None  # whether it is one
    os: str | None = None  # "Linux"
    kernel: str | None = None  # its release
    python: str | None = None  # its version
    versions: Mapping[str, str] = field(default_factory=dict)  # of those of PACKAGES that are installed
    ci: bool | None = None  # whether this is a build of CI
    commit: str | None = None  # of the folder, in full
    dirty: bool | None = None  # whether tracked files differ from it

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "versions", MappingProxyType(dict(self.versions)))


@dataclass(frozen=True, slots=True)
class Device:
    """What one domain's counter knows of its device."""

    device: str | None = None  # its name
    uuid: str | None = None  # its identity
    meter: str | None = None  # who reads it
    method: str | None = None  # one of METHODS
    facts: Mapping[str, Json] = field(default_factory=dict)  # what the counter says besides, and meters may be anybody's

    def __post_init__(self) -> None:
        _check(self)
        more = {str(name): plain(value) for name, value in self.facts.items() if name not in DEVICE_FIELDS}
        object.__setattr__(self, "facts", MappingProxyType(more))


DEVICE_FIELDS = ("device", "uuid", "meter", "method")


@dataclass(frozen=True, slots=True)
class Digests:
    """What tells queries from others. ``Digests()``: nobody said."""

    alike: str | None = None  # of the work they ask for, whatever their order
    exact: str | None = None  # of their order and of the values of fractions, too
    opaque: str | None = None  # the types of those that show nothing of what they hold

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class Served:
    """The requests of a load. ``Served()``: it was none."""

    url: str | None = None  # of the server
    model: str | None = None  # as the server calls it
    request: str | None = None  # the path of the interface
    stream: bool | None = None  # whether answers come token by token
    max_tokens: int | None = None  # that an answer may have
    options: Json = None  # what else is in each request

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "options", plain(self.options))


@dataclass(frozen=True, slots=True)
class Followed:
    """What a run kept to of the protocol of AI Energy Score, and the scale that it is rated on. Empty, or None, where nothing is said."""

    task: str = ""  # that it is rated in
    model_class: str | None = None  # that it is rated in
    queries_of: str = ""  # the task whose queries it had
    output_of: str = ""  # the task whose answers' length it had
    reference: str = ""  # the date of the leaderboard that it is rated on
    source: str = ""  # where the figures of that leaderboard come from
    lowest: float | None = None  # what its best model uses, in Wh per 1,000 queries
    highest: float | None = None  # and its worst
    models: int | None = None  # how many it has of the task and class

    def __post_init__(self) -> None:
        _check(self)


ByDomain: TypeAlias = Mapping[str, Mapping[str, Json]]  # what counters see of their devices at one moment, by domain


@dataclass(frozen=True, slots=True)
class Moments:
    """Temperature, clocks and the like, by domain, at the start and the end of a run."""

    start: ByDomain
    end: ByDomain


@dataclass(frozen=True, slots=True)
class Provenance:
    """All that a run says of where its figures come from."""

    machine: Machine = field(default_factory=Machine)
    footprint: Factors | None = None  # what a joule of the computers stands for
    traced: str | None = None  # what watched each line, such as "coverage"
    followed: Followed | None = None  # only what follows the protocol of AI Energy Score says this
    queries: Digests | None = None
    references: str | None = None  # a digest of what the answers are held against
    score: str | None = None  # how they are held against it
    tokens: str | None = None  # how tokens are counted
    reasoning: str | None = None  # the markers between which an answer is reasoning
    repeats: str | None = None  # "cached" where answers from memory are what is meant
    batch_size: int | None = None  # of a load the requests at a time
    devices: Mapping[str, Device] = field(default_factory=dict)  # by domain
    served: Served | None = None  # of a load
    conditions: Moments | None = None

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "devices", MappingProxyType(dict(self.devices)))
