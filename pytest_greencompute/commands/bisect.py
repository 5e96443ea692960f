"""``greencompute bisect --good REF --bad REF TEST``: since which commit a test uses more, by paired measurements beside the good one."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pytest_greencompute.bisecting.evidence import Evidence
from pytest_greencompute.bisecting.search import Commits, LaunchCost, NextLaunch, Suspects, next_step
from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.saying import say, tell, tell_to_copy, waiting
from pytest_greencompute.commits.between import between, merged
from pytest_greencompute.commits.git import Commit, NoRepositoryError, Repository
from pytest_greencompute.errors import GreencomputeError, SettingsError
from pytest_greencompute.explaining.explanation import explained
from pytest_greencompute.explaining.profile import ticking_of
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.machine.processes import end, exit_status, last_line
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.pairing.beside_good import BesideGood, GoodNotMeasuredError, launch_beside
from pytest_greencompute.pairing.commits import Bases
from pytest_greencompute.pairing.looking import for_both, profiles
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.runs import IN_PAIRS
from pytest_greencompute.pairing.started import (
    OWN_GROUP,
    DisturbedError,
    MemoryFullError,
    NoSuchTestError,
    NotMeasuredError,
    UnmeteredError,
)
from pytest_greencompute.pairing.told import Told
from pytest_greencompute.report import room
from pytest_greencompute.report.bisected import Bisected, answer_lines, called, counted, edge, named, percent, to_json, what_next, why_lines
from pytest_greencompute.report.escape import shortened
from pytest_greencompute.results.result import ENERGY, Explained
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import read_nearest
from pytest_greencompute.settings.sides import lent_to_sides, told_to_sides
from pytest_greencompute.store.bisects import BisectState, LaunchOfCommit, MeasuredSoFar
from pytest_greencompute.store.files import check_writable, write_atomically
from pytest_greencompute.store.files import to_json as json_of
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.metrics import METRICS, Metric

STOPPED = 130  # 128 + SIGINT, as a shell has it
GUESS = LaunchCost(launch_s=10.0, pair_s=1.0, checkout_s=2.0)  # before anything was measured
EXPLAINED_PAIRS = 6  # of the guilty commit and the one before
AT_ONCE_S = 0.001
LONGEST_REASON = 200
AN_ERROR = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|Warning)\b")
IN_FILE = re.compile(r'File "(.+)", line (\d+)')
TRIED_AGAIN = 8  # of the commits that were skipped, at most, where one could narrow the answer
GOES_ON = "Run the same command again: it goes on from here."
CHECKOUTS = 8  # that are kept, since each takes space, and a commit may be measured again
OWN_PYTHON = Path(".venv") / "bin" / "python"


def run(given: Arguments, root: Path) -> int:
    """The command. 0: found; 1: bad is not worse than good; 3: not sure enough; 130: stopped. Raises GreencomputeError."""
    file = root / given["json"] if given.get("json") else None
    if file is not None:
        check_writable(file)
    try:
        found = bisect(given, root)
    except KeyboardInterrupt:
        say("Stopped. The same command goes on from here.")
        return STOPPED
    if file is not None:
        write_atomically(file, json_of(to_json(found)) + "\n")
    return found.exit_status


def bisect(given: Arguments, root: Path) -> Bisected:
    """Measure and print until the answer is there. Raises GreencomputeError."""
    given = {**given, "test": _node_id(given["test"], root)}
    metric, renamed = _metric(given["metric"]), _renamed(given["rename"], given["test"])
    options = {name: given[name] for name in ("meter", "confidence") if given.get(name) is not None}
    settings = build({"budget": True, **options}, read_nearest(root, given["test"]), os.environ, root)
    repository = _repository(root)
    good, bad = (repository.resolve(given[each], f"--{each}") for each in ("good", "bad"))
    commits = between(repository, good, bad)
    if changed := len(repository.changed_files()):
        say(f"{changed} changed file{'' if changed == 1 else 's'} in this tree: only what is committed is measured")
    session = Session(replace(settings, base_refs=(), baseline=None), root, os.environ, waiting=waiting)
    with contextlib.ExitStack() as opened:
        opened.callback(session.close)
        session.open()
        budget = session.budget(MeteredTest(given["test"], given["test"], settings.lines_for(given["test"])))
        told = replace(told_to_sides(session.settings, budget, root, session.home), count=())
        if not session.problem:  # else a meter of the project's own, which only the sides know
            opened.enter_context(session.lock())
        bench = Beside(session, told, metric, (given["test"], *renamed), given.get("run"), given.get("setup"))
        opened.callback(bench.close)
        return _searched(bench, repository, commits, Sought(given, metric, budget.confidence, budget.tolerance(metric)))


def _repository(root: Path) -> Repository:
    """Raises SettingsError where there is none."""
    try:
        return Repository(root, os.environ)
    except NoRepositoryError as error:
        raise SettingsError(error.message, remedy="Go to the folder of a project that git keeps, and call it there.") from error


def _node_id(test: str, root: Path) -> str:
    """The test, by a path that is good in each checkout. Raises SettingsError where it is not one."""
    path, _, name = test.partition("::")
    with contextlib.suppress(ValueError):
        path = str(Path(path).relative_to(root)) if Path(path).is_absolute() else path
    if not name or Path(path).is_absolute():
        problem = f"TEST {test!r} {'is no test of this project' if name else 'names no single test'}."
        raise SettingsError(problem, remedy="Write it as pytest lists it, such as tests/test_chat.py::test_answers.")
    return f"{path}::{name}"


def _metric(name: str) -> Metric:
    metric = METRICS.get(name)
    if metric is None or metric.kind not in IN_PAIRS:
        fine = ", ".join(each.name for each in METRICS.values() if each.kind in IN_PAIRS)
        raise SettingsError(f"--metric {name}: this is no metric that is measured in pairs.", remedy=f"Choose one of {fine}.")
    return metric


def _renamed(written: Sequence[str], test: str) -> tuple[str, ...]:
    """The names that the test had before. Raises SettingsError for what does not lead to it."""
    names = [test]
    for each in written:
        old, _, new = each.partition("=")
        if not old or new not in names:
            raise SettingsError(f"--rename {each}: it does not lead to {test}.", remedy=f"Write --rename OLD={test}.")
        names.append(old)
    return tuple(names[1:])


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for, and how sure the answer must be."""

    given: Arguments
    metric: Metric
    claim: float
    tolerance: float

    def key(self, good: Commit, bad: Commit) -> Mapping[str, str | None]:
        """What must be the same for evidence to belong together."""
        given = {name: self.given.get(name) for name in ("test", "run", "metric", "setup", "meter")}
        return {**given, "rename": " ".join(self.given["rename"]), "good": good.sha, "bad": bad.sha}

    @property
    def how(self) -> list[str]:
        """The options that another search of the same test would have."""
        options = [(name, self.given.get(name)) for name in ("run", "setup", "meter", "confidence")]
        if self.metric.name != "energy_per_query":
            options.append(("metric", self.metric.name))
        options += [("rename", each) for each in self.given["rename"]]
        return [word for name, value in options if value is not None for word in (f"--{name}", value)] + [self.given["test"]]


