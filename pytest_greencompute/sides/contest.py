"""The other commits of a session, and one test's processes at each of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_greencompute.budget import Budget, Limit
from pytest_greencompute.commits import origin
from pytest_greencompute.commits.environment import changed_requirements
from pytest_greencompute.commits.git import Commit, Repository
from pytest_greencompute.commits.metered import metered_at
from pytest_greencompute.commits.worktrees import Worktrees
from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.estimate import Aim
from pytest_greencompute.judging import ALWAYS_COMPARED, lost_runs
from pytest_greencompute.metrics import METRICS, Metric
from pytest_greencompute.pairs import Rule
from pytest_greencompute.samples import Run
from pytest_greencompute.sides.judged import KIND, judge_match, notes_of
from pytest_greencompute.sides.launches import Launched, launch_by_turns
from pytest_greencompute.sides.opponent import Opponent, Side
from pytest_greencompute.sides.pairing import IN_PAIRS, Match, Pairing, Rival, Saying
from pytest_greencompute.verdict import Verdict

WINDOW = "a window is judged by its budgets: it is not measured by turns with other commits"
DROPPED = ("PYTEST_", "COV_", "GREENCOMPUTE_", "COVERAGE_")


@dataclass(frozen=True, slots=True)
class Base:
    """One other commit, checked out at ``root``; or the reason why nothing can be compared with it."""

    ref: str
    commit: Commit | None = None
    root: Path | None = None
    problem: str = ""

    @property
    def label(self) -> str:
        return self.commit.label if self.commit else self.ref


@dataclass
class Bases:
    """All other commits of a session. ``root`` is where this side's tests run, ``home`` the folder of its project where that is another
    one. Close it at the end: the worktrees go then.
    """

    root: Path
    environ: Mapping[str, str]
    refs: Sequence[str]
    python: str | None = None
    links: Sequence[str] = ()
    options: Sequence[str] = ()
    home: Path | None = None
    notes: list[str] = field(default_factory=list, init=False)
    _bases: list[Base] = field(default_factory=list, init=False)
    _worktrees: Worktrees | None = field(default=None, init=False)

    def resolve(self) -> None:
        """Find the commits. Raises GitError for a ref that names none, before anything is measured."""
        repository = Repository(self.root, self.environ)
        self._bases = [Base(ref, repository.resolve(ref)) for ref in self.refs]

    def open(self) -> None:
        """Check the commits out."""
        repository = Repository(self.root, self.environ)
        self._worktrees = Worktrees(repository, self.links)
        inside = Path(os.path.realpath(self.root)).relative_to(os.path.realpath(repository.top))
        changed, head = len(repository.changed_files()), repository.head()
        if changed:
            self.notes.append(f"{changed} changed file{'' if changed == 1 else 's'} in this tree, measured as they are")
        self._bases = [self._checked_out(base, inside) for base in self._bases]
        self.notes += [
            f"{base.ref} is the commit that is checked out here" for base in self._bases if base.commit and base.commit.sha == head
        ]
        self.notes += self._worktrees.notes

    def _checked_out(self, base: Base, inside: Path) -> Base:
        assert self._worktrees is not None
        assert base.commit is not None
        try:
            root = self._worktrees.checked_out(base.commit) / inside
        except GreencomputeError as error:
            return Base(base.ref, base.commit, problem=str(error).rstrip("."))
        home = self.root if self.home is None else self.home
        there = Path(os.path.normpath(root / os.path.relpath(os.path.realpath(home), os.path.realpath(self.root))))
        changed = changed_requirements(home, there) if self.python is None else ()
        if changed:
            remedy = "--energy-base-python names a Python that has what it needs"
            return Base(base.ref, base.commit, root, f"environment changes are not compared: {', '.join(changed)} differ; {remedy}")
        return Base(base.ref, base.commit, root)

    def metered(self) -> dict[str, list[str]]:
        """The tests that each commit measures, by its label, as far as the files that have changed since show it."""
        repository = Repository(self.root, self.environ)
        return {base.label: metered_at(base.commit.sha, self.root, repository) for base in self._bases if base.commit is not None}

    def rivals(self, node_id: str) -> list[Rival]:
        """One for each commit, not started yet."""
        return [Rival(base.label, self._side(base, node_id), problem=base.problem) for base in self._bases]

    def _side(self, base: Base, node_id: str) -> Side | None:
        if base.root is None:
            return None
        head = os.path.realpath(self.root)
        prepare = (str(Path(origin.__file__)), head, os.path.realpath(base.root), "--")
        environ = _environ(self.environ)
        paths = environ.get("PYTHONPATH", "").split(os.pathsep)
        environ["PYTHONPATH"] = os.pathsep.join(origin.moved(each, Path(head), base.root) if each else each for each in paths)
        # Another Python may lack the plugins that know these options.
        options = self.options if self.python is None else ()
        return Side(base.label, base.root, node_id, environ, self.python or sys.executable, prepare, options)

    def head(self, node_id: str) -> Side:
        """This side as a process of its own."""
        return Side("this tree", self.root, node_id, _environ(self.environ), options=self.options)

    def where(self, side: Side) -> dict[str, Any]:
        """What the process of a side needs to prove where its code comes from; nothing where that is this side."""
        if side.folder == self.root:
            return {}
        links = [str(self.root / link) for link in self.links]
        return {"head_root": os.path.realpath(self.root), "base_root": os.path.realpath(side.folder), "links": links}

    def close(self) -> None:
        """Remove the worktrees."""
        if self._worktrees is not None:
            self._worktrees.close()


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a side's process: no options and no state of this pytest."""
    return {name: value for name, value in environ.items() if not name.startswith(DROPPED)}


