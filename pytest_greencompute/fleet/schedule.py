"""Which part runs where and when: long tests first, hosts by turns, once more elsewhere where a host was lost. Pure: no clock, no engine.

A *part* is one test on one kind of hardware, once. It ends with a report, or is lost, and then there is a sentence that says why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

MOST_TRIES = 3  # of one part: the first host, and two more where it was lost


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the fleet. ``id`` is the engine's, ``name`` what people call it, ``kinds`` what of the wanted hardware it is, and
    ``rooms`` how many parts it runs at a time, each on a GPU of its own.
    """

    id: str
    name: str
    kinds: tuple[str, ...]
    rooms: int = 1


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One test on one kind of hardware. ``repetition`` counts from 1, ``number`` tells parts apart."""

    number: int
    test: str
    hardware: str
    repetition: int = 1


class Schedule:
    """The parts of a fleet: each of ``tests`` on each kind of ``hardware``, ``repeat`` times.

    ``seconds``: how long tests have taken before. One that is not known comes first, since it may be the longest; what a test takes here
    counts from then on.
    """

    def __init__(self, tests: Sequence[str], hardware: Sequence[str], repeat: int = 1, seconds: Mapping[str, float] | None = None) -> None:
        triples = [(test, kind, again) for again in range(1, repeat + 1) for test in tests for kind in hardware]
        self.parts = tuple(PlannedPart(number, *each) for number, each in enumerate(triples, 1))
        self.lost: dict[PlannedPart, str] = {}
        self.done: dict[PlannedPart, Host] = {}
        self.running: dict[PlannedPart, Host] = {}
        self._waiting = list(self.parts)
        self._hosts: dict[str, Host] = {}
        self._seconds = dict(seconds or {})
        self._given: Counter[tuple[str, str]] = Counter()  # how often a host was given a test
        self._tried: dict[PlannedPart, list[tuple[Host, str]]] = {}  # where it was lost, and how

    @property
    def is_over(self) -> bool:
        """Whether nothing runs, and nothing waits."""
        return not self._waiting and not self.running

    @property
    def seconds(self) -> Mapping[str, float]:
        """How long a test takes, as far as is known."""
        return self._seconds

    def see(self, hosts: Iterable[Host]) -> None:
        """The hosts that may be given something from here on. Those that have gone are given nothing more."""
        self._hosts = {host.id: host for host in hosts}

    def next(self) -> Iterator[tuple[PlannedPart, Host]]:
        """What is to be started now. Parts for which there is no host any more are lost."""
        self._give_up()
        busy = Counter(host.id for host in self.running.values())
        free = {host.id: host.rooms - busy[host.id] for host in self._hosts.values()}
        while True:
            # The emptiest host first, so that none gets two parts while another has none.
            for host in sorted((each for each in self._hosts.values() if free[each.id] > 0), key=lambda each: -free[each.id] / each.rooms):
                if (part := self._best(host)) is not None:
                    break
            else:
                return
            self._waiting.remove(part)
            self._given[part.test, host.id] += 1
            self.running[part] = host
            free[host.id] -= 1
            yield part, host

    def _best(self, host: Host) -> PlannedPart | None:
        """The waiting part that is best begun here next: of a test that this host has had least, since another host's launch tells more
        than one of its own; of these the longest."""
        mine = (part for part in self._waiting if self._may(part, host))
        return min(mine, key=lambda part: (self._given[part.test, host.id], -self._seconds.get(part.test, math.inf)), default=None)

    def _may(self, part: PlannedPart, host: Host) -> bool:
        return part.hardware in host.kinds and all(host.id != each.id for each, _ in self._tried.get(part, ()))

    def _give_up(self) -> None:
        for part in list(self._waiting):
            if not any(self._may(part, host) for host in self._hosts.values()):
                self._waiting.remove(part)
                self.lost[part] = self._why(part, f"no other host with {part.hardware} is left")

    def _why(self, part: PlannedPart, then: str) -> str:
        said = [f"{host.name}: {why}" for host, why in self._tried.get(part, ())]
        return "; ".join([*said, then]) if said else then.replace("no other", "no")

    def ended(self, part: PlannedPart, seconds: float) -> None:
        """It has come to its end, after so many seconds."""
        self.done[part] = self.running.pop(part)
        self._seconds[part.test] = seconds

    def failed(self, part: PlannedPart, why: str) -> None:
        """It ended without a report, by a fault of its own: it would elsewhere, too."""
        self.running.pop(part)
        self.lost[part] = why

    def host_lost(self, part: PlannedPart, why: str) -> bool:
        """Its host, or what ran it there, was lost. Whether it is tried elsewhere."""
        tried = self._tried.setdefault(part, [])
        tried.append((self.running.pop(part), why))
        if len(tried) >= MOST_TRIES:
            self.lost[part] = self._why(part, f"{MOST_TRIES} hosts are the most that are tried")
            return False
        self._waiting.insert(0, part)
        return True

    def stop(self, why: str) -> None:
        """Whatever has not come to its end will not."""
        for part in (*self.running, *self._waiting):
            self.lost[part] = self._why(part, why)
        self.running.clear()
        self._waiting.clear()