def _searched(bench: Beside, repository: Repository, commits: Sequence[Commit], asked: Sought) -> Bisected:
    """Search, and walk into the merge that was found where that was asked for; each answer is printed when it is there."""
    found = _search(bench, commits, asked)
    _print(found)
    while found.answer.ending == "found" and len(found.suspects) == 1 and (branch := merged(repository, found.suspects[0])):
        if not asked.given["all"]:
            tell("  It is a merge: with --all, the same command searches the branch that it brought in, too.")
            break
        say(f"into the branch that {named(found.suspects[0])} brought in")
        inside = replace(_search(bench, between(repository, *branch), asked), inside=found.suspects[0])
        _print(inside)
        if inside.answer.ending != "found":
            say("the merge itself is what can be said")
            break
        found = inside
    found = _explained(bench, found)
    for line in why_lines(found, room.for_tables()):
        tell(line)
    for line in what_next(found):
        tell_to_copy(line)
    return found


def _explained(bench: Beside, found: Bisected) -> Bisected:
    """Why the guilty commit is worse than the one before it, where that was not switched off; whatever happens, the answer stands."""
    at = edge(found)
    if at is None or bench.session.settings.explain == "off" or bench.metric.name != ENERGY:
        return found
    try:
        return replace(found, explained=bench.explain(*at, found.claim))
    except GreencomputeError as error:
        return replace(found, why_not=_in_short(error))


