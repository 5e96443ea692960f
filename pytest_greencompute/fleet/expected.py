"""Which kinds of hardware there are, and which a person means: what every (test, hardware) pair is expected by. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_greencompute.judging.budget import wild
from pytest_greencompute.results.session import Facts
from pytest_greencompute.settings.settings import Expected
from pytest_greencompute.values.provenance import Device, Provenance

UNKNOWN = "unknown hardware"
GPU = "gpu"


@dataclass(frozen=True, slots=True)
class Measurements:
    """What there is: how many hosts measured each test, by kind of hardware, and the tests that were skipped there, with reasons.

    ``lost``: why parts never came, by test and by the hardware that was wanted.
    """

    hosts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    lost: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys([*self.hosts, *self.left_out]))


@dataclass(frozen=True, slots=True)
class Gap:
    """A pair that is not there, and ``why`` not."""

    test: str
    hardware: str
    why: str


def kind_of(said: Provenance) -> str:
    """The kind of hardware that a run was measured on: its GPUs, or else its processor."""
    return _kind({domain: device.device or "" for domain, device in said.devices.items()}, said.machine.cpu)


def kind_of_session(facts: Facts) -> str:
    """That of a whole session, for what it did not measure."""
    return _kind({source.domain: source.device for source in facts.sources}, facts.machine.cpu)


def _kind(devices: Mapping[str, str], cpu: str | None) -> str:
    gpus = sorted(name for domain, name in devices.items() if domain.partition(":")[0] == GPU)
    if not gpus:
        return cpu or UNKNOWN
    return ", ".join(f"{gpus.count(each)} × {each}" if gpus.count(each) > 1 else each for each in dict.fromkeys(gpus))


def cards_of(devices: Mapping[str, Device]) -> frozenset[str]:
    """The UUIDs of the devices that were read."""
    return frozenset(device.uuid for device in devices.values() if device.uuid)


def is_meant(expected: str, kind: str) -> bool:
    """Whether a kind is what a person means: "H100" is any whose name holds that word, "NVIDIA L4*" one that the pattern fits."""
    if any(sign in expected for sign in "*?"):
        return wild(expected.casefold()).fullmatch(kind.casefold()) is not None
    return re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", kind, re.IGNORECASE) is not None


def gaps(expected: Expected, seen: Measurements) -> list[Gap]:
    """The expected pairs that are not there, kind by kind. Tests or hosts that are expected of no kind by name are expected of each."""
    tests = list(dict.fromkeys([*expected.tests, *(test for by_test in seen.hosts.values() for test in by_test)]))
    found: list[Gap] = []
    any_kind = _plain(seen.kinds) if expected.tests or expected.hosts > 1 else ()
    for wanted in expected.hardware or any_kind:
        kinds = [kind for kind in seen.kinds if _is_row_of(wanted, kind) or (expected.hardware and is_meant(wanted, kind))]
        if not kinds:
            there = f"there are {_listed(seen.kinds)}" if seen.kinds else "there is no part"
            none = f"no part was measured on {wanted}"
            found += [Gap(test, wanted, f"{none}: {seen.lost.get((test, wanted), there)}") for test in tests or ["every test"]]
            continue
        for test in tests:
            hosts = sum(seen.hosts.get(kind, {}).get(test, 0) for kind in kinds)
            if hosts or not all(test in seen.left_out.get(kind, {}) for kind in kinds):
                found += _too_few(test, wanted, kinds, hosts, expected.hosts, seen.lost.get((test, wanted), ""))
    return found


def _plain(kinds: Sequence[str]) -> list[str]:
    """The kinds without those that are rows of another, since they were measured otherwise."""
    return [kind for kind in kinds if not any(kind != other and _is_row_of(other, kind) for other in kinds)]


def _is_row_of(kind: str, row: str) -> bool:
    return row == kind or row.startswith(f"{kind} (")  # with what differs, as a power limit


def _too_few(test: str, wanted: str, kinds: Sequence[str], hosts: int, least: int, lost: str) -> list[Gap]:
    if hosts >= least:
        return []
    shown = kinds[0] if len(kinds) == 1 else wanted
    why = f"no part has it on {shown}" if not hosts else f"{hosts} of {least} hosts measured it on {shown}"
    return [Gap(test, shown, f"{why}: {lost}" if lost else why)]


def _listed(kinds: Iterable[str]) -> str:
    return ", ".join(kinds)
