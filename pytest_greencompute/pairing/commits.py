"""The bases of a session: the other commits, each checked out in a worktree of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pytest_greencompute.commits import origin
from pytest_greencompute.commits.environment import changed_requirements
from pytest_greencompute.commits.git import Commit, Repository
from pytest_greencompute.commits.metered import metered_at
from pytest_greencompute.commits.worktrees import Worktrees
from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.runs import BaseOfTest
from pytest_greencompute.pairing.started import Side, Started
from pytest_greencompute.pairing.told import Checkouts, Told

DROPPED = ("PYTEST_", "COV_", "GREENCOMPUTE_", "COVERAGE_")
PLUGINS = ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_PLUGINS")  # which plugins pytest loads: a side's test may use their fixtures


@dataclass(frozen=True, slots=True)
class Base:
    """One other commit, checked out at ``root``; or the reason why nothing can be compared with it. ``python``: what its tests run with."""

    ref: str
    commit: Commit | None = None
    root: Path | None = None
    problem: str = ""
    python: str | None = None

    @property
    def label(self) -> str:
        return self.commit.label if self.commit else self.ref


@dataclass
class Bases:
    """All bases of a session, and their processes. ``root`` is where this side's tests run, ``home`` the folder of its project where that
    is another one; ``tests`` are the node ids that the session measures, in order. ``get_ready`` is given each checkout's project, and has
    the Python that the checkout made for itself, if it did. Close it at the end: processes and worktrees go then.
    """

    root: Path
    environ: Mapping[str, str]
    refs: Sequence[str]
    python: str | None = None
    links: Sequence[str] = ()
    options: Sequence[str] = ()
    home: Path | None = None
    get_ready: Callable[[Path], str | None] = lambda _: None
    tests: Sequence[str] = field(default=(), init=False)
    notes: list[str] = field(default_factory=list, init=False)
    _started: list[Started] = field(default_factory=list, init=False)
    _serving: dict[str, Started] = field(default_factory=dict, init=False)  # by label: the one that serves test after test
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
            python = self.get_ready(root) or self.python
        except GreencomputeError as error:
            return Base(base.ref, base.commit, problem=str(error).rstrip("."))
        home = self.root if self.home is None else self.home
        there = Path(os.path.normpath(root / os.path.relpath(os.path.realpath(home), os.path.realpath(self.root))))
        changed = changed_requirements(home, there) if python is None else ()
        if changed:
            remedy = "--energy-base-python names a Python that has what it needs"
            return Base(base.ref, base.commit, root, f"environment changes are not compared: {', '.join(changed)} differ; {remedy}")
        return Base(base.ref, base.commit, root, python=python)

    def metered(self) -> dict[str, list[str]]:
        """The tests that each commit measures, by its label, as far as the files that have changed since show it."""
        repository = Repository(self.root, self.environ)
        return {base.label: metered_at(base.commit.sha, self.root, repository) for base in self._bases if base.commit is not None}

    def of_test(self, node_id: str) -> list[BaseOfTest]:
        """Each base for one test, not started yet."""
        return [BaseOfTest(base.label, self._side(base, node_id), problem=base.problem) for base in self._bases]

    def _side(self, base: Base, node_id: str) -> Side | None:
        if base.root is None:
            return None
        head = os.path.realpath(self.root)
        prepare = (str(Path(origin.__file__)), head, os.path.realpath(base.root), "--")
        environ = environ_of_side(self.environ)
        options = self.options
        if base.python is not None:  # it may lack these plugins, and those that know these options
            environ, options = {name: value for name, value in environ.items() if name not in PLUGINS}, ()
        paths = environ.get("PYTHONPATH", "").split(os.pathsep)
        environ["PYTHONPATH"] = os.pathsep.join(origin.moved(each, Path(head), base.root) if each else each for each in paths)
        return Side(base.label, base.root, node_id, environ, base.python or sys.executable, prepare, options)

    def head(self, node_id: str) -> Side:
        """This side as a process of its own."""
        return Side("this tree", self.root, node_id, environ_of_side(self.environ), options=self.options)

    def launch(self, side: Side, told: Told) -> Process:
        """The test of a side in a process of its own."""
        told = replace(told, checkouts=self.where(side))
        return Process(side, told, start=partial(self._start, side, told))

    def serve(self, side: Side, told: Told) -> Process:
        """The test of a base in the process that serves test after test; in one of its own where that has passed it, or is of no use."""
        serving = self._serving.get(side.label)
        if serving is not None and serving.lives and not serving.serves(side.node_id):
            return self.launch(side, told)
        told = replace(told, checkouts=self.where(side))
        if serving is None or not serving.lives:
            following = () if serving is not None and serving.serves_one else self._following(side.node_id)
            if not following:
                return self.launch(side, told)
            self._serving[side.label] = serving = self._start(side, told, following)
        return Process(side, told, serving, start=partial(self._start, side, told))

    def _following(self, node_id: str) -> Sequence[str]:
        """That test and those that the session measures after it; none where it is the last."""
        following = self.tests[self.tests.index(node_id) :] if node_id in self.tests else ()
        return following if len(following) > 1 else ()

    def _start(self, side: Side, told: Told, tests: Sequence[str] = ()) -> Started:
        for each in self._started:
            if not each.lives:
                each.close()
        self._started = [each for each in self._started if each.lives]
        self._started.append(started := Started(side, told, tests))
        return started

    def end_serving(self) -> None:
        """End the processes that serve test after test, whose models take memory; the next test has new ones."""
        for each in self._serving.values():
            each.close()

    def where(self, side: Side) -> Checkouts | None:
        """What the process of a side needs to prove where its code comes from; None where that is this side."""
        if side.folder == self.root:
            return None
        links = tuple(str(self.root / link) for link in self.links)
        return Checkouts(os.path.realpath(self.root), os.path.realpath(side.folder), links)

    def close(self) -> None:
        """End all processes, whatever they do, and remove the worktrees."""
        for each in self._started:
            each.close()
        if self._worktrees is not None:
            self._worktrees.close()


def environ_of_side(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a side's process: this pytest's plugins, but none of its options and nothing of its state."""
    return {name: value for name, value in environ.items() if name in PLUGINS or not name.startswith(DROPPED)}
