"""Whether another side may load beside this one: by what this side has taken of the memory, against what is free. Neither is guessed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytest_greencompute.values.memory import Memory

MACHINE = "the machine"
SPARE = 1.25  # times what this side has taken: the other commit's model may be larger
KEPT = 1 / 3  # of what was free when this side began to load: that much stays free for it
WATCH_S = 0.05
Memories = Mapping[str, "Memory | None"]  # by place; None where it does not tell


@dataclass
class Room:
    """``read`` tells of the machine and of each device that is metered; ``empty`` is what it told before any model of the session was
    there, ``begun`` what it told before this test's.
    """

    read: Callable[[], Memories]
    empty: Memories = field(default_factory=dict)
    begun: Memories = field(default_factory=dict)

    @property
    def of_devices(self) -> bool:
        """Whether models may be on devices with a memory of their own."""
        return any(place != MACHINE for place in self.begun)

    def short(self, sides: int) -> str:
        """Why ``sides`` fresh ones, each of which takes what this side has taken, cannot load now; empty where they can."""
        for place, memory in self.read().items():
            if memory is None:
                return f"the memory of {place} cannot be seen any more"
            before = self.empty.get(place)
            taken = max(memory.own, memory.used - (before.used if before else 0))
            if sides * SPARE * taken > memory.free:
                return f"this side has taken {_show(taken)} of {place}, and {_show(memory.free)} are free"
        return ""

    def runs_short(self) -> str:
        """Why what is free of the machine's memory must be left to this side; empty where there is more."""
        before, now = self.begun.get(MACHINE), self.read().get(MACHINE)
        if before is None or now is None or now.free < KEPT * before.free:
            return f"{_show(now.free) if now else 'nothing that can be seen'} of {MACHINE}'s memory was free while both loaded"
        return ""


class Watch:
    """While this side loads, too: lets the other one load as soon as it has imported (``begin`` says whether it does), and ends it
    (``end``) where memory runs short. ``why`` it was ended; empty where it was not.
    """

    def __init__(self, room: Room, begin: Callable[[], bool], end: Callable[[], None]) -> None:
        self.why = ""
        self._room, self._begin, self._end = room, begin, end
        self._begun, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            loads = self._begin()
        finally:
            self._begun.set()
        over = False
        while loads and not (self.why or over):
            over = self._over.wait(WATCH_S)  # and a last look, when this side has all that it needs
            if why := self._room.runs_short():
                self._end()
                self.why = why

    def wait_begun(self, within_s: float | None = None) -> bool:
        """Wait until it has imported, and loads: until then nobody else may speak with it. False where it has not in time."""
        return self._begun.wait(within_s)

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()
        self._thread.join()


def _show(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
