"""``@pytest.mark.energy_group("name")``: the tests that carry it are candidates for one task, compared when the last of them has run.

Their runs come one after the other, each in its own test, so a ratio between them is as unsure as two launches are (``choice.Choice``,
``by_turns`` False): for the sharpest ratio use ``energy_meter.compare``, which lets the candidates take turns.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.choice import CONSTRAINTS, DEFAULT_MARGIN, ENERGY, Candidate, Choice, asked_of, parse_margin
from pytest_greencompute.judging.laxer import GroupDemand
from pytest_greencompute.judging.right_size import judge_met, judge_right_size
from pytest_greencompute.session.candidates import rows_of
from pytest_greencompute.values.names import unknown_key

if TYPE_CHECKING:
    from pytest_greencompute.estimates.estimate import Aim
    from pytest_greencompute.judging.verdict import Verdict
    from pytest_greencompute.session.candidates import ByRun
    from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

ASKED = ("default", "margin", "floor", *CONSTRAINTS)


@dataclass
class Group:
    """The tests of one group: ``members`` maps the node ids of all that were collected to candidates' names.

    ``floor`` and ``limits`` are what a candidate must meet, ``default`` the configured one (None: nothing is judged, the table is shown),
    ``margin`` how much more it may use. ``chosen`` are the members that this session runs, in order; ``found`` fills up as they end.
    ``problem`` says, when all have ended, why nothing was judged; ``excused``: because the user left the default out. ``verdicts`` are
    those that its last test, ``judged_in``, was given.
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
    verdicts: tuple[Verdict, ...] = ()
    judged_in: str = ""

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

    @property
    def demand(self) -> GroupDemand:
        """What it asks for."""
        return GroupDemand(self.name, self.default, self.margin, self.floor, self.limits)

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

    def judge(self, node_id: str, runs: Sequence[Run], aim: Aim, *, ended: bool, windows: bool = False) -> ByRun:
        """Take what the test ``node_id`` measured; if it is the last of the group, the rows of all, and the verdict on the default.

        Rows of other tests' runs come under their candidate's name, since this test has no run of theirs.
        """
        called = self.members.get(node_id)
        if called is None:
            return {}
        run = next((each for each in runs if each.name is None), runs[0] if len(runs) == 1 else None)
        problem = "its test failed" if not ended else "" if run is not None else _why_none(runs, windows=windows)
        self.found[node_id] = Candidate(called, None if problem else run, problem)
        if not self.chosen or node_id != self.chosen[-1]:
            return {}
        choice = self._choice(aim)
        if choice is None:
            return {}
        self.judged_in = node_id
        self.problem = "" if self.verdicts else self.problem
        found: ByRun = {}
        for row in rows_of(choice, self.name):
            # A name that no run of this test can have, so that nothing of another test is taken for one of them.
            mine = row.candidate == called and run is not None
            name = run.name if mine and run is not None else f"group {self.name}: {row.candidate}"
            found[name] = (row, tuple(replace(each, run=name) for each in self.verdicts if each.run == row.candidate))
        return found

    def judge_late(self, aim: Aim) -> tuple[Verdict, ...]:
        """When the session ends: the verdicts on what was found, where the last test never came to judge it."""
        if not self.judged_in and self.found:
            self._choice(aim)
        return self.verdicts

    def _choice(self, aim: Aim) -> Choice | None:
        """The comparison of what was found, its verdicts kept; None where there is nothing to compare."""
        runs = [each.run for each in self.found.values() if each.run is not None]
        metered = any(run.metered for run in runs)
        if not runs or (not metered and self.floor is None):
            why = next((f" ({each.name}: {each.problem})" for each in self.found.values() if each.problem), "")
            self.problem = f"none of its tests measured any energy{why}"
            return None
        if len(self.members) < 2:
            self.problem = "only one of its tests was collected"
            return None
        choice = Choice(self._candidates(), aim, self.floor, self.limits, by_turns=False, subject=f"group {self.name}")
        verdicts: list[Verdict] = []
        if metered and self.default in [self.members[node_id] for node_id in self.chosen]:
            verdicts.append(judge_right_size(choice, self.default, self.margin))
        nobody = None if any(each.metric != ENERGY.name for each in verdicts) else judge_met(choice)
        # Part of a group cannot show that nobody meets what is asked.
        whole = all(node_id in self.found for node_id in self.members)
        self.verdicts = (*verdicts, *([nobody] if nobody is not None and whole else []))
        return choice if metered else None

    def _candidates(self) -> tuple[Candidate, ...]:
        """All members, with a reason where one has no run that can be compared."""
        first = next(each.run for each in self.found.values() if each.run is not None)
        candidates = []
        for node_id, name in self.members.items():
            why = "its test did not run" if node_id in self.chosen else "its test was not selected"
            found = self.found.get(node_id, Candidate(name, None, why))
            if found.run is not None and found.run.queries != first.queries:
                found = Candidate(name, None, f"it was given {found.run.queries} queries, and others {first.queries}")
            if found.run is not None and found.run.provenance.queries != first.provenance.queries:
                found = Candidate(name, None, "it was given other queries than the first: put what differs into the model or collate=")
            candidates.append(found)
        return tuple(candidates)


def _why_none(runs: Sequence[Run], *, windows: bool) -> str:
    if len(runs) > 1:
        named = " and ".join(str(each.name) for each in runs)
        return f"its test measured {named}: leave the name of the one that is to be compared out"
    return "a window cannot be a candidate: use measure()" if windows else "its test measured nothing"