def _search(bench: Beside, commits: Sequence[Commit], asked: Sought) -> Bisected:
    """Launch after launch, each kept on disk, until the answer is there."""
    good, bad = commits[0], commits[-1]
    state = BisectState(bench.session.home, asked.key(good, bad))
    measured = state.read()
    say(f"{counted(len(commits) - 1, 'commit')} after {called(good)}, up to {called(bad)}")
    if measured.launches:
        say(
            f"going on after {counted(len(measured.launches), 'launch')} that were measured before ({state.path}; delete it to begin again)"
        )
    numbers = {each.sha: number for number, each in enumerate(commits)}
    tried: set[str] = set()
    while True:
        broken = frozenset(numbers[each] for each in measured.skipped)
        searched = Commits(len(commits) - 1, broken, asked.claim, asked.tolerance)
        step = next_step(searched, _evidence(measured, numbers, asked.metric), _cost(measured))
        if isinstance(step, Suspects):
            if again := _to_try_again(step, commits, measured, tried):
                say(f"once more: {named(again)}")
                tried.add(again.sha)
                measured = measured.without_skipped(again.sha)
                continue
            return Bisected(asked.given["test"], asked.metric, commits, measured, step, asked.claim, asked.tolerance, asked.how)
        measured = _measured(bench, good, commits[step.commit], step, measured, is_bad=step.commit == len(commits) - 1)
        state.keep(measured)


def _measured(bench: Beside, good: Commit, commit: Commit, step: NextLaunch, measured: MeasuredSoFar, *, is_bad: bool) -> MeasuredSoFar:
    """What was measured before, with one launch more, or with the commit among those that cannot be measured."""
    number = len(measured.launches) + 1
    try:
        took_s, found = _launched(bench, good, commit, step, measured)
    except GoodNotMeasuredError as error:
        raise _unmeasured("good", good, error.why, bench, proven=bool(measured.launches)) from error
    except NotMeasuredError as error:
        if is_bad or isinstance(error, DisturbedError):
            raise _unmeasured("bad" if is_bad else "", commit, error, bench, proven=measured.has(commit.sha)) from error
        reason = _in_short(error)
        say(f"skipped {named(commit)}: {reason}")
        return measured.with_skipped(commit.sha, reason)
    launch = LaunchOfCommit(commit.sha, found.pairs, took_s, found.launch_s, found.pairs_s)
    change = statistics.median(_changes(launch, bench.metric))
    say(f"launch {number}: {named(commit)}: {percent(change)} in {counted(len(found.pairs), 'pair')}")
    return measured.with_launch(launch, found.devices)


def _launched(bench: Beside, good: Commit, commit: Commit, step: NextLaunch, measured: MeasuredSoFar) -> tuple[float, BesideGood]:
    """A launch; a second one where the first failed for what may pass. Raises NotMeasuredError."""
    launch = partial(bench.launch, good, commit, step.pairs, good_first=len(measured.launches) % 2 == 0)
    try:
        return launch()
    except NotMeasuredError as error:
        why, side = (error.why, good) if isinstance(error, GoodNotMeasuredError) else (error, commit)
        proven = bool(measured.launches) if side is good else measured.has(commit.sha)
        if not (proven or isinstance(why, DisturbedError)):
            raise
        say(f"once more, since {named(side)} was not measured: {_in_short(why)}")
    return launch()


