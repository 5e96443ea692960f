"""``@pytest.mark.energy_group("name")``: the tests that carry it are candidates for one task, compared when the last of them has run.

Their runs come one after the other, each in its own test, so a ratio between them is as unsure as two launches are (``choice.Choice``,
``by_turns`` False): for the sharpest ratio use ``energy_meter.compare``, which lets the candidates take turns.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.budget import unknown_key
from pytest_greencompute.choice import CONSTRAINTS, Candidate, Choice, judge_right_size
from pytest_greencompute.comparison import DEFAULT_MARGIN, asked_of, parse_margin, rows_of
from pytest_greencompute.errors import SettingsError

if TYPE_CHECKING:
    from pytest_greencompute.estimate import Aim
    from pytest_greencompute.samples import Run
    from pytest_greencompute.session import Compared, MeteredTest
    from pytest_greencompute.verdict import Verdict

ASKED = ("default", "margin", "floor", *CONSTRAINTS)


@dataclass
class Group:
    """The tests of one group: ``members`` maps the node ids of all that were collected to candidates' names.

    ``floor`` and ``limits`` are what a candidate must meet, ``default`` the configured one (None: nothing is judged, the table is shown),
    ``margin`` how much more it may use. ``chosen`` are the members that this session runs, in order; ``found`` fills up as they end.
    ``problem`` says, when all have ended, why nothing was judged; ``excused``: because the user left the default out.
    """

    name: str
    default: str | None = None
    margin: float = 0.2
    floor: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    chosen: list[str] = field(default_factory=list)
    found: dict[str, Candidate] = field(default_factory=dict)
    problem: str = "its last test did not run"
    excused: bool = False

    @classmethod
    def asked(cls, args: Sequence[object], kwargs: Mapping[str, Any]) -> Group:
        """A group as a marker asks for it. Raises SettingsError."""
        if len(args) != 1 or not isinstance(args[0], str) or not args[0]:
            raise SettingsError("energy_group takes the group's name.", remedy="Write it like energy_group('sentiment').")
        for key in kwargs:
            if key not in ASKED:
                raise unknown_key(key, ASKED, "setting of energy_group")
        default = kwargs.get("default")
        if default is not None and not isinstance(default, str):
            raise SettingsError(
                f"default is {default!r}.", remedy="Name the configured candidate by its parameter's id, or its test's name."
            )
        limits = {key: kwargs[key] for key in CONSTRAINTS if key in kwargs}
        floor, limited = asked_of(kwargs.get("floor"), limits, scored=True)
        return cls(args[0], default, parse_margin(kwargs.get("margin", DEFAULT_MARGIN)), floor, limited)

    def choose(self, node_ids: Sequence[str], *, whole: bool) -> None:
        """Only these tests will run, in this order. ``whole``: all tests that there are were collected.

        Raises SettingsError where the default is then no candidate of the group.
        """
        self.chosen = [node_id for node_id in node_ids if node_id in self.members]
        if not self.chosen:
            self.problem = ""
        if self.default is None or self.default in self.members.values():
            self.excused = self.default not in [self.members[node_id] for node_id in self.chosen]
            if self.chosen and self.excused:
                self.problem = f"the test of {self.default!r}, its configured candidate, was not selected"
            return
        near = difflib.get_close_matches(self.default, self.members.values(), n=1, cutoff=0.5)
        if whole:
            known = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(self.members.values())}."
            raise SettingsError(f"energy_group {self.name!r} has no candidate {self.default!r}.", remedy=known)
        self.problem = f"no candidate {self.default!r} was collected"

    def judge(self, test: MeteredTest, aim: Aim, *, ended: bool) -> Compared:
        """Take what ``test`` measured; if it is the last of the group, the rows of all, and the verdict on the default.

        Rows of other tests' runs come under their candidate's name, since this test has no run of theirs.
        """
        called = self.members.get(test.node_id)
        if called is None:
            return {}
        run = next((each for each in test.runs if each.name is None), test.runs[0] if test.runs else None)
        problem = "its test failed" if not ended else "" if run is not None else "its test measured nothing"
        self.found[test.node_id] = Candidate(called, None if problem else run, problem)
        if not self.chosen or test.node_id != self.chosen[-1]:
            return {}
        if not any(each.run is not None and each.run.metered for each in self.found.values()):
            self.problem = "none of its tests measured any energy"
            return {}
        if len(self.members) < 2:
            self.problem = "only one of its tests was collected"
            return {}
        return self._compared(test, aim, run)

    def _compared(self, test: MeteredTest, aim: Aim, mine: Run | None) -> Compared:
        choice = Choice(self._candidates(), aim, self.floor, self.limits, by_turns=False, subject=f"group {self.name}")
        verdicts: tuple[Verdict, ...] = ()
        if self.default in [self.members[node_id] for node_id in self.chosen]:
            verdicts, self.problem = (judge_right_size(choice, self.default, self.margin),), ""
        found: Compared = {}
        for row in rows_of(choice, self.name):
            name = (None if mine is None else mine.name) if row["candidate"] == self.members[test.node_id] else row["candidate"]
            found[name] = (row, tuple(replace(each, run=name) for each in verdicts if each.run == row["candidate"]))
        return found

    def _candidates(self) -> tuple[Candidate, ...]:
        """All members, with a reason where one has no run that can be compared."""
        queries = next(each.run.queries for each in self.found.values() if each.run is not None)
        candidates = []
        for node_id, name in self.members.items():
            why = "its test did not run" if node_id in self.chosen else "its test was not selected"
            found = self.found.get(node_id, Candidate(name, None, why))
            if found.run is not None and found.run.queries != queries:
                found = Candidate(name, None, f"it was given {found.run.queries} queries, and others {queries}")
            candidates.append(found)
        return tuple(candidates)
