"""Whether another side may load beside this one: by what this side has taken, against what is free. Neither is guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytest_greencompute.values.memory import Memory

MACHINE = "the machine"
SPARE = 1.25  # times what this side has taken: the other commit's model may be larger
SPARE_AT_FIRST = 3.0  # before this side has answered a query: it may take more yet
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
        """Whether models are on devices with a memory of their own."""
        return any(place != MACHINE for place in self.begun)

    def short(self, sides: int, *, fresh: bool, spare: float = SPARE) -> str:
        """Why ``sides`` more cannot load now; empty where they can.

        ``fresh``: they hold nothing yet, so that each takes all that this side has; else what it has taken since this test began.
        """
        since = self.empty if fresh else self.begun
        now = self.read()
        for place, memory in now.items():
            if memory is None:
                return f"the memory of {place} cannot be seen any more"
            before = since.get(place)
            taken = max(memory.own if fresh else 0, memory.used - (before.used if before else 0))
            if sides * spare * taken > memory.free:
                return f"this side has taken {_show(taken)} of {place}, and {_show(memory.free)} are free"
        return ""


def _show(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