def _to_try_again(found: Suspects, commits: Sequence[Commit], measured: MeasuredSoFar, tried: Collection[str]) -> Commit | None:
    """Of the commits that were skipped, one that would narrow the answer if it could be measured after all."""
    left = [each for each in commits[found.first : found.last] if each.sha in measured.skipped and each.sha not in tried]
    if found.ending != "found" or not left or len(tried) >= TRIED_AGAIN:
        return None
    return left[len(left) // 2]


def _in_short(error: GreencomputeError) -> str:
    """Why it was not measured: of a process's last words the error itself, which pytest marks with an E."""
    told = [part.removeprefix("E ").strip() for part in error.message.split(" / ") if part.startswith("E ")] or [error.message]
    named = next((each for each in told if AN_ERROR.match(each)), told[0])
    place = IN_FILE.fullmatch(told[0])  # of a file that is not Python; it stood in a checkout that is gone
    return shortened(f"{named.rstrip('.')} ({Path(place[1]).name}, line {place[2]})" if place else named.rstrip("."), LONGEST_REASON)


def _unmeasured(which: str, commit: Commit, error: GreencomputeError, bench: Beside, *, proven: bool) -> SettingsError:
    """Why the search cannot go on. ``which``: good or bad, or empty for a commit between; ``proven``: it was measured before."""
    remedies: list[tuple[type[GreencomputeError], str]] = [
        (NoSuchTestError, f"Name another commit with --{which}, or the test's earlier name with --rename OLD=NEW."),
        (MemoryFullError, "The good commit and another are in memory at once: take a test that leaves room for both."),
        (DisturbedError, f"End it. {GOES_ON}"),
        (UnmeteredError, bench.session.problem.replace("--energy-meter", "--meter")),
    ]
    other = GOES_ON if proven else f"Name another commit with --{which}."
    remedy = error.remedy or next((each for kind, each in remedies if isinstance(error, kind) and each), other)
    return SettingsError(f"The {which or 'searched'} commit {called(commit)} was not measured: {_in_short(error)}.", remedy=remedy)


def _changes(launch: LaunchOfCommit, metric: Metric) -> tuple[float, ...]:
    rule = Rule(better=metric.better)
    return tuple(rule.change(before, now) for before, now in launch.pairs)


def _evidence(measured: MeasuredSoFar, numbers: Mapping[str, int], metric: Metric) -> list[Evidence]:
    return [Evidence(numbers[each.sha], _changes(each, metric)) for each in measured.launches]


def _cost(measured: MeasuredSoFar) -> LaunchCost:
    """What a launch and a pair have taken so far."""
    if not measured.launches:
        return GUESS
    launches = measured.launches
    checkout_s = sum(each.checkout_s for each in launches) / len({each.sha for each in launches})
    pair_s = sum(each.pairs_s for each in launches) / sum(len(each.pairs) for each in launches)
    launch_s = statistics.fmean(each.launch_s for each in launches)
    return LaunchCost(max(AT_ONCE_S, launch_s), max(AT_ONCE_S, pair_s), checkout_s)


@dataclass
class Beside:
    """Launches of commits beside a good one. ``tests`` are the names of the test, the newest first; ``setup`` is a command that gets a
    checkout ready. Some checkouts are kept, the latest. Close it at the end.
    """

    session: Session
    told: Told
    metric: Metric
    tests: Sequence[str]
    name: str | None = None
    setup: str | None = None
    _checkouts: dict[str, Bases] = field(default_factory=dict, init=False)
    _called: dict[str, str] = field(default_factory=dict, init=False)
    _learnt: Sequence[Behaviour] = field(default=(), init=False)

    def launch(self, good: Commit, other: Commit, pairs: int, *, good_first: bool) -> tuple[float, BesideGood]:
        """So many pairs in a fresh launch of both; and the seconds that checking the other out took. Raises NotMeasuredError."""
        try:
            self._checked_out(good)
        except GreencomputeError as error:
            raise GoodNotMeasuredError(error) from error
        begun = self.session.clock.now_ns()
        self._checked_out(other)
        took_s = (self.session.clock.now_ns() - begun) / 1e9
        found = launch_beside(
            partial(self._start, good),
            partial(self._start, other),
            self.metric,
            self.session.bench().aim,
            self.session.clock,
            pairs=pairs,
            name=self.name,
            learnt=self._learnt,
            good_first=good_first,
        )
        self._learnt = self._learnt or found.learnt
        return took_s, found

    def explain(self, before: Commit, guilty: Commit, confidence: float) -> Explained:
        """Why a commit is worse than the one before: both measured in pairs, then looked at. Raises GreencomputeError."""
        _, measured = self.launch(before, guilty, EXPLAINED_PAIRS, good_first=True)
        starts = partial(self._start, before), partial(self._start, guilty)
        sides = profiles(*starts, self.name, for_both(ticking_of(measured.devices)), TimeLimit(self.session.clock), say=say)
        return Explained(called(before), explained(*sides, Risen.of_pairs(measured.pairs, confidence)))

    def _checked_out(self, commit: Commit) -> Bases:
        """Raises NotMeasuredError where it cannot be had, or does not get ready."""
        if commit.sha not in self._checkouts:
            if len(self._checkouts) >= CHECKOUTS:
                self._checkouts.pop(next(iter(self._checkouts))).close()  # not used for the longest time
            settings, root, home = self.session.settings, self.session.root, self.session.home
            links = lent_to_sides(settings, root, home)
            get_ready = partial(_get_ready, self.setup) if self.setup else lambda _: None
            bases = Bases(root, os.environ, [commit.sha], settings.base_python, links, (), home, get_ready)
            self._checkouts[commit.sha] = bases
            try:
                bases.resolve()
                bases.open()
            except BaseException:
                self._checkouts.pop(commit.sha).close()  # of which nothing is kept: it is tried anew
                raise
        bases = self._checkouts[commit.sha] = self._checkouts.pop(commit.sha)
        (base,) = bases.of_test(self.tests[0])
        if base.problem:
            self._checkouts.pop(commit.sha).close()  # what went wrong may pass
            raise NotMeasuredError(base.problem.replace("--energy-base-python names a Python that has", "--setup can make a .venv with"))
        return bases

    def _start(self, commit: Commit) -> Process:
        """Its process, of the first of the test's names that it has. Raises NotMeasuredError."""
        missing: NoSuchTestError | None = None
        for test in [self._called[commit.sha]] if commit.sha in self._called else self.tests:
            process = self._process(commit, test)
            try:
                if len(self.tests) > 1:
                    process.wait_until_collected()
                self._called[commit.sha] = test
                return process
            except NoSuchTestError as error:
                missing = error
                process.close()
            except BaseException:
                process.close()
                raise
        raise missing or NoSuchTestError("it has no such test")

    def _process(self, commit: Commit, test: str) -> Process:
        bases = self._checked_out(commit)
        (base,) = bases.of_test(test)
        assert base.side is not None
        try:
            return bases.launch(base.side, self.told)
        except OSError as error:
            raise NotMeasuredError(f"its process could not be started ({error.strerror})") from error

    def close(self) -> None:
        """End all processes, and remove the worktrees."""
        for each in self._checkouts.values():
            each.close()


def _get_ready(command: str, folder: Path) -> str | None:
    """Run the user's command in a checkout; the Python that it made there, if it did. Raises SettingsError where it fails."""
    with tempfile.TemporaryFile() as output:  # no pipe, which what it leaves in the background would hold open
        setup = subprocess.Popen(
            command, shell=True, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **OWN_GROUP
        )
        try:
            status = setup.wait()
        except BaseException:
            end(setup.pid)
            setup.wait()
            raise
        output.seek(0)
        said = output.read().decode(errors="replace")
    if status != 0:
        raise SettingsError(f"--setup ended with exit status {exit_status(status)}: {last_line(said)}")
    own = folder / OWN_PYTHON
    return str(own) if own.exists() else None


def _print(found: Bisected) -> None:
    for line in answer_lines(found):
        tell(line)
