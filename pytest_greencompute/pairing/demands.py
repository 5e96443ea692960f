"""What a commit demands of a test, and its JSON on the channel, here alone: so that the process that measures another commit can tell what
was demanded there.

As with ``told``, the other process may run another version: keys keep their names and meanings, and unknown metrics are left out.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pytest_greencompute.judging.budget import Limit, Line, Terms
from pytest_greencompute.judging.laxer import GroupDemand
from pytest_greencompute.judging.verdict import Acceptance
from pytest_greencompute.pairing.channel import Message, known
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Json


@dataclass(frozen=True, slots=True)
class Demands:
    """What one commit alone, without the command line, demands of one test: the lines of its budget, the failures that its file accepts,
    and what each word does to the build.

    ``settings`` are the values of those that can let more pass (``judging.laxer``); None: its version does not tell. ``group`` is what the
    test's energy_group asks for. ``unread``: why nothing of all that is known.
    """

    lines: tuple[Line, ...] = ()
    accept: tuple[Acceptance, ...] = ()
    policy: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Json] | None = None
    group: GroupDemand | None = None
    unread: str = ""

    def to_json(self) -> dict[str, Any]:
        """The keys that a process of any version reads."""
        if self.unread:
            return {"unread": self.unread}
        lines, accept = [line_to_json(line) for line in self.lines], [acceptance_to_json(each) for each in self.accept]
        of_commit = {} if self.settings is None else {"settings": self.settings}
        group = {} if self.group is None else group_to_json(self.group)
        return {"lines": lines, "accept": accept, "policy": self.policy, **of_commit, "group": group}

    @classmethod
    def from_json(cls, said: Message) -> Demands | None:
        """What ``to_json`` told, in this version or another; None where nothing was."""
        if not said or "unread" in said:
            return cls(unread=said["unread"]) if said else None
        lines = tuple(map(line_from_json, said["lines"]))
        accept = tuple(acceptance_from_json(each) for each in said["accept"] if each["metric"] in METRICS)
        return cls(lines, accept, said["policy"], said.get("settings"), group_from_json(said["group"]) if said.get("group") else None)


def line_to_json(line: Line) -> dict[str, Any]:
    """One line of a budget. A list of runs rather than a table, since the unnamed run has no name."""
    limits = [[run, {name: limit.value for name, limit in by_metric.items()}] for run, by_metric in line.limits.items()]
    cards = [[run, {name: list(limit.cards) for name, limit in by_metric.items()}] for run, by_metric in line.limits.items()]
    said = {"where": line.where, "limits": limits, "cards": cards, "terms": asdict(line.terms)}
    return {**said, "on": dict(line.on), "rank": list(line.rank)}


def line_from_json(said: Message) -> Line:
    """What ``line_to_json`` told. A metric that this version does not know is left out."""
    where, cards = said["where"], dict(said.get("cards", ()))  # other versions do not tell of cards
    limits = {
        run: {
            name: Limit(METRICS[name], value, where, tuple(cards.get(run, {}).get(name, ())))
            for name, value in by_metric.items()
            if name in METRICS
        }
        for run, by_metric in said["limits"]
    }
    return Line(where, limits, Terms(**known(fields(Terms), said["terms"])), said["on"], tuple(said.get("rank", ())))


def group_to_json(group: GroupDemand) -> dict[str, Json]:
    """What an energy_group asks for; limits stand beside the rest, by metric."""
    return {"name": group.name, "default": group.default, "margin": group.margin, "floor": group.floor, **group.limits}


def group_from_json(told: Message) -> GroupDemand:
    """What ``group_to_json`` told. A metric that this version does not know is left out."""
    limits = {name: limit for name, limit in told.items() if name in METRICS}
    return GroupDemand(told["name"], told.get("default"), told["margin"], told.get("floor"), limits)


def acceptance_to_json(accepted: Acceptance) -> dict[str, Any]:
    """A failure that a file accepts."""
    said = {**asdict(accepted), "metric": accepted.metric.name, "expires": accepted.expires.isoformat()}
    del said["names"]  # whom it concerns is known where it is told
    return said


def acceptance_from_json(said: Message) -> Acceptance:
    """What ``acceptance_to_json`` told, of a metric that this version knows."""
    found = known(fields(Acceptance), said)
    return Acceptance(**{**found, "metric": METRICS[said["metric"]], "expires": datetime.date.fromisoformat(said["expires"])})
