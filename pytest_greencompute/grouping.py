"""``@pytest.mark.energy_group("name")``: the tests that carry it are candidates for one task, compared when the last of them has run.

Their runs come one after the other, each in its own test, so a ratio between them is as unsure as two launches are (``choice.Choice``,
``by_turns`` False): for the sharpest ratio use ``energy_meter.compare``, which lets the candidates take turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.budget import unknown_key
from pytest_greencompute.choice import CONSTRAINTS, Candidate, Choice, judge_right_size
from pytest_greencompute.comparison import DEFAULT_MARGIN, asked_of, parse_margin, rows_of
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.verdict import Verdict

if TYPE_CHECKING:
    from pytest_greencompute.estimate import Aim
    from pytest_greencompute.session import MeteredTest

ASKED = ("default", "margin", "floor", *CONSTRAINTS)


@dataclass
class Group:
    """The tests of one group, in the order in which they run: ``members`` maps node ids to candidates' names.

    ``floor`` and ``limits`` are what a candidate must meet, ``default`` the configured one (None: nothing is judged, the table is shown),
    ``margin`` how much more it may use. ``found`` fills up as tests end.
    """

    name: str
    default: str | None = None
    margin: float = 0.2
    floor: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    found: dict[str, Candidate] = field(default_factory=dict)
    judged: bool = False

    @classmethod
    def asked(cls, args: Sequence[object], kwargs: Mapping[str, Any]) -> Group:
        """A group as a marker asks for it. Raises SettingsError."""
        if len(args) != 1 or not isinstance(args[0], str) or not args[0]:
            raise SettingsError("energy_group takes the group's name.", remedy="Write it like energy_group('sentiment').")
        for key in kwargs:
            if key not in ASKED:
                raise unknown_key(key, ASKED, "argument of energy_group")
        limits = {key: kwargs[key] for key in CONSTRAINTS if key in kwargs}
        floor, limited = asked_of(kwargs.get("floor"), limits, scored=True)
        return cls(args[0], kwargs.get("default"), parse_margin(kwargs.get("margin", DEFAULT_MARGIN)), floor, limited)

    def keep(self, node_ids: Sequence[str]) -> None:
        """Only these tests will run, in this order. Raises SettingsError where the default is no candidate of the group."""
        if self.default is not None and self.default not in self.members.values():
            known = ", ".join(self.members.values())
            raise SettingsError(f"energy_group {self.name!r} has no candidate {self.default!r}.", remedy=f"Known: {known}.")
        self.members = {node_id: self.members[node_id] for node_id in node_ids if node_id in self.members}

    def judge(self, test: MeteredTest, aim: Aim, *, ended: bool) -> dict[str | None, tuple[dict[str, Any], tuple[Verdict, ...]]]:
        """Take what ``test`` measured; if it is the last of the group, the rows of all, and the verdict on the default.

        Rows of other tests' runs come under their candidate's name, since this test has no run of theirs.
        """
        called = self.members.get(test.node_id)
        if called is None:
            return {}
        run = next((each for each in test.runs if each.name is None), test.runs[0] if test.runs else None)
        problem = "" if run is not None and ended else "its test failed" if not ended else "its test measured nothing"
        self.found[test.node_id] = Candidate(called, None if problem else run, problem)
        if test.node_id != list(self.members)[-1] or not self.metered:
            return {}
        self.judged = True
        return self._compared(test, aim, run)

    @property
    def metered(self) -> bool:
        """Whether there is any energy to compare."""
        return any(each.run is not None and each.run.metered for each in self.found.values())

    def _compared(self, test: MeteredTest, aim: Aim, mine: Any) -> dict[str | None, tuple[dict[str, Any], tuple[Verdict, ...]]]:
        candidates = tuple(self.found.get(node_id, Candidate(name, None, "its test did not run")) for node_id, name in self.members.items())
        choice = Choice(candidates, aim, self.floor, self.limits, by_turns=False, subject=f"group {self.name}")
        verdicts = (
            ()
            if self.default is None or self.default not in self.members.values()
            else (judge_right_size(choice, self.default, self.margin),)
        )
        found: dict[str | None, tuple[dict[str, Any], tuple[Verdict, ...]]] = {}
        for row in rows_of(choice, self.name):
            name = (None if mine is None else mine.name) if row["candidate"] == self.members[test.node_id] else row["candidate"]
            found[name] = (row, tuple(replace(each, run=name) for each in verdicts if each.run == row["candidate"]))
        return found
