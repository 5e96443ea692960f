"""The other commits that a session compares its tests with: what is started of a test there, and which limits are laxer here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.judging.budget import COMMAND_LINE, TERMS, Budget, Line, Terms
from pytest_greencompute.judging.laxer import Stance, laxer
from pytest_greencompute.machine.memory import host_memory
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.pairing.commits import Bases
from pytest_greencompute.pairing.demands import Demands
from pytest_greencompute.pairing.looking import for_both
from pytest_greencompute.pairing.room import MACHINE, Memories, Room
from pytest_greencompute.pairing.tests import Contest
from pytest_greencompute.session.explained import Asked, explain_test
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.settings.sides import lent_to_sides, told_to_sides
from pytest_greencompute.values.behaviour import Behaviour


class OtherCommits:
    """The commits that ``settings`` name, in the repository around ``root``. ``options`` are those that the processes there get beside;
    ``alarms`` is how many verdicts of the session share the error of a FAIL. Raises GitError for one that there is not.
    """

    def __init__(self, settings: Settings, root: Path, home: Path, environ: Mapping[str, str], options: Sequence[str], alarms: int) -> None:
        links = lent_to_sides(settings, root, home)
        self.bases = Bases(root, environ, settings.base_refs, settings.base_python, links, options, home)
        self.bases.resolve()
        self._settings, self._root, self._home, self._alarms = settings, root, home, alarms
        self._empty: Memories = {}

    def contest(self, test: MeteredTest, budget: Budget, aim: Aim, say: Callable[[str], None], meters: Instruments) -> Contest:
        """The test at all commits, not started yet; nothing of it is set up here. ``say`` is told what it is waiting for."""
        settings = self._settings
        begun = _memories(meters)
        self._empty = self._empty or begun
        return Contest(
            self.bases,
            test.node_id,
            told_to_sides(settings, budget, self._root, self._home),
            budget,
            aim,
            settings.launches,
            self._alarms,
            settings.base_turns == "launches",
            say,
            None if None in begun.values() else Room(partial(_memories, meters), self._empty, begun),
        )

    def explain(self, test: MeteredTest, contest: Contest, asked: Sequence[Asked], learnt: Sequence[Behaviour]) -> None:
        """Say in the test's results why its runs are others than at the commits. ``learnt``: what is known of the devices."""

        def look(each: Asked) -> tuple[Profile, Profile]:
            labels = [base.label for base in contest.checked_out.of_test(test.node_id)]
            label = each.verdict.where if each.verdict.where in labels else labels[0]  # a baseline's only commit
            return contest.explain(label, each.verdict.run, for_both(each.ticking, learnt=learnt))

        explain_test(test, asked, look)

    def laxer(self, test: MeteredTest, contest: Contest, budget_of: Callable[[MeteredTest], Budget]) -> list[str]:
        """A sentence for each limit of the test that is laxer here than at the other commits. ``budget_of`` resolves a test's lines on the
        hardware of this session.
        """
        found: list[str] = []
        if test.demands is not None:
            for ref, demands in contest.demands().items():
                unread = test.demands.unread or demands.unread
                if unread:
                    found.append(f"{test.subject}: whether limits are laxer than at {ref} is not known: {unread}")
                else:
                    there, here = (self._stance(test, test.demands.lines, each, budget_of) for each in (demands, test.demands))
                    found += laxer(there, here, test.subject)
        return found

    def _stance(self, test: MeteredTest, own: Sequence[Line], demands: Demands, budget_of: Callable[[MeteredTest], Budget]) -> Stance:
        """What was demanded at a commit, under this session's options and on its hardware. ``own`` are the lines that are demanded here."""
        # Another version does not tell of pytest's own file: then its options are taken to be those of the command line.
        given = self._settings.terms if demands.settings is None else self._given_here(own)
        lines = (replace(line, terms=given.over(line.terms)) if line.where == COMMAND_LINE else line for line in demands.lines)
        budget = budget_of(replace(test, lines=tuple(lines), reread=None))
        return Stance(budget, demands.accept, demands.policy, demands.settings or {}, demands.group)

    def _given_here(self, lines: Sequence[Line]) -> Terms:
        """The terms that the command line gives, without those that pytest's configuration file adds to it."""
        terms, added = self._settings.terms, next((line.terms for line in lines if line.where == COMMAND_LINE), Terms())
        return Terms(**{name: getattr(terms, name) for name in TERMS if getattr(terms, name) != getattr(added, name)})


def _memories(meters: Instruments) -> Memories:
    """The memory of the machine, and of each GPU that is metered."""
    return {MACHINE: host_memory(), **meters.memory()}
