"""What a process that measures a side is told before anything else, and its JSON on the channel, here alone.

The two processes may run different versions of this package, whichever is the newer: so every key that was ever sent keeps its name and its
meaning, keys that this version does not know are passed over, and one that is missing has the value that it had before it was there.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.explaining.profile import CLOCKS, Ticking
from pytest_greencompute.pairing.channel import Message, known
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.footprint import Footprint


@dataclass(frozen=True, slots=True)
class Checkouts:
    """The folders of both sides, with symbolic links resolved, and what this side lends to the other: so that the process of the base can
    prove where its code comes from.
    """

    head_root: str
    base_root: str
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explaining:
    """How to look at a model instead of measuring it: for at most ``limit_s`` seconds, by the clock ``ticking``, over ``some`` queries a
    pass, its factors over ``counted`` (0: as many as there is time for). ``replay`` names the modules to replay under the meter (None:
    those that are too short), of whose devices ``learnt`` is known. Raises SettingsError.
    """

    limit_s: float
    ticking: Ticking = "cpu"
    some: int = 0
    counted: int = 0
    replay: tuple[str, ...] | None = None
    learnt: tuple[Behaviour, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit_s) and self.limit_s > 0) or self.ticking not in CLOCKS or min(self.some, self.counted) < 0:
            raise SettingsError(f"A model cannot be looked at for {self.limit_s!r} s by the clock {self.ticking!r}.")

    @classmethod
    def from_json(cls, told: Message) -> Explaining:
        """What its fields told, in this version or another. Raises SettingsError."""
        found = known(fields(cls), told)
        if found.get("replay") is not None:
            found["replay"] = tuple(found["replay"])
        found["learnt"] = tuple(Behaviour(**known(fields(Behaviour), each)) for each in told.get("learnt", ()))
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Told:
    """How to measure: the settings and the terms of the budget that measuring needs. Raises SettingsError.

    ``max_seconds`` is the longest time of a run, ``needs_p99`` what other versions of a side time latencies by, ``count`` the metrics
    whose work is counted. ``spread`` is the comparison of which this process has a share. ``budget_file`` is the named file as the side's
    checkout has it. ``checkouts`` None: the side is this tree.
    """

    max_seconds: float
    needs_p99: bool = False
    count: tuple[str, ...] = ()
    budget_file: str | None = None
    benchmarks: bool = False
    domains: tuple[str, ...] = ("auto",)
    meters: tuple[str, ...] = ()
    allow: frozenset[str] = frozenset()
    cpu_watts_per_core: float | None = None
    footprint: Footprint | None = None
    reasoning_markers: tuple[str, str] | None = None
    spread: str | None = None
    checkouts: Checkouts | None = None

    def __post_init__(self) -> None:
        for name in ("max_seconds", "cpu_watts_per_core"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SettingsError(f"{name} is {value!r}.", remedy="It must be finite and above zero.")
        if not self.domains or (self.reasoning_markers is not None and len(self.reasoning_markers) != 2):
            raise SettingsError("A side needs a domain to measure, and reasoning markers are two.")

    def to_json(self) -> dict[str, Any]:
        """The keys that a base of any version reads; the checkouts' stand among them."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in {"checkouts", "spread"}}
        plain |= {} if self.spread is None else {"spread": self.spread}
        plain |= {"allow": sorted(self.allow), "footprint": None if self.footprint is None else asdict(self.footprint)}
        return plain if self.checkouts is None else plain | asdict(self.checkouts)

    @classmethod
    def from_json(cls, told: Message) -> Told:
        """What ``to_json`` told, in this version or another. Raises SettingsError."""
        found = known(fields(cls), told)
        found |= {name: tuple(found[name]) for name in ("count", "domains", "meters") if name in found}
        found["allow"] = frozenset(found.get("allow", ()))
        if found.get("reasoning_markers") is not None:
            found["reasoning_markers"] = tuple(found["reasoning_markers"])
        if found.get("footprint") is not None:
            found["footprint"] = Footprint(**known(fields(Footprint), found["footprint"]))
        if "head_root" in told:
            found["checkouts"] = Checkouts(told["head_root"], told["base_root"], tuple(told.get("links", ())))
        return cls(**found)
