"""What a session is, besides its runs: the machine, the meters, the total. One for each process that measures; several add up to one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pytest_greencompute.errors import MeterError, NothingThereError
from pytest_greencompute.results.provenance_json import machine_from_json, machine_to_json
from pytest_greencompute.results.run_json import JsonObject
from pytest_greencompute.values.provenance import Json, Machine
from pytest_greencompute.values.readings import Source


@dataclass(frozen=True, slots=True)
class Refusal:
    """A meter that is not used, and why. ``absent``: there is no such hardware here, so nobody misses its energy."""

    meter: str
    reason: str
    absent: bool

    @classmethod
    def of(cls, meter: str, error: MeterError) -> Refusal:
        """The refusal that an error is."""
        return cls(meter, str(error), isinstance(error, NothingThereError))


@dataclass(frozen=True, slots=True)
class Facts:
    """``machine`` as ``machine.facts`` tells it; ``seconds`` from the first metered test's set-up to the end of the last, and ``total_j``,
    what all domains used in that time: None where there is no honest figure, and then ``why_no_total``. ``by_domain`` are its parts.

    ``device_s`` is what the tests' runs and windows took of that, ``apart_s`` what loading took beside and getting ready the sides at other
    commits, and ``mean_w`` the joules of a second (of one process, where several measured). ``problem`` says why no energy could be
    metered. ``loosened`` are the limits that are laxer here than at the commit that is compared with.
    Invariant: ``seconds`` and ``total_j`` are finite.
    """

    machine: Machine = field(default_factory=Machine)
    sources: tuple[Source, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    problem: str = ""
    seconds: float = 0.0
    total_j: float | None = None
    by_domain: Mapping[str, float] = field(default_factory=dict)
    why_no_total: str = ""
    loosened: tuple[str, ...] = ()
    device_s: float = 0.0
    apart_s: float = 0.0
    mean_w: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.seconds) or not (self.total_j is None or math.isfinite(self.total_j)):
            raise MeterError(f"The session's total is {self.total_j!r} J in {self.seconds!r} s.")

    @property
    def total_modelled(self) -> bool:
        """Whether part of the total is a model's figure."""
        return any(source.method == "modelled" for source in self.sources)

    def to_json(self) -> dict[str, Json]:
        """Plain values, for another process."""
        return {
            **{each.name: getattr(self, each.name) for each in fields(self)},
            "machine": machine_to_json(self.machine),
            "sources": [asdict(source) for source in self.sources],
            "refusals": [asdict(refusal) for refusal in self.refusals],
            "by_domain": dict(self.by_domain),
        }

    @classmethod
    def from_json(cls, told: JsonObject) -> Facts:
        """What ``to_json`` told."""
        return cls(
            **{
                **told,
                "machine": machine_from_json(told["machine"]),
                "sources": tuple(Source(**each) for each in told["sources"]),
                "refusals": tuple(Refusal(**each) for each in told["refusals"]),
                "loosened": tuple(told["loosened"]),
            }
        )


def together(parts: Sequence[Facts]) -> Facts:
    """The facts of one session that ran in several processes at the same time, each with devices of its own.

    Their totals add up where all have one; the time is that of the longest.
    """
    parts = [part for part in parts if part.sources or part.problem or part.why_no_total] or parts[:1]  # others ran no metered test
    if len(parts) == 1:
        return parts[0]
    totals = [part.total_j for part in parts]
    known = [total for total in totals if total is not None]
    total_j = math.fsum(known) if known and len(known) == len(totals) else None
    all_s = sum(part.seconds for part in parts)
    return Facts(
        machine=next((part.machine for part in parts if part.machine != Machine()), Machine()),
        sources=tuple(sorted(_once(source for part in parts for source in part.sources), key=lambda each: (len(each.domain), each.domain))),
        refusals=_once(refusal for part in parts for refusal in part.refusals),
        problem="; ".join(_once(part.problem for part in parts if part.problem)),
        seconds=max((part.seconds for part in parts), default=0.0),
        total_j=total_j,
        by_domain={} if total_j is None else _summed(part.by_domain for part in parts),
        why_no_total="; ".join(_once(part.why_no_total for part in parts if part.why_no_total)),
        loosened=_once(each for part in parts for each in part.loosened),
        device_s=sum(part.device_s for part in parts),
        apart_s=sum(part.apart_s for part in parts),
        mean_w=None if total_j is None or not all_s else total_j / all_s,
    )


def _summed(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in parts:
        for domain, joules in part.items():
            found[domain] = found.get(domain, 0.0) + joules
    return found


def _once(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))