@dataclass
class Contest:
    """One test against all other commits: their processes, started together with the test and ended with it, and what they showed.

    ``by_launches``: whole launches take turns before the test, instead of sets with the test. ``settings`` is what a process of a side
    is told; ``alarms`` how many verdicts of the session share the error of a FAIL; ``say`` is told what it is waiting for.
    """

    bases: Bases
    node_id: str
    settings: Mapping[str, Any]
    budget: Budget
    aim: Aim
    launches: int = 1
    alarms: int = 1
    by_launches: bool = False
    say: Saying = lambda _: None
    rivals: list[Rival] = field(default_factory=list, init=False)
    _pairings: dict[str | None, Pairing] = field(default_factory=dict, init=False)
    _launched: dict[str, Launched] = field(default_factory=dict, init=False)

    def start(self) -> None:
        """Start a process for each commit, which imports what it needs and waits; where launches take turns, measure them all now."""
        self.rivals = self.bases.rivals(self.node_id)
        for rival in self.rivals:
            if not self.by_launches:
                rival.start(self.launch)
            elif rival.side is not None and not rival.problem:
                head = self.bases.head(self.node_id)
                self._launched[rival.ref] = launch_by_turns(
                    self.launch, rival.side, head, launches=self.launches, compared=self._in_pairs, say=self.say
                )

    def launch(self, side: Side) -> Opponent:
        """A process of a side."""
        return Opponent(side, {**self.settings, **self.bases.where(side)})

    def pairing(self, name: str | None) -> Pairing:
        """The comparison of the run called ``name``, which is about to be measured."""
        rules = {metric.name: self._rule(metric) for metric in self._in_pairs(name)}
        matches = [self._match(rival, rules, name) for rival in self.rivals]
        pairing = Pairing(matches, self.bases.head(self.node_id), self.launch, self.aim, self.launches, name, self.say)
        self._pairings[name] = pairing
        return pairing

    def _match(self, rival: Rival, rules: Mapping[str, Rule], name: str | None) -> Match:
        launched = self._launched.get(rival.ref)
        if launched is None:
            return Match(rival, rules, self.aim)
        base, head, problem = launched.of(name, self.aim)
        match = Match(rival, rules, self.aim, base=base[0] if base else None, launched=(base, head))
        match.problem, match.missing = problem, launched.missing
        return match

    def _in_pairs(self, name: str | None) -> list[Metric]:
        """The metrics of a run that are compared set by set, or launch by launch."""
        return [METRICS[each] for each in self._compared(name) if METRICS[each].kind in IN_PAIRS]

    def _rule(self, metric: Metric) -> Rule:
        budget = self.budget
        return Rule(budget.tolerance(metric), budget.confidence, metric.better, budget.floor(metric), self.alarms)

    def _compared(self, name: str | None) -> tuple[str, ...]:
        """The metrics of a run that are held against other commits: those that always are, and those that have a limit."""
        return tuple(dict.fromkeys((*ALWAYS_COMPARED, *self._limits(name))))

    def _limits(self, name: str | None) -> dict[str, Limit]:
        return {**self.budget.limits.get(None, {}), **self.budget.limits.get(name, {})}

    def lost(self, subject: str) -> tuple[Verdict, ...]:
        """UNMEASURED verdicts for the runs that the test measures at another commit and does not measure any more."""
        verdicts: list[Verdict] = []
        for rival in self.rivals:
            launched = self._launched.get(rival.ref)
            names = rival.names if launched is None else [name for launch in launched.base for name in launch]
            verdicts += lost_runs(names, self._pairings, subject, kind=KIND, where=rival.ref)
        return tuple(verdicts)

    def confirm(self, *, nothing: bool = False) -> None:
        """Start base and head afresh where a FAIL must be seen again. The processes of the test's own runs end first.

        They come to the end of their tests before, so that what they measure besides is known; where this side has measured ``nothing``,
        too, but not for windows and candidates alone, which the bases would run in vain.
        """
        for rival in self.rivals:
            if rival.opponent is not None and (self._pairings or nothing):
                self.say(f"waiting for the end of the test at {rival.ref}")
                rival.opponent.run_through()
        self.close()
        for pairing in self._pairings.values():
            pairing.confirm()

    def judge(self, run: Run, subject: str) -> tuple[Run, tuple[Verdict, ...]]:
        """The verdicts of a run against the other commits, and the run with what else there is to say of them."""
        pairing = self._pairings.get(run.name)
        if pairing is None:
            return replace(run, notes=(*run.notes, WINDOW)) if run.window else run, ()
        names, limits = self._compared(run.name), self._limits(run.name)
        verdicts = [each for match in pairing.matches for each in judge_match(match, run, names, self.budget, limits, subject)]
        notes = [note for match in pairing.matches for note in notes_of(match, run)] + self.bases.notes
        return replace(run, notes=(*run.notes, *notes)), tuple(replace(each, run=run.name) for each in verdicts)

    def asked(self) -> dict[str, Mapping[str, Any]]:
        """What each commit asks of the test (``store.stances``), by the commit's label; those that told nothing are left out."""
        found = {}
        for rival in self.rivals:
            launched = self._launched.get(rival.ref)
            told = rival.opponent.asked if rival.opponent else rival.asked or (launched.asked if launched else {})
            if told:
                found[rival.ref] = told
        return found

    def pairs(self, name: str | None) -> list[dict[str, Any]]:
        """The pairs of sets that a run was measured in, for each commit and metric, as plain JSON values (SI units)."""
        pairing = self._pairings.get(name)
        return [
            {
                "ref": match.rival.ref,
                "metric": metric,
                "unit": METRICS[metric].dimension.si,
                "pairs": [list(each) for each in test.measured],
            }
            for match in (pairing.matches if pairing else ())
            for metric, test in match.tests.items()
            if test.measured
        ]

    def close(self) -> None:
        """End all processes. May be called twice."""
        for rival in self.rivals:
            rival.close()
